//! From tile IR to the source of one GPU kernel: passes that place tiles in registers and shared memory and order the threads,
//! and one printer of C-family source with a CUDA and a Metal dialect.

pub mod barriers;
mod codes;
pub mod layout;
mod lower;
mod place;
pub mod print;
pub mod program;
pub mod shared;
mod source;
pub mod unit;
mod work;

pub use lower::Unsupported;
pub use source::{Access16, Argument, ArgumentSlot, Arguments, Dialect, Source};

use place::Places;
use program::Program;
use thiserror::Error;
use tilewright_ir::{Kernel, Work};

/// What a GPU has, as far as compiling needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The language that its compiler takes.
    pub dialect: Dialect,
    /// The compute capability, as in 80, 90 and 120; 0 where there is none.
    pub compute: u32,
    /// The most shared memory of a block, in bytes.
    pub shared_bytes: u32,
}

/// Why there is no source of a kernel for a target.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum CompileError {
    /// What has no lowering yet.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Tiles that do not fit.
    #[error(transparent)]
    Shared(#[from] shared::TooMuchShared),
    /// A way to share the work that no block has.
    #[error(
        "work {0}: rows and columns are powers of two, at most 32 warps together; stages are 1 to 8, blocks 1 to 32"
    )]
    Work(Work),
    /// A bug of the compiler.
    #[error("a bug of the compiler: {0}; please report it")]
    Race(#[from] barriers::Race),
}

/// The source of a kernel that has run through [`pass::run_gpu`](crate::pass::run_gpu). `facts` has an entry for each view
/// parameter, in order.
///
/// # Errors
/// What no lowering exists for, by name, and tiles that need more shared memory than the target has.
pub fn compile(kernel: &Kernel, target: &Target, facts: &[Access16]) -> Result<Source, CompileError> {
    let program = program(kernel, target, facts)?;
    Ok(print::render(&program, target.dialect, Arguments::of(kernel)))
}

/// The same before it is printed.
///
/// # Errors
/// As [`compile`].
pub fn program(kernel: &Kernel, target: &Target, facts: &[Access16]) -> Result<Program, CompileError> {
    lower::refuse_empty(kernel)?;
    match kernel.work {
        Some(work) => program_with(kernel, work, target, facts),
        None => {
            let work = work::of(kernel, target.dialect);
            match program_with(kernel, work, target, facts) {
                Err(CompileError::Shared(_)) => program_with(kernel, Work { stages: 1, ..work }, target, facts),
                made => made,
            }
        }
    }
}

fn program_with(kernel: &Kernel, work: Work, target: &Target, facts: &[Access16]) -> Result<Program, CompileError> {
    if !work.is_possible() {
        return Err(CompileError::Work(work));
    }
    let places = Places::of(kernel, work, target.dialect);
    let mut program = lower::lower(&places, facts)?;
    shared::plan(&mut program, target.shared_bytes)?;
    barriers::insert(&mut program)?;
    if cfg!(debug_assertions) {
        barriers::check(&program)?;
    }
    Ok(program)
}
