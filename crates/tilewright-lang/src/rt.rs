//! What generated code calls. Not for use by hand: it changes with the macros.
#![doc(hidden)]

pub use crate::compare::{Both, Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
pub use crate::control::*;
pub use crate::entry::{EntryError, SpecEntry, SpecText, spec_field};
pub use crate::params::{HostValue, LaunchParam};
pub use crate::spec::{SpecValue, push_key_field};
pub use crate::trace::{FrameGuard, frame, trace};
pub use tilewright_ir::{Diagnostics, Kernel};
