//! What can go wrong with Metal.

use crate::metal::limits::LimitError;
use objc2_foundation::NSError;

/// Metal cannot do what was asked, or failed at it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetalError {
    /// There is no GPU that Metal can use.
    #[error("this machine has no Metal device; use the cpu device")]
    NoDevice,
    /// The system is too old.
    #[error("kernels need Metal 3.1, which comes with macOS 14 and iOS 17; update the system, or use the cpu device")]
    System,
    /// The GPU is too old.
    #[error("the GPU `{name}` is not of family Apple 7 (M1, A14) or later; use the cpu device")]
    Family {
        /// Its name.
        name: String,
    },
    /// A size that the GPU refuses.
    #[error("{0}")]
    Limit(#[from] LimitError),
    /// The compiler refused the source.
    #[error("the Metal compiler refused `{kernel}`: {message}")]
    Compile {
        /// The kernel's name.
        kernel: String,
        /// What the compiler says.
        message: String,
    },
    /// The source has no such kernel.
    #[error("the Metal source has no function `{kernel}`")]
    Entry {
        /// The kernel's name.
        kernel: String,
    },
    /// Metal returned nothing and does not say why: it has no memory left.
    #[error("Metal could not make {what}: there is no memory left; free tensors of this device")]
    Memory {
        /// What it was asked for.
        what: String,
    },
    /// A buffer of another [`MetalDevice`](crate::metal::device::MetalDevice), whose launches this one does not order.
    #[error("tensor {index} of `{kernel}` is in a buffer of another device; copy it to this one")]
    ForeignBuffer {
        /// The kernel's name.
        kernel: String,
        /// Its position among the tensors.
        index: usize,
    },
    /// The GPU failed while it ran a kernel.
    #[error("`{kernel}` failed on the GPU: {message}")]
    Failed {
        /// The kernel's name.
        kernel: String,
        /// What Metal says of the command buffer.
        message: String,
    },
}

/// What an error says, with its domain and number.
pub(crate) fn text(error: &NSError) -> String {
    format!("{} ({} {})", error.localizedDescription(), error.domain(), error.code())
}
