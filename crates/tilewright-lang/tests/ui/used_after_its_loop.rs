use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    for i in 0..n {
        let last = i * 2;
    }
    o.set(0, last);
}

fn main() {}
