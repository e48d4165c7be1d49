use tilewright_lang::prelude::*;

#[tile]
fn f(n: Scalar<i32>, x: Option<Scalar<i32>>) -> Option<Scalar<i32>> {
    let mut y = n;
    if n > 3 {
        y = x?;
    }
    Some(y)
}

fn main() {}
