//! Scores with bias and mask, and values that nobody attends: one pass on the CPU, held against f64.

mod common;

use half::f16;
use tilewright_ir::{Elem, text};
use tilewright_runtime::{Arg, Device, TensorView, TensorViewMut};

/// More than a block of the vector program has.
const ROWS: usize = 51;
const KEYS: usize = 45;
const WIDTH: usize = 21;

/// Largest scores, and products of the clamped scores with the values of keys that some real row attends.
const KERNEL: &str = "kernel masked(x: view<f32, 2>, bias: view<f16, 2>, cells: view<bool, 2>, v: view<f32, 2>, scale: f32, end: i32, real: i32, out m: view<f32, 2>, out y: view<f32, 2>) {
  %0 = constant value=0 elem=i32
  %30 = constant value=30 elem=i32
  %zero = constant value=0 elem=f32
  %low = constant value=-inf elem=f32
  %by = constant value=1.5 elem=f32
  %x1 = load %x, %0, %0 shape=[51, 45]
  %stored = load %bias, %0, %0 shape=[51, 45]
  %numbers = cast %stored to=f32
  %set = load %cells, %0, %0 shape=[51, 45]
  %key = iota axis=1 shape=[1, 45]
  %row = iota axis=0 shape=[51, 1]
  %last = add %row, %30
  %scaled = mul %x1, %scale
  %biased = mul %numbers, %by
  %sum = add %scaled, %biased
  %there = lt %key, %end
  %before = ge %last, %key
  %both = and %there, %before
  %free = ne %numbers, %low
  %some = and %both, %free
  %attended = and %set, %some
  %scores = select %attended, %sum, %low
  %top = reduce_max %scores axis=1
  %exists = lt %row, %real
  %counted = and %attended, %exists
  %ones = cast %counted to=i32
  %any = reduce_max %ones axis=0
  %column = transpose %any
  %keep = ne %column, %0
  %v1 = load %v, %0, %0 shape=[45, 21]
  %v2 = select %keep, %v1, %zero
  %floor = constant value=-4 elem=f32
  %safe = max %scores, %floor
  %product = dot %safe, %v2
  store %m, %top, %0, %0
  store %y, %product, %0, %0
}";

/// The parts of [`KERNEL`] that a test leaves out.
fn without(bias: bool, cells: bool) -> String {
    let mut text = KERNEL.to_string();
    if !bias {
        text = text.replace("%sum = add %scaled, %biased", "%sum = mul %scaled, %one");
        text = text
            .replace("%free = ne %numbers, %low", "%free = lt %key, %30")
            .replace("%zero =", "%one = constant value=1 elem=f32\n  %zero =");
    }
    if !cells {
        text = text.replace("%attended = and %set, %some", "%attended = and %both, %free");
    }
    text
}

/// Numbers that repeat after a long while.
fn number(at: usize, of: usize) -> f32 {
    ((at * 37 + of * 101) % 64) as f32 / 16.0 - 2.0
}

struct Inputs {
    x: Vec<f32>,
    bias: Vec<f16>,
    cells: Vec<u8>,
    v: Vec<f32>,
    end: usize,
    real: usize,
}

fn inputs(end: usize, real: usize) -> Inputs {
    let mut x: Vec<f32> = (0..ROWS * KEYS).map(|at| number(at, 1)).collect();
    let bias = (0..ROWS * KEYS).map(|at| if at % 7 == 3 { f16::NEG_INFINITY } else { f16::from_f32(number(at, 2)) });
    let bias: Vec<f16> = bias.collect();
    // Rows without any cell, and columns; what is blocked may be NaN.
    let cells: Vec<u8> =
        (0..ROWS * KEYS).map(|at| u8::from(at / KEYS != 4 && at % KEYS % 9 != 5 && at % 5 != 0)).collect();
    for (at, x) in x.iter_mut().enumerate().filter(|(at, _)| at % KEYS % 9 == 5) {
        *x = if at % 2 == 0 { f32::NAN } else { f32::INFINITY };
    }
    let v = (0..KEYS * WIDTH).map(|at| if at / WIDTH % 9 == 5 { f32::NAN } else { number(at, 3) }).collect();
    Inputs { x, bias, cells, v, end, real }
}

/// Largest scores and products, in f64; keys of the columns that all but `free` block are not multiplied.
fn wanted(of: &Inputs, bias: bool, cells: bool) -> [Vec<f64>; 2] {
    let score = |row: usize, key: usize| {
        let at = row * KEYS + key;
        let mut set = key < of.end && key <= row + 30;
        set &= if bias { of.bias[at] != f16::NEG_INFINITY } else { key < 30 };
        set &= !cells || of.cells[at] != 0;
        let added = if bias { 1.5 * of.bias[at].to_f64() } else { 0.0 };
        set.then(|| f64::from(of.x[at]) * 0.75 + added)
    };
    let largest = |row: usize| (0..KEYS).filter_map(|key| score(row, key)).fold(f64::NEG_INFINITY, f64::max);
    let kept: Vec<bool> = (0..KEYS).map(|key| (0..of.real).any(|row| score(row, key).is_some())).collect();
    let product = |row: usize, column: usize| {
        let terms = (0..KEYS).filter(|&key| kept[key]);
        terms.map(|key| score(row, key).unwrap_or(-4.0).max(-4.0) * f64::from(of.v[key * WIDTH + column])).sum()
    };
    let all = |width: usize| (0..ROWS * width).map(move |at| (at / width, at % width));
    [all(1).map(|(row, _)| largest(row)).collect(), all(WIDTH).map(|(row, column)| product(row, column)).collect()]
}

fn run(device: &Device, text: &str, of: &Inputs) -> [Vec<f32>; 2] {
    let pipeline = device.compile(text::parse(text).expect("a kernel that parses")).expect("it compiles");
    let (mut m, mut y) = (vec![f32::NAN; ROWS], vec![f32::NAN; ROWS * WIDTH]);
    let mut args = [
        Arg::Read(TensorView::from_slice(&of.x, &[ROWS, KEYS]).expect("as long as its shape")),
        Arg::Read(TensorView::from_slice(&of.bias, &[ROWS, KEYS]).expect("as long as its shape")),
        Arg::Read(TensorView::from_bytes(Elem::Bool, &of.cells, &[ROWS, KEYS]).expect("as long as its shape")),
        Arg::Read(TensorView::from_slice(&of.v, &[KEYS, WIDTH]).expect("as long as its shape")),
        Arg::Scalar(0.75),
        Arg::Scalar(of.end as f64),
        Arg::Scalar(of.real as f64),
        Arg::Write(TensorViewMut::from_slice(&mut m, &[ROWS, 1]).expect("as long as its shape")),
        Arg::Write(TensorViewMut::from_slice(&mut y, &[ROWS, WIDTH]).expect("as long as its shape")),
    ];
    device.launch(&pipeline, [1, 1, 1], &mut args).expect("it runs");
    [m, y]
}

#[test]
fn masked_scores_and_the_values_of_attended_keys_are_those_of_f64_on_every_instruction_set() {
    let mut compared = 0;
    for (bias, cells) in [(true, true), (true, false), (false, true), (false, false)] {
        let text = without(bias, cells);
        for (end, real) in [(KEYS, ROWS), (40, 9), (17, 33), (0, ROWS), (KEYS, 0)] {
            let mut of = inputs(end, real);
            if !cells {
                // Nothing blocks them.
                of.x.iter_mut().chain(&mut of.v).filter(|x| !x.is_finite()).for_each(|x| *x = 0.5);
            }
            let wanted = wanted(&of, bias, cells);
            let all = common::on_every_isa().map(|device| (device.info().isa.to_string(), device));
            for (name, device) in all.chain([("interp".to_string(), Device::interp())]) {
                for (got, wanted) in run(&device, &text, &of).iter().zip(&wanted) {
                    assert_eq!(got.len(), wanted.len());
                    for (at, (&got, &wanted)) in got.iter().zip(wanted).enumerate() {
                        let near = f64::from(got) == wanted || (f64::from(got) - wanted).abs() <= 1e-4;
                        assert!(
                            near,
                            "{name}, bias {bias}, cells {cells}, {end} keys, {real} rows, at {at}: {got}, not {wanted}"
                        );
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 0);
}
