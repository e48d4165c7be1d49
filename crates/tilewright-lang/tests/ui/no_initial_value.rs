use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let x;
    if n > 3 {
        x = n;
    } else {
        x = n + 1;
    }
    o.set(0, x);
}

fn main() {}
