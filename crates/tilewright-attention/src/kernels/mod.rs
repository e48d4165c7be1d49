//! The kernels: what one tile program computes.

mod classify;
mod forward;
mod merge;
mod row_state;
mod split;
mod walk;

pub use classify::{ATTENTION_CLASSIFY, AttentionClassify, AttentionClassifyArgs, attention_classify};
pub use forward::{ATTENTION_FORWARD, AttentionForward, AttentionForwardArgs, attention_forward};
pub use merge::{ATTENTION_MERGE, AttentionMerge, AttentionMergeArgs, attention_merge};
pub use row_state::RowState;
pub use split::{ATTENTION_SPLIT, AttentionSplit, AttentionSplitArgs, attention_split};
