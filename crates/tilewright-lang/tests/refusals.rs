//! What is found while a kernel is specialised names both shapes and the user's line.

mod run;

use run::refusal;
use std::cell as host;
use tilewright_lang::prelude::*;

/// Compares a whole message. Where it names a line of this file, `<mark>` stands for the comment on that line or the next.
fn check(message: String, expected: &str) {
    let mut text = String::new();
    let mut rest = message.as_str();
    while let Some(at) =
        rest.find("crates/tilewright-lang/tests/refusals.rs:").or_else(|| rest.find("tests/refusals.rs:"))
    {
        let tail = &rest[at..];
        let end = tail.find(|c: char| c.is_whitespace()).unwrap_or(tail.len());
        let line: usize = tail[..end].split(':').nth(1).and_then(|n| n.parse().ok()).expect("a line number");
        let near =
            include_str!("refusals.rs").lines().skip(line - 1).take(2).find_map(|source| source.split("// ").nth(1));
        let mark = near.unwrap_or_else(|| panic!("line {line} and the next have no mark"));
        text.push_str(&rest[..at]);
        text.push_str(&format!("<{mark}>"));
        rest = &tail[end..];
    }
    text.push_str(rest);
    assert_eq!(text, expected, "\n--- message ---\n{message}");
}

#[kernel]
fn wrong_shapes(x: View<f32, 2>, o: ViewMut<f32, 2>, rows: usize) {
    let a = x.load(0, [rows, 16]); // a
    let b = x.load(0, [8, 16]); // b
    let product = a.dot(b); // product
    let c = x.load(0, [rows, 12]); // c
    let sum = a + c; // sum
    o.store(0, product + sum); // poison says nothing more
}

#[test]
fn every_wrong_shape_is_named_with_its_line() {
    check(
        refusal(WrongShapes { rows: 4 }.trace()),
        "error: `dot` of tiles of shape [4, 16] and [8, 16]: the inner extents differ
  --> <product>
   = `a` is f32[4, 16], made at <a>
   = `b` is f32[8, 16], made at <b>
   = help: transpose the right tile with `.t()`
error: `add` of tiles of shape [4, 16] and [4, 12]
  --> <sum>
   = `a` is f32[4, 16], made at <a>
   = `b` is f32[4, 12], made at <c>
   = help: the ranks must be equal, and each axis equal or 1",
    );
}

#[kernel]
fn wrong_bits(x: View<u32, 1>, o: ViewMut<u8, 1>, bits: u32) {
    let codes = x.load(0, [4]).unpack(bits); // codes
    o.store(0, codes);
}

#[test]
fn codes_of_a_width_that_no_word_is_packed_with_are_refused() {
    for (bits, named) in [(0, 0), (1, 1), (16, 16), (260, 255)] {
        check(
            refusal(WrongBits { bits }.trace()),
            &format!(
                "error: `unpack` of codes of {named} bits
  --> <codes>
   = help: a code has 2, 4 or 8 bits, so that a word holds 16, 8 or 4"
            ),
        );
    }
}

#[tile]
fn inner(x: Tile<f32>) -> Tile<f32> {
    x.max_along(1) // inner
}

#[tile]
fn outer(x: Tile<f32>) -> Tile<f32> {
    inner(x) // outer
}

#[kernel]
fn through_calls(x: View<f32, 1>, o: ViewMut<f32, 1>) {
    o.store(0, outer(x.load(0, [4]))); // kernel
}

#[test]
fn a_mistake_in_a_tile_function_says_how_it_was_reached() {
    check(
        refusal(ThroughCalls {}.trace()),
        "error: `reduce_max` along axis 1 of a tile of shape [4]
  --> <inner>
   = in `inner`, called at <outer>
   = in `outer`, called at <kernel>
   = help: the tile has 1 axes, counted from 0",
    );
}

#[kernel]
fn grows(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut x = Tile::<i32>::full(0, &[1]);
    for i in 0..n {
        // loop
        x = x + iota(&[4], 0) + i; // grown
    }
    o.store(0, x);
}

#[test]
fn a_carried_tile_keeps_its_shape() {
    check(
        refusal(Grows {}.trace()),
        "error: `x` enters this loop as i32[1] and leaves its body as i32[4]
  --> <loop>
   = last assigned from a value made at <grown>
   = help: a variable keeps its shape from pass to pass",
    );
}

#[kernel]
fn assigned_larger(o: ViewMut<i32, 1>) {
    let mut x = Tile::<i32>::full(0, &[1]);
    x += iota(&[4], 0); // assigned
    o.store(0, x);
}

#[test]
fn a_compound_assignment_keeps_the_shape_of_its_left_side() {
    check(
        refusal(AssignedLarger {}.trace()),
        "error: `+=` would change its left side from i32[1] to i32[4]
  --> <assigned>
   = the right side was made at <assigned>
   = help: write `x = x + y` to make a larger tile",
    );
}

#[kernel]
fn branches_differ(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let x = if n > 3 {
        // branch
        iota(&[4], 0) // four
    } else {
        iota(&[8], 0) // eight
    };
    o.store(0, x);
}

#[test]
fn the_branches_of_an_if_leave_one_shape() {
    check(
        refusal(BranchesDiffer {}.trace()),
        "error: the branches of this `if` leave the value of this `if` as i32[4] and as i32[8]
  --> <branch>
   = the first was made at <four>
   = the second was made at <eight>
   = help: both branches leave one type and shape",
    );
}

#[kernel]
fn option_appears(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut x = None;
    if n > 2 {
        // appears
        x = Some(n);
    }
    if let Some(x) = x {
        o.set(0, x);
    }
}

#[test]
fn an_option_cannot_appear_at_run_time() {
    check(
        refusal(OptionAppears {}.trace()),
        "error: `x` holds a compile-time value (a number, a flag, whether an Option is there) that changes inside a run-time `if`
  --> <appears>
   = help: make it a run-time scalar with `scalar(…)`",
    );
}

#[kernel]
fn hidden_cell(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let c = Hidden::new(scalar(0));
    for _ in 0..n {
        // hidden loop
        c.set(c.get() + 1); // hidden
    }
    o.set(0, c.get()); // shown
}

type Hidden<T> = host::Cell<T>;

#[test]
fn a_value_that_a_cell_carries_out_of_a_loop_is_found() {
    let message = refusal(HiddenCell {}.trace());
    let first = message.lines().next().unwrap().replace(char::is_numeric, "");
    assert_eq!(
        first,
        "error: this value was made inside the run-time `for` at line  and is used outside that pass of it"
    );
    assert!(message.contains("keep it in a `let mut` variable"), "{message}");
}

#[kernel]
fn hidden_counter(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let c = Hidden::new(0usize);
    let mut x = scalar(0);
    for _ in 0..n {
        // counting
        x += c.get(); // counted
        c.set(c.get() + 1);
    }
    o.set(0, x);
}

#[test]
fn a_rust_value_that_changes_from_pass_to_pass_is_found() {
    check(
        refusal(HiddenCounter {}.trace()),
        "error: the body of this run-time `for` is not the same in every pass: it depends on Rust state that the first pass changed
  --> <counting>
   = first difference at <counted>
   = help: state that changes from pass to pass must be a `let mut` variable of tiles and scalars",
    );
}

#[kernel]
fn store_in_and(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let both = n > 2 && {
        // and
        o.set(0, n);
        n > 3
    };
    if both {
        o.set(0, n);
    }
}

#[test]
fn a_short_circuit_with_an_effect_is_refused() {
    check(
        refusal(StoreInAnd {}.trace()),
        "error: the right side of `&&` or `||` stores to memory, and the device evaluates both sides
  --> <and>
   = help: write it as an `if`",
    );
}

struct Sent(Scalar<i32>);

fn elsewhere() -> Sent {
    std::thread::spawn(|| Sent(scalar(3))).join().expect("the thread runs to its end")
}

#[kernel]
fn other_thread(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let x = elsewhere();
    o.set(0, x.0 + n); // foreign
}

#[test]
fn a_value_from_another_thread_is_refused() {
    check(
        refusal(OtherThread {}.trace()),
        "error: this value was made where no kernel is being traced
  --> <foreign>
   = help: make it in the kernel: another thread or a `static` cannot make tiles",
    );
}

#[kernel]
fn numbers(n: Scalar<i32>, x: View<u8, 1>, o: ViewMut<u8, 1>, step: usize) {
    o.store(0, x.load(0, [4]) + 256); // wide
    for i in (0..n).step_by(step) {
        // step
        o.set(i, 1);
    }
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    check(
        refusal(Numbers { step: 0 }.trace()),
        "error: the number 256 does not fit u8
  --> <wide>
   = help: u8 holds 0 to 255
error: the step of this loop is 0
  --> <step>
   = help: a run-time range advances by 1 or more",
    );
}

#[kernel]
fn ranks(x: View<f32, 4>, o: ViewMut<f32, 1>) {
    let _ = x.load(0, [2, 2, 2, 2]); // four axes
    let _ = x.len(7); // axis
    o.store(0, x.at(0).at(0).load(0, [2, 2])); // stored
}

#[test]
fn ranks_and_axes_are_checked() {
    let message = refusal(Ranks {}.trace());
    for part in [
        "error: a tile of shape [2, 2, 2, 2]",
        "error: `view_len` of axis 7 of a view of rank 4",
        "error: `store` of a tile of shape [2, 2] at 1 origins in a view of rank 1",
    ] {
        assert!(message.contains(part), "{part}\nin\n{message}");
    }
}

#[kernel]
fn twice_named(cap: Scalar<f32>, o: ViewMut<f32, 1>) {
    o.set(0, launch_scalar::<f32>("cap") + cap); // clash
    o.set(1, launch_scalar::<f32>("x")); // first
    o.set(2, launch_scalar::<i32>("x").cast()); // second
}

#[test]
fn launch_inputs_have_one_name_and_one_type() {
    check(
        refusal(TwiceNamed {}.trace()),
        "error: the kernel has two parameters named `cap`
  --> <clash>
   = help: give each feature's launch inputs names of their own
error: the launch input `x` is asked for as f32 and as i32
  --> <second>
   = first asked for at <first>
   = help: use two names, or one type",
    );
}

#[kernel]
fn panics(o: ViewMut<i32, 1>, rows: usize) {
    assert!(rows > 0, "rows is {rows}");
    o.set(0, rows);
}

#[test]
fn an_assertion_of_the_body_is_an_error_and_not_a_panic() {
    let message = refusal(Panics { rows: 0 }.trace());
    assert!(message.starts_with("error: the kernel body panicked while it was specialised: rows is 0"), "{message}");
    assert!(Panics { rows: 1 }.trace().is_ok(), "the next trace starts afresh");
}
