//! The CPU device: tile programs over the grid on all cores.
//!
//! - `exec`: walks the steps of one program
//! - `vector`, `math`: fused elementwise loops
//! - `masked`, `weights`: scores with bias and mask, and the weights of a softmax, in one of these loops
//! - `gemm`: the register-blocked product
//! - `amx`: the product of bf16 pairs by the processor's tiles
//! - `stream`: the product of few rows with a matrix that is read where it lies, by `rows`, each a `row` of floats or codes
//! - `memory`: views, loads, stores
//! - `pack`: matrices into panels for the product
//! - `pairs`: bf16 numbers in pairs, for processors that multiply them so
//! - `paired_rows`: rows of numbers or codes that are read in pairs
//! - `unpack`: words into codes
//! - `simd`: vectors of each instruction set
//! - `peaks`: measured ceilings of memory and of bf16 products
//! - `isa`: all of these compiled for each instruction set, one chosen at run time

mod ahead;
#[cfg(target_arch = "x86_64")]
mod amx;
mod digits;
mod exec;
mod gemm;
mod isa;
mod masked;
mod math;
mod memory;
mod pack;
mod paired_rows;
mod pairs;
mod peaks;
mod row;
mod rows;
mod simd;
mod stream;
mod unpack;
mod vector;
mod weights;

pub use isa::Isa;
pub use peaks::{bf16_peak, copy_peak, read_peak};

use crate::device::{Arg, Grid};
use crate::error::LaunchError;
use crate::tensor::{Layout, Memory, MemoryMut, TensorView, TensorViewMut};
use exec::{Launch, Workspace};
use memory::View;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tilewright_compile::cpu::{ParamSlot, Program, lane_bits, lower};
use tilewright_ir::{Kernel, MAX_VIEW_RANK};

/// All cores of this machine, with vector code.
pub(crate) struct CpuDevice {
    isa: Isa,
    /// The threads besides the caller's; `None` when there are none.
    pool: Option<rayon::ThreadPool>,
    /// Working memory that no launch is using now.
    workspaces: Mutex<Vec<Workspace>>,
}

/// A kernel lowered for this processor.
pub(crate) struct CpuPipeline {
    program: Program,
    /// What one program took in the last launch; `u64::MAX` before the first.
    nanos: AtomicU64,
}

impl CpuPipeline {
    pub fn scratch_bytes(&self) -> usize {
        self.program.lanes as usize * 4
    }

    pub fn program(&self) -> &Program {
        &self.program
    }
}

impl CpuDevice {
    /// This many threads (all cores for `None`), with the best instructions or the given ones.
    pub fn new(threads: Option<usize>, isa: Option<Isa>) -> CpuDevice {
        let isa = isa.filter(|i| Isa::available().contains(i)).unwrap_or_else(|| Isa::available()[0]); // never empty
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let named = |i| format!("tilewright-cpu-{i}");
        // A machine that refuses threads still computes, on the caller's.
        let pool = (threads > 1)
            .then(|| rayon::ThreadPoolBuilder::new().num_threads(threads - 1).thread_name(named).build().ok());
        CpuDevice { isa, pool: pool.flatten(), workspaces: Mutex::default() }
    }

    pub fn threads(&self) -> usize {
        1 + self.pool.as_ref().map_or(0, |p| p.current_num_threads())
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    pub fn compile(&self, kernel: &Kernel) -> Result<CpuPipeline, LaunchError> {
        let target = self.isa.target();
        let kernel = match target.pairs {
            true => tilewright_compile::pass::run_pairs(kernel.clone())?,
            false => tilewright_compile::pass::run(kernel.clone(), None)?,
        };
        let program = lower(&kernel, target).map_err(|e| LaunchError::Unsupported {
            device: "cpu",
            kernel: kernel.name.to_string(),
            reason: e.to_string(),
        })?;
        Ok(CpuPipeline { program, nanos: AtomicU64::new(u64::MAX) })
    }

    pub fn launch(&self, pipeline: &CpuPipeline, grid: Grid, args: &mut [Arg<'_>]) -> Result<(), LaunchError> {
        let mut launch = Launch {
            program: &pipeline.program,
            kernels: self.isa.kernels(),
            grid,
            scalars: Vec::new(),
            views: Vec::new(),
        };
        for (slot, arg) in pipeline.program.params.iter().zip(args) {
            match (slot, arg) {
                (ParamSlot::Scalar(lane, elem), Arg::Scalar(x)) => launch.scalars.push((*lane, lane_bits(*x, *elem))),
                (ParamSlot::View(view), Arg::Read(t)) => {
                    launch.views.push((*view, bind(&t.layout, start(t).cast_mut())));
                }
                (ParamSlot::View(view), Arg::Write(t)) => {
                    let layout = t.layout;
                    launch.views.push((*view, bind(&layout, start_mut(t))));
                }
                // `Device::launch` has checked the arguments against the parameters.
                (ParamSlot::Scalar(..), Arg::Read(_) | Arg::Write(_)) | (ParamSlot::View(_), Arg::Scalar(_)) => {}
            }
        }
        self.run_grid(&launch, pipeline);
        Ok(())
    }

    /// Runs every program of a launch. The caller is one of the threads and starts at once.
    ///
    /// Waking another thread takes longer than a small launch (about 20 us where this was measured): when the last launch of
    /// this pipeline says that all of it will be done by then, the others sleep until the caller has worked that long. If its
    /// programs have grown since, they wake one program late, once.
    fn run_grid(&self, launch: &Launch<'_>, pipeline: &CpuPipeline) {
        const PATIENCE: Duration = Duration::from_micros(20);
        let [x, y, z] = launch.grid.map(u64::from);
        let total = (x * y).saturating_mul(z); // an axis has less than 2^31; nobody sees the end of 2^64 programs
        if total == 0 {
            return;
        }
        let (next, busy) = (AtomicU64::new(0), AtomicU64::new(0));
        let work = |between: &mut dyn FnMut(Duration)| {
            let mut workspace =
                self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            launch.prepare(&mut workspace);
            let start = Instant::now();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= total {
                    break;
                }
                launch.run(&mut workspace, [(at % x) as u32, (at / x % y) as u32, (at / x / y) as u32]);
                between(start.elapsed());
            }
            busy.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
            self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
        };
        let others = self.threads().min(usize::try_from(total).unwrap_or(usize::MAX)).saturating_sub(1);
        match &self.pool {
            Some(pool) if others > 0 => pool.in_place_scope(|scope| {
                let wake = || (0..others).for_each(|_| scope.spawn(|_| work(&mut |_| {})));
                let expected = pipeline.nanos.load(Ordering::Relaxed).saturating_mul(total);
                let mut asleep = Duration::from_nanos(expected) < PATIENCE;
                if !asleep {
                    wake();
                }
                work(&mut |elapsed| {
                    if asleep && elapsed > PATIENCE {
                        asleep = false;
                        wake();
                    }
                });
            }),
            _ => work(&mut |_| {}),
        }
        pipeline.nanos.store(busy.into_inner() / total, Ordering::Relaxed);
    }
}

/// Where a tensor starts. Memory of a device, which [`Device::launch`](crate::Device::launch) refuses, would be null: a view
/// of nothing.
fn start(tensor: &TensorView<'_>) -> *const u8 {
    match tensor.memory {
        Memory::Host(bytes) => bytes.as_ptr(),
        Memory::Gpu(_) => std::ptr::null(),
    }
}

/// As [`start`].
fn start_mut(tensor: &mut TensorViewMut<'_>) -> *mut u8 {
    match &mut tensor.memory {
        MemoryMut::Host(bytes) => bytes.as_mut_ptr(),
        MemoryMut::Gpu(_) => std::ptr::null_mut(),
    }
}

fn bind(layout: &Layout, base: *mut u8) -> View {
    let mut view = View { base, elem: layout.elem, rank: layout.rank(), ..View::EMPTY };
    for axis in 0..MAX_VIEW_RANK {
        view.len[axis] = layout.shape[axis] as i32; // at most i32::MAX, checked when the tensor was made
        view.last[axis] = view.len[axis];
        view.stride[axis] = layout.stride(axis);
    }
    view
}

/// The measured ceiling of f32 arithmetic: fused multiply-adds in registers on this many threads, in GFLOP/s.
pub fn fma_peak(threads: usize) -> f64 {
    const ROUNDS: u64 = 200_000;
    let kernels = Isa::available()[0].kernels(); // never empty
    let best = |until: Duration| {
        let start = Instant::now();
        let mut best = 0.0f64;
        while start.elapsed() < until {
            let at = Instant::now();
            // SAFETY: the first available instruction set is one that this processor has.
            let (flops, kept) = unsafe { (kernels.fma_chain)(ROUNDS) };
            std::hint::black_box(kept);
            best = best.max(flops as f64 / at.elapsed().as_secs_f64() / 1e9);
        }
        best
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(|| best(Duration::from_millis(200)))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or(0.0)).sum()
    })
}
