//! What was submitted to the GPU.

use crate::metal::error::{self, MetalError};
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLCommandBuffer, MTLCommandBufferStatus};
use std::time::Duration;

/// A command buffer that was committed.
#[derive(Clone)]
pub(super) struct Commands(Retained<ProtocolObject<dyn MTLCommandBuffer>>);

// SAFETY: only committed command buffers are kept here; waiting for one and asking for its status, error and times is
// allowed on any thread, and so is its release.
unsafe impl Send for Commands {}
// SAFETY: as above.
unsafe impl Sync for Commands {}

impl Commands {
    /// Hands the commands to the GPU. Nothing may be encoded any more.
    pub fn commit(commands: Retained<ProtocolObject<dyn MTLCommandBuffer>>) -> Commands {
        commands.commit();
        Commands(commands)
    }

    /// Whether the GPU has finished, well or not.
    pub fn done(&self) -> bool {
        matches!(self.0.status(), MTLCommandBufferStatus::Completed | MTLCommandBufferStatus::Error)
    }

    /// Blocks until the GPU has finished, well or not.
    pub fn wait(&self) {
        self.0.waitUntilCompleted();
    }

    /// The time from start to end on the GPU; what Metal says where it failed. Call it after `wait`.
    fn outcome(&self) -> Result<Duration, String> {
        let status = self.0.status();
        if status != MTLCommandBufferStatus::Completed {
            let reason = self.0.error().map(|error| error::text(&error));
            return Err(reason.unwrap_or_else(|| format!("the command buffer has status {}", status.0)));
        }
        let seconds = self.0.GPUEndTime() - self.0.GPUStartTime();
        Duration::try_from_secs_f64(seconds).map_err(|_| format!("the command buffer took {seconds} s"))
    }
}

/// A launch that the GPU works on, or has finished.
#[must_use = "whether the launch succeeded is known only from `wait`"]
pub(crate) struct Submitted {
    commands: Commands,
    kernel: String,
}

impl Submitted {
    pub(super) fn new(commands: Commands, kernel: String) -> Submitted {
        Submitted { commands, kernel }
    }

    /// Blocks until the launch has finished, and returns the time that the GPU took for it: without the wait for its turn,
    /// and 0 for an empty grid.
    ///
    /// # Errors
    /// [`MetalError::Failed`]: what the kernel wrote is not to be used then.
    pub fn wait(self) -> Result<Duration, MetalError> {
        self.commands.wait();
        let failed = |message| MetalError::Failed { kernel: self.kernel, message };
        autoreleasepool(|_| self.commands.outcome()).map_err(failed)
    }
}
