use tilewright_lang::prelude::*;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut x = scalar(0);
    let both = n > 2 && {
        x += 1;
        n > 3
    };
    if both {
        o.set(0, x);
    }
}

fn main() {}
