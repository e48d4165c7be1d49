use tilewright_lang::prelude::*;

#[tile]
async fn later(n: Scalar<i32>) -> Scalar<i32> {
    n
}

#[tile]
fn raw(n: Scalar<i32>) -> Scalar<i32> {
    unsafe { n }
}

fn main() {}
