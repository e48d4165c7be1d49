use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    for i in 0..n {
        if i > 3 {
            continue;
        }
        o.set(i, i);
    }
}

fn main() {}
