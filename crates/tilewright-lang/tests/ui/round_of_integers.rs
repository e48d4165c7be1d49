use tilewright_lang::prelude::*;

#[kernel]
fn f(x: View<i32, 1>, o: ViewMut<i32, 1>) {
    o.store(0, x.load(0, [8]).round());
}

fn main() {}
