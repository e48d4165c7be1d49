use tilewright_lang::prelude::*;

#[kernel]
fn f(x: View<f32, 1>, n: Scalar<i32>, o: ViewMut<f32, 1>) {
    let mut t = x.load(0, [8]);
    t -= true;
    o.store(0, t);
}

fn main() {}
