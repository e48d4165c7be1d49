use tilewright_lang::prelude::*;

type Input = View<f32, 1>;

#[kernel]
fn f(x: Input, o: ViewMut<f32, 1>) {
    o.store(0, x.load(0, [8]));
}

fn main() {}
