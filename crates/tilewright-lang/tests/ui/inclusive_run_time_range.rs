use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    for i in 0..=n {
        o.set(i, i);
    }
}

fn main() {}
