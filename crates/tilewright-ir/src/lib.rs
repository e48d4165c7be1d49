//! The kernel language as data.
//!
//! A [`Kernel`] describes one *tile program*: what one point of the launch grid does to tiles (small dense arrays of
//! static shape) and uniform scalars. It is a tree of [`Region`]s of SSA [`Inst`]s; each instruction is an [`Op`] of one
//! of six families, and each family is one file that declares its ops, their types and their meaning.
//!
//! The IR holds no target text and knows no device.

pub mod diagnostic;
pub mod interp;
pub mod kernel;
mod number;
pub mod op;
pub mod schedule;
pub mod site;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
pub mod types;
pub mod verify;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use kernel::{Access, Inst, Kernel, Param, ParamId, Region, RegionId, Value, ValueId};
pub use op::{Effect, Op, TypeError};
pub use schedule::{Schedule, Work};
pub use site::{Frame, FrameId, Location, Site, SiteId};
pub use types::{Elem, MAX_TILE_ELEMENTS, MAX_TILE_RANK, MAX_VIEW_RANK, Shape, Type};
