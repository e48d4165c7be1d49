use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let x = match 3usize {
        3 if n > 2 => n,
        _ => scalar(0),
    };
    o.set(0, x);
}

fn main() {}
