//! A GPU for tests where there is no Mac. It knows one kernel, `y = x + x` in rows of eight numbers, and does nothing until
//! somebody waits: what reads results too early, or reuses memory too early, sees old numbers.
//!
//! A kernel named `fails` fails while it runs, one named `held` runs until a test lets it go ([`HELD`]), one named `refused`
//! does not compile, and one named `many_registers` leaves none for a whole threadgroup.

use super::{Command, Compiled, MetalError, MetalInfo, Span};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use tilewright_compile::gpu::{ArgumentSlot, Arguments, Source};

/// Where a kernel named `held` meets the test, when it begins and before it ends.
pub static HELD: Barrier = Barrier::new(2);

pub struct Gpu(MetalInfo);

pub struct Program {
    entry: String,
    arguments: Arguments,
}

pub struct Memory(Arc<Mutex<Vec<u8>>>);

#[derive(Clone, Default)]
pub struct Signal(Arc<OnceLock<Commands>>);

#[derive(Default)]
pub struct Queue(Arc<Mutex<VecDeque<Work>>>);

/// One piece of work, the queue that it stands in, and what came of it.
#[derive(Clone)]
pub struct Commands {
    queue: Arc<Mutex<VecDeque<Work>>>,
    outcome: Arc<OnceLock<Result<Span, String>>>,
}

struct Work {
    run: Box<dyn FnOnce() -> Result<(), String> + Send>,
    outcome: Arc<OnceLock<Result<Span, String>>>,
}

impl Gpu {
    pub fn open() -> Result<Gpu, MetalError> {
        Ok(Gpu(MetalInfo {
            model: "a fake".into(),
            family: "Apple 7",
            memory_bytes: 1 << 20,
            buffer_bytes: 1 << 20,
            shared_bytes: 32 << 10,
        }))
    }

    pub fn info(&self) -> &MetalInfo {
        &self.0
    }

    pub fn compile(&self, source: &Source) -> Result<Program, String> {
        assert!(source.text.contains("#include <metal_stdlib>") && source.text.contains(&source.entry));
        match source.entry.as_str() {
            "refused" => Err("error: refused".into()),
            entry => Ok(Program { entry: entry.into(), arguments: source.arguments.clone() }),
        }
    }

    pub fn memory(&self, bytes: usize) -> Option<Memory> {
        assert!(bytes > 0);
        Some(Memory(Arc::new(Mutex::new(vec![0xa5; bytes])))) // of undefined content
    }

    pub fn signal(&self) -> Option<Signal> {
        Some(Signal::default())
    }

    pub fn queue(&self) -> Option<Queue> {
        Some(Queue::default())
    }
}

impl Program {
    pub fn compiled(&self) -> Compiled {
        let threads = if self.entry == "many_registers" { 16 } else { 1024 };
        Compiled { threads, simdgroup: 32, shared_bytes: 0 }
    }
}

impl Memory {
    pub unsafe fn read(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0.lock().unwrap()[offset..offset + to.len()]);
    }

    pub unsafe fn write(&self, offset: usize, from: &[u8]) {
        self.0.lock().unwrap()[offset..offset + from.len()].copy_from_slice(from);
    }

    pub unsafe fn clear(&self, offset: usize, bytes: usize) {
        self.0.lock().unwrap()[offset..offset + bytes].fill(0);
    }
}

impl Queue {
    pub unsafe fn commit(&self, command: Command<'_>) -> Option<Commands> {
        let commands = Commands { queue: self.0.clone(), outcome: Arc::default() };
        let run: Box<dyn FnOnce() -> Result<(), String> + Send> = match command {
            Command::Launch { program, grid, threads, tensors, numbers } => {
                assert!(!grid.contains(&0) && threads > 0 && threads % 32 == 0);
                assert_eq!(size_of_val(numbers), program.arguments.bytes as usize);
                let tensors: Vec<_> = tensors.iter().map(|(memory, offset)| (memory.0.clone(), *offset)).collect();
                let (arguments, numbers) = (program.arguments.clone(), numbers.to_vec());
                match program.entry.as_str() {
                    "fails" => Box::new(|| Err("a page fault".into())),
                    "held" => Box::new(|| {
                        HELD.wait();
                        HELD.wait();
                        Ok(())
                    }),
                    _ => Box::new(move || {
                        double(grid, &tensors, &arguments, &numbers);
                        Ok(())
                    }),
                }
            }
            Command::Copy { from, to, bytes } => {
                assert_eq!(bytes % 4, 0);
                let (from, to) = (from.0.clone(), to.0.clone());
                Box::new(move || {
                    let from = from.lock().unwrap()[..bytes].to_vec();
                    to.lock().unwrap()[..bytes].copy_from_slice(&from);
                    Ok(())
                })
            }
            Command::Signal(signal) => {
                assert!(signal.0.set(commands.clone()).is_ok(), "a signal is given once");
                Box::new(|| Ok(()))
            }
            Command::Wait(signal) => {
                let signalled = signal.0.get().expect("a signal is submitted before it is waited for").clone();
                Box::new(move || signalled.wait().map(|_| ()))
            }
        };
        self.0.lock().unwrap().push_back(Work { run, outcome: commands.outcome.clone() });
        Some(commands)
    }
}

impl Commands {
    /// Of nothing that stands in a queue: finished with this outcome.
    pub fn finished(outcome: Result<Span, String>) -> Commands {
        Commands { queue: Arc::default(), outcome: Arc::new(OnceLock::from(outcome)) }
    }

    pub fn done(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Does what stands in the queue, up to this. Each piece of work takes a second.
    pub fn wait(&self) -> Result<Span, String> {
        static SECONDS: AtomicU32 = AtomicU32::new(0);
        loop {
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            let next = self.queue.lock().unwrap().pop_front();
            let Some(Work { run, outcome }) = next else {
                std::thread::yield_now(); // another thread does it
                continue;
            };
            let ran = run();
            let start = f64::from(SECONDS.fetch_add(1, Ordering::Relaxed));
            outcome.set(ran.map(|()| Span { start, end: start + 1.0 })).expect("work is done once");
        }
    }
}

/// The kernel: program (i, j) of the grid doubles eight numbers of row i from column j on.
fn double(grid: [usize; 3], tensors: &[(Arc<Mutex<Vec<u8>>>, usize)], arguments: &Arguments, numbers: &[u64]) {
    let bytes: Vec<u8> = numbers.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let i64_at = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let i32_at = |at: usize| i32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    // Where an element of a tensor is, if the tensor has it.
    let place = |tensor: usize, index: [usize; 2]| {
        let ArgumentSlot::View { pointer, strides, lens, .. } = arguments.params[tensor].slot else { panic!() };
        let inside = (0..2).all(|axis| (index[axis] as i32) < i32_at(lens as usize + 4 * axis));
        let steps = (0..2).map(|axis| index[axis] as i64 * i64_at(strides as usize + 8 * axis));
        inside.then(|| (pointer as usize, tensors[pointer as usize].1 + 4 * steps.sum::<i64>() as usize))
    };
    for (row, first) in (0..grid[0]).flat_map(|row| (0..grid[1]).map(move |first| (row, first))) {
        for column in first..first + 8 {
            let x = place(0, [row, column]).map_or(0.0, |(tensor, at)| {
                f32::from_ne_bytes(tensors[tensor].0.lock().unwrap()[at..at + 4].try_into().unwrap())
            });
            if let Some((tensor, at)) = place(1, [row, column]) {
                tensors[tensor].0.lock().unwrap()[at..at + 4].copy_from_slice(&(x + x).to_ne_bytes());
            }
        }
    }
}
