//! `tile devices`, and the devices that other commands take.

use crate::error::CliError;
use crate::output::{self, FAINT, GOOD, paint};
use serde::Serialize;
use tilewright::prelude::Device;

/// What `--device` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum DeviceName {
    /// All cores of this machine.
    Cpu,
    /// An NVIDIA GPU; not in this version.
    Cuda,
    /// An Apple GPU; not in this version.
    Metal,
    /// The reference interpreter: slow, in f64.
    Interp,
}

impl DeviceName {
    const ALL: [DeviceName; 4] = [DeviceName::Cpu, DeviceName::Cuda, DeviceName::Metal, DeviceName::Interp];

    fn name(self) -> &'static str {
        match self {
            DeviceName::Cpu => "cpu",
            DeviceName::Cuda => "cuda",
            DeviceName::Metal => "metal",
            DeviceName::Interp => "interp",
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// [`CliError::AbsentDevice`].
    pub fn open(self) -> Result<Device, CliError> {
        match self {
            DeviceName::Cpu => Ok(Device::cpu()),
            DeviceName::Interp => Ok(Device::interp()),
            DeviceName::Cuda | DeviceName::Metal => {
                let reason = "this version of tile runs on the cpu only";
                Err(CliError::AbsentDevice { device: self.name(), reason })
            }
        }
    }
}

/// The devices that are present, or the one that was asked for.
pub fn present(asked: Option<DeviceName>) -> Result<Vec<Device>, CliError> {
    match asked {
        Some(name) => Ok(vec![name.open()?]),
        None => Ok(DeviceName::ALL.into_iter().filter_map(|name| name.open().ok()).collect()),
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
    name: &'static str,
    present: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), CliError> {
    let rows: Vec<Row> = DeviceName::ALL.into_iter().map(row).collect();
    if args.json {
        return output::json(&rows);
    }
    for row in rows {
        let name = format!("{:8}", row.name);
        output::line(match (row.threads, row.instructions, row.reason) {
            (Some(1), Some(isa), _) => format!("{}1 thread, {isa}", paint(GOOD, name)),
            (Some(threads), Some(isa), _) => format!("{}{threads} threads, {isa}", paint(GOOD, name)),
            (_, _, reason) => paint(FAINT, format!("{name}absent: {}", reason.unwrap_or("unknown"))),
        })?;
    }
    Ok(())
}

fn row(name: DeviceName) -> Row {
    match name.open() {
        Ok(device) => {
            let info = device.info();
            Row {
                name: name.name(),
                present: true,
                threads: Some(info.threads),
                instructions: Some(info.isa),
                reason: None,
            }
        }
        Err(CliError::AbsentDevice { reason, .. }) => {
            Row { name: name.name(), present: false, threads: None, instructions: None, reason: Some(reason) }
        }
        Err(_) => Row { name: name.name(), present: false, threads: None, instructions: None, reason: None },
    }
}
