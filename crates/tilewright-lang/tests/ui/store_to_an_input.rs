use tilewright_lang::prelude::*;

#[kernel]
fn f(x: View<f32, 1>, n: Scalar<i32>, o: ViewMut<f32, 1>) {
    x.store(0, o.load(0, [8]));
}

fn main() {}
