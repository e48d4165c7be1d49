use tilewright_lang::prelude::*;

#[kernel]
fn f(x: Scalar<f32>, rows: usize, i: i32, o: ViewMut<i32, 1>) {
    for _ in 0..x {
        o.set(0, 1);
    }
    for _ in i..rows {
        o.set(0, 1);
    }
}

fn main() {}
