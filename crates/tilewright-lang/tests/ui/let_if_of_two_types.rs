use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let size = if n > 3 { n } else { 0.5 };
    o.set(0, size);
}

fn main() {}
