use tilewright_lang::prelude::*;

struct State {
    sum: Scalar<i32>,
}

impl State {
    fn add(&mut self, x: Scalar<i32>) {
        self.sum += x;
    }
}

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut s = State { sum: scalar(0) };
    for i in 0..n {
        s.sum += i;
        s.add(i);
    }
    o.set(0, s.sum);
}

fn main() {}
