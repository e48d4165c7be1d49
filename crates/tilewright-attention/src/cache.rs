//! Caches of keys and values: their formats, as kernels see them, their tensors on the host, and what writes them.

mod append;
mod dequantise;
mod error;
mod format;
mod kv_cache;
mod kv_cache_builder;
mod launch;
mod new_tokens;
mod pages;
mod tensors;

pub use append::{CodeTensors, CodesMut, Destination, Slots, append, quantise, quantise_append};
pub use dequantise::dequantise;
pub use error::CacheError;
pub use format::{Decoding, Encoding, Format, Placement};
pub(crate) use format::{Loaded, Stretch};
pub use kv_cache::{CacheShape, KvCache};
pub use kv_cache_builder::KvCacheBuilder;
pub use tensors::{Cache, Codes, PAGE_SIZES, Tokens};
pub(crate) use tensors::{Layout, Place, axes, contiguous, float};
