use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    if n > 3 {
        return;
    }
    o.set(0, n);
}

fn main() {}
