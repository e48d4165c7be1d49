//! The architectures that are compiled for.

use crate::error::DeviceError;

/// Ten times the major compute capability plus the minor one, what NVRTC compiles for, and the KiB of shared memory that a
/// block may have ("Technical Specifications per Compute Capability" of NVIDIA's programming guide). The letter allows what
/// later GPUs do not have: `wgmma` on 9.0.
const KNOWN: [(u32, &str, u32); 10] = [
    (80, "sm_80", 163),
    (86, "sm_86", 99),
    (87, "sm_87", 163),
    (89, "sm_89", 99),
    (90, "sm_90a", 227),
    (100, "sm_100", 227),
    (103, "sm_103", 227),
    (110, "sm_110", 227),
    (120, "sm_120", 99),
    (121, "sm_121", 99),
];

/// The architecture for a compute capability, given as ten times the major number plus the minor one.
///
/// # Errors
/// [`DeviceError::Compute`] for others than 8.0, 8.6, 8.7, 8.9, 9.0, 10.0, 10.3, 11.0, 12.0 and 12.1.
pub fn arch(compute: u32) -> Result<&'static str, DeviceError> {
    find(compute).map(|(_, name, _)| name)
}

/// The most shared memory of a block for a compute capability, in bytes: what a planner may use where no GPU can be asked.
///
/// # Errors
/// As [`arch`].
pub fn shared_bytes(compute: u32) -> Result<u32, DeviceError> {
    find(compute).map(|(_, _, kib)| kib << 10)
}

fn find(compute: u32) -> Result<(u32, &'static str, u32), DeviceError> {
    let known = || KNOWN.map(|(compute, ..)| format!("{}.{}", compute / 10, compute % 10)).join(", ");
    let found = KNOWN.iter().find(|(of, ..)| *of == compute).copied();
    found.ok_or_else(|| DeviceError::Compute { compute, known: known() })
}
