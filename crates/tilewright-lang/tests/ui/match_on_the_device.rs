use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let x = match n {
        0 => scalar(1),
        _ => n,
    };
    o.set(0, x);
}

fn main() {}
