//! What can go wrong on the command line, and the exit code of each.

use std::path::PathBuf;
use tilewright::attention::QuantError;
use tilewright::attention::cache::CacheError;
use tilewright::lang::EntryError;
use tilewright::prelude::{AttentionError, LaunchError, TensorError};

/// Anything that ends a command without its result. Nothing has been written to the output then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// A flag of the command line that this version does not serve yet.
    #[error("`{flag}` is not served by this version of tile")]
    LaterFlag {
        /// With its dashes, and its value where only some values are refused.
        flag: String,
        /// What works instead.
        instead: &'static str,
    },
    /// An input that cannot be opened or read.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable {
        /// The input.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// An input that is not a whole safetensors file.
    #[error("{} is not a safetensors file: {reason}", path.display())]
    Foreign {
        /// The input.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that must be there.
    #[error("tensor `{}` is missing; the file has {}", name.escape_debug(), list(found))]
    MissingTensor {
        /// The tensor's name.
        name: String,
        /// The names that are there.
        found: Vec<String>,
    },
    /// A tensor whose name means nothing here, so that a typo is not ignored.
    #[error("tensor `{}` is unknown", name.escape_debug())]
    UnknownTensor {
        /// The tensor's name.
        name: String,
    },
    /// Two tensors of which a file may hold one.
    #[error("tensor `{}` is there beside `{}`; one of the two is needed", one.escape_debug(), other.escape_debug())]
    Both {
        /// The one.
        one: String,
        /// The other.
        other: String,
    },
    /// A tensor that cannot be held as codes.
    #[error("tensor `{}` cannot be quantised: {error}", name.escape_debug())]
    Quantise {
        /// The tensor's name.
        name: String,
        /// Why.
        error: QuantError,
    },
    /// A tensor of a wrong shape, element type or content.
    #[error("tensor `{}` is {got}; {wanted} is needed", name.escape_debug())]
    Tensor {
        /// The tensor's name.
        name: String,
        /// What it is.
        got: String,
        /// What would do.
        wanted: String,
    },
    /// A request that the library refuses.
    #[error("{0}")]
    Refused(AttentionError),
    /// Values that specialise no kernel.
    #[error(transparent)]
    Spec(#[from] EntryError),
    /// A name of a kernel or pass that is not in the library.
    #[error("{what} `{name}` is unknown; there are {}", list(known))]
    UnknownName {
        /// What the name names.
        what: &'static str,
        /// The name given.
        name: String,
        /// The names that would do.
        known: Vec<String>,
    },
    /// A device that this machine or this build does not have.
    #[error("device `{device}` is absent: {reason}")]
    AbsentDevice {
        /// The device's name.
        device: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A compiler that is not on this machine or not in this build.
    #[error("`--emit {emit}` needs {compiler}, which is absent: {reason}")]
    AbsentCompiler {
        /// What was to be written.
        emit: &'static str,
        /// What would make it.
        compiler: &'static str,
        /// Why.
        reason: String,
    },
    /// Files that could not be made; the others were.
    #[error("{failed} of {of} files could not be made")]
    NotBuilt {
        /// How many.
        failed: usize,
        /// All that were asked for.
        of: usize,
    },
    /// An output that cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    Unwritable {
        /// The output.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A run that failed after it was accepted.
    #[error("the run failed: {0}")]
    Failed(String),
    /// Results outside of their error bound.
    #[error("outside of the error bound: {}", names.join(", "))]
    Miss {
        /// Which.
        names: Vec<String>,
    },
    /// Cases of the library that were refused, did not run or gave a wrong result.
    #[error("{failed} of {of} cases failed")]
    CasesFailed {
        /// How many.
        failed: usize,
        /// Cases that ran.
        of: usize,
    },
    /// A filter that leaves no case.
    #[error("no case holds `{filter}`; there are {of}")]
    NoCase {
        /// As given.
        filter: String,
        /// How many cases there are.
        of: usize,
    },
    /// A kept report that is not there or damaged.
    #[error("baseline `{name}` cannot be used: {}: {reason}", path.display())]
    Baseline {
        /// Its name.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A kept report that has none of the cases that ran.
    #[error("baseline `{name}` has none of these cases")]
    NothingToCompare {
        /// Its name.
        name: String,
    },
    /// Cases that take longer than in a kept report.
    #[error("slower than before by more than {percent} %: {}", cases.join(", "))]
    Slower {
        /// Which.
        cases: Vec<String>,
        /// What is allowed.
        percent: f64,
    },
    /// A case for which there is nothing to choose from.
    #[error("none of the {tried} schedules of `{case}` can be a row of the table: {reason}")]
    NoSchedule {
        /// The case.
        case: String,
        /// Schedules that were compiled, or not.
        tried: usize,
        /// Of the last ones.
        reason: String,
    },
    /// A schedule that was fast enough for a row of the table and computes something else. What was found besides it is
    /// written.
    #[error(
        "`{case}` is wrong with {schedule}, one of the fastest: error {error:.2e} against f64; the bound is {bound:.2e}"
    )]
    WrongSchedule {
        /// The case.
        case: String,
        /// The schedule, and how threads share its work.
        schedule: String,
        /// The largest error; NaN where one of the two numbers is NaN.
        error: f64,
        /// The allowed error.
        bound: f64,
    },
    /// A setting that cannot be read, or that does not go with another.
    #[error("`{text}` does not fit; {wanted} is needed")]
    Setting {
        /// As given.
        text: String,
        /// What would do.
        wanted: String,
    },
}

/// The tensors of `tile attend`.
const TENSORS: &str = "q, k, v (k and v also as .w, .scales and .biases), and optionally kv_len, mask, sinks, alibi, \
                       ring_start, tree, pages, o and lse";

impl CliError {
    /// 2 for bad usage, input or combination; 1 for an absent device, an unwritable output or a failed run.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::LaterFlag { .. }
            | CliError::Unreadable { .. }
            | CliError::Foreign { .. }
            | CliError::MissingTensor { .. }
            | CliError::UnknownTensor { .. }
            | CliError::Both { .. }
            | CliError::Quantise { .. }
            | CliError::Tensor { .. }
            | CliError::Refused(_)
            | CliError::Spec(_)
            | CliError::UnknownName { .. }
            | CliError::NoCase { .. }
            | CliError::Baseline { .. }
            | CliError::NothingToCompare { .. }
            | CliError::NoSchedule { .. }
            | CliError::Setting { .. } => 2,
            CliError::AbsentDevice { .. }
            | CliError::AbsentCompiler { .. }
            | CliError::NotBuilt { .. }
            | CliError::Unwritable { .. }
            | CliError::Failed(_)
            | CliError::Miss { .. }
            | CliError::Slower { .. }
            | CliError::WrongSchedule { .. }
            | CliError::CasesFailed { .. } => 1,
        }
    }

    /// The next step, where there is one that the message does not already say.
    pub fn help(&self) -> Option<String> {
        match self {
            CliError::LaterFlag { instead, .. } => Some((*instead).to_string()),
            CliError::Foreign { .. } => Some("write it with the safetensors library of your framework".to_string()),
            CliError::UnknownTensor { .. } => Some(format!("tensors are {TENSORS}")),
            CliError::AbsentDevice { .. } => Some("`tile devices` lists those that are present".to_string()),
            CliError::AbsentCompiler { .. } => Some("`--emit cuda` and `--emit msl` need no compiler".to_string()),
            CliError::NoCase { .. } => Some("`--list` names them".to_string()),
            CliError::Baseline { name, .. } => Some(format!("`tile bench --save {name}` makes it")),
            CliError::Slower { .. } => Some("measure again on a machine that does nothing else".to_string()),
            CliError::WrongSchedule { .. } => Some("no row is printed for it; please report it".to_string()),
            CliError::Miss { .. } => Some(
                "nothing was written; compare the flags with those that the expected tensors were made with"
                    .to_string(),
            ),
            CliError::Unreadable { .. }
            | CliError::MissingTensor { .. }
            | CliError::Both { .. }
            | CliError::Quantise { .. }
            | CliError::Tensor { .. }
            | CliError::Refused(_)
            | CliError::Spec(_)
            | CliError::UnknownName { .. }
            | CliError::Setting { .. }
            | CliError::NoSchedule { .. }
            | CliError::NothingToCompare { .. }
            | CliError::Unwritable { .. }
            | CliError::CasesFailed { .. }
            | CliError::NotBuilt { .. }
            | CliError::Failed(_) => None,
        }
    }
}

impl From<LaunchError> for CliError {
    fn from(error: LaunchError) -> CliError {
        CliError::Failed(error.to_string())
    }
}

impl From<CacheError> for CliError {
    fn from(error: CacheError) -> CliError {
        CliError::Failed(error.to_string())
    }
}

impl From<TensorError> for CliError {
    fn from(error: TensorError) -> CliError {
        CliError::Failed(error.to_string())
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_string();
    }
    // Names come from files: line ends and escape sequences must not reach a terminal.
    names.iter().map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ")
}
