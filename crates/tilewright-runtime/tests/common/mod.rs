//! Interpreter arguments on a device of the runtime.

#![allow(dead_code, reason = "each test file uses a part")]

use tilewright_ir::interp;
use tilewright_ir::{Access, Kernel};
use tilewright_runtime::cpu::Isa;
use tilewright_runtime::{Arg, Device, Tensor, TensorView, TensorViewMut};

/// Every instruction set of this processor on all cores, and the best one on one and on two threads, with their names.
pub fn devices() -> Vec<(String, Device)> {
    let isas = on_every_isa().map(|device| (device.info().isa.to_string(), device));
    let threads = [1, 2].map(|n| (format!("{n} threads"), Device::cpu_with_threads(n)));
    isas.chain(threads).collect()
}

/// All cores with each instruction set of this processor.
pub fn on_every_isa() -> impl Iterator<Item = Device> {
    Isa::available().into_iter().map(|isa| Device::cpu_with_isa(isa).expect("an available instruction set"))
}

/// The memory of one tensor argument, laid out as the interpreter's is.
struct Memory {
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// Elements before the first one of the view.
    offset: usize,
    elements: Tensor,
    /// Of an output: a copy of the bytes, and where among them the copy starts (so that it is aligned).
    bytes: (Vec<u8>, usize),
}

impl Memory {
    fn new(tensor: &interp::Tensor) -> Result<Memory, String> {
        let strides: Result<Vec<usize>, _> = tensor.strides.iter().map(|&s| usize::try_from(s)).collect();
        // The runtime knows no negative strides: those run on a contiguous copy.
        let (offset, strides, values) = match strides {
            Ok(strides) => (tensor.offset, strides, tensor.data.clone()),
            Err(_) => (0, contiguous(&tensor.shape), tensor.to_vec()),
        };
        let elements = Tensor::from_f64(tensor.elem, &values, &[values.len()]).map_err(|e| e.to_string())?;
        let plain = elements.as_bytes();
        let mut bytes = vec![0; plain.len() + 8];
        let start = bytes.as_ptr().align_offset(8);
        bytes[start..start + plain.len()].copy_from_slice(plain);
        Ok(Memory { shape: tensor.shape.clone(), strides, offset, elements, bytes: (bytes, start) })
    }

    fn read(&self) -> Result<TensorView<'_>, String> {
        let elem = self.elements.elem();
        let bytes = &self.elements.as_bytes()[self.offset * elem.bytes()..];
        let flat = TensorView::from_bytes(elem, bytes, &[bytes.len() / elem.bytes()]);
        flat.and_then(|flat| flat.with_strides(&self.shape, &self.strides)).map_err(|e| e.to_string())
    }

    fn write(&mut self) -> Result<TensorViewMut<'_>, String> {
        let elem = self.elements.elem();
        let (start, length) = (self.bytes.1, self.elements.as_bytes().len());
        let bytes = &mut self.bytes.0[start..start + length][self.offset * elem.bytes()..];
        let count = bytes.len() / elem.bytes();
        let flat = TensorViewMut::from_bytes(elem, bytes, &[count]);
        flat.and_then(|flat| flat.with_strides(&self.shape, &self.strides)).map_err(|e| e.to_string())
    }

    /// What an output holds after the run. Everything that its shape does not reach must be as it was.
    fn after(&self) -> Result<interp::Tensor, String> {
        let elem = self.elements.elem();
        let (start, length) = (self.bytes.1, self.elements.as_bytes().len());
        let bytes = &self.bytes.0[start..start + length];
        let after = TensorView::from_bytes(elem, bytes, &[length / elem.bytes()]).map_err(|e| e.to_string())?;
        let reached = reached(&self.shape, &self.strides, self.offset, length / elem.bytes());
        let width = elem.bytes();
        for (at, (old, new)) in self.elements.as_bytes().chunks_exact(width).zip(bytes.chunks_exact(width)).enumerate()
        {
            if old != new && !reached[at] {
                return Err(format!("element {at} of the memory was written and lies outside the tensor"));
            }
        }
        let strides = self.strides.iter().map(|&s| s as isize).collect();
        let data = after.to_f64().map_err(|e| e.to_string())?;
        Ok(interp::Tensor { elem, shape: self.shape.clone(), strides, offset: self.offset, data })
    }
}

fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Which elements of the memory a tensor has.
fn reached(shape: &[usize], strides: &[usize], offset: usize, length: usize) -> Vec<bool> {
    let mut places = vec![offset];
    for (&extent, &stride) in shape.iter().zip(strides) {
        places = places.iter().flat_map(|&p| (0..extent).map(move |i| p + i * stride)).collect();
    }
    let mut reached = vec![false; length];
    places.into_iter().for_each(|p| reached[p] = true);
    reached
}

/// Runs a kernel on a device with copies of the interpreter's arguments, in the same layout; gives back the arguments
/// after the run.
pub fn run(device: &Device, kernel: &Kernel, grid: [u32; 3], args: &[interp::Arg]) -> Result<Vec<interp::Arg>, String> {
    let mut memories = Vec::new();
    for arg in args {
        memories.push(arg.tensor().map(Memory::new).transpose()?);
    }
    let mut bound = Vec::new();
    for ((arg, memory), param) in args.iter().zip(&mut memories).zip(&kernel.params) {
        bound.push(match (arg, memory, param.access) {
            (interp::Arg::Scalar(x), ..) => Arg::Scalar(*x),
            (_, Some(memory), Access::Read) => Arg::Read(memory.read()?),
            (_, Some(memory), Access::Write) => Arg::Write(memory.write()?),
            (_, None, _) => return Err("a tensor argument without a tensor".to_string()),
        });
    }
    let pipeline = device.compile(kernel.clone()).map_err(|e| e.to_string())?;
    device.launch(&pipeline, grid, &mut bound).map_err(|e| format!("{e}\n{}", pipeline.listing()))?;
    drop(bound);
    let mut out = Vec::new();
    for ((arg, memory), param) in args.iter().zip(&memories).zip(&kernel.params) {
        out.push(match (memory, param.access) {
            (Some(memory), Access::Write) => memory.after()?.into(),
            _ => arg.clone(),
        });
    }
    Ok(out)
}
