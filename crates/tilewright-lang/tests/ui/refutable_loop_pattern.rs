use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    for Some(x) in [Some(n), None] {
        o.set(0, x);
    }
}

fn main() {}
