//! What `tile attend` says of its run.

use crate::check::Check;
use crate::error::CliError;
use crate::output;
use serde::Serialize;
use tilewright::prelude::Device;

/// One run; `--json` prints it as it is.
#[derive(Serialize)]
pub struct Report {
    /// A path that is no UTF-8 is shown with replacement characters.
    pub output: Option<String>,
    pub device: &'static str,
    pub kernel: String,
    pub cache: String,
    pub features: String,
    pub schedule: String,
    pub splits: usize,
    /// Between the passes.
    pub scratch_bytes: usize,
    /// Of all tile programs that run at once.
    pub working_bytes: usize,
    pub seconds: f64,
    pub gflops: f64,
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain: Option<String>,
    pub checks: Vec<Check>,
}

impl Report {
    /// For people.
    pub fn print(&self, device: &Device) -> Result<(), CliError> {
        if let Some(explain) = &self.explain {
            output::line(explain.trim_end())?;
        }
        let info = device.info();
        let cores = match (&info.gpu, &info.metal) {
            (Some(gpu), _) => format!("{} multiprocessors", gpu.multiprocessors),
            (None, Some(metal)) => metal.model.clone(),
            (None, None) if info.threads == 1 => "1 thread".to_string(),
            (None, None) => format!("{} threads", info.threads),
        };
        output::line(format!(
            "o {} {:?}: {} {} on {} ({}, {cores}), {}, {:.1} GFLOP/s",
            self.dtype,
            self.shape,
            self.kernel,
            self.schedule,
            self.device,
            info.isa,
            output::duration(self.seconds),
            self.gflops,
        ))?;
        self.checks.iter().try_for_each(|check| output::line(check.line()))
    }
}
