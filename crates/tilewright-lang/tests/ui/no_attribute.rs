use tilewright_lang::prelude::*;

fn f(n: Scalar<i32>) -> Scalar<i32> {
    let mut m = n;
    for i in 0..n {
        m += i;
    }
    if m > n {
        m = n;
    }
    m
}

fn main() {}
