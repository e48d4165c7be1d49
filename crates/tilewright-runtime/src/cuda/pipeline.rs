//! A kernel compiled for a GPU: one module for each set of facts about its tensors.

use super::driver::Named;
use super::{CudaDevice, Resources, compile_cached};
use crate::error::{DeviceError, LaunchError};
use crate::gpu::facts::{Facts, Variants};
use cudarc::driver::{CudaContext, result, sys};
use std::ffi::{CString, c_void};
use std::sync::Arc;
use tilewright_compile::gpu::{Access16, Arguments, Source, compile};
use tilewright_ir::Kernel;

/// A kernel for one GPU.
pub(crate) struct CudaPipeline {
    /// After the passes.
    kernel: Kernel,
    views: usize,
    first: Arc<Module>,
    /// All modules, the first one too.
    modules: Variants<Module>,
}

impl CudaPipeline {
    pub fn new(device: &CudaDevice, kernel: &Kernel) -> Result<CudaPipeline, LaunchError> {
        let kernel = tilewright_compile::pass::run_gpu(kernel.clone(), None)?;
        // Compiled before its first launch for what tensors mostly are.
        let facts = Facts::of(Access16::likely(&kernel));
        let views = Access16::likely(&kernel).len();
        let first = Arc::new(Module::new(device, &kernel, views, facts)?);
        Ok(CudaPipeline { kernel, views, first: first.clone(), modules: Variants::new(facts, first) })
    }

    /// The code for tensors of which this is known, compiled when it is not there yet.
    pub(super) fn module(
        &self,
        device: &CudaDevice,
        facts: Facts,
        may_compile: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<Arc<Module>, LaunchError> {
        if let Some(found) = self.modules.get(facts) {
            return Ok(found);
        }
        may_compile().map_err(|error| LaunchError::Device { kernel: self.kernel.name.to_string(), error })?;
        self.modules.get_or(facts, || Module::new(device, &self.kernel, self.views, facts))
    }

    /// Where its code is loaded.
    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.first.context
    }

    /// Where the kernel's numbers stand, whatever the facts.
    pub(super) fn arguments(&self) -> &Arguments {
        &self.first.source.arguments
    }

    /// The source for well aligned tensors.
    pub fn source(&self) -> &Source {
        &self.first.source
    }

    /// What that takes of a multiprocessor.
    pub fn resources(&self) -> Resources {
        self.first.resources
    }
}

/// Code that is loaded.
pub(super) struct Module {
    pub source: Source,
    resources: Resources,
    context: Arc<CudaContext>,
    module: sys::CUmodule,
    pub function: sys::CUfunction,
}

// SAFETY: the driver takes modules and functions from every thread; they are only read here.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    fn new(device: &CudaDevice, kernel: &Kernel, views: usize, facts: Facts) -> Result<Module, LaunchError> {
        let failed = |error| LaunchError::Device { kernel: kernel.name.to_string(), error };
        let facts: Vec<Access16> = (0..views).map(|view| facts.of_view(view)).collect();
        let source = compile(kernel, &device.target, &facts).map_err(|e| LaunchError::Unsupported {
            device: "cuda",
            kernel: kernel.name.to_string(),
            reason: e.to_string(),
        })?;
        let cubin = compile_cached(&source, device.arch).map_err(failed)?;
        Module::load(device.home().context(), source, &cubin.bytes, cubin.resources).map_err(failed)
    }

    fn load(
        context: &Arc<CudaContext>,
        source: Source,
        cubin: &[u8],
        resources: Resources,
    ) -> Result<Module, DeviceError> {
        use sys::CUfunction_attribute_enum as Attribute;
        context.bind_to_thread().named("cuCtxSetCurrent")?;
        let entry = CString::new(source.entry.as_str())
            .map_err(|_| DeviceError::Call { call: "cuModuleGetFunction", reason: "a zero byte in the name".into() })?;
        // SAFETY: a whole ELF file, which carries its own length; NVRTC made it, or its hash says so.
        let module = unsafe { result::module::load_data(cubin.as_ptr().cast::<c_void>()) }.named("cuModuleLoadData")?;
        // From here on `drop` unloads the module.
        let mut loaded = Module { source, resources, context: context.clone(), module, function: std::ptr::null_mut() };
        // SAFETY: the module is loaded.
        loaded.function = unsafe { result::module::get_function(module, entry) }.named("cuModuleGetFunction")?;
        let attribute = |attribute, value: u32| {
            let value = i32::try_from(value).unwrap_or(i32::MAX); // refused then
            // SAFETY: a function of a loaded module.
            unsafe { result::function::set_function_attribute(loaded.function, attribute, value) }
                .named("cuFuncSetAttribute")
        };
        if loaded.source.shared_bytes > 48 << 10 {
            attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, loaded.source.shared_bytes)?;
        }
        // Asked for so that a driver that loads code late does it now and not in the first launch, which may be recorded.
        // SAFETY: a function of a loaded module.
        let registers =
            unsafe { result::function::get_function_attribute(loaded.function, Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS) };
        if loaded.resources.registers == 0 {
            loaded.resources.registers = registers.named("cuFuncGetAttribute")?.try_into().unwrap_or(0);
        }
        Ok(loaded)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // A launch that did not wait may still run this code.
        if self.context.synchronize().is_ok() {
            // SAFETY: loaded by `load`, unloaded once, and nothing runs it. A failure leaves nothing to do.
            let _ = unsafe { result::module::unload(self.module) };
        }
    }
}
