//! From Metal source to what the GPU runs.

use super::super::Compiled;
use super::text;
use objc2::available;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSError, NSString};
use objc2_metal::{
    MTLCompileOptions, MTLComputePipelineState, MTLDevice, MTLLanguageVersion, MTLLibrary,
    MTLMathFloatingPointFunctions, MTLMathMode,
};
use tilewright_compile::gpu::Source;

/// A kernel function compiled for the GPU.
pub struct Program(Retained<ProtocolObject<dyn MTLComputePipelineState>>);

impl Program {
    pub(super) fn new(device: &ProtocolObject<dyn MTLDevice>, source: &Source) -> Result<Program, String> {
        let refused = |error: Retained<NSError>| text(&error);
        autoreleasepool(|_| {
            let code = NSString::from_str(&source.text);
            let library = device.newLibraryWithSource_options_error(&code, Some(&options())).map_err(refused)?;
            let function = library.newFunctionWithName(&NSString::from_str(&source.entry));
            let function = function.ok_or_else(|| format!("the source has no function `{}`", source.entry))?;
            device.newComputePipelineStateWithFunction_error(&function).map(Program).map_err(refused)
        })
    }

    /// What the compiler found.
    pub fn compiled(&self) -> Compiled {
        Compiled {
            threads: self.0.maxTotalThreadsPerThreadgroup(),
            simdgroup: self.0.threadExecutionWidth(),
            shared_bytes: self.0.staticThreadgroupMemoryLength(),
        }
    }

    /// Metal's pipeline.
    pub(super) fn raw(&self) -> &ProtocolObject<dyn MTLComputePipelineState> {
        &self.0
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
