use tilewright_lang::prelude::*;

struct Borrowed<'a> {
    x: &'a mut Scalar<i32>,
}

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut x = scalar(1);
    let b = Borrowed { x: &mut x };
    if n > 3 {
        *b.x = n;
    }
    let pair = (&mut x, 1);
    let some = Some(&mut x);
    let list = [&mut x];
    o.set(0, x);
}

fn main() {}
