use tilewright_lang::prelude::*;

#[kernel]
fn f<const ROWS: usize>(o: ViewMut<f32, 1>) {
    o.set(ROWS, 1.0);
}

fn main() {}
