use tilewright_lang::prelude::*;

#[kernel]
fn f(x: View<i8, 2>, o: ViewMut<f32, 2>) {
    let t = x.load(0, [8, 8]);
    o.store(0, t.dot(t));
}

fn main() {}
