//! What can go wrong with Metal.

use crate::metal::limits::LimitError;

/// Metal cannot do what was asked, or failed at it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetalError {
    /// The system is not one of Apple's.
    #[error("Metal needs macOS on Apple silicon; use --device cpu, `Device::cpu()`")]
    NotApple,
    /// There is no GPU that Metal can use.
    #[error("this machine has no Metal device; use --device cpu, `Device::cpu()`")]
    NoDevice,
    /// The system is too old.
    #[error(
        "kernels need Metal 3.1, which comes with macOS 14 and iOS 17; update the system, or use --device cpu, \
         `Device::cpu()`"
    )]
    System,
    /// The GPU is too old.
    #[error("the GPU `{name}` is not of family Apple 7 (M1, A14) or later; use --device cpu, `Device::cpu()`")]
    Family {
        /// Its name.
        name: String,
    },
    /// A size that the GPU refuses.
    #[error("{0}")]
    Limit(#[from] LimitError),
    /// The compiler refused the source.
    #[error("the Metal compiler refused it: {message}")]
    Compile {
        /// What the compiler says.
        message: String,
    },
    /// Metal returned nothing and does not say why: it has no memory left.
    #[error("Metal could not make {what}: there is no memory left; free tensors of this device")]
    Memory {
        /// What it was asked for.
        what: String,
    },
    /// The GPU failed.
    #[error("{what} failed on the GPU: {message}")]
    Failed {
        /// A kernel's name, or what else was submitted.
        what: String,
        /// What Metal says of the command buffer.
        message: String,
    },
    /// A launch reads what another one should have written, which failed.
    #[error("`{param}` is undefined: what should have written it failed: {because}; overwrite the whole tensor first")]
    Undefined {
        /// The parameter that the tensor was given for.
        param: String,
        /// The failure.
        because: Box<MetalError>,
    },
}
