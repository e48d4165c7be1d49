use tilewright_lang::prelude::*;

#[kernel]
fn f(x: &View<f32, 1>, o: ViewMut<f32, 1>) {
    o.store(0, x.load(0, [8]));
}

fn main() {}
