use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    o.set(0, n.exp2());
}

fn main() {}
