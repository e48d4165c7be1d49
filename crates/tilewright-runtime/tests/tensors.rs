//! What tensors and views of memory accept and refuse.

use half::{bf16, f16};
use tilewright_ir::Elem;
use tilewright_runtime::{Tensor, TensorError, TensorView, TensorViewMut};

const LONGEST: usize = i32::MAX as usize;

#[test]
fn a_slice_that_is_too_short_is_refused_with_both_numbers() {
    let data = [0f32; 5];
    let refused = TensorView::from_slice(&data, &[2, 3]).unwrap_err();
    assert_eq!(refused, TensorError::Length { shape: vec![2, 3], needed: 6, got: 5 });
    assert!(refused.to_string().contains("reaches 6 elements and the memory holds 5"), "{refused}");
    assert!(TensorViewMut::from_slice(&mut [0f32; 5], &[6]).is_err());
    assert!(Tensor::from_slice(&data, &[6]).is_err());
    assert_eq!(
        TensorView::from_bytes(Elem::F32, &[0; 4], &[2]).unwrap_err(),
        TensorError::Length { shape: vec![2], needed: 2, got: 1 }
    );
}

#[test]
fn a_longer_slice_is_a_tensor_of_its_first_elements() {
    let data = [1i32, 2, 3, 4, 5];
    assert_eq!(TensorView::from_slice(&data, &[2, 2]).unwrap().to_f64().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(Tensor::from_slice(&data, &[2, 2]).unwrap().to_vec::<i32>().unwrap(), [1, 2, 3, 4]);
}

#[test]
fn strides_that_lead_past_the_memory_are_refused() {
    let data = [0f32; 12];
    let view = TensorView::from_slice(&data, &[12]).unwrap();
    assert!(view.with_strides(&[3, 4], &[4, 1]).is_ok());
    assert!(view.with_strides(&[3, 4], &[1, 3]).is_ok());
    // the last element is (3 - 1) * 5 + 3 = 13
    let refused = view.with_strides(&[3, 4], &[5, 1]).unwrap_err();
    assert_eq!(refused, TensorError::Length { shape: vec![3, 4], needed: 14, got: 12 });
}

#[test]
fn a_read_tensor_may_repeat_memory_and_a_written_one_may_not() {
    let mut data = [1f32, 2.0, 3.0, 4.0];
    let view = TensorView::from_slice(&data, &[4]).unwrap();
    assert_eq!(view.with_strides(&[2, 3], &[1, 1]).unwrap().to_f64().unwrap(), [1.0, 2.0, 3.0, 2.0, 3.0, 4.0]);
    for (shape, strides) in [([2, 3], [1, 1]), ([2, 3], [0, 1]), ([2, 2], [1, 1])] {
        let out = TensorViewMut::from_slice(&mut data, &[4]).unwrap();
        let refused = out.with_strides(&shape, &strides).unwrap_err();
        assert_eq!(refused, TensorError::Overlap { shape: shape.to_vec(), strides: strides.to_vec() });
    }
    // An axis of one entry overlaps nothing, and neither does a tensor without elements.
    let out = TensorViewMut::from_slice(&mut data, &[4]).unwrap();
    assert!(out.with_strides(&[4, 1], &[1, 0]).is_ok());
    let out = TensorViewMut::from_slice(&mut data, &[4]).unwrap();
    assert!(out.with_strides(&[0, 3], &[1, 1]).is_ok());
}

#[test]
fn ranks_and_strides_must_agree() {
    let data = [0f32; 4];
    let view = TensorView::from_slice(&data, &[4]).unwrap();
    let refused = view.with_strides(&[2, 2], &[1]).unwrap_err();
    assert_eq!(refused, TensorError::Rank { rank: 2, strides: 1 });
    assert_eq!(view.with_strides(&[1; 5], &[1; 5]).unwrap_err(), TensorError::Rank { rank: 5, strides: 5 });
    assert!(matches!(Tensor::zeros(Elem::F32, &[1; 5]), Err(TensorError::Rank { rank: 5, .. })));
    assert_eq!(view.with_strides(&[], &[]).unwrap().to_f64().unwrap(), [0.0]);
}

#[test]
fn sizes_that_overflow_are_refused_and_not_allocated() {
    for shape in
        [&[usize::MAX, 2][..], &[usize::MAX], &[LONGEST, LONGEST, LONGEST], &[LONGEST + 1], &[1, 0, LONGEST + 1]]
    {
        for elem in [Elem::F32, Elem::U8] {
            let refused = Tensor::zeros(elem, shape).unwrap_err();
            assert_eq!(refused, TensorError::TooLarge { shape: shape.to_vec() });
            assert!(refused.to_string().contains("2147483647"), "{refused}");
        }
    }
    let data = [0u8; 4];
    let view = TensorView::from_slice(&data, &[4]).unwrap();
    let far = view.with_strides(&[2, 2], &[usize::MAX, usize::MAX]);
    assert_eq!(far.unwrap_err(), TensorError::TooLarge { shape: vec![2, 2] });
    let far = view.with_strides(&[LONGEST, LONGEST], &[usize::MAX / 4, 1]);
    assert_eq!(far.unwrap_err(), TensorError::TooLarge { shape: vec![LONGEST, LONGEST] });
}

#[test]
fn a_tensor_without_elements_may_have_any_other_extents() {
    let shape = [LONGEST, LONGEST, LONGEST, 0];
    let data: [f32; 0] = [];
    let view = TensorView::from_slice(&data, &[0]).unwrap().with_strides(&shape, &[0; 4]).unwrap();
    assert_eq!(view.to_f64().unwrap(), []);
    let mut data: [f32; 0] = [];
    let out = TensorViewMut::from_slice(&mut data, &[0]).unwrap();
    assert!(out.with_strides(&shape, &[0; 4]).is_ok());
}

#[test]
fn bytes_must_be_aligned_to_their_elements() {
    let words = Tensor::from_slice(&[1f32, 2.0, 3.0], &[3]).unwrap();
    let bytes = words.as_bytes();
    assert_eq!(TensorView::from_bytes(Elem::F32, &bytes[4..], &[2]).unwrap().to_f64().unwrap(), [2.0, 3.0]);
    for (elem, from) in [(Elem::F32, 2), (Elem::I32, 1), (Elem::F16, 1), (Elem::Bf16, 3)] {
        let refused = TensorView::from_bytes(elem, &bytes[from..], &[1]).unwrap_err();
        assert_eq!(refused, TensorError::Alignment { elem });
        assert!(refused.to_string().contains(&format!("aligned to {} bytes", elem.bytes())), "{refused}");
        let mut copy = [0u64; 2].map(u64::to_ne_bytes).concat();
        let start = copy.as_ptr().align_offset(8) + from;
        if start < 8 {
            assert_eq!(
                TensorViewMut::from_bytes(elem, &mut copy[start..], &[1]).unwrap_err(),
                TensorError::Alignment { elem }
            );
        }
    }
    assert!(TensorView::from_bytes(Elem::U8, &bytes[1..], &[5]).is_ok());
}

#[test]
fn a_tensor_gives_its_elements_only_as_their_own_type() {
    let tensor = Tensor::from_slice(&[f16::from_f32(1.5), f16::INFINITY], &[2]).unwrap();
    assert_eq!(tensor.to_vec::<f16>().unwrap(), [f16::from_f32(1.5), f16::INFINITY]);
    let refused = tensor.to_vec::<bf16>().unwrap_err();
    assert_eq!(refused, TensorError::Element { wanted: Elem::Bf16, got: Elem::F16 });
    assert_eq!(refused.to_string(), "the tensor holds f16 and bf16 was asked for");
}

#[test]
fn any_byte_that_is_not_zero_is_true() {
    let mut tensor = Tensor::zeros(Elem::Bool, &[3]).unwrap();
    tensor.view_mut().copy_from_f64(&[0.0, 1.0, 200.0]).unwrap();
    assert_eq!(tensor.to_vec::<bool>().unwrap(), [false, true, true]);
    assert_eq!(tensor.as_bytes(), [0, 1, 1]);
}

#[test]
fn a_tensor_that_no_memory_holds_is_refused() {
    let large = [1 << 30, 1 << 30];
    assert_eq!(Tensor::zeros(Elem::F32, &large).err(), Some(TensorError::TooLarge { shape: large.to_vec() }));
    let one = [0f32];
    let repeated = TensorView::from_slice(&one, &[1]).unwrap().with_strides(&[1 << 16; 4], &[0; 4]);
    assert_eq!(repeated.err(), Some(TensorError::TooLarge { shape: vec![1 << 16; 4] }));
}

#[test]
fn a_window_starts_at_its_first_element() {
    let mut data = [0f32, 1.0, 2.0, 3.0, 4.0, 5.0];
    let view = TensorView::from_slice(&data, &[6]).unwrap();
    let window = view.window(1, &[2, 2], &[3, 1]).unwrap();
    assert_eq!(window.to_f64().unwrap(), [1.0, 2.0, 4.0, 5.0]);
    assert_eq!(window.window(1, &[2], &[3]).unwrap().to_f64().unwrap(), [2.0, 5.0]);
    assert_eq!(view.window(6, &[0], &[1]).unwrap().to_f64().unwrap(), []);
    for (first, needed) in [(2, 7), (6, 11), (7, 12), (usize::MAX, usize::MAX)] {
        let refused = view.window(first, &[2, 2], &[3, 1]).unwrap_err();
        assert_eq!(refused, TensorError::Length { shape: vec![2, 2], needed, got: 6 });
    }
    let out = TensorViewMut::from_slice(&mut data, &[6]).unwrap();
    out.window(4, &[2], &[1]).unwrap().copy_from_f64(&[7.0, 8.0]).unwrap();
    assert_eq!(data, [0.0, 1.0, 2.0, 3.0, 7.0, 8.0]);
}

#[test]
fn a_contiguous_copy_has_the_elements_in_row_major_order() {
    let data = [1u8, 2, 3, 4, 5, 6];
    let turned = TensorView::from_slice(&data, &[6]).unwrap().with_strides(&[3, 2], &[1, 3]).unwrap();
    let copy = turned.to_tensor().unwrap();
    assert_eq!((copy.shape(), copy.to_vec::<u8>().unwrap()), (&[3, 2][..], vec![1, 4, 2, 5, 3, 6]));
}
