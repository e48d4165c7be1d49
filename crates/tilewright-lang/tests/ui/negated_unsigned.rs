use tilewright_lang::prelude::*;

#[kernel]
fn f(x: View<u32, 1>, o: ViewMut<u32, 1>) {
    o.store(0, -x.load(0, [8]));
}

fn main() {}
