//! `tile devices`, and the devices that other commands take.

use crate::error::CliError;
use crate::output::{self, FAINT, GOOD, paint};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use tilewright::prelude::Device;
use tilewright::runtime::cuda::{self, GpuInfo};
use tilewright::runtime::metal::MetalInfo;

/// What `--device` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceName {
    /// All cores of this machine.
    Cpu,
    /// The NVIDIA GPU of this number, from 0.
    Cuda(usize),
    /// The system's Apple GPU.
    Metal,
    /// The reference interpreter: slow, in f64.
    Interp,
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceName, String> {
        let number = text.strip_prefix("cuda:").map(str::parse);
        match (text, number) {
            ("cpu", _) => Ok(DeviceName::Cpu),
            ("cuda", _) => Ok(DeviceName::Cuda(0)),
            ("metal", _) => Ok(DeviceName::Metal),
            ("interp", _) => Ok(DeviceName::Interp),
            (_, Some(Ok(number))) => Ok(DeviceName::Cuda(number)),
            (_, Some(Err(_)) | None) => Err("give cpu, cuda, cuda:1 (the second GPU), metal or interp".to_string()),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Cpu => f.write_str("cpu"),
            DeviceName::Cuda(0) => f.write_str("cuda"),
            DeviceName::Cuda(number) => write!(f, "cuda:{number}"),
            DeviceName::Metal => f.write_str("metal"),
            DeviceName::Interp => f.write_str("interp"),
        }
    }
}

impl DeviceName {
    /// One of each kind.
    const KINDS: [DeviceName; 4] = [DeviceName::Cpu, DeviceName::Cuda(0), DeviceName::Metal, DeviceName::Interp];

    /// Opens the device.
    ///
    /// # Errors
    /// [`CliError::AbsentDevice`].
    pub fn open(self) -> Result<Device, CliError> {
        let absent = |reason: String| CliError::AbsentDevice { device: self.to_string(), reason };
        match self {
            DeviceName::Cpu => Ok(Device::cpu()),
            DeviceName::Interp => Ok(Device::interp()),
            DeviceName::Cuda(number) => Device::cuda(number).map_err(|error| absent(error.to_string())),
            DeviceName::Metal => Device::metal().map_err(|error| absent(error.to_string())),
        }
    }
}

/// The devices that are present, or the one that was asked for.
pub fn present(asked: Option<DeviceName>) -> Result<Vec<Device>, CliError> {
    match asked {
        Some(name) => Ok(vec![name.open()?]),
        None => Ok(DeviceName::KINDS.into_iter().filter_map(|name| name.open().ok()).collect()),
    }
}

/// Lists the devices of this machine.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    present: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<Gpu>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What the system says of a GPU.
#[derive(Serialize)]
#[serde(untagged)]
enum Gpu {
    Cuda(CudaGpu),
    Metal(MetalGpu),
}

/// What the driver and the compiler say of an NVIDIA GPU.
#[derive(Serialize)]
struct CudaGpu {
    model: String,
    compute_capability: String,
    multiprocessors: usize,
    memory_bytes: u64,
    /// The version of CUDA that the driver supports.
    driver: String,
    /// Of the compiler that is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    nvrtc: Option<String>,
}

/// What Metal says of an Apple GPU.
#[derive(Serialize)]
struct MetalGpu {
    model: String,
    family: &'static str,
    /// That tensors can take.
    memory_bytes: u64,
    note: &'static str,
}

/// So that nobody takes the device for one that was measured.
const UNTRIED: &str = "this device has not been tried on Apple hardware yet";

impl Gpu {
    fn of(info: &GpuInfo) -> Gpu {
        let version = |(major, minor): (u32, u32)| format!("{major}.{minor}");
        Gpu::Cuda(CudaGpu {
            model: info.model.clone(),
            compute_capability: version((info.compute / 10, info.compute % 10)),
            multiprocessors: info.multiprocessors,
            memory_bytes: info.memory_bytes,
            driver: version(info.driver),
            nvrtc: cuda::nvrtc_version().ok().map(version),
        })
    }

    fn of_metal(info: &MetalInfo) -> Gpu {
        let MetalInfo { family, memory_bytes, .. } = *info;
        Gpu::Metal(MetalGpu { model: info.model.clone(), family, memory_bytes, note: UNTRIED })
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        match self {
            Gpu::Cuda(CudaGpu { model, compute_capability, multiprocessors, memory_bytes, driver, nvrtc }) => {
                let gib = gib(*memory_bytes);
                write!(
                    f,
                    "{model}, compute capability {compute_capability}, {multiprocessors} multiprocessors, {gib:.0} GiB, "
                )?;
                write!(f, "driver for CUDA {driver}, NVRTC {}", nvrtc.as_deref().unwrap_or("absent"))
            }
            Gpu::Metal(MetalGpu { model, family, memory_bytes, note }) => {
                write!(f, "{model}, family {family}, {:.0} GiB; {note}", gib(*memory_bytes))
            }
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), CliError> {
    // Every GPU has a row; where there is none, one row says why.
    let gpus = cuda::gpus().map_or(1, |gpus| gpus.len().max(1));
    let names = DeviceName::KINDS.into_iter().flat_map(|name| match name {
        DeviceName::Cuda(_) => (0..gpus).map(DeviceName::Cuda).collect(),
        DeviceName::Cpu | DeviceName::Metal | DeviceName::Interp => vec![name],
    });
    let rows: Vec<Row> = names.map(row).collect();
    if args.json {
        return output::json(&rows);
    }
    rows.iter().try_for_each(|row| output::line(line(row)))
}

fn line(row: &Row) -> String {
    let name = format!("{:8}", row.name);
    let is = match (&row.gpu, row.threads, row.instructions) {
        (Some(gpu), _, _) => Some(gpu.to_string()),
        (None, Some(1), Some(isa)) => Some(format!("1 thread, {isa}")),
        (None, Some(threads), Some(isa)) => Some(format!("{threads} threads, {isa}")),
        (None, _, _) => None,
    };
    match (is, &row.reason) {
        (Some(is), None) => format!("{}{is}", paint(GOOD, name)),
        (Some(is), Some(reason)) => paint(FAINT, format!("{name}{is}; cannot be used: {reason}")),
        (None, reason) => paint(FAINT, format!("{name}absent: {}", reason.as_deref().unwrap_or("unknown"))),
    }
}

fn row(name: DeviceName) -> Row {
    let empty =
        Row { name: name.to_string(), present: false, threads: None, instructions: None, gpu: None, reason: None };
    // A GPU is described even where what compiles for it is missing.
    let gpu = match name {
        DeviceName::Cuda(number) => cuda::gpus().ok().and_then(|gpus| gpus.get(number).map(Gpu::of)),
        DeviceName::Cpu | DeviceName::Metal | DeviceName::Interp => None,
    };
    match name.open() {
        Ok(device) => {
            let info = device.info();
            let gpu = gpu.or_else(|| info.metal.as_deref().map(Gpu::of_metal));
            let threads = gpu.is_none().then_some(info.threads);
            Row { present: true, threads, instructions: Some(info.isa), gpu, ..empty }
        }
        Err(CliError::AbsentDevice { reason, .. }) => Row { gpu, reason: Some(reason), ..empty },
        Err(error) => Row { gpu, reason: Some(error.to_string()), ..empty },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_apple_gpu_is_described_and_marked_as_untried() {
        let info = MetalInfo {
            model: "Apple M3 Pro".into(),
            family: "Apple 9",
            memory_bytes: 27 << 30,
            buffer_bytes: 20 << 30,
            shared_bytes: 32 << 10,
        };
        let expected = format!("Apple M3 Pro, family Apple 9, 27 GiB; {UNTRIED}");
        assert_eq!(Gpu::of_metal(&info).to_string(), expected);
    }

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for name in ["cpu", "cuda", "cuda:1", "cuda:12", "metal", "interp"] {
            assert_eq!(name.parse::<DeviceName>().map(|device| device.to_string()).as_deref(), Ok(name));
        }
        assert_eq!("cuda:0".parse(), Ok(DeviceName::Cuda(0)));
        for wrong in ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "cuda1"] {
            assert!(wrong.parse::<DeviceName>().is_err(), "{wrong}");
        }
    }
}
