//! Devices that other crates make: what runs rendered kernels in a test, or a backend that is not here yet.

use crate::cuda::Resources;
use crate::device::{Arg, DeviceKind, Grid};
use crate::error::LaunchError;
use crate::tensor::{MemoryMut, TensorView, TensorViewMut};
use tilewright_compile::gpu::Access16;
use tilewright_ir::Kernel;

/// What compiles and runs kernels for [`Device::external`](crate::Device::external). A launch is done when it returns.
pub trait ExternalDevice: Send + Sync {
    /// The kind that planners choose for.
    fn kind(&self) -> DeviceKind;

    /// For people.
    fn name(&self) -> &'static str;

    /// Compiles a kernel that verifies.
    ///
    /// # Errors
    /// What it cannot run.
    fn compile(&self, kernel: &Kernel) -> Result<Box<dyn ExternalPipeline>, LaunchError>;
}

/// A kernel that an [`ExternalDevice`] compiled.
pub trait ExternalPipeline: Send + Sync {
    /// What it runs, as text.
    fn listing(&self) -> String;

    /// What it takes of a GPU's multiprocessor, where that is known.
    fn resources(&self) -> Option<Resources> {
        None
    }

    /// Runs every program of the grid. `args` are in host memory and fit the kernel's parameters.
    ///
    /// # Errors
    /// What failed.
    fn launch(&self, grid: Grid, args: &mut [Arg<'_>]) -> Result<(), LaunchError>;
}

impl TensorView<'_> {
    /// What a kernel may take for granted of this tensor when its first element is at `address`.
    pub fn access_at(&self, address: u64) -> Access16 {
        crate::gpu::facts::fact(&self.layout, address)
    }
}

impl TensorViewMut<'_> {
    /// The bytes of the host memory that the view is over, from its first element on; `None` for memory of a device.
    pub fn host_bytes_mut(&mut self) -> Option<&mut [u8]> {
        match &mut self.memory {
            MemoryMut::Host(bytes) => Some(bytes),
            MemoryMut::Gpu(_) => None,
        }
    }
}
