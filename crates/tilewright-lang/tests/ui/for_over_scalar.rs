use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    for i in n {
        o.set(i, 1);
    }
}

fn main() {}
