use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut sum = scalar(0);
    let mut add = |x: Scalar<i32>| sum += x;
    for i in 0..n {
        add(i);
    }
    o.set(0, sum);
}

fn main() {}
