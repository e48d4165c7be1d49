use tilewright_lang::prelude::*;

#[kernel]
fn f(o: ViewMut<i32, 1>, n: usize) {
    for _ in -1..n {
        o.set(0, 1);
    }
}

fn main() {}
