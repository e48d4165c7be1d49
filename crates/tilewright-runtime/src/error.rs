//! What can be wrong with tensors, pipelines and launches.

use tilewright_ir::{Diagnostics, Elem};

/// A tensor that cannot be what it is said to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The shape needs another number of elements than the memory holds.
    #[error("a tensor of shape {shape:?} reaches {needed} elements and the memory holds {got}")]
    Length {
        /// Extents, outermost first.
        shape: Vec<usize>,
        /// Elements that the shape and strides reach.
        needed: usize,
        /// Elements that are there.
        got: usize,
    },
    /// Shape and strides disagree in rank, or the rank is above 4.
    #[error("a tensor of rank {rank} with {strides} strides; tensors have rank 0 to 4 and one stride an axis")]
    Rank {
        /// Number of extents.
        rank: usize,
        /// Number of strides.
        strides: usize,
    },
    /// An extent or the whole tensor is too large to index.
    #[error(
        "a tensor of shape {shape:?} is too large: an axis has at most 2147483647 entries, and a tensor must fit memory"
    )]
    TooLarge {
        /// Extents, outermost first.
        shape: Vec<usize>,
    },
    /// The bytes do not start at a multiple of the element size.
    #[error("{elem} elements need memory aligned to {} bytes; copy the bytes to an aligned buffer first", elem.bytes())]
    Alignment {
        /// The element type.
        elem: Elem,
    },
    /// Two elements of an output share memory.
    #[error("an output of shape {shape:?} and strides {strides:?} has elements that overlap")]
    Overlap {
        /// Extents, outermost first.
        shape: Vec<usize>,
        /// In elements.
        strides: Vec<usize>,
    },
    /// The elements are of another type.
    #[error("the tensor holds {got} and {wanted} was asked for")]
    Element {
        /// What was asked for.
        wanted: Elem,
        /// What it holds.
        got: Elem,
    },
}

/// A launch that was refused, or that failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The kernel itself is wrong.
    #[error("{0}")]
    Kernel(#[from] Diagnostics),
    /// The device cannot run this kernel.
    #[error("{device} cannot run `{kernel}`: {reason}")]
    Unsupported {
        /// The device's name.
        device: &'static str,
        /// The kernel's name.
        kernel: String,
        /// What is missing, and the nearest thing that works.
        reason: String,
    },
    /// Another number of arguments than parameters.
    #[error("`{kernel}` takes {wanted} arguments and got {got}")]
    ArgumentCount {
        /// The kernel's name.
        kernel: String,
        /// Parameters of the kernel.
        wanted: usize,
        /// Arguments given.
        got: usize,
    },
    /// An argument of another kind, element type or rank than its parameter.
    #[error("`{kernel}` takes {wanted} as `{param}` and got {got}")]
    Argument {
        /// The kernel's name.
        kernel: String,
        /// The parameter's name.
        param: String,
        /// The parameter's type.
        wanted: String,
        /// What was given.
        got: String,
    },
    /// An axis of the grid that a program id, an i32, cannot count.
    #[error("a grid of {grid:?}: an axis has at most 2147483647 programs")]
    Grid {
        /// Programs along each axis.
        grid: [u32; 3],
    },
    /// The pipeline was compiled by another device.
    #[error("the pipeline of `{kernel}` was compiled for another device")]
    ForeignPipeline {
        /// The kernel's name.
        kernel: String,
    },
    /// The kernel failed while it ran.
    #[error("`{kernel}` failed while it ran: {reason}")]
    Failed {
        /// The kernel's name.
        kernel: String,
        /// What happened.
        reason: String,
    },
}
