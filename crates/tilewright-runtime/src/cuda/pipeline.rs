//! A kernel compiled for a GPU: one module for each set of facts about its tensors.

use super::driver::Named;
use super::{CudaDevice, Resources, compile_cached};
use crate::error::{DeviceError, LaunchError};
use crate::tensor::Layout;
use cudarc::driver::{CudaContext, result, sys};
use std::ffi::{CString, c_void};
use std::sync::{Arc, PoisonError, RwLock};
use tilewright_compile::gpu::{Access16, Arguments, Source, compile};
use tilewright_ir::{Elem, Kernel};

/// What is known of all tensors of a launch. Views past 64 are not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Facts {
    /// Bit `i` is set where view parameter `i` is [`Access16::Aligned`].
    aligned: u64,
    /// And here where it is [`Access16::Words`].
    words: u64,
}

impl Facts {
    pub fn of(views: impl IntoIterator<Item = Access16>) -> Facts {
        let mut facts = Facts::default();
        for (view, fact) in views.into_iter().take(64).enumerate() {
            match fact {
                Access16::Aligned => facts.aligned |= 1 << view,
                Access16::Words => facts.words |= 1 << view,
                Access16::Any => {}
            }
        }
        facts
    }

    pub fn of_view(self, view: usize) -> Access16 {
        let has = |bits: u64| view < 64 && bits >> view & 1 == 1;
        match (has(self.aligned), has(self.words)) {
            (true, _) => Access16::Aligned,
            (false, true) => Access16::Words,
            (false, false) => Access16::Any,
        }
    }
}

/// What holds for one tensor.
///
/// Tensors of i32 are tables (lengths, positions, pages): their number of entries follows the request, so they are always
/// `Any`, or a kernel would be compiled anew for another batch.
pub(crate) fn fact(layout: &Layout, address: u64) -> Access16 {
    let width = layout.elem.bytes();
    let Some(last) = layout.rank().checked_sub(1) else { return Access16::Any };
    // A tensor without elements is never read: its strides are 0 and say nothing.
    let steps = layout.stride(last) == 1 || layout.count() == 0;
    let rows_of = |bytes: usize| {
        let whole = (layout.shape[last] * width).is_multiple_of(bytes) && address.is_multiple_of(bytes as u64);
        whole && (0..last).all(|axis| (layout.stride(axis) * width as isize) % bytes as isize == 0)
    };
    match layout.elem != Elem::I32 && steps {
        true if rows_of(16) => Access16::Aligned,
        true if rows_of(4) => Access16::Words,
        true | false => Access16::Any,
    }
}

/// A kernel for one GPU.
pub(crate) struct CudaPipeline {
    /// After the passes.
    kernel: Kernel,
    views: usize,
    first: Arc<Module>,
    /// All modules, the first one too.
    modules: RwLock<Vec<(Facts, Arc<Module>)>>,
}

impl CudaPipeline {
    pub fn new(device: &CudaDevice, kernel: &Kernel) -> Result<CudaPipeline, LaunchError> {
        let kernel = tilewright_compile::pass::run_gpu(kernel.clone(), None)?;
        // Compiled before its first launch for what tensors mostly are.
        let facts = Facts::of(Access16::likely(&kernel));
        let views = Access16::likely(&kernel).len();
        let first = Arc::new(Module::new(device, &kernel, views, facts)?);
        Ok(CudaPipeline { kernel, views, first: first.clone(), modules: RwLock::new(vec![(facts, first)]) })
    }

    /// The code for tensors of which this is known, compiled when it is not there yet.
    pub(super) fn module(
        &self,
        device: &CudaDevice,
        facts: Facts,
        may_compile: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<Arc<Module>, LaunchError> {
        let find = |modules: &[(Facts, Arc<Module>)]| {
            modules.iter().find(|(of, _)| *of == facts).map(|(_, module)| module.clone())
        };
        if let Some(found) = find(&self.modules.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(found);
        }
        may_compile().map_err(|error| LaunchError::Device { kernel: self.kernel.name.to_string(), error })?;
        let mut modules = self.modules.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = find(&modules) {
            return Ok(found); // another thread was first
        }
        let module = Arc::new(Module::new(device, &self.kernel, self.views, facts)?);
        modules.push((facts, module.clone()));
        Ok(module)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn of(elem: Elem, shape: &[usize], strides: &[usize], address: u64) -> Access16 {
        let tensor = Tensor::zeros(elem, &[1024]).unwrap();
        fact(&tensor.view().with_strides(shape, strides).unwrap().layout, address)
    }

    #[test]
    fn rows_of_whole_16_bytes_at_a_multiple_of_16_are_aligned() {
        assert_eq!(of(Elem::F16, &[2, 3, 8], &[24, 8, 1], 0), Access16::Aligned);
        assert_eq!(of(Elem::F32, &[4], &[1], 4096), Access16::Aligned);
        assert_eq!(of(Elem::U8, &[2, 16], &[32, 1], 16), Access16::Aligned);
    }

    #[test]
    fn each_thing_that_is_off_is_seen() {
        let cases: [(&str, &[usize], &[usize], u64); 6] = [
            ("address", &[2, 3, 8], &[24, 8, 1], 2),
            ("length", &[2, 3, 7], &[24, 8, 1], 0),
            ("stride of the last axis", &[2, 3, 8], &[48, 16, 2], 0),
            ("stride of the middle axis", &[2, 3, 8], &[32, 9, 1], 0),
            ("stride of the first axis", &[2, 3, 8], &[29, 8, 1], 0),
            ("no axis", &[], &[], 0),
        ];
        for (what, shape, strides, address) in cases {
            assert_eq!(of(Elem::F16, shape, strides, address), Access16::Any, "{what}");
        }
    }

    #[test]
    fn rows_of_whole_4_bytes_are_words() {
        assert_eq!(of(Elem::F16, &[2, 3, 8], &[24, 8, 1], 8), Access16::Words);
        assert_eq!(of(Elem::F16, &[2, 3, 8], &[28, 8, 1], 0), Access16::Words);
        assert_eq!(of(Elem::Bf16, &[2, 3, 2], &[6, 2, 1], 4), Access16::Words);
        assert_eq!(of(Elem::Bf16, &[2, 3, 1], &[6, 2, 1], 4), Access16::Any);
    }

    #[test]
    fn the_stride_of_an_axis_with_one_entry_does_not_matter() {
        assert_eq!(of(Elem::F16, &[1, 3, 8], &[5, 8, 1], 0), Access16::Aligned);
        assert_eq!(of(Elem::F16, &[0, 8], &[3, 1], 0), Access16::Aligned, "nor do those of a tensor without elements");
    }

    #[test]
    fn tables_of_i32_are_never_special() {
        assert_eq!(of(Elem::I32, &[4], &[1], 0), Access16::Any);
    }

    #[test]
    fn facts_are_told_apart_by_parameter() {
        use Access16::{Aligned, Any, Words};
        let facts = Facts::of([Any, Aligned, Words]);
        assert_eq!([0, 1, 2, 3, 64].map(|i| facts.of_view(i)), [Any, Aligned, Words, Any, Any]);
        assert_ne!(facts, Facts::of([Access16::Aligned, Access16::Any]));
        assert_eq!(Facts::of([Access16::Aligned; 80]).of_view(70), Access16::Any);
    }
}
