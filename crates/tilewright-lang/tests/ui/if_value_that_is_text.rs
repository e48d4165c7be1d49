use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let name = if n > 3 { "big" } else { "small" };
    o.set(0, name.len());
}

fn main() {}
