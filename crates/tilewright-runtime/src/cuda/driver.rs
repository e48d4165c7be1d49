//! What every call of the driver goes through: whether it is there, and errors that say which call failed.

use crate::error::DeviceError;
use cudarc::driver::DriverError;

/// Whether the driver can be loaded. Nothing of it may be called before.
///
/// # Errors
/// [`DeviceError::NoCudaDriver`].
pub(super) fn present() -> Result<(), DeviceError> {
    // SAFETY: loads libcuda, whose start touches nothing of this process.
    match unsafe { cudarc::driver::sys::is_culib_present() } {
        true => Ok(()),
        false => Err(DeviceError::NoCudaDriver),
    }
}

/// How many GPUs the driver sees.
///
/// # Errors
/// [`DeviceError::NoCudaDriver`], and what the driver says.
pub(super) fn count() -> Result<usize, DeviceError> {
    present()?;
    let found = cudarc::driver::CudaContext::device_count();
    match found {
        Err(DriverError(cudarc::driver::sys::CUresult::CUDA_ERROR_NO_DEVICE)) => Ok(0),
        found => Ok(found.named("cuDeviceGetCount")?.try_into().unwrap_or(0)), // a count is not negative
    }
}

/// Major and minor version of CUDA that the driver supports.
pub(super) fn version() -> Result<(u32, u32), DeviceError> {
    let mut version = 0;
    // SAFETY: the driver is there (`present` is called first), and the pointer is to an integer that outlives the call.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) }.result().named("cuDriverGetVersion")?;
    Ok((version as u32 / 1000, version as u32 % 1000 / 10))
}

/// Puts the call's name to an error.
pub(super) trait Named<T> {
    fn named(self, call: &'static str) -> Result<T, DeviceError>;
}

impl<T> Named<T> for Result<T, DriverError> {
    fn named(self, call: &'static str) -> Result<T, DeviceError> {
        self.map_err(|error| {
            let text = |text: Result<&std::ffi::CStr, DriverError>| text.map(|t| t.to_string_lossy().into_owned()).ok();
            let name = text(error.error_name()).unwrap_or_else(|| format!("{:?}", error.0));
            let reason = match text(error.error_string()) {
                Some(meaning) => format!("{name}, {meaning}"),
                None => name,
            };
            DeviceError::Call { call, reason }
        })
    }
}
