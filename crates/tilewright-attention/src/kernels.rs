//! The kernels: what one tile program computes.

mod append;
mod classify;
mod dequantise;
mod forward;
mod merge;
mod new_tokens;
mod quantise;
mod rounded;
mod row_state;
mod split;
mod walk;

pub use append::{CACHE_APPEND, CacheAppend, CacheAppendArgs, cache_append};
pub use classify::{ATTENTION_CLASSIFY, AttentionClassify, AttentionClassifyArgs, attention_classify};
pub use dequantise::{CACHE_DEQUANTISE, CacheDequantise, CacheDequantiseArgs, cache_dequantise};
pub use forward::{ATTENTION_FORWARD, AttentionForward, AttentionForwardArgs, attention_forward};
pub use merge::{ATTENTION_MERGE, AttentionMerge, AttentionMergeArgs, attention_merge};
pub use quantise::{CACHE_QUANTISE, CacheQuantise, CacheQuantiseArgs, cache_quantise};
pub(crate) use rounded::rounded;
pub use split::{ATTENTION_SPLIT, AttentionSplit, AttentionSplitArgs, attention_split};
pub use walk::{Factor, Rescaling};
