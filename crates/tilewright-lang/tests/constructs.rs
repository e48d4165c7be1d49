//! One small kernel for each construct that people reach for first. Each has a counterpart in `ui/` that must not compile:
//! `compile_fail.rs` holds the list.

#![allow(unused_mut, clippy::assign_op_pattern, reason = "the forms are written as people write them")]

mod run;

use grid::Cell as GridCell;
use run::out;
use tilewright_lang::ir::{Diagnostics, Kernel};
use tilewright_lang::prelude::*;

/// The value of `o` for each of these `n`.
fn check(kernel: Result<Kernel, Diagnostics>, expected: [(i32, i64); 3]) {
    let kernel = kernel.unwrap_or_else(|e| panic!("{e}"));
    for (n, expected) in expected {
        assert_eq!(out(&kernel, n, 1), [expected], "n={n}");
    }
}

#[kernel]
fn subtracts(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut t = scalar(100);
    for i in 0..n {
        t -= i;
    }
    o.set(0, t);
}

#[test]
fn subtract_assign_subtracts() {
    check(Subtracts {}.trace(), [(0, 100), (1, 100), (4, 94)]);
}

#[kernel]
fn negates(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mask = iota(&[4], 0) >= n;
    o.store(0, (!mask).cast::<i32>().sum_along(0));
}

#[test]
fn not_of_a_mask_is_its_complement() {
    check(Negates {}.trace(), [(0, 0), (1, 1), (4, 4)]);
}

#[kernel]
fn breaks(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut sum = scalar(0);
    for i in 0..10 {
        if i == 3 {
            break;
        }
        sum += n * i;
    }
    o.set(0, sum);
}

#[test]
fn break_leaves_a_compile_time_loop() {
    check(Breaks {}.trace(), [(0, 0), (1, 3), (4, 12)]);
}

#[kernel]
fn counts(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut passes = scalar(0);
    for _ in 0..n {
        passes += 1;
    }
    for _ in 0..2 {
        passes += 1;
    }
    o.set(0, passes);
}

#[test]
fn for_underscore_runs_each_pass() {
    check(Counts {}.trace(), [(0, 2), (1, 3), (4, 6)]);
}

#[kernel]
fn annotates(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let t: Tile<i32> = Tile::full(n, &[1]);
    let two: usize = 2;
    let half: Scalar<f32> = n.cast::<f32>() * 0.5;
    o.store(0, t * two + half.cast::<i32>());
}

#[test]
fn a_let_may_have_a_type() {
    check(Annotates {}.trace(), [(0, 0), (2, 5), (4, 10)]);
}

#[kernel]
fn chooses(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let y = if n > 3 { n * 2 } else { scalar(-1) };
    o.set(0, y);
}

#[test]
fn a_let_may_take_the_value_of_an_if() {
    check(Chooses {}.trace(), [(0, -1), (3, -1), (4, 8)]);
}

#[kernel]
fn redefines(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut x = scalar(1);
    let kept = x;
    for i in 0..n {
        x = x + i;
        let x = x * 100; // hides the outer one until the end of the pass
        let _ = x;
    }
    o.set(0, x * 10 + kept);
}

#[test]
fn a_variable_redefined_in_a_loop_is_used_after_it() {
    check(Redefines {}.trace(), [(0, 11), (1, 11), (4, 71)]);
}

#[kernel]
fn converts(n: Scalar<i32>, o: ViewMut<i32, 1>, rows: u8) {
    let offset = rows as i32 - 1;
    o.set(0, (n.cast::<f32>() * 1.5).cast::<i32>() + offset);
}

#[test]
fn as_converts_rust_numbers_and_cast_device_values() {
    check(Converts { rows: 8 }.trace(), [(0, 7), (1, 8), (4, 13)]);
}

#[kernel]
fn calls_macros(n: Scalar<i32>, o: ViewMut<i32, 1>, rows: usize) {
    assert!(rows > 0, "rows is {rows}");
    let parts = vec![n; rows];
    o.set(0, parts[0] + parts.len());
}

#[test]
fn macros_of_the_host_run_while_specialising() {
    check(CallsMacros { rows: 3 }.trace(), [(0, 3), (1, 4), (4, 7)]);
}

#[kernel]
fn repeats(n: Scalar<i32>, o: ViewMut<i32, 1>, rows: usize) {
    let (mut left, mut sum) = (rows, n);
    while left > 1 {
        left /= 2;
        sum *= 2;
    }
    o.set(0, sum);
}

#[test]
fn while_runs_on_rust_values() {
    check(Repeats { rows: 8 }.trace(), [(0, 0), (1, 8), (4, 32)]);
}

#[kernel]
fn maps(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let add = |x: Scalar<i32>| x + n;
    o.set(0, [scalar(1), scalar(2)].map(add).into_iter().reduce(|a, b| a * b).unwrap_or(n));
}

#[test]
fn closures_that_keep_no_state_are_inlined() {
    check(Maps {}.trace(), [(0, 2), (1, 6), (4, 30)]);
}

#[tile]
fn half_of(n: Scalar<i32>, rows: usize) -> Scalar<i32> {
    if rows == 0 {
        return scalar(-1);
    }
    n / 2
}

#[kernel]
fn returns(n: Scalar<i32>, o: ViewMut<i32, 1>, rows: usize) {
    o.set(0, half_of(n, rows));
}

#[test]
fn an_early_return_may_depend_on_rust_values() {
    check(Returns { rows: 1 }.trace(), [(0, 0), (1, 0), (4, 2)]);
    check(Returns { rows: 0 }.trace(), [(0, -1), (1, -1), (4, -1)]);
}

#[kernel]
fn bounds(n: Scalar<i32>, o: ViewMut<i32, 1>, byte: u8, signed: i8) {
    let mut passes = scalar(0);
    for i in byte..255 {
        passes += usize::from(i) / 250;
    }
    for _ in -2..signed {
        passes += 10;
    }
    for _ in byte..=255 {
        passes += 100;
    }
    for i in -1..n {
        passes += i;
    }
    for _ in n..(2) {
        passes += 1000;
    }
    o.set(0, passes);
}

#[test]
fn a_literal_at_a_loop_bound_has_the_type_of_the_other_bound() {
    // 250 to 254; -2 to 0; 250 to 255; -1 to n; n to 2.
    let fixed = 5 + 30 + 600;
    check(Bounds { byte: 250, signed: 1 }.trace(), [(0, fixed - 1 + 2000), (1, fixed - 1 + 1000), (4, fixed + 5)]);
}

#[kernel]
fn shared_names(n: Scalar<i32>, o: ViewMut<i32, 1>, cell: GridCell) {
    o.set(0, n + cell.row);
}

mod grid {
    #[derive(Clone, Debug)]
    pub struct Cell {
        pub row: usize,
    }

    impl tilewright_lang::SpecValue for Cell {
        fn key(&self, into: &mut String) {
            self.row.key(into);
        }
    }
}
#[test]
fn a_type_named_as_one_that_is_refused_can_be_imported_under_another_name() {
    check(SharedNames { cell: GridCell { row: 3 } }.trace(), [(0, 3), (1, 4), (4, 7)]);
}
