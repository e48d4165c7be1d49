use tilewright_lang::prelude::*;

#[kernel(entry(E in [f32, f16]))]
fn f<E: Float, C: Float>(x: View<C, 1>, o: ViewMut<E, 1>) {
    o.store(0, x.load(0, [8]).cast());
}

fn main() {}
