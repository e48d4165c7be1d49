//! Other libraries on the same case: small programs that are started once for each case and asked for one round after another.
//!
//! The lines that they speak are described in `bench/peers/protocol.py`.

mod process;

use super::stats::median;
use crate::error::CliError;
use process::Process;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tilewright::attention::Extents;
use tilewright::attention::cases::Case;

/// Imports, inputs, a first run of every way: some libraries compile then.
const TO_PREPARE: Duration = Duration::from_secs(300);
/// How much longer than asked for a round may take: runs of seconds, and one that is not counted.
const TO_ANSWER: Duration = Duration::from_secs(120);

/// Why a peer has no time.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It could not be started.
    #[error("is absent: {0}")]
    Absent(String),
    /// It says that it cannot do this.
    #[error("cannot: {0}")]
    Cannot(String),
    /// It ended where an answer was due.
    #[error("ended with {status}{}", said(stderr))]
    Died {
        /// Its exit status.
        status: String,
        /// The last line of its standard error.
        stderr: String,
    },
    /// No answer in time.
    #[error("gave no answer in {0} s")]
    Silent(u64),
    /// An answer that is none.
    #[error("answered {line:?}; {wanted} is needed")]
    Garbled {
        /// What it said, shortened.
        line: String,
        /// What it should have said.
        wanted: &'static str,
    },
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(", having said {stderr:?}") }
}

/// How a peer is started.
#[derive(Clone, Debug)]
pub struct Runner {
    name: String,
    /// Program and first arguments, or why there is none.
    start: Result<Vec<PathBuf>, String>,
}

/// Where peers are.
pub struct Peers<'a> {
    /// As given on the command line.
    pub folder: Option<&'a Path>,
    /// As given on the command line.
    pub python: Option<&'a Path>,
}

impl Peers<'_> {
    /// The peer of this name.
    ///
    /// # Errors
    /// No folder of peers, or none of this name in it. One that is not built or lacks its library is no error here.
    pub fn find(&self, name: &str) -> Result<Runner, CliError> {
        let folder = self.folder()?;
        let (script, program) = (folder.join(format!("{name}.py")), folder.join(name));
        let built = program.join("target/release").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let start = if plain && name != PROTOCOL && script.is_file() {
            Ok(vec![self.python(&folder), folder.join(PROTOCOL).with_extension("py"), name.into()])
        } else if plain && program.is_file() {
            Ok(vec![program])
        } else if plain && program.join("Cargo.toml").is_file() {
            let missing = || format!("{} is not built; bench/setup builds it", built.display());
            if built.is_file() { Ok(vec![built]) } else { Err(missing()) }
        } else {
            return Err(CliError::UnknownName { what: "peer", name: name.to_string(), known: known(&folder) });
        };
        Ok(Runner { name: name.to_string(), start })
    }

    fn folder(&self) -> Result<PathBuf, CliError> {
        let usual = Path::new("bench/peers");
        let given = match self.folder {
            Some(folder) => folder.is_dir().then(|| folder.to_path_buf()),
            None => std::env::current_dir()
                .ok()
                .and_then(|here| here.ancestors().map(|above| above.join(usual)).find(|folder| folder.is_dir())),
        };
        let path = self.folder.unwrap_or(usual).to_path_buf();
        let reason = "there is no such folder; run in a checkout, or give --peers".to_string();
        given.ok_or(CliError::Unreadable { path, reason })
    }

    /// The one that was asked for, the environment's, that of `bench/setup`, or the system's.
    fn python(&self, folder: &Path) -> PathBuf {
        let variable = || std::env::var_os("TILEWRIGHT_PYTHON").filter(|path| !path.is_empty()).map(PathBuf::from);
        let made = || {
            let path =
                folder.parent()?.join(if cfg!(windows) { ".venv/Scripts/python.exe" } else { ".venv/bin/python" });
            path.is_file().then_some(path)
        };
        self.python.map(Path::to_path_buf).or_else(variable).or_else(made).unwrap_or_else(|| "python3".into())
    }
}

/// What Python peers are started through.
const PROTOCOL: &str = "protocol";

/// The names of the peers in a folder.
fn known(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let of = |path: PathBuf| {
        let is_peer = path.extension().is_some_and(|end| end == "py") || path.join("Cargo.toml").is_file();
        (is_peer || path.extension().is_none() && path.is_file()).then(|| Some(path.file_stem()?.to_str()?.to_string()))
    };
    let mut names: Vec<String> = entries.filter_map(of).flatten().filter(|name| name != PROTOCOL).collect();
    names.extend(super::OWN.map(str::to_string));
    names.sort();
    names
}

/// A case as peers are told it.
#[derive(Serialize)]
pub struct Description {
    case: String,
    batch: usize,
    q_heads: usize,
    kv_heads: usize,
    q_len: usize,
    kv_len: usize,
    head_dim: usize,
    value_dim: usize,
    dtype: &'static str,
    kv_dtype: &'static str,
    mask: String,
    format: String,
    threads: usize,
}

impl Description {
    /// Of a case whose features have this text.
    pub fn new(case: &Case, features: &str, threads: usize) -> Description {
        let Extents { batch, q_heads, kv_heads, q_len, capacity, head_dim, value_dim } = case.extents();
        let (dtype, kv_dtype) = case.elements();
        let additive = format!("mask({dtype},q)");
        let mask = if features == additive { "additive" } else { features };
        Description {
            case: case.name(),
            batch,
            q_heads,
            kv_heads,
            q_len,
            kv_len: capacity,
            head_dim,
            value_dim,
            dtype: dtype.name(),
            kv_dtype: kv_dtype.name(),
            mask: mask.to_string(),
            format: case.format().to_string(),
            threads,
        }
    }
}

/// What a peer says when it is ready.
#[derive(Deserialize, Clone, Debug)]
pub struct Ready {
    /// Of the library.
    pub version: String,
    /// That it uses; `None` where it does not say.
    pub threads: Option<usize>,
    /// Seconds of each way that it tried.
    pub tried: BTreeMap<String, f64>,
    /// The largest error of each way, as a multiple of the bound that ours are held to; none of a way that was not held to it.
    #[serde(default)]
    pub errors: BTreeMap<String, f64>,
}

impl Ready {
    /// The error of a way, where it is outside of the bound: such a way does less than ours and is not counted.
    pub fn outside(&self, way: &str) -> Option<f64> {
        self.errors.get(way).copied().filter(|error| error.is_nan() || *error > 1.0)
    }
}

/// Times of each way in one round.
pub type Answer = BTreeMap<String, Vec<f64>>;

/// A peer that has prepared a case. It ends with this value.
pub struct Running {
    /// What it said.
    pub ready: Ready,
    process: Process,
}

impl Running {
    /// Starts a peer and waits until it is ready.
    ///
    /// # Errors
    /// Every way in which it has no times for the case.
    pub fn start(runner: &Runner, description: &Description) -> Result<Running, PeerError> {
        let mut process = Process::start(runner, description.threads)?;
        let text = serde_json::to_string(description).map_err(|error| PeerError::Absent(error.to_string()))?;
        let line = process.ask(&text, TO_PREPARE)?;
        let garbled = || PeerError::Garbled {
            line: short(&line),
            wanted: "`ready {\"version\": …, \"threads\": …, \"tried\": …}` or `cannot REASON`",
        };
        if let Some(reason) = line.strip_prefix("cannot ") {
            return Err(PeerError::Cannot(reason.to_string()));
        }
        let ready: Option<Ready> = line.strip_prefix("ready ").and_then(|text| serde_json::from_str(text).ok());
        Ok(Running { ready: ready.ok_or_else(garbled)?, process })
    }

    /// One round of about so many seconds.
    ///
    /// # Errors
    /// No answer, and one with a time that is no positive number.
    pub fn round(&mut self, seconds: f64) -> Result<Answer, PeerError> {
        let line =
            self.process.ask(&format!("round {seconds}"), TO_ANSWER + Duration::from_secs_f64(10.0 * seconds))?;
        let wanted = "`{\"WAY\": [seconds, …]}` with positive times of at least one run";
        let answer: Option<Answer> = serde_json::from_str(&line).ok();
        let whole = |answer: &Answer| !answer.is_empty() && answer.values().all(|times| median(times).is_some());
        answer.filter(whole).ok_or_else(|| PeerError::Garbled { line: short(&line), wanted })
    }
}

fn short(line: &str) -> String {
    line.chars().take(120).collect()
}
