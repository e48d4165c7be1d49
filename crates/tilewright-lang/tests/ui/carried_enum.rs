use tilewright_lang::prelude::*;

#[derive(Clone, Copy, Carried)]
enum Mode {
    On(Scalar<i32>),
    Off,
}

fn main() {}
