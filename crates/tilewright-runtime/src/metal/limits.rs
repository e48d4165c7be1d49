//! What Metal can bind and launch, checked before it is asked: beyond these bounds it aborts the process or does as it
//! likes, instead of returning an error.

use crate::device::Grid;
use tilewright_compile::gpu::{ArgumentSlot, Source};

/// Buffers that a kernel can have, the argument struct included.
const BUFFERS: usize = 31;

/// Bytes that can be handed over with the commands instead of in a buffer.
const ARGUMENT_BYTES: usize = 4096;

/// What the GPU refuses for its size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// More threadgroup memory than the GPU has.
    #[error("`{kernel}` needs {needed} bytes of threadgroup memory and this GPU has {limit}; take smaller tiles")]
    SharedMemory {
        /// The kernel's name.
        kernel: String,
        /// Bytes that a threadgroup needs.
        needed: usize,
        /// Bytes that it can have.
        limit: usize,
    },
    /// More threads than the registers of the GPU are enough for.
    #[error("`{kernel}` needs {threads} threads in a threadgroup and has registers for {limit}; take smaller tiles")]
    Threads {
        /// The kernel's name.
        kernel: String,
        /// Threads of a threadgroup.
        threads: usize,
        /// The most that the compiled kernel allows.
        limit: usize,
    },
    /// Simdgroups of another size than the kernel was compiled for.
    #[error("`{kernel}` is made for simdgroups of 32 threads and this GPU has {width}; use the cpu device")]
    Simdgroup {
        /// The kernel's name.
        kernel: String,
        /// Threads of a simdgroup on this GPU.
        width: usize,
    },
    /// More tensors than Metal can bind.
    #[error("`{kernel}` has {tensors} tensors and Metal can bind {}; pass fewer", BUFFERS - 1)]
    Tensors {
        /// The kernel's name.
        kernel: String,
        /// Tensors among its parameters.
        tensors: usize,
    },
    /// A larger argument struct than Metal takes with a launch.
    #[error(
        "`{kernel}` has {bytes} bytes of lengths, strides and numbers and Metal takes {ARGUMENT_BYTES}; pass fewer"
    )]
    ArgumentBytes {
        /// The kernel's name.
        kernel: String,
        /// Bytes of the struct.
        bytes: usize,
    },
    /// A launch with other arguments than the kernel was compiled for.
    #[error(
        "`{kernel}` takes {tensors} tensors and {bytes} bytes of arguments and got {got_tensors} and {got_bytes}; \
         lay the arguments out for this kernel"
    )]
    Arguments {
        /// The kernel's name.
        kernel: String,
        /// Tensors among its parameters.
        tensors: usize,
        /// Bytes of the argument struct.
        bytes: usize,
        /// Tensors given.
        got_tensors: usize,
        /// Bytes given.
        got_bytes: usize,
    },
    /// More threads along an axis than Metal counts.
    #[error(
        "a grid of {grid:?} with {threads} threads each: Metal counts 4294967295 threads an axis; split the launch"
    )]
    Grid {
        /// Threadgroups along each axis.
        grid: Grid,
        /// Threads of a threadgroup.
        threads: usize,
    },
    /// A place outside of a buffer.
    #[error("bytes {start}..{end} of a buffer of {bytes} bytes; stay inside")]
    Range {
        /// The first byte.
        start: usize,
        /// The one after the last.
        end: usize,
        /// Bytes of the buffer.
        bytes: usize,
    },
    /// A larger buffer than the GPU can have.
    #[error("a buffer of {bytes} bytes, and this GPU has buffers of at most {limit}; split the tensor")]
    Buffer {
        /// Bytes asked for.
        bytes: usize,
        /// The most that a buffer can have.
        limit: usize,
    },
}

/// What a launch needs to know of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// The name of the kernel function.
    pub kernel: String,
    /// Threads of a threadgroup.
    pub threads: usize,
    /// Bytes of threadgroup memory.
    pub shared_bytes: usize,
    /// Tensors among the parameters: the number of pointers.
    pub tensors: usize,
    /// Bytes of the argument struct.
    pub argument_bytes: usize,
}

impl Footprint {
    /// That of a rendered kernel.
    pub fn of(source: &Source) -> Footprint {
        let is_tensor = |slot: &ArgumentSlot| match slot {
            ArgumentSlot::View { .. } => true,
            ArgumentSlot::Scalar { .. } => false,
        };
        Footprint {
            kernel: source.entry.clone(),
            threads: source.threads as usize,
            shared_bytes: source.shared_bytes as usize,
            tensors: source.arguments.params.iter().filter(|param| is_tensor(&param.slot)).count(),
            argument_bytes: source.arguments.bytes as usize,
        }
    }

    /// Checks what is known before the kernel is compiled, on a GPU with `shared_limit` bytes of threadgroup memory.
    ///
    /// # Errors
    /// [`SharedMemory`](LimitError::SharedMemory), [`Tensors`](LimitError::Tensors),
    /// [`ArgumentBytes`](LimitError::ArgumentBytes).
    pub fn check(&self, shared_limit: usize) -> Result<(), LimitError> {
        let kernel = || self.kernel.clone();
        if self.shared_bytes > shared_limit {
            return Err(LimitError::SharedMemory { kernel: kernel(), needed: self.shared_bytes, limit: shared_limit });
        }
        if self.tensors >= BUFFERS {
            return Err(LimitError::Tensors { kernel: kernel(), tensors: self.tensors });
        }
        if self.argument_bytes > ARGUMENT_BYTES {
            return Err(LimitError::ArgumentBytes { kernel: kernel(), bytes: self.argument_bytes });
        }
        Ok(())
    }

    /// Checks what the compiler found: the most threads that a threadgroup can have, the threads of a simdgroup, and the
    /// bytes of threadgroup memory that the kernel takes on a GPU with `shared_limit`.
    ///
    /// # Errors
    /// [`Threads`](LimitError::Threads), [`Simdgroup`](LimitError::Simdgroup),
    /// [`SharedMemory`](LimitError::SharedMemory).
    pub fn check_compiled(
        &self,
        threads: usize,
        simdgroup: usize,
        shared: usize,
        shared_limit: usize,
    ) -> Result<(), LimitError> {
        let kernel = || self.kernel.clone();
        if simdgroup != 32 {
            return Err(LimitError::Simdgroup { kernel: kernel(), width: simdgroup });
        }
        if self.threads > threads {
            return Err(LimitError::Threads { kernel: kernel(), threads: self.threads, limit: threads });
        }
        if shared > shared_limit {
            return Err(LimitError::SharedMemory { kernel: kernel(), needed: shared, limit: shared_limit });
        }
        Ok(())
    }

    /// Checks a launch. `tensors` gives for each tensor the bytes of its buffer and the offset of its first element;
    /// `arguments` is how many bytes the argument struct has.
    ///
    /// # Errors
    /// [`Arguments`](LimitError::Arguments), [`Grid`](LimitError::Grid), [`Range`](LimitError::Range).
    pub fn check_launch(&self, grid: Grid, tensors: &[(usize, usize)], arguments: usize) -> Result<(), LimitError> {
        if tensors.len() != self.tensors || arguments != self.argument_bytes {
            return Err(LimitError::Arguments {
                kernel: self.kernel.clone(),
                tensors: self.tensors,
                bytes: self.argument_bytes,
                got_tensors: tensors.len(),
                got_bytes: arguments,
            });
        }
        // Threads lie along the first axis.
        let axis = |programs: u32, threads: usize| u32::try_from(u64::from(programs) * threads as u64).is_ok();
        if !axis(grid[0], self.threads) {
            return Err(LimitError::Grid { grid, threads: self.threads });
        }
        for &(bytes, offset) in tensors {
            check_range(offset, 0, bytes)?;
        }
        Ok(())
    }
}

/// Checks that `len` bytes from `start` lie in a buffer of `bytes`.
///
/// # Errors
/// [`Range`](LimitError::Range).
pub(crate) fn check_range(start: usize, len: usize, bytes: usize) -> Result<(), LimitError> {
    let end = start.saturating_add(len);
    if end > bytes {
        return Err(LimitError::Range { start, end, bytes });
    }
    Ok(())
}

/// The bytes to allocate for a buffer that holds `bytes`: more, so that no buffer is empty and an empty tensor can begin
/// at the end of one; Metal has neither.
///
/// # Errors
/// [`Buffer`](LimitError::Buffer) above `limit`.
pub(crate) fn allocation(bytes: usize, limit: usize) -> Result<usize, LimitError> {
    match bytes.checked_add(16) {
        Some(allocated) if allocated <= limit => Ok(allocated),
        Some(_) | None => Err(LimitError::Buffer { bytes, limit: limit.saturating_sub(16) }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Footprint, LimitError, allocation, check_range};
    use tilewright_compile::gpu::{Argument, ArgumentSlot, Arguments, Dialect, Source};
    use tilewright_ir::{Access, Elem};

    fn source(tensors: u32, scalars: u32) -> Source {
        let view = |pointer| ArgumentSlot::View {
            pointer,
            elem: Elem::F32,
            rank: 1,
            access: Access::Read,
            strides: 8 * pointer,
            lens: 8 * tensors + 4 * pointer,
        };
        let scalar = |i| ArgumentSlot::Scalar { elem: Elem::F32, at: 12 * tensors + 4 * i };
        let slots = (0..tensors).map(view).chain((0..scalars).map(scalar));
        let params = slots.map(|slot| Argument { name: "x".into(), slot }).collect();
        Source {
            dialect: Dialect::Msl,
            text: String::new(),
            entry: "k".into(),
            threads: 128,
            shared_bytes: 32768,
            arguments: Arguments { params, bytes: (12 * tensors + 4 * scalars).next_multiple_of(8).max(8) },
        }
    }

    fn footprint(tensors: u32, scalars: u32) -> Footprint {
        Footprint::of(&source(tensors, scalars))
    }

    #[test]
    fn a_footprint_counts_tensors_and_not_numbers() {
        let kernel = "k".to_string();
        let expected = Footprint { kernel, threads: 128, shared_bytes: 32768, tensors: 3, argument_bytes: 48 };
        assert_eq!(footprint(3, 2), expected);
    }

    #[test]
    fn a_kernel_may_fill_threadgroup_memory_and_not_exceed_it() {
        assert_eq!(footprint(1, 0).check(32768), Ok(()));
        let error = LimitError::SharedMemory { kernel: "k".into(), needed: 32768, limit: 32767 };
        assert_eq!(footprint(1, 0).check(32767), Err(error));
        assert!(matches!(
            footprint(1, 0).check_compiled(1024, 32, 32784, 32768),
            Err(LimitError::SharedMemory { needed: 32784, .. })
        ));
    }

    #[test]
    fn thirty_tensors_and_the_arguments_fill_the_buffers() {
        assert_eq!(footprint(30, 0).check(32768), Ok(()));
        assert_eq!(footprint(31, 0).check(32768), Err(LimitError::Tensors { kernel: "k".into(), tensors: 31 }));
    }

    #[test]
    fn four_kilobytes_of_arguments_are_the_most() {
        assert_eq!(footprint(0, 1024).check(32768), Ok(()));
        let error = LimitError::ArgumentBytes { kernel: "k".into(), bytes: 4104 };
        assert_eq!(footprint(0, 1026).check(32768), Err(error));
    }

    #[test]
    fn a_compiled_kernel_must_have_its_threads_in_simdgroups_of_32() {
        assert_eq!(footprint(1, 0).check_compiled(128, 32, 0, 32768), Ok(()));
        let error = LimitError::Threads { kernel: "k".into(), threads: 128, limit: 96 };
        assert_eq!(footprint(1, 0).check_compiled(96, 32, 0, 32768), Err(error));
        let error = LimitError::Simdgroup { kernel: "k".into(), width: 16 };
        assert_eq!(footprint(1, 0).check_compiled(1024, 16, 0, 32768), Err(error));
    }

    #[test]
    fn a_launch_must_give_what_the_kernel_takes() {
        let kernel = footprint(2, 1);
        assert_eq!(kernel.check_launch([1, 1, 1], &[(4, 0), (4, 4)], 32), Ok(()));
        for (tensors, arguments) in [(&[(4, 0)][..], 32), (&[(4, 0), (4, 0)][..], 24)] {
            let got = kernel.check_launch([1, 1, 1], tensors, arguments);
            assert!(matches!(got, Err(LimitError::Arguments { .. })), "{got:?}");
        }
        let outside = kernel.check_launch([1, 1, 1], &[(4, 0), (4, 5)], 32);
        assert_eq!(outside, Err(LimitError::Range { start: 5, end: 5, bytes: 4 }));
    }

    #[test]
    fn the_threads_of_an_axis_are_counted_in_32_bits() {
        let kernel = footprint(0, 0);
        assert_eq!(kernel.check_launch([(1 << 25) - 1, i32::MAX as u32, 0], &[], 8), Ok(()));
        let grid = [1 << 25, 1, 1];
        assert_eq!(kernel.check_launch(grid, &[], 8), Err(LimitError::Grid { grid, threads: 128 }));
    }

    #[test]
    fn a_range_may_end_with_its_buffer_and_not_later() {
        assert_eq!(check_range(4, 4, 8), Ok(()));
        assert_eq!(check_range(8, 0, 8), Ok(()));
        assert_eq!(check_range(5, 4, 8), Err(LimitError::Range { start: 5, end: 9, bytes: 8 }));
        assert!(check_range(1, usize::MAX, 8).is_err());
    }

    #[test]
    fn an_allocation_is_never_empty_and_stays_below_the_limit() {
        assert_eq!(allocation(0, 64), Ok(16));
        assert_eq!(allocation(48, 64), Ok(64));
        assert_eq!(allocation(49, 64), Err(LimitError::Buffer { bytes: 49, limit: 48 }));
        assert!(allocation(usize::MAX, usize::MAX).is_err());
    }
}
