//! Caches of keys and values: their formats, as kernels see them, and their tensors on the host.

mod format;
mod tensors;

pub use format::{Encoding, Format, Placement, Stretch};
pub use tensors::{Cache, Codes, PAGE_SIZES, Tokens};
pub(crate) use tensors::{Layout, Place, axes, contiguous, float};
