//! Compiling and launching the kernels of caches.

use super::error::CacheError;
use crate::arguments::{self, Bound};
use crate::error::AttentionError;
use tilewright_ir::{Diagnostics, Kernel};
use tilewright_runtime::{Device, Grid, Pipeline, TensorView};

/// `$spec` compiled for an activation type, or found compiled.
macro_rules! compiled {
    ($device:expr, $spec:expr, $elem:expr) => {{
        use tilewright_lang::{bf16, f16};
        let (device, spec) = ($device, $spec);
        match $elem {
            Elem::F32 => $crate::cache::launch::compile(device, &spec.key::<f32>(), || spec.trace::<f32>()),
            Elem::F16 => $crate::cache::launch::compile(device, &spec.key::<f16>(), || spec.trace::<f16>()),
            Elem::Bf16 => $crate::cache::launch::compile(device, &spec.key::<bf16>(), || spec.trace::<bf16>()),
            got => Err(CacheError::from($crate::quant::QuantError::Element { got })),
        }
    }};
}
pub(super) use compiled;

pub(super) fn compile(
    device: &Device,
    key: &str,
    trace: impl FnOnce() -> Result<Kernel, Diagnostics>,
) -> Result<Pipeline, CacheError> {
    Ok(device.compile_keyed(key, || trace().map_err(AttentionError::from))?)
}

/// Runs a kernel with its own arguments and those of the cache.
pub(super) fn launch<'a>(
    device: &Device,
    pipeline: &Pipeline,
    grid: Grid,
    own: Bound<'a>,
    cache: Vec<(&'static str, TensorView<'a>)>,
) -> Result<(), CacheError> {
    let mut args = arguments::in_order(pipeline.kernel(), own, cache, Vec::new())?;
    Ok(device.launch(pipeline, grid, &mut args)?)
}
