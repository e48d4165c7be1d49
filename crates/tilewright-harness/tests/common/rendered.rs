//! From tile IR to results under the harness, with the interpreter's arguments.

use tilewright_compile::gpu::{Access16, Dialect, Source, Target, compile};
use tilewright_compile::pass::run_gpu;
use tilewright_harness::{Arg, Checks, Harness, Tensor, TensorMut};
use tilewright_ir::{Access, Elem, Kernel, Type, interp};

/// The source of a kernel about whose tensors nothing is known.
pub fn render(kernel: &Kernel, dialect: Dialect) -> Result<Source, String> {
    let kernel = run_gpu(kernel.clone(), None).map_err(|e| e.to_string())?;
    let (compute, shared_bytes) = match dialect {
        Dialect::Cuda => (80, 163 << 10),
        Dialect::Msl => (0, 32 << 10),
    };
    let views = kernel.params.iter().filter(|p| matches!(kernel.ty(p.value), Type::View { .. })).count();
    let target = Target { dialect, compute, shared_bytes };
    compile(&kernel, &target, &vec![Access16::Any; views]).map_err(|e| e.to_string())
}

/// The memory of one tensor, laid out as the interpreter's is.
struct Memory {
    elem: Elem,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// Elements before the first one of the view.
    offset: usize,
    bytes: Vec<u8>,
}

impl Memory {
    fn new(tensor: &interp::Tensor) -> Memory {
        let strides: Result<Vec<usize>, _> = tensor.strides.iter().map(|&s| usize::try_from(s)).collect();
        // A launch knows no negative strides: those run on a contiguous copy.
        let (offset, strides, values) = match strides {
            Ok(strides) => (tensor.offset, strides, tensor.data.clone()),
            Err(_) => (0, contiguous(&tensor.shape), tensor.to_vec()),
        };
        let bytes = values.iter().flat_map(|&x| tensor.elem.to_bits(x).to_ne_bytes()[..tensor.elem.bytes()].to_vec());
        Memory { elem: tensor.elem, shape: tensor.shape.clone(), strides, offset, bytes: bytes.collect() }
    }

    fn after(&self) -> interp::Tensor {
        let element = |bytes: &[u8]| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            self.elem.from_bits(u32::from_ne_bytes(word))
        };
        interp::Tensor {
            elem: self.elem,
            shape: self.shape.clone(),
            strides: self.strides.iter().map(|&s| s as isize).collect(),
            offset: self.offset,
            data: self.bytes.chunks_exact(self.elem.bytes()).map(element).collect(),
        }
    }
}

fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Runs a kernel with copies of the interpreter's arguments; gives back the arguments after the run.
pub fn run(
    harness: &Harness,
    dialect: Dialect,
    checks: &Checks,
    kernel: &Kernel,
    grid: [u32; 3],
    args: &[interp::Arg],
) -> Result<Vec<interp::Arg>, String> {
    // A panic of the compiler fails one case and not all of them.
    let rendered = std::panic::catch_unwind(|| render(kernel, dialect));
    let source = rendered.map_err(|_| "the compiler panicked".to_string())??;
    let mut memories: Vec<Option<Memory>> = args.iter().map(|arg| arg.tensor().map(Memory::new)).collect();
    let mut bound = Vec::new();
    for ((arg, memory), param) in args.iter().zip(&mut memories).zip(&kernel.params) {
        bound.push(match (arg, memory) {
            (interp::Arg::Scalar(x), _) => Arg::Scalar(*x),
            (_, None) => return Err("a tensor argument without a tensor".to_string()),
            (_, Some(Memory { elem, shape, strides, offset, bytes })) => {
                let bytes = &mut bytes[*offset * elem.bytes()..];
                match param.access {
                    Access::Read => Arg::Read(Tensor { elem: *elem, shape, strides, bytes }),
                    Access::Write => Arg::Write(TensorMut { elem: *elem, shape, strides, bytes }),
                }
            }
        });
    }
    let launched = harness.launch(&source, grid, &mut bound, checks);
    launched.map_err(|e| format!("{e}\n{}", source.text))?;
    let after = |(arg, memory): (&interp::Arg, &Option<Memory>)| match (arg, memory) {
        (interp::Arg::Tensor(_), Some(memory)) => interp::Arg::Tensor(memory.after()),
        (arg, _) => arg.clone(),
    };
    Ok(args.iter().zip(&memories).map(after).collect())
}
