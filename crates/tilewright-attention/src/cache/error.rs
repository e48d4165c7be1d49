//! What a cache refuses.

use crate::error::AttentionError;
use crate::quant::QuantError;
use tilewright_runtime::{LaunchError, TensorError};

/// A change of a cache that is refused, or that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// More tokens than there is room for.
    #[error(
        "batch entry {entry} holds {len} tokens of {capacity}; {adding} more do not fit, truncate it or make the cache larger"
    )]
    Overflow {
        /// Batch entry.
        entry: usize,
        /// Tokens, or the position that new ones were to start at.
        len: usize,
        /// New tokens.
        adding: usize,
        /// Tokens that there is room for.
        capacity: usize,
    },
    /// Too few free pages.
    #[error("{needed} pages are needed and {free} of {pages} are free; truncate entries, or make the pool larger")]
    Pages {
        /// Pages that the new tokens need.
        needed: usize,
        /// Pages that no entry holds.
        free: usize,
        /// Pages.
        pages: usize,
    },
    /// More tokens than a tensor has.
    #[error("{tokens} tokens of batch entry {entry} and {tensor} has {length}; at most that many can be asked for")]
    Tokens {
        /// Which tensor.
        tensor: &'static str,
        /// Batch entry.
        entry: usize,
        /// Tokens asked for.
        tokens: usize,
        /// Tokens of the tensor.
        length: usize,
    },
    /// New tokens of two entries that share a page.
    #[error("page {page} would be written for two batch entries; give each its own page where it appends")]
    SharedPage {
        /// The page.
        page: i32,
    },
    /// A batch entry that the cache does not have.
    #[error("there is no batch entry {entry}; the cache has {batch}, counted from 0")]
    Entry {
        /// As given.
        entry: usize,
        /// Batch entries.
        batch: usize,
    },
    /// A truncation to more tokens than there are.
    #[error("batch entry {entry} has {len} tokens and cannot be truncated to {to}; append instead")]
    Longer {
        /// Batch entry.
        entry: usize,
        /// As given.
        to: usize,
        /// Tokens.
        len: usize,
    },
    /// A truncation that needs tokens which a ring has overwritten.
    #[error(
        "the ring of batch entry {entry} has overwritten the tokens before {oldest}; truncated to {to} it would need those from {needed} on, so compute the last {window} again"
    )]
    Overwritten {
        /// Batch entry.
        entry: usize,
        /// As given.
        to: usize,
        /// The first token that a ring of `to` tokens must hold.
        needed: usize,
        /// The oldest token that is there.
        oldest: usize,
        /// Tokens that the ring was asked to keep.
        window: usize,
    },
    /// A ring that is smaller than what it is to keep.
    #[error("a ring of {capacity} slots cannot keep the last {window} tokens; the window is 1 to {capacity}")]
    Window {
        /// As given.
        window: usize,
        /// Slots.
        capacity: usize,
    },
    /// Numbers that the format cannot hold.
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// Tensors that do not fit, and what attention refuses as well.
    #[error(transparent)]
    Attention(#[from] AttentionError),
}

impl From<TensorError> for CacheError {
    fn from(error: TensorError) -> CacheError {
        AttentionError::from(error).into()
    }
}

impl From<LaunchError> for CacheError {
    fn from(error: LaunchError) -> CacheError {
        AttentionError::from(error).into()
    }
}
