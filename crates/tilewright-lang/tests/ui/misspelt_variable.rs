use tilewright_lang::prelude::*;

#[kernel]
fn f(x: View<f32, 1>, n: Scalar<i32>, o: ViewMut<f32, 1>) {
    let mut sum = x.load(0, [8]);
    for _ in 0..n {
        sum = sum + smu;
    }
    o.store(0, sum);
}

fn main() {}
