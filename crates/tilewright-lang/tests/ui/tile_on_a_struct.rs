use tilewright_lang::prelude::*;

#[tile]
struct State {
    sum: Scalar<i32>,
}

fn main() {}
