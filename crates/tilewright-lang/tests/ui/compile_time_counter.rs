use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut count = 0usize;
    for _ in 0..n {
        count += 1;
    }
    o.set(0, count);
}

fn main() {}
