use tilewright_lang::prelude::*;

#[tile]
fn f(n: Scalar<i32>, flag: bool) -> bool {
    let both = flag && {
        return true;
    };
    both
}

fn main() {}
