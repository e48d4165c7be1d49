use tilewright_lang::prelude::*;

#[kernel]
fn f(x: View<f32, 1>, n: Scalar<i32>, o: ViewMut<f32, 1>) {
    let mut t = x.load(0, [8]);
    for _ in 0..n {
        t = t.cast::<i32>() + 1;
    }
    o.store(0, t);
}

fn main() {}
