use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use tilewright_lang::prelude::*;

static SEEN: AtomicU64 = AtomicU64::new(0);

#[kernel]
fn f(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let c = AtomicI32::new(0);
    let d: &AtomicU64 = &SEEN;
    if n > 3 {
        c.store(1, Ordering::Relaxed);
        d.store(1, Ordering::Relaxed);
    }
    o.set(0, c.load(Ordering::Relaxed));
}

fn main() {}
