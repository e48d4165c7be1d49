//! What is refused, and why.

use crate::cache::PAGE_SIZES;
use crate::formula::FormulaError;
use crate::quant::Group;
use tilewright_ir::{Diagnostics, Elem, Schedule};
use tilewright_runtime::{DeviceError, LaunchError, TensorError};

/// A request that is refused, or a launch that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AttentionError {
    /// A tensor of another rank.
    #[error("{tensor} has rank {got} and needs {wanted}: {axes}")]
    Rank {
        /// Which tensor.
        tensor: &'static str,
        /// Its rank.
        got: usize,
        /// The rank that it needs.
        wanted: usize,
        /// What the axes are.
        axes: &'static str,
    },
    /// A tensor of a type that attention does not take.
    #[error("{tensor} holds {got}; it may hold {wanted}")]
    Element {
        /// Which tensor.
        tensor: &'static str,
        /// Its element type.
        got: Elem,
        /// What it may hold.
        wanted: &'static str,
    },
    /// Types that do not go together.
    #[error("q holds {q}, k and v {kv}: they share a type, or q is f32 and they are f16 or bf16; convert one of them")]
    ElementMix {
        /// Of q.
        q: Elem,
        /// Of k and v, or of their scales.
        kv: Elem,
    },
    /// Two tensors that disagree about an extent.
    #[error("{tensor} has {got} as its {axis} and {other} has {wanted}; they must be equal")]
    Extent {
        /// Which tensor.
        tensor: &'static str,
        /// Which axis.
        axis: &'static str,
        /// Its extent.
        got: usize,
        /// The tensor that says otherwise.
        other: &'static str,
        /// What that one says.
        wanted: usize,
    },
    /// An extent of zero where there must be something.
    #[error("{tensor} has no {axis}; only the batch and the lengths may be 0")]
    Zero {
        /// Which tensor.
        tensor: &'static str,
        /// Which axis.
        axis: &'static str,
    },
    /// Query heads that cannot be shared out among the key/value heads.
    #[error(
        "{q_heads} query heads cannot share {kv_heads} key/value heads; the first number must be a multiple of the second"
    )]
    Heads {
        /// Heads of q.
        q_heads: usize,
        /// Heads of k and v.
        kv_heads: usize,
    },
    /// A head dim that no kernel serves.
    #[error("{axis} {got} is above {MAX_HEAD_DIM}; split the head, or project it to at most {MAX_HEAD_DIM}")]
    HeadDim {
        /// `head_dim` or `value_dim`.
        axis: &'static str,
        /// Its extent.
        got: usize,
    },
    /// A last axis whose elements are apart.
    #[error("{tensor} has stride {stride} along its last axis, which must be contiguous; copy it first")]
    Stride {
        /// Which tensor.
        tensor: &'static str,
        /// In elements.
        stride: usize,
    },
    /// A scale that is no number, or whose product with `log2(e)` is none of f32.
    #[error("scale {scale:e} is no number up to 2.3e38 in size; leave it out for 1/sqrt(head_dim)")]
    Scale {
        /// As given.
        scale: f64,
    },
    /// A key length that the cache does not have.
    #[error("kv_len[{entry}] is {got}; it must be 0 to {capacity}, the length of k and v")]
    KvLen {
        /// Batch entry.
        entry: usize,
        /// As given.
        got: i32,
        /// Length of the key axis.
        capacity: usize,
    },
    /// A length that positions cannot count.
    #[error("{tensor} has {got} as its length; at most {MAX_LENGTH} is served")]
    Length {
        /// Which tensor.
        tensor: &'static str,
        /// Its extent.
        got: usize,
    },
    /// A start that positions cannot count.
    #[error("q_start is {got}; positions from -{MAX_LENGTH} to {MAX_LENGTH} are served")]
    Position {
        /// As given.
        got: i64,
    },
    /// Keys and values of different types.
    #[error("the keys are {k} and the values {v}; both share a type, and scales and biases of codes have it too")]
    CacheMix {
        /// Of the keys, or of their scales.
        k: Elem,
        /// Of the values, or of their scales.
        v: Elem,
    },
    /// Too few or too many numbers, of those that come one for each batch entry.
    #[error("{what} has {got} entries and the batch {batch}; give one for each batch entry")]
    EntryCount {
        /// Which numbers.
        what: &'static str,
        /// Entries given.
        got: usize,
        /// Batch entries.
        batch: usize,
    },
    /// A head that groups cannot be cut into.
    #[error(
        "{tensor} holds heads of {dim}, which groups of {group} do not divide; use a smaller group or a dense cache"
    )]
    Group {
        /// Which tensor.
        tensor: &'static str,
        /// Numbers of a head.
        dim: usize,
        /// Numbers of a group.
        group: Group,
    },
    /// A slot that the ring does not have.
    #[error("ring_start[{entry}] is {got}; it must be a slot, 0 to {capacity} less one")]
    RingStart {
        /// Batch entry.
        entry: usize,
        /// As given.
        got: i32,
        /// Slots.
        capacity: usize,
    },
    /// A full ring that has lost tokens which a query's window still holds.
    #[error(
        "the ring of {capacity} slots is full (kv_len[{entry}]) and {q_len} queries with a window of {window} need {needed}; make the ring at least that large"
    )]
    RingCapacity {
        /// Batch entry.
        entry: usize,
        /// Slots.
        capacity: usize,
        /// Queries.
        q_len: usize,
        /// Keys of a window, with the query's own.
        window: usize,
        /// Slots needed.
        needed: usize,
    },
    /// Pages of a size that is not served.
    #[error("pages of {got} tokens; {} to {} are served", PAGE_SIZES.start(), PAGE_SIZES.end())]
    PageSize {
        /// Tokens of a page.
        got: usize,
    },
    /// A page table that batch entries cannot share.
    #[error(
        "the page table has {got} entries, which {batch} batch entries cannot share; give each the same number of pages"
    )]
    PageTable {
        /// Entries.
        got: usize,
        /// Batch entries.
        batch: usize,
    },
    /// A page that does not exist.
    #[error("page {place} of batch entry {entry} is {got}; there are pages 0 to {pages} less one")]
    Page {
        /// Batch entry.
        entry: usize,
        /// Which of its pages.
        place: usize,
        /// As given.
        got: i32,
        /// Pages.
        pages: usize,
    },
    /// A prefix that does not fit.
    #[error(
        "prefix_len[{entry}] is {prefix} of {len} keys; the prefix has room for {slots} and the tail for {room} keys"
    )]
    Prefix {
        /// Batch entry.
        entry: usize,
        /// As given.
        prefix: i32,
        /// Keys that count.
        len: i32,
        /// Room of the prefix.
        slots: usize,
        /// Room of the tail.
        room: usize,
    },
    /// Things that do not go together.
    #[error("{what} is not served; the nearest that is: {nearest}")]
    Combination {
        /// What was asked.
        what: String,
        /// What works.
        nearest: String,
    },
    /// A feature that does not fit the problem.
    #[error("{feature}: {reason}")]
    Feature {
        /// Which feature.
        feature: String,
        /// What is wrong, what was expected, and the next step.
        reason: String,
    },
    /// A number of splits, or of keys of each, that cannot be.
    #[error("{got} splits; give 1 to {MAX_SPLITS}, or leave it to the planner")]
    Splits {
        /// As given.
        got: usize,
    },
    /// Scratch that is too small.
    #[error(
        "the workspace has {got} bytes of scratch and the plan needs {needed}; make one with the plan's `workspace`"
    )]
    Scratch {
        /// Bytes given.
        got: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// A schedule outside its limits.
    #[error("schedule {schedule}: {reason}")]
    Schedule {
        /// As given.
        schedule: Schedule,
        /// Which limit, and what fits.
        reason: String,
    },
    /// Two features that bring an input of the same name, or one that the kernel itself uses.
    #[error("a feature's input is called `{name}`, which is taken; give it another name")]
    InputName {
        /// The name.
        name: String,
    },
    /// The kernel asks for an input that no feature brings.
    #[error("the kernel takes `{name}` and no feature brings it; return it from `Feature::inputs`")]
    MissingInput {
        /// The name.
        name: String,
    },
    /// An output of another shape than the result.
    #[error("{tensor} has shape {got:?} and the result {wanted:?}; give a tensor of that shape")]
    OutputShape {
        /// `o` or `lse`.
        tensor: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The shape that it needs.
        wanted: Vec<usize>,
    },
    /// An output of another type than the result.
    #[error("{tensor} holds {got} and the result {wanted}; give a tensor of that type")]
    OutputElement {
        /// `o` or `lse`.
        tensor: &'static str,
        /// Its element type.
        got: Elem,
        /// The type that it needs.
        wanted: Elem,
    },
    /// lse was asked for and has no place, or has a place and was not asked for.
    #[error("{}", if *.requested { "lse was requested and no tensor was given for it" } else { "a tensor for lse was given; ask for it with `.lse()`" })]
    Lse {
        /// Whether the request asked for it.
        requested: bool,
    },
    /// A request that a plan was not made for.
    #[error("the plan was made for {planned} and the request has {got}; plan it anew")]
    Replan {
        /// What the plan serves.
        planned: String,
        /// What was asked.
        got: String,
    },
    /// The kernel could not be traced: a mistake in a feature.
    #[error(transparent)]
    Trace(#[from] Diagnostics),
    /// A tensor that cannot be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A launch of more programs than can be.
    #[error(transparent)]
    Grid(#[from] FormulaError),
    /// The device refused or failed.
    #[error(transparent)]
    Launch(#[from] LaunchError),
}

impl From<DeviceError> for AttentionError {
    fn from(error: DeviceError) -> AttentionError {
        AttentionError::Launch(error.into())
    }
}

impl AttentionError {
    pub(crate) fn combination(what: impl Into<String>, nearest: impl Into<String>) -> AttentionError {
        AttentionError::Combination { what: what.into(), nearest: nearest.into() }
    }
}

/// The most splits.
pub const MAX_SPLITS: usize = 1 << 16;

/// The largest head dim and value dim.
pub const MAX_HEAD_DIM: usize = 576;

/// The largest length, and the largest distance of `q_start` from 0: sums of two of them fit 32 bits.
pub const MAX_LENGTH: usize = 1 << 29;
