use tilewright_lang::prelude::*;

#[kernel]
fn f(first: Scalar<i32>, o: ViewMut<i32, 1>, n: u8, signed: i8) {
    for i in n..300 {
        o.set(usize::from(i), 1);
    }
    for _ in 200..signed {
        o.set(0, 1);
    }
    for _ in n..=256 {
        o.set(0, 1);
    }
    for _ in first..3_000_000_000 {
        o.set(0, 1);
    }
}

fn main() {}
