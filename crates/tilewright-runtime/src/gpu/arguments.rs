//! What a kernel gets beside its tensors: the struct of strides, lengths and numbers that [`Arguments`] lays out.

use crate::device::Arg;
use crate::tensor::{Layout, Memory};
use tilewright_compile::gpu::{ArgumentSlot, Arguments};
use tilewright_ir::Elem;

/// Where a tensor lies; `None` for a number.
pub(crate) fn memory<'a>(arg: &'a Arg<'_>) -> Option<Memory<'a>> {
    match arg {
        Arg::Read(tensor) => Some(tensor.memory),
        Arg::Write(tensor) => Some(tensor.memory.as_read()),
        Arg::Scalar(_) => None,
    }
}

/// The shape and strides of a tensor; `None` for a number.
pub(crate) fn layout<'a>(arg: &'a Arg<'_>) -> Option<&'a Layout> {
    match arg {
        Arg::Read(tensor) => Some(&tensor.layout),
        Arg::Write(tensor) => Some(&tensor.layout),
        Arg::Scalar(_) => None,
    }
}

/// The kernel's struct `Args`, as words so that it is aligned. Written as bytes, in the order of this machine, which is that
/// of the GPU: CUDA and Metal exist on little-endian machines only.
pub(crate) fn pack(arguments: &Arguments, args: &[Arg<'_>]) -> Vec<u64> {
    let mut bytes = vec![0u8; arguments.bytes as usize];
    let mut put = |at: usize, number: &[u8]| {
        if let Some(to) = bytes.get_mut(at..at + number.len()) {
            to.copy_from_slice(number);
        }
    };
    for (param, arg) in arguments.params.iter().zip(args) {
        match (param.slot, layout(arg), arg) {
            (ArgumentSlot::View { rank, strides, lens, .. }, Some(layout), _) => {
                for axis in 0..usize::from(rank) {
                    put(strides as usize + 8 * axis, &(layout.stride(axis) as i64).to_ne_bytes());
                    put(lens as usize + 4 * axis, &(layout.shape[axis] as i32).to_ne_bytes()); // at most i32::MAX
                }
            }
            (ArgumentSlot::Scalar { elem, at }, _, Arg::Scalar(number)) => {
                put(at as usize, &scalar_bits(*number, elem).to_ne_bytes())
            }
            // The arguments were checked against the parameters.
            (ArgumentSlot::View { .. }, None, _) | (ArgumentSlot::Scalar { .. }, _, Arg::Read(_) | Arg::Write(_)) => {}
        }
    }
    let word = |bytes: &[u8]| u64::from_ne_bytes(std::array::from_fn(|i| bytes[i]));
    bytes.chunks_exact(8).map(word).collect()
}

/// A scalar rounded to its element type, as the `float`, `int` or `unsigned` that the kernel takes.
fn scalar_bits(number: f64, elem: Elem) -> u32 {
    let rounded = elem.from_bits(elem.to_bits(number));
    if elem.is_float() { (rounded as f32).to_bits() } else { rounded as i64 as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_compile::gpu::Argument;
    use tilewright_ir::Access;

    #[test]
    fn scalars_are_rounded_to_their_type_and_widened() {
        assert_eq!(scalar_bits(0.1, Elem::F32), 0.1f32.to_bits());
        assert_eq!(scalar_bits(1.0 + 1.0 / 256.0, Elem::Bf16), 1f32.to_bits());
        assert_eq!(scalar_bits(-3.0, Elem::I8), (-3i32) as u32);
        assert_eq!(scalar_bits(-3.0, Elem::I32), (-3i32) as u32);
        assert_eq!(scalar_bits(4294967295.0, Elem::U32), u32::MAX);
        assert_eq!(scalar_bits(5.0, Elem::Bool), 1);
        assert_eq!(scalar_bits(f64::NEG_INFINITY, Elem::F16), f32::NEG_INFINITY.to_bits());
    }

    #[test]
    fn strides_lengths_and_scalars_go_where_the_layout_says() {
        let view = |elem, rank, strides, lens| ArgumentSlot::View {
            pointer: 0,
            elem,
            rank,
            access: Access::Read,
            strides,
            lens,
        };
        let named = |name: &str, slot| Argument { name: name.to_string(), slot };
        let arguments = Arguments {
            params: vec![
                named("x", view(Elem::F32, 2, 0, 24)),
                named("n", ArgumentSlot::Scalar { elem: Elem::I32, at: 36 }),
                named("y", view(Elem::F16, 1, 16, 32)),
            ],
            bytes: 40,
        };
        let x = Layout::new(Elem::F32, &[3, 5], &[1 << 33, 1]).unwrap();
        let y = Layout::new(Elem::F16, &[1], &[77]).unwrap();
        let (tensor, mut out) = ([0f32; 1], [half::f16::ZERO; 1]);
        let args = [
            Arg::Read(crate::TensorView { layout: x, ..crate::TensorView::from_slice(&tensor, &[1]).unwrap() }),
            Arg::Scalar(-2.0),
            Arg::Write(crate::TensorViewMut { layout: y, ..crate::TensorViewMut::from_slice(&mut out, &[1]).unwrap() }),
        ];
        let bytes: Vec<u8> = pack(&arguments, &args).into_iter().flat_map(u64::to_ne_bytes).collect();
        let i64_at = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let i32_at = |at: usize| i32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!([i64_at(0), i64_at(8)], [1 << 33, 1]);
        assert_eq!(i64_at(16), 0, "the stride of an axis with one entry is 0, whatever the tensor was made with");
        assert_eq!([i32_at(24), i32_at(28), i32_at(32), i32_at(36)], [3, 5, 1, -2]);
    }
}
