use tilewright_lang::prelude::*;

#[kernel]
fn option(o: ViewMut<f32, 1>) {
    o.set(0, 1.0);
}

fn main() {}
