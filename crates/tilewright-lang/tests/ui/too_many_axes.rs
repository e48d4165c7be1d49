use tilewright_lang::prelude::*;

#[kernel]
fn f(x: View<f32, 2>, o: ViewMut<f32, 1>) {
    o.store(0, x.at(0).at(0).at(0).load(0, [8]));
    o.store(0, x.load(0, [8]));
    o.store([0, 0], x.at(0).load(0, [8]));
}

fn main() {}
