//! Where results go: lines for people with colour on a terminal only, JSON for machines, files by atomic rename.

use crate::error::CliError;
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// For what is right.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// For what is wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// For what matters less.
pub const FAINT: Style = Style::new().dimmed();

/// `text` in this style; the style is dropped again where standard output is no terminal.
pub fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Prints one line on standard output. A reader that has gone away (`| head`) is no error.
pub fn line(text: impl Display) -> Result<(), CliError> {
    match writeln!(anstream::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(unwritable(Path::new("standard output"), error)),
        _ => Ok(()),
    }
}

/// Prints one JSON value on standard output.
pub fn json(value: &impl serde::Serialize) -> Result<(), CliError> {
    line(to_json(value)?)
}

/// One JSON value as text.
pub fn to_json(value: &impl serde::Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(value).map_err(|error| CliError::Failed(error.to_string()))
}

/// Prints an error and its next step on standard error.
pub fn report(error: &CliError) {
    let mut err = anstream::stderr();
    // Nowhere is left to say that standard error is closed.
    let message = error.to_string();
    let message = message.strip_prefix("error: ").unwrap_or(&message); // the compiler's diagnostics say it themselves
    let _ = writeln!(err, "{BAD}error:{BAD:#} {message}");
    if let Some(help) = error.help() {
        let _ = writeln!(err, "  = help: {help}");
    }
}

/// Prints a warning on standard error.
pub fn warn(text: impl Display) {
    let style = AnsiColor::Yellow.on_default().bold();
    let _ = writeln!(anstream::stderr(), "{style}warning:{style:#} {text}");
}

/// A progress bar on standard error that shows itself only on a terminal, and only for what takes over a second.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
}

const PATIENCE: Duration = Duration::from_secs(1);

impl Progress {
    /// A bar of `steps` steps.
    pub fn new(what: &str, steps: usize) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_string());
        Progress { bar, started: Instant::now() }
    }

    /// Prints one line on standard output, above the bar.
    pub fn line(&self, text: impl Display) -> Result<(), CliError> {
        self.bar.suspend(|| line(text))
    }

    /// One step is done.
    pub fn step(&self) {
        if self.bar.is_hidden() && self.started.elapsed() > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Runs something that cannot be counted in steps, with a spinner once it has taken over a second.
pub fn with_spinner<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.set_message(what.to_string());
    let (finished, wait) = std::sync::mpsc::channel::<()>();
    let spinner = &spinner;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let timed_out = Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            if wait.recv_timeout(PATIENCE) == timed_out {
                spinner.set_draw_target(ProgressDrawTarget::stderr());
                while wait.recv_timeout(Duration::from_millis(100)) == timed_out {
                    spinner.tick();
                }
            }
            spinner.finish_and_clear();
        });
        let result = work();
        drop(finished);
        result
    })
}

/// A file that appears whole or not at all.
pub struct OutputFile {
    path: PathBuf,
}

impl OutputFile {
    /// Checks that `path` can be written, before any work is done for it.
    ///
    /// # Errors
    /// [`CliError::Unwritable`] for a folder that is absent or read-only, and for a path that is no regular file.
    pub fn check(path: &Path) -> Result<OutputFile, CliError> {
        let path = match std::fs::metadata(path) {
            // A rename would replace a link and not the file that it names.
            Ok(there) if there.is_file() => path.canonicalize().map_err(|e| unwritable(path, e))?,
            Ok(there) => {
                let kind = if there.is_dir() { "it is a folder" } else { "it is not a regular file" };
                return Err(CliError::Unwritable { path: path.to_path_buf(), reason: kind.to_string() });
            }
            Err(_) if path.is_symlink() => {
                let reason = "it is a link to nothing".to_string();
                return Err(CliError::Unwritable { path: path.to_path_buf(), reason });
            }
            Err(_) => path.to_path_buf(),
        };
        let output = OutputFile { path };
        output.temporary()?;
        Ok(output)
    }

    /// Writes the whole file beside the old one and renames it into place.
    ///
    /// # Errors
    /// [`CliError::Unwritable`]; the old file is as it was then.
    pub fn write(&self, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), CliError> {
        let mut file = self.temporary()?;
        write(file.as_file_mut()).map_err(|e| unwritable(&self.path, e))?;
        file.as_file().sync_all().map_err(|e| unwritable(&self.path, e))?;
        file.persist(&self.path).map_err(|e| unwritable(&self.path, e.error))?;
        Ok(())
    }

    fn temporary(&self) -> Result<tempfile::NamedTempFile, CliError> {
        let folder = match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            let reason = format!("there is no folder {}", folder.display());
            return Err(CliError::Unwritable { path: self.path.clone(), reason });
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".tile-").suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // As for any new file: the user's mask applies to it.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        builder.tempfile_in(folder).map_err(|e| unwritable(&self.path, e))
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> CliError {
    CliError::Unwritable { path: path.to_path_buf(), reason: error.to_string() }
}

/// Seconds in a unit that leaves one to three digits before the point.
pub fn duration(seconds: f64) -> String {
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 1e-3 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{:.1} us", seconds * 1e6)
    }
}

/// Billions of operations a second; 0 for no work.
pub fn rate(operations: f64, seconds: f64) -> f64 {
    if operations > 0.0 { operations / seconds / 1e9 } else { 0.0 }
}
