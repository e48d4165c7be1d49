//! What can go wrong between a kernel's text and its results.

/// Why no kernel can be run on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// The compiler is not there, or not recent enough.
    #[error(
        "no clang 19 or later: tried {tried:?}
 = help: install it (Debian: clang-19, llvm-19, libclang-rt-19-dev), or set TILEWRIGHT_CLANG to its path"
    )]
    Clang {
        /// The programs that were asked for their version.
        tried: Vec<String>,
    },
    /// The switch between fibers is written for one processor.
    #[error("kernels run as fibers on x86-64 Linux only; this is {arch} {os}")]
    Machine {
        /// Of the processor.
        arch: &'static str,
        /// Of the system.
        os: &'static str,
    },
}

/// A kernel that did not compile, or did not run as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// The compiler refused the text.
    #[error("kernel {kernel} does not compile\n{output}")]
    Compile {
        /// The kernel's entry.
        kernel: String,
        /// What the compiler said; lines are those of the kernel's text.
        output: String,
    },
    /// The text is not what a rendered kernel looks like.
    #[error("kernel {kernel}: {problem}")]
    Text {
        /// The kernel's entry.
        kernel: String,
        /// What is expected and what is there.
        problem: String,
    },
    /// The arguments are not what the kernel's source describes.
    #[error("kernel {kernel}, argument {index}: {wanted} wanted, got {got}")]
    Argument {
        /// The kernel's entry.
        kernel: String,
        /// The position of the argument.
        index: usize,
        /// What the source describes.
        wanted: String,
        /// What was given.
        got: String,
    },
    /// Threads wait at different places: some at a barrier or warp operation that the others never reach.
    #[error("kernel {kernel}: {report}")]
    Divergence {
        /// The kernel's entry.
        kernel: String,
        /// Which threads wait where.
        report: String,
    },
    /// An access outside a tensor or outside shared memory.
    #[error("kernel {kernel}: {report}")]
    OutOfBounds {
        /// The kernel's entry.
        kernel: String,
        /// What was accessed.
        report: String,
    },
    /// A misaligned access, an index outside a thread's own array, or a shift by as many bits as there are.
    #[error("kernel {kernel}: {report}")]
    Undefined {
        /// The kernel's entry.
        kernel: String,
        /// What was done; with [`Sanitizer::Address`](crate::Sanitizer::Address) also where.
        report: String,
    },
    /// Two threads access the same memory, one of them writes, and no barrier stands between.
    #[error("kernel {kernel}: {report}")]
    Race {
        /// The kernel's entry.
        kernel: String,
        /// The thread sanitizer's report.
        report: String,
    },
    /// The results depend on the order of threads or on the time of copies.
    #[error("kernel {kernel}: output {output} differs from the first run at byte {byte} in {run:?}")]
    Unsteady {
        /// The kernel's entry.
        kernel: String,
        /// Which one of the tensors that are written.
        output: usize,
        /// The first byte that differs.
        byte: usize,
        /// The run that differs.
        run: crate::Run,
    },
    /// The kernel ended in another way than by returning: a signal, or a run of more than 60 s.
    #[error("kernel {kernel} ended with {status}\n{output}")]
    Crash {
        /// The kernel's entry.
        kernel: String,
        /// The exit status or signal.
        status: String,
        /// What it wrote to standard error.
        output: String,
    },
    /// Files and processes.
    #[error("{action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: String,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
}
