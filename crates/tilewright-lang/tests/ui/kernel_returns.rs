use tilewright_lang::prelude::*;

#[kernel]
fn f(x: View<f32, 1>) -> Tile<f32> {
    x.load(0, [8])
}

fn main() {}
