//! Running a traced kernel in the reference interpreter, with arguments by name.

#![allow(dead_code, reason = "each test file uses a part of it")]

use tilewright_lang::HostValue;
use tilewright_lang::ir::interp::{self, Arg, Tensor};
use tilewright_lang::ir::{Diagnostics, Elem, Kernel};

pub type Value<'a> = HostValue<&'a Tensor, &'a mut Tensor>;

pub fn run(kernel: &Kernel, grid: [u32; 3], values: Vec<(&str, Value<'_>)>) {
    let find = |name: &str| values.iter().find(|(n, _)| *n == name).map(|(_, v)| v);
    let mut args: Vec<Arg> = kernel
        .params
        .iter()
        .map(|p| match find(&p.name) {
            Some(HostValue::In(tensor)) => Arg::Tensor((*tensor).clone()),
            Some(HostValue::Out(tensor)) => Arg::Tensor((**tensor).clone()),
            Some(HostValue::Scalar(x)) => Arg::Scalar(*x),
            None => panic!("no value for `{}`", p.name),
        })
        .collect();
    assert_eq!(args.len(), values.len(), "every value has its parameter");
    interp::run(kernel, grid, &mut args).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
    for (name, value) in values {
        if let HostValue::Out(tensor) = value {
            let position = kernel.params.iter().position(|p| p.name == name).unwrap();
            *tensor = args[position].tensor().unwrap().clone();
        }
    }
}

/// Runs a kernel of a scalar `n` and an output `o` of `size` elements, which it starts as zeros.
pub fn out(kernel: &Kernel, n: i32, size: usize) -> Vec<i64> {
    let mut o = Tensor::zeros(Elem::I32, &[size]).unwrap();
    run(kernel, [1, 1, 1], vec![("n", HostValue::Scalar(f64::from(n))), ("o", HostValue::Out(&mut o))]);
    o.to_vec().into_iter().map(|x| x as i64).collect()
}

/// What a failed trace says, without the column and the file's folder.
pub fn refusal(result: Result<Kernel, Diagnostics>) -> String {
    result.expect_err("this kernel should not trace").to_string()
}
