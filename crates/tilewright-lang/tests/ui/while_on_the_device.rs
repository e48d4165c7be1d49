use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut i = scalar(0);
    while i < n {
        i += 1;
    }
    o.set(0, i);
}

fn main() {}
