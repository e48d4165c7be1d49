//! One launch: a process that is handed the arguments and hands back the outputs.

use crate::build::io;
use crate::error::HarnessError;
use crate::tensor::{Arg, reach};
use crate::{Blocks, CopyTiming, Grid, LaneOrder, Options, Run, Sanitizer};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use tilewright_compile::gpu::{ArgumentSlot, Source};
use tilewright_ir::{Access, Elem};

/// Exit statuses of the runtime (`shim/runtime.h`) and those that the sanitizers are told to use.
const DIVERGED: i32 = 3;
const OUT_OF_BOUNDS: i32 = 4;
const MISALIGNED: i32 = 6;
const ADDRESS_REPORT: i32 = 65;
const THREAD_REPORT: i32 = 66;
/// The signal of an instruction that stands for a failed check.
const TRAP: i32 = 4;

/// A compiled kernel.
#[derive(Clone, Debug)]
pub struct Module {
    executable: PathBuf,
    source: Source,
    options: Options,
}

/// A tensor as the process gets it.
struct Pointer {
    /// The index of the argument.
    arg: usize,
    bytes: usize,
    written: bool,
}

impl Module {
    pub(crate) fn new(executable: PathBuf, source: &Source, options: Options) -> Module {
        Module { executable, source: source.clone(), options }
    }

    /// What was compiled.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Runs every block of the grid, one after the other. `args` are in the order of `source.arguments`. Tensors lie at
    /// addresses that are multiples of 256 bytes.
    ///
    /// # Errors
    /// Arguments that do not fit; whatever the runtime or the sanitizer finds. Outputs are written only where nothing is.
    pub fn launch(&self, grid: Grid, args: &mut [Arg<'_>], run: Run) -> Result<(), HarnessError> {
        let (numbers, pointers) = self.arguments(args)?;
        let request = self.request(grid, args, &numbers, &pointers, run);
        let mut child = Command::new(&self.executable)
            .env("ASAN_OPTIONS", format!("exitcode={ADDRESS_REPORT}:detect_stack_use_after_return=0:detect_leaks=0"))
            .env(
                "TSAN_OPTIONS",
                format!("exitcode={THREAD_REPORT}:halt_on_error=1:report_signal_unsafe=0:atexit_sleep_ms=0"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(io("run", &self.executable))?;
        if let Some(mut input) = child.stdin.take() {
            // A process that ended before it read everything says below why.
            let _ = input.write_all(&request);
        }
        let output = child.wait_with_output().map_err(io("run", &self.executable))?;
        let report = String::from_utf8_lossy(&output.stderr).into_owned();
        self.judge(output.status, report)?;
        let wanted: usize = pointers.iter().filter(|p| p.written).map(|p| p.bytes).sum();
        if output.stdout.len() != wanted {
            let status = format!("{} bytes of results instead of {wanted}", output.stdout.len());
            return Err(HarnessError::Crash { kernel: self.source.entry.clone(), status, output: String::new() });
        }
        let mut results = output.stdout.as_slice();
        for pointer in pointers.iter().filter(|p| p.written) {
            let (these, rest) = results.split_at(pointer.bytes);
            if let Arg::Write(tensor) = &mut args[pointer.arg] {
                tensor.bytes[..pointer.bytes].copy_from_slice(these);
            }
            results = rest;
        }
        Ok(())
    }

    /// The struct `Args`, and the tensors in the order of their pointers.
    fn arguments(&self, args: &[Arg<'_>]) -> Result<(Vec<u8>, Vec<Pointer>), HarnessError> {
        let params = &self.source.arguments.params;
        if args.len() != params.len() {
            return Err(self.refuse(0, format!("{} arguments", params.len()), format!("{}", args.len())));
        }
        let mut numbers = vec![0u8; self.source.arguments.bytes as usize];
        let mut put = |at: usize, bytes: &[u8]| numbers[at..at + bytes.len()].copy_from_slice(bytes);
        let mut pointers = Vec::new();
        for (index, (param, arg)) in params.iter().zip(args).enumerate() {
            match param.slot {
                ArgumentSlot::View { pointer, elem, rank, access, strides, lens } => {
                    let (given, shape, steps, bytes, written) = match arg {
                        Arg::Read(t) => (t.elem, t.shape, t.strides, t.bytes.len(), false),
                        Arg::Write(t) => (t.elem, t.shape, t.strides, t.bytes.len(), true),
                        Arg::Scalar(x) => return Err(self.refuse(index, format!("a view of {elem}"), format!("{x}"))),
                    };
                    let reached = reach(given, shape, steps);
                    let fits =
                        given == elem && shape.len() == usize::from(rank) && written == (access == Access::Write);
                    let Some(reached) = reached.filter(|&r| fits && r <= bytes) else {
                        let wanted = format!("{access:?} of {elem}, rank {rank}");
                        let got = format!("{given}{shape:?} strides {steps:?} in {bytes} bytes, written: {written}");
                        return Err(self.refuse(index, wanted, got));
                    };
                    for (axis, (&len, &stride)) in shape.iter().zip(steps).enumerate() {
                        // Where there is no next one, the stride says nothing.
                        let stride = if len > 1 && reached > 0 { stride as i64 } else { 0 };
                        put(strides as usize + 8 * axis, &stride.to_ne_bytes());
                        put(lens as usize + 4 * axis, &(len as i32).to_ne_bytes());
                    }
                    pointers.push((pointer, Pointer { arg: index, bytes: reached, written }));
                }
                ArgumentSlot::Scalar { elem, at } => match arg {
                    Arg::Scalar(x) => put(at as usize, &scalar(elem, *x)),
                    Arg::Read(_) | Arg::Write(_) => {
                        return Err(self.refuse(index, format!("a number for {elem}"), "a tensor".into()));
                    }
                },
            }
        }
        pointers.sort_by_key(|(place, _)| *place);
        Ok((numbers, pointers.into_iter().map(|(_, pointer)| pointer).collect()))
    }

    /// What the process reads: the launch, each tensor's size, the struct `Args`, the tensors (`shim/main.cpp`).
    fn request(&self, grid: Grid, args: &[Arg<'_>], numbers: &[u8], pointers: &[Pointer], run: Run) -> Vec<u8> {
        let (order, seed) = match run.order {
            LaneOrder::Forward => (0u32, 0u64),
            LaneOrder::Reverse => (1, 0),
            LaneOrder::Random(seed) => (2, seed),
        };
        let copies = match run.copies {
            CopyTiming::Late => 0u32,
            CopyTiming::AtOnce => 1,
        };
        let apart = match run.blocks {
            Blocks::Apart => 1u32,
            Blocks::InTurn => 0,
        };
        let mut request = Vec::new();
        let mut put = |bytes: &[u8]| request.extend_from_slice(bytes);
        for number in [grid[0], grid[1], grid[2], self.source.threads, self.source.shared_bytes, order, copies, 0] {
            put(&number.to_ne_bytes());
        }
        put(&seed.to_ne_bytes());
        for number in [apart, pointers.len() as u32, numbers.len() as u32, 0] {
            put(&number.to_ne_bytes());
        }
        for pointer in pointers {
            put(&(pointer.bytes as u64).to_ne_bytes());
            put(&u64::from(pointer.written).to_ne_bytes());
        }
        put(numbers);
        for pointer in pointers {
            match &args[pointer.arg] {
                Arg::Read(tensor) => put(&tensor.bytes[..pointer.bytes]),
                Arg::Write(tensor) => put(&tensor.bytes[..pointer.bytes]),
                Arg::Scalar(_) => {}
            }
        }
        request
    }

    fn judge(&self, status: ExitStatus, report: String) -> Result<(), HarnessError> {
        let kernel = self.source.entry.clone();
        match (status.code(), self.options.sanitizer) {
            (Some(0), _) => Ok(()),
            (Some(DIVERGED), _) => Err(HarnessError::Divergence { kernel, report }),
            (Some(ADDRESS_REPORT), _) if report.contains("runtime error:") => {
                Err(HarnessError::Undefined { kernel, report })
            }
            (Some(MISALIGNED), _) => Err(HarnessError::Undefined { kernel, report }),
            (None, _) if status.signal() == Some(TRAP) => {
                let report =
                    "a misaligned access, an index outside a thread's own array, or a shift by as many bits as \
                              there are\n = help: Sanitizer::Address says where"
                        .to_string();
                Err(HarnessError::Undefined { kernel, report })
            }
            (Some(OUT_OF_BOUNDS), _) | (Some(ADDRESS_REPORT), Some(Sanitizer::Address)) => {
                Err(HarnessError::OutOfBounds { kernel, report })
            }
            (Some(THREAD_REPORT), Some(Sanitizer::Thread)) => Err(HarnessError::Race { kernel, report }),
            (code, _) => {
                let signal = status.signal().map(|s| format!("signal {s}"));
                let status = signal.or(code.map(|c| format!("status {c}"))).unwrap_or_default();
                Err(HarnessError::Crash { kernel, status, output: report })
            }
        }
    }

    fn refuse(&self, index: usize, wanted: String, got: String) -> HarnessError {
        HarnessError::Argument { kernel: self.source.entry.clone(), index, wanted, got }
    }
}

/// A number as the struct `Args` holds it: `float` for floats, 32 bits for integers and bool.
fn scalar(elem: Elem, x: f64) -> [u8; 4] {
    let rounded = elem.from_bits(elem.to_bits(x));
    match elem {
        Elem::F32 | Elem::F16 | Elem::Bf16 => (rounded as f32).to_ne_bytes(),
        Elem::I32 | Elem::I8 => (rounded as i32).to_ne_bytes(),
        Elem::U32 | Elem::U8 | Elem::Bool => (rounded as u32).to_ne_bytes(),
    }
}
