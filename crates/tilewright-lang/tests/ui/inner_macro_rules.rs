use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    macro_rules! double {
        ($x:expr) => {
            $x * 2
        };
    }
    o.set(0, n);
}

fn main() {}
