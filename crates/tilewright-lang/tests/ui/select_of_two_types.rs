use tilewright_lang::prelude::*;

#[kernel]
fn f(x: View<f32, 1>, n: Scalar<i32>, o: ViewMut<f32, 1>) {
    let t = x.load(0, [8]);
    let small = (t < 1.0).select(t, n);
    o.store(0, small);
}

fn main() {}
