use tilewright_lang::prelude::*;

#[kernel]
fn f(x: Scalar<f32>, n: Scalar<i32>, rows: usize, o: ViewMut<i32, 1>) {
    if x < n {
        o.set(0, 1);
    }
    if x > rows {
        o.set(0, 1);
    }
}

fn main() {}
