//! Control flow means what Rust means: each kernel is interpreted and compared with the same text on plain numbers.

#![allow(clippy::assign_op_pattern, clippy::unnecessary_cast, reason = "these forms are rewritten too")]

mod run;

use run::out;
use tilewright_lang::prelude::*;

#[kernel]
fn fibonacci(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let (mut a, mut b) = (scalar(0), scalar(1));
    for _ in 0..n {
        (a, b) = (b, a + b); // destructuring assignment: a swap must not lose a value
    }
    o.set(0, a);
}

#[test]
fn a_tuple_pattern_swaps() {
    for (n, expected) in [(-3, 0), (0, 0), (1, 1), (2, 1), (10, 55)] {
        assert_eq!(out(&Fibonacci {}.trace().unwrap(), n, 1), [expected], "n={n}");
    }
}

#[kernel]
fn nested(n: Scalar<i32>, o: ViewMut<i32, 1>, unroll: usize, flag: bool) {
    let mut total = scalar(0);
    let mut seen = [scalar(0), scalar(0)]; // an array of state
    let mut last = None; // decided while specialising
    if flag {
        last = Some(scalar(7)); // by a Rust bool
    }
    for i in 0..n {
        let mut row = i; // local to the body
        for j in 0..unroll {
            if j == 2 {
                continue; // unrolled, so jumps are Rust's
            }
            for k in j..n {
                if k > i && k != 3 {
                    row += k;
                } else if k == i {
                    total = total - 1
                } else {
                    seen[0] += 1;
                }
            }
        }
        let total_before = total;
        let total = total + 0; // shadows; the outer one must not change here
        seen[1] = seen[1].max(total - total_before + row);
        if let Some(last) = &mut last {
            *last += 1;
        }
        let _ = total;
    }
    total += if n > 4 { scalar(100) } else { scalar(0) };
    o.set(0, total);
    o.set(1, seen[0]);
    o.set(2, seen[1]);
    if let Some(last) = last {
        o.set(3, last);
    }
}

fn nested_rust(n: i64, unroll: i64, flag: bool) -> Vec<i64> {
    let (mut total, mut seen, mut last) = (0i64, [0i64; 2], None);
    if flag {
        last = Some(7);
    }
    for i in 0..n {
        let mut row = i;
        for j in 0..unroll {
            if j == 2 {
                continue;
            }
            for k in j..n {
                if k > i && k != 3 {
                    row += k;
                } else if k == i {
                    total -= 1
                } else {
                    seen[0] += 1;
                }
            }
        }
        seen[1] = seen[1].max(row);
        if let Some(last) = &mut last {
            *last += 1;
        }
    }
    total += if n > 4 { 100 } else { 0 };
    vec![total, seen[0], seen[1], last.unwrap_or(0)]
}

#[test]
fn nested_loops_and_ifs_of_both_kinds() {
    for flag in [false, true] {
        for unroll in 0..5 {
            let kernel = Nested { unroll, flag }.trace().unwrap();
            for n in 0..8 {
                let expected = nested_rust(n.into(), unroll as i64, flag);
                assert_eq!(out(&kernel, n, 4), expected, "n={n} unroll={unroll} flag={flag}");
            }
        }
    }
}

#[derive(Clone, Carried)]
struct Counter<S> {
    steps: Scalar<i32>,
    inner: S,
    parts: Vec<Scalar<i32>>,
    width: usize,
}

#[tile]
trait Advance {
    fn advance(&mut self, by: Scalar<i32>);

    fn advance_twice(&mut self, by: Scalar<i32>) {
        for _ in 0..2 {
            self.advance(by);
        }
    }
}

#[tile]
impl<S: Advance + Carried> Advance for Counter<S> {
    fn advance(&mut self, by: Scalar<i32>) {
        for i in 0..by {
            self.steps += 1; // `&mut self` crosses a loop and an `if`
            if i > 1 {
                self.inner.advance(i);
            }
        }
        for p in &mut self.parts {
            *p += self.width; // a compile-time loop over state
        }
    }
}

#[derive(Clone, Copy, Carried)]
struct Sum(Scalar<i32>);

impl Advance for Sum {
    fn advance(&mut self, by: Scalar<i32>) {
        self.0 += by // straight-line code needs no attribute
    }
}

#[kernel]
fn methods(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut c = Counter { steps: scalar(0), inner: Sum(scalar(0)), parts: vec![scalar(1); 2], width: 3 };
    for i in 0..n {
        c.advance(i);
    }
    c.inner.advance_twice(n);
    o.set(0, c.steps);
    o.set(1, c.inner.0);
    o.set(2, c.parts[1]);
}

#[test]
fn state_in_structs_is_changed_by_trait_methods() {
    assert_eq!(out(&Methods {}.trace().unwrap(), 5, 3), [10, 2 + 2 + 3 + 2 * 5, 16]);
}

/// The writes here would be lost if only `mut` names were carried: each goes through a binding that is a reference by
/// type alone.
#[kernel]
fn references(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut xs = vec![Sum(scalar(1)), Sum(scalar(2))];
    let mut pair = (scalar(1), Some(scalar(2)));
    let y = n + 10;
    for x in &mut xs {
        if n > 3 {
            x.0 = y;
        }
    }
    for x in xs.iter_mut() {
        if n > 3 {
            x.advance(y);
        }
    }
    let (a, b) = &mut pair;
    if n > 3 {
        *a = y;
    } else {
        *a = n;
    }
    if let Some(b) = b {
        for _ in 0..n {
            *b = y;
        }
    }
    let set = |r: &mut Scalar<i32>| {
        if n > 5 {
            *r = y;
        }
    };
    o.set(0, xs[1].0);
    set(&mut xs[1].0);
    o.set(1, xs[1].0);
    o.set(2, pair.0);
    if let Some(b) = pair.1 {
        o.set(3, b);
    }
}

#[test]
fn writes_through_references_are_carried() {
    let kernel = References {}.trace().unwrap();
    assert_eq!(out(&kernel, 0, 4), [2, 2, 0, 2]);
    assert_eq!(out(&kernel, 5, 4), [30, 30, 15, 15]);
    assert_eq!(out(&kernel, 7, 4), [34, 17, 17, 17]);
}

#[kernel]
fn reference_pattern(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut x = [scalar(0)];
    for r in &mut x {
        for _ in 0..n {
            *r += 1;
        }
    }
    o.set(0, x[0]);
}

#[test]
fn a_loop_pattern_that_is_a_reference_is_carried() {
    assert_eq!(out(&ReferencePattern {}.trace().unwrap(), 5, 1), [5]);
}

#[kernel]
fn conditional(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let size: Scalar<i32> = if n < 3 {
        scalar(1)
    } else if 3 <= n && n < 10 {
        scalar(2)
    } else {
        scalar(3)
    };
    let both = if n == 4 || n == 5 { (size, n) } else { (n, size) };
    if !(n > 4) {
        o.set(2, 1);
    }
    o.set(0, size);
    o.set(1, both.0 * 100 + both.1);
}

#[test]
fn an_if_gives_a_value() {
    let kernel = Conditional {}.trace().unwrap();
    for n in [-1, 2, 3, 4, 5, 9, 10, 11] {
        let size = if n < 3 {
            1
        } else if (3..10).contains(&n) {
            2
        } else {
            3
        };
        let both = if n == 4 || n == 5 { size * 100 + n } else { n * 100 + size };
        assert_eq!(out(&kernel, n as i32, 3), [size, both, i64::from(n <= 4)], "n={n}");
    }
}

#[kernel]
fn old_value(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut max = scalar(3);
    let mut sum = scalar(0);
    for i in 0..n {
        let old = max; // a copy of the value, not of the variable
        max = max.max(i * 2);
        sum += max - old;
    }
    o.set(0, max);
    o.set(1, sum);
}

#[test]
fn a_copy_keeps_its_value_when_the_variable_changes() {
    assert_eq!(out(&OldValue {}.trace().unwrap(), 5, 2), [8, 5]);
}

#[kernel]
fn steps(n: Scalar<i32>, o: ViewMut<i32, 1>, step: usize) {
    let (mut count, mut last) = (scalar(0), scalar(-1));
    for i in (2..n).step_by(step) {
        count += 1;
        last = i;
    }
    for i in RunRange::new(0, n).intersect(RunRange::new(3, 100)) {
        last -= i;
    }
    o.set(0, count);
    o.set(1, last);
}

#[test]
fn ranges_step_and_intersect() {
    for step in [1, 2, 5] {
        let kernel = Steps { step }.trace().unwrap();
        for n in 0..12 {
            let taken: Vec<i64> = (2..n).step_by(step).collect();
            let last = taken.last().copied().unwrap_or(-1) - (3..n).sum::<i64>();
            assert_eq!(out(&kernel, n as i32, 2), [taken.len() as i64, last], "n={n} step={step}");
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Mode {
    A,
    B,
}

impl SpecValue for Mode {
    fn key(&self, into: &mut String) {
        into.push_str(if *self == Mode::A { "a" } else { "b" });
    }
}

/// Plain Rust inside a kernel stays plain Rust.
#[kernel]
fn plain(n: Scalar<i32>, o: ViewMut<i32, 1>, rows: usize, mode: Mode) {
    if mode == Mode::A && rows > 3 {
        return;
    }
    let list = vec![1usize, 2, 3];
    let mut total = 0;
    'outer: for (i, x) in list.iter().enumerate() {
        for y in list.iter().rev() {
            if x == y && i >= 1 {
                break 'outer;
            }
            if *y < 2 {
                continue 'outer;
            }
            total += x * y;
        }
    }
    let text = if total > 3 {
        "big".to_string()
    } else if let Some(x) = list.first() {
        format!("{x}")
    } else {
        String::new()
    };
    let label = match mode {
        Mode::A => "a",
        Mode::B if rows == 2 => "b",
        Mode::B => "c",
    };
    assert!(!text.is_empty() && !label.is_empty(), "{text}");
    let half = |x: usize| -> usize {
        if x > 1 {
            x / 2
        } else {
            return 1;
        }
    };
    let mut i = 0;
    while i < half(rows) {
        i += 1;
    }
    let mut x = scalar(i);
    loop {
        if i > 5 {
            break;
        }
        i += 1;
        x += i;
    }
    let weight = match rows {
        0 | 1 => 10,
        2..=4 => 20,
        _ => 30,
    };
    for j in 0..=rows {
        if j != 1 {
            x = x + j
        }
    }
    for j in [n, n + 1] {
        x += j;
    }
    let four = 4;
    if four > 3 {
        x += weight as usize + (total as f32 * 0.5) as usize;
    }
    o.store(0, Tile::<i32>::full(x, &[1]));
}

#[test]
fn rust_values_take_rust_control_flow() {
    let stores = |mode| {
        let kernel = Plain { rows: 4, mode }.trace().unwrap();
        out(&kernel, 7, 1)[0]
    };
    assert_eq!(stores(Mode::A), 0, "returned before the store");
    let (mut i, mut x, total) = (2, 2, 3 + 2 + 2 * 3);
    while i <= 5 {
        i += 1;
        x += i;
    }
    x += (2..=4).sum::<i64>() + 7 + 8 + 20 + total / 2;
    assert_eq!(stores(Mode::B), x);
}

#[kernel]
fn stores_in_branches(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    for i in 0..n {
        if i % 2 == 0 {
            o.set(i, i * 10);
        } else {
            for k in 0..i {
                o.set(i, k);
            }
        }
    }
}

#[test]
fn stores_happen_where_they_are_reached() {
    assert_eq!(out(&StoresInBranches {}.trace().unwrap(), 5, 6), [0, 0, 20, 2, 40, 0]);
}

#[kernel]
fn early(n: Scalar<i32>, o: ViewMut<i32, 1>, rows: Option<usize>) {
    #[allow(dead_code, reason = "an allowed item")]
    const TEN: usize = 10;
    let rows = match rows {
        Some(rows) => rows,
        None => return,
    };
    let Some(less) = rows.checked_sub(1) else { return };
    let mut sums = [scalar(0); 2 as usize];
    #[cfg(any())]
    for _ in 0..n {
        sums[0] += 1000;
    }
    sums[1] += n + less + TEN;
    o.set(0, sums[0] + sums[1]);
}

#[test]
fn an_early_return_that_rust_decides() {
    assert_eq!(out(&Early { rows: None }.trace().unwrap(), 1, 1), [0]);
    assert_eq!(out(&Early { rows: Some(0) }.trace().unwrap(), 1, 1), [0]);
    assert_eq!(out(&Early { rows: Some(2) }.trace().unwrap(), 1, 1), [12]);
}

struct Borrowed<'a> {
    x: &'a mut Scalar<i32>,
}

/// Not a tile function, so nothing sees the `&mut` that it keeps.
fn borrow(x: &mut Scalar<i32>) -> Borrowed<'_> {
    Borrowed { x }
}

#[kernel]
fn kept_reference(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut x = scalar(1);
    let ten = n + 10;
    let b = borrow(&mut x);
    if n > 3 {
        *b.x = ten;
    }
    o.set(0, x);
}

#[test]
fn a_write_through_a_reference_in_a_struct_is_carried() {
    let kernel = KeptReference {}.trace().unwrap();
    assert_eq!(out(&kernel, 3, 1), [1]);
    assert_eq!(out(&kernel, 4, 1), [14]);
}
