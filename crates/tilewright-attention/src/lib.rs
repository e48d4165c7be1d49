//! Attention kernels for LLM inference, written once in the kernel language, with a typed host API.
//!
//! [`Attention`] is a request: tensors, and what to do with them. It is checked against the contract, planned (a schedule is
//! chosen and the kernels compiled, or found compiled), and run. What goes beyond plain attention is a
//! [`Feature`], here or in the user's own crate. Keys and values lie in a [`Cache`]: dense, a ring or pages, as they are or as
//! codes; [`KvCache`] is one that owns its tensors and grows.

mod arguments;
mod attention;
pub mod cache;
pub mod cases;
mod error;
pub mod feature;
pub mod features;
pub mod formula;
mod grids;
mod index;
pub mod kernels;
mod library;
mod pairs;
mod plan;
pub mod proof;
pub mod quant;
pub mod reference;
mod tuning;
mod variant;
mod workspace;

pub use attention::{Attention, Extents, Output, Splits};
pub use cache::{Cache, CacheError, CacheShape, Decoding, Encoding, KvCache};
pub use error::{AttentionError, MAX_HEAD_DIM, MAX_LENGTH};
pub use feature::{Feature, Features};
pub use features::{Alibi, Causal, ClassMap, ClassifiedMask, Mask, Sinks, Softcap, Tree, Window};
pub use library::{Export, KernelEntry, Library, Tuned, Wanted, library};
pub use plan::Plan;
pub use quant::{Affine, Bits, Group, QuantError, Rounding};
pub use tilewright_ir::Schedule;
pub use tuning::{Candidate, Candidates, Machine, Tuning};
pub use variant::Variant;
pub use workspace::Workspace;
