use super::*;
use crate::op::{Control, Elementwise, Literal, Matmul, Reduce};
use crate::text::parse;
use crate::types::Shape;

fn kernel() -> Kernel {
    parse("kernel k(x: view<f32, 1>, n: i32, out y: view<f32, 1>) { %t = load %x, %n shape=[2] store %y, %t, %n }")
        .unwrap()
}

fn tensor(elem: Elem, shape: &[usize]) -> Tensor {
    Tensor::zeros(elem, shape).unwrap()
}

fn good() -> Vec<Arg> {
    vec![tensor(Elem::F32, &[3]).into(), Arg::Scalar(0.0), tensor(Elem::F32, &[3]).into()]
}

fn refuse(change: impl FnOnce(&mut Vec<Arg>), message: &str) {
    let mut args = good();
    assert_eq!(run(&kernel(), [1; 3], &mut args), Ok(()));
    change(&mut args);
    let error = run(&kernel(), [1; 3], &mut args).expect_err(message).to_string();
    assert!(error.contains(message), "{error}\n(wanted: {message})");
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    refuse(|a| a.truncate(2), "kernel `k` takes 3 arguments and got 2");
    refuse(|a| a.push(Arg::Scalar(0.0)), "kernel `k` takes 3 arguments and got 4");
    refuse(|a| a.swap(0, 1), "parameter `x` is view<f32, 1> and got a scalar");
    refuse(|a| a.swap(1, 2), "parameter `n` is i32 and got a tensor");
    refuse(
        |a| a[0] = tensor(Elem::F16, &[3]).into(),
        "parameter `x` is view<f32, 1> and got a tensor of f16 of rank 1",
    );
    refuse(
        |a| a[2] = tensor(Elem::F32, &[3, 1]).into(),
        "parameter `y` is view<f32, 1> and got a tensor of f32 of rank 2",
    );
    refuse(|a| a[1] = Arg::Scalar(0.5), "argument `n` holds 0.5 as i32");
    refuse(|a| a[1] = Arg::Scalar(2147483648.0), "argument `n` holds 2147483648 as i32");
    refuse(|a| a[1] = Arg::Scalar(f64::NAN), "argument `n` holds NaN as i32");
}

#[test]
fn tensors_whose_layout_or_values_do_not_fit_are_refused() {
    let broken = |change: fn(&mut Tensor), message: &str| {
        refuse(
            |args| {
                let mut x = tensor(Elem::F32, &[3]);
                change(&mut x);
                args[0] = x.into();
            },
            message,
        );
    };
    broken(|x| x.strides[0] = 2, "argument `x` of shape [3] and strides [2] does not fit its 3 elements of data");
    broken(|x| x.strides[0] = -1, "does not fit its 3 elements of data");
    broken(|x| x.strides[0] = isize::MIN, "does not fit its 3 elements of data");
    broken(|x| x.strides.clear(), "does not fit its 3 elements of data");
    broken(|x| x.strides.push(1), "does not fit its 3 elements of data");
    broken(|x| x.offset = 1, "does not fit its 3 elements of data");
    broken(|x| x.offset = usize::MAX, "does not fit its 3 elements of data");
    broken(|x| x.shape[0] = usize::MAX, "`x` is 18446744073709551615 long along axis 0");
    broken(|x| x.data[1] = 0.1, "argument `x` holds 0.1 as f32");
    refuse(
        |args| args[0] = Tensor { shape: vec![0], strides: vec![], ..tensor(Elem::F32, &[0]) }.into(),
        "does not fit its 0 elements of data",
    );
}

#[test]
fn a_grid_that_i32_cannot_count_is_refused() {
    let error = run(&kernel(), [1, u32::MAX, 1], &mut good()).unwrap_err();
    assert_eq!(error, InterpError::TooLong { what: "grid".to_string(), axis: 1, len: u32::MAX as usize });
}

#[test]
fn a_kernel_that_does_not_verify_is_refused() {
    let mut broken = kernel();
    broken.regions[0].insts.reverse();
    assert!(matches!(run(&broken, [1; 3], &mut good()), Err(InterpError::Invalid(_))));
}

#[test]
fn wild_strides_of_an_empty_tensor_are_never_followed() {
    let text = "kernel k(x: view<f32, 2>, out y: view<f32, 2>) { %n = constant value=3 elem=i32 \
                %t = load %x, %n, %n shape=[2, 2] store %y, %t, %n, %n %a = view_at %x, %n axis=0 }";
    let wild = Tensor {
        elem: Elem::F32,
        shape: vec![9, 0],
        strides: vec![isize::MAX, isize::MIN],
        offset: usize::MAX,
        data: vec![],
    };
    assert_eq!(run(&parse(text).unwrap(), [1; 3], &mut [wild.clone().into(), wild.into()]), Ok(()));
}

#[test]
fn a_tensor_is_read_in_its_own_order() {
    let mut tensor = Tensor::new(Elem::F32, &[2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    assert_eq!(tensor.to_vec(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    tensor.shape.swap(0, 1);
    tensor.strides.swap(0, 1);
    assert_eq!(tensor.to_vec(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(tensor.get(&[2, 1]), Some(6.0));
    assert_eq!(tensor.get(&[3, 0]), None);
    assert_eq!(tensor.get(&[0]), None);
    assert_eq!(Tensor::new(Elem::F32, &[], [7.0]).unwrap().to_vec(), [7.0]);
    assert!(Tensor::new(Elem::F32, &[0, 5], []).unwrap().to_vec().is_empty());
    assert_eq!(Tensor::new(Elem::F16, &[1], [0.1]).unwrap().data, [0.0999755859375]);
}

#[test]
fn tensors_that_cannot_be_are_refused() {
    assert_eq!(
        Tensor::new(Elem::F32, &[2, 2], [1.0]).unwrap_err().to_string(),
        "a tensor of shape [2, 2] holds 4 elements and got 1"
    );
    assert!(matches!(Tensor::zeros(Elem::F32, &[usize::MAX, 2]), Err(InterpError::Memory { .. })));
}

#[test]
fn pure_ops_can_be_computed_alone() {
    let row = Tile::new(Elem::F32, Shape::new(&[1, 2]).unwrap(), vec![3.0, 4.0]).unwrap();
    let column = Tile::new(Elem::F32, Shape::new(&[2, 1]).unwrap(), vec![3.0, 4.0]).unwrap();
    let eval = |op: Op, operands: &[&Tile]| op.eval(operands).map(|t| t.data().to_vec());
    assert_eq!(eval(Matmul::Dot.into(), &[&row, &column]), Ok(vec![25.0]));
    assert_eq!(eval(Reduce::Max { axis: 1 }.into(), &[&row]), Ok(vec![4.0]));
    assert_eq!(eval(Elementwise::Add.into(), &[&row, &column]), Ok(vec![6.0, 7.0, 7.0, 8.0]));
    let constant = Elementwise::Constant { value: Literal(300.0), elem: Elem::U8 };
    assert_eq!(eval(constant.into(), &[]), Ok(vec![255.0]));
    assert!(eval(Elementwise::Add.into(), &[&row]).is_err());
    assert!(eval(Elementwise::And.into(), &[&row, &row]).is_err());
    assert!(eval(Control::ProgramId { axis: 0 }.into(), &[]).is_err());
}
