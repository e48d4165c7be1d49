use tilewright_lang::prelude::*;

#[kernel]
fn f(x: View<f64, 1>, o: ViewMut<f32, 1>) {
    o.set(0, 1.0);
}

fn main() {}
