use tilewright_lang::prelude::*;
use std::cell::Cell;

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let c = Cell::new(1usize);
    if n > 3 {
        c.set(2);
    }
    o.set(0, c.get());
}

fn main() {}
