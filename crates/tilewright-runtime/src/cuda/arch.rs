//! Names of architectures.

use crate::error::DeviceError;

/// Ten times the major compute capability plus the minor one, and what NVRTC compiles for. The letter allows what later GPUs
/// do not have: `wgmma` on 9.0.
const KNOWN: [(u32, &str); 10] = [
    (80, "sm_80"),
    (86, "sm_86"),
    (87, "sm_87"),
    (89, "sm_89"),
    (90, "sm_90a"),
    (100, "sm_100"),
    (103, "sm_103"),
    (110, "sm_110"),
    (120, "sm_120"),
    (121, "sm_121"),
];

/// The architecture for a compute capability, given as ten times the major number plus the minor one.
///
/// # Errors
/// [`DeviceError::Compute`] for others than 8.0, 8.6, 8.7, 8.9, 9.0, 10.0, 10.3, 11.0, 12.0 and 12.1.
pub fn arch(compute: u32) -> Result<&'static str, DeviceError> {
    let known = || KNOWN.map(|(compute, _)| format!("{}.{}", compute / 10, compute % 10)).join(", ");
    let found = KNOWN.iter().find(|(known, _)| *known == compute);
    found.map(|(_, name)| *name).ok_or_else(|| DeviceError::Compute { compute, known: known() })
}
