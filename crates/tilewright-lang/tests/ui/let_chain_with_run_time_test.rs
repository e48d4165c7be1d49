use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let x = Some(n);
    if let Some(x) = x
        && x > 3
    {
        o.set(0, x);
    }
}

fn main() {}
