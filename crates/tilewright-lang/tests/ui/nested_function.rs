use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    fn inner(n: Scalar<i32>) -> Scalar<i32> {
        n + 1
    }
    o.set(0, inner(n));
}

fn main() {}
