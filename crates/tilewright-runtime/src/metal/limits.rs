//! What Metal can bind and launch, checked before it is asked: beyond these bounds it aborts the process or does as it
//! likes, instead of returning an error.

use super::Compiled;
use tilewright_compile::gpu::{ArgumentSlot, Source};

/// Buffers that a kernel can have, the argument struct included.
const BUFFERS: usize = 31;

/// Bytes that can be handed over with the commands instead of in a buffer.
const ARGUMENT_BYTES: usize = 4096;

/// Bytes of each buffer past those that it holds.
const PAST: usize = 16;

/// What the GPU refuses for its size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// More threadgroup memory than the GPU has.
    #[error("it needs {needed} bytes of threadgroup memory and this GPU has {limit}; take smaller tiles")]
    SharedMemory {
        /// Bytes that a threadgroup needs.
        needed: usize,
        /// Bytes that it can have.
        limit: usize,
    },
    /// More threads than the registers of the GPU are enough for.
    #[error("it needs {threads} threads in a threadgroup and this GPU has registers for {limit}; take smaller tiles")]
    Threads {
        /// Threads of a threadgroup.
        threads: usize,
        /// The most that the compiled kernel allows.
        limit: usize,
    },
    /// Simdgroups of another size than the kernel was compiled for.
    #[error("it is made for simdgroups of 32 threads and this GPU has {width}; use --device cpu, `Device::cpu()`")]
    Simdgroup {
        /// Threads of a simdgroup on this GPU.
        width: usize,
    },
    /// More tensors than Metal can bind.
    #[error("it has {tensors} tensors and Metal can bind {}; pass fewer", BUFFERS - 1)]
    Tensors {
        /// Tensors among its parameters.
        tensors: usize,
    },
    /// A larger argument struct than Metal takes with a launch.
    #[error("it has {bytes} bytes of lengths, strides and numbers and Metal takes {ARGUMENT_BYTES}; pass fewer")]
    ArgumentBytes {
        /// Bytes of the struct.
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

/// What a kernel takes of the GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footprint {
    /// Threads of a threadgroup.
    threads: usize,
    /// Bytes of threadgroup memory.
    shared_bytes: usize,
    /// Tensors among the parameters: the number of pointers.
    tensors: usize,
    /// Bytes of the argument struct.
    argument_bytes: usize,
}

impl Footprint {
    /// That of a rendered kernel.
    pub fn of(source: &Source) -> Footprint {
        let is_tensor = |slot: &ArgumentSlot| match slot {
            ArgumentSlot::View { .. } => true,
            ArgumentSlot::Scalar { .. } => false,
        };
        Footprint {
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
        if self.shared_bytes > shared_limit {
            return Err(LimitError::SharedMemory { needed: self.shared_bytes, limit: shared_limit });
        }
        if self.tensors >= BUFFERS {
            return Err(LimitError::Tensors { tensors: self.tensors });
        }
        if self.argument_bytes > ARGUMENT_BYTES {
            return Err(LimitError::ArgumentBytes { bytes: self.argument_bytes });
        }
        Ok(())
    }

    /// Checks what the compiler found, on a GPU with `shared_limit` bytes of threadgroup memory.
    ///
    /// # Errors
    /// [`Threads`](LimitError::Threads), [`Simdgroup`](LimitError::Simdgroup),
    /// [`SharedMemory`](LimitError::SharedMemory).
    pub fn check_compiled(&self, compiled: Compiled, shared_limit: usize) -> Result<(), LimitError> {
        let Compiled { threads, simdgroup, shared_bytes } = compiled;
        if simdgroup != 32 {
            return Err(LimitError::Simdgroup { width: simdgroup });
        }
        if self.threads > threads {
            return Err(LimitError::Threads { threads: self.threads, limit: threads });
        }
        if shared_bytes > shared_limit {
            return Err(LimitError::SharedMemory { needed: shared_bytes, limit: shared_limit });
        }
        Ok(())
    }
}

/// The bytes to allocate for a buffer that holds `bytes`: at least 16 more, so that no buffer is empty, an empty tensor can
/// begin at the end of one, and a copy can end with a whole number of 4 bytes; Metal has none of them.
///
/// # Errors
/// [`Buffer`](LimitError::Buffer) above `limit`.
pub(super) fn allocation(bytes: usize, limit: usize) -> Result<usize, LimitError> {
    match bytes.checked_add(PAST) {
        Some(allocated) if allocated <= limit => Ok(allocated),
        Some(_) | None => Err(LimitError::Buffer { bytes, limit: limit.saturating_sub(PAST) }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Compiled, Footprint, LimitError, allocation};
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
        let expected = Footprint { threads: 128, shared_bytes: 32768, tensors: 3, argument_bytes: 48 };
        assert_eq!(footprint(3, 2), expected);
    }

    #[test]
    fn a_kernel_may_fill_threadgroup_memory_and_not_exceed_it() {
        assert_eq!(footprint(1, 0).check(32768), Ok(()));
        let error = LimitError::SharedMemory { needed: 32768, limit: 32767 };
        assert_eq!(footprint(1, 0).check(32767), Err(error));
        let compiled = Compiled { threads: 1024, simdgroup: 32, shared_bytes: 32784 };
        let error = LimitError::SharedMemory { needed: 32784, limit: 32768 };
        assert_eq!(footprint(1, 0).check_compiled(compiled, 32768), Err(error));
    }

    #[test]
    fn thirty_tensors_and_the_arguments_fill_the_buffers() {
        assert_eq!(footprint(30, 0).check(32768), Ok(()));
        assert_eq!(footprint(31, 0).check(32768), Err(LimitError::Tensors { tensors: 31 }));
    }

    #[test]
    fn four_kilobytes_of_arguments_are_the_most() {
        assert_eq!(footprint(0, 1024).check(32768), Ok(()));
        assert_eq!(footprint(0, 1026).check(32768), Err(LimitError::ArgumentBytes { bytes: 4104 }));
    }

    #[test]
    fn a_compiled_kernel_must_have_its_threads_in_simdgroups_of_32() {
        let compiled = Compiled { threads: 128, simdgroup: 32, shared_bytes: 0 };
        assert_eq!(footprint(1, 0).check_compiled(compiled, 32768), Ok(()));
        let few = Compiled { threads: 96, ..compiled };
        let error = LimitError::Threads { threads: 128, limit: 96 };
        assert_eq!(footprint(1, 0).check_compiled(few, 32768), Err(error));
        let narrow = Compiled { simdgroup: 16, ..compiled };
        assert_eq!(footprint(1, 0).check_compiled(narrow, 32768), Err(LimitError::Simdgroup { width: 16 }));
    }

    #[test]
    fn an_allocation_is_never_empty_and_stays_below_the_limit() {
        assert_eq!(allocation(0, 64), Ok(16));
        assert_eq!(allocation(48, 64), Ok(64));
        assert_eq!(allocation(49, 64), Err(LimitError::Buffer { bytes: 49, limit: 48 }));
        assert!(allocation(usize::MAX, usize::MAX).is_err());
    }
}
