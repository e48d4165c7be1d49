//! From Metal source to what the GPU runs.

use crate::metal::error::{self, MetalError};
use crate::metal::limits::Footprint;
use objc2::available;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSError, NSString};
use objc2_metal::{
    MTLCompileOptions, MTLComputePipelineState, MTLDevice, MTLLanguageVersion, MTLLibrary,
    MTLMathFloatingPointFunctions, MTLMathMode,
};
use tilewright_compile::gpu::Source;

/// A kernel compiled for one GPU.
pub(crate) struct MetalPipeline {
    state: Retained<ProtocolObject<dyn MTLComputePipelineState>>,
    footprint: Footprint,
}

impl MetalPipeline {
    pub(super) fn new(device: &ProtocolObject<dyn MTLDevice>, source: &Source) -> Result<MetalPipeline, MetalError> {
        let footprint = Footprint::of(source);
        let shared_limit = device.maxThreadgroupMemoryLength();
        footprint.check(shared_limit)?;
        let refused = |error: Retained<NSError>| MetalError::Compile {
            kernel: source.entry.clone(),
            message: error::text(&error),
        };
        autoreleasepool(|_| {
            let text = NSString::from_str(&source.text);
            let library = device.newLibraryWithSource_options_error(&text, Some(&options())).map_err(refused)?;
            let function = library.newFunctionWithName(&NSString::from_str(&source.entry));
            let function = function.ok_or_else(|| MetalError::Entry { kernel: source.entry.clone() })?;
            let state = device.newComputePipelineStateWithFunction_error(&function).map_err(refused)?;
            footprint.check_compiled(
                state.maxTotalThreadsPerThreadgroup(),
                state.threadExecutionWidth(),
                state.staticThreadgroupMemoryLength(),
                shared_limit,
            )?;
            Ok(MetalPipeline { state, footprint })
        })
    }

    /// What a launch needs to know of the kernel.
    pub(super) fn footprint(&self) -> &Footprint {
        &self.footprint
    }

    /// Metal's pipeline.
    pub(super) fn state(&self) -> &ProtocolObject<dyn MTLComputePipelineState> {
        &self.state
    }
}

/// Metal 3.1, with infinities and NaN as IEEE 754 has them: fast math takes them for impossible, and masked scores are
/// -inf. Functions are the precise ones unless the source says `fast::`.
fn options() -> Retained<MTLCompileOptions> {
    let options = MTLCompileOptions::new();
    options.setLanguageVersion(MTLLanguageVersion::Version3_1);
    if available!(macos = 15.0, ios = 18.0, tvos = 18.0, visionos = 2.0, ..) {
        options.setMathMode(MTLMathMode::Safe);
        options.setMathFloatingPointFunctions(MTLMathFloatingPointFunctions::Precise);
    } else {
        #[expect(deprecated, reason = "the only way before macOS 15")]
        options.setFastMathEnabled(false);
    }
    options
}
