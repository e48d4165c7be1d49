//! A peer's process: lines in, lines out.

use super::{PeerError, Runner, short};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A started peer. It ends with this value.
pub struct Process {
    child: Child,
    /// `None` once it is told to end.
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: std::fs::File,
}

impl Process {
    /// Starts it, with so many threads for the libraries that take them from the environment.
    pub fn start(runner: &Runner, threads: usize) -> Result<Process, PeerError> {
        let [program, arguments @ ..] = &runner.start.as_ref().map_err(|reason| PeerError::Absent(reason.clone()))?[..]
        else {
            return Err(PeerError::Absent(format!("{} has no program", runner.name)));
        };
        let absent = |error: std::io::Error| PeerError::Absent(format!("{}: {error}", program.display()));
        let stderr = tempfile::tempfile().map_err(absent)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(stderr.try_clone().map_err(absent)?).env("PYTHONDONTWRITEBYTECODE", "1");
        for variable in ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"] {
            command.env(variable, threads.to_string());
        }
        let mut child = command.spawn().map_err(absent)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            // Ends with the peer, or when nobody listens any more.
            for line in stdout.into_iter().flat_map(|out| BufReader::new(out).lines()) {
                if !line.is_ok_and(|line| send.send(line).is_ok()) {
                    break;
                }
            }
        });
        Ok(Process { child, stdin, lines, stderr })
    }

    /// Says a line and waits for one.
    pub fn ask(&mut self, line: &str, patience: Duration) -> Result<String, PeerError> {
        if let Some(stdin) = &mut self.stdin {
            // One that has ended says nothing, which is found below.
            let _ = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        }
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => Err(PeerError::Silent(patience.as_secs())),
            Err(RecvTimeoutError::Disconnected) => Err(self.died()),
        }
    }

    fn died(&mut self) -> PeerError {
        self.stdin = None;
        let status = self.ended(Duration::from_secs(5));
        let mut text = Vec::new();
        let _ = self.stderr.seek(SeekFrom::Start(0)).and_then(|_| self.stderr.read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let stderr = text.lines().rfind(|line| !line.trim().is_empty()).map(short).unwrap_or_default();
        PeerError::Died { status: status.unwrap_or_else(|| "its output closed".to_string()), stderr }
    }

    /// Its exit status, where it ends in this time.
    fn ended(&mut self, patience: Duration) -> Option<String> {
        const STEP: Duration = Duration::from_millis(10);
        for _ in 0..patience.as_millis() / STEP.as_millis() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status.to_string());
            }
            std::thread::sleep(STEP);
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin = None; // the end of its input
        if self.ended(Duration::from_secs(2)).is_none() {
            // It may have ended just now.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
