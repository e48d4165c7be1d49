use tilewright_lang::prelude::*;

#[kernel]
fn f(x: View<i32, 1>, o: ViewMut<u8, 1>) {
    o.store(0, x.load(0, [8]).unpack(4));
}

fn main() {}
