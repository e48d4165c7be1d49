//! Operators, methods and views mean what Rust and their documentation say, as the reference interpreter runs them.

mod run;

use run::{out, run};
use tilewright_lang::HostValue;
use tilewright_lang::ir::Elem;
use tilewright_lang::ir::interp::Tensor;
use tilewright_lang::prelude::*;

const SAMPLES: [i32; 8] = [-100, -7, -1, 0, 1, 5, 33, i32::MAX];

#[kernel]
fn arithmetic(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let seven = scalar(7);
    let results = [
        n + seven,
        n - 7,
        7 * n,
        n / 7usize,
        n % 7,
        n & 12,
        n | 12,
        n ^ seven,
        n << 3,
        n >> 2,
        !n,
        -n,
        n.abs(),
        n.max(3),
        n.min(seven),
        (1 - n) * 2,
    ];
    for (i, x) in results.into_iter().enumerate() {
        o.set(i, x);
    }
}

#[test]
fn integer_operators_are_rusts_and_wrap() {
    let kernel = Arithmetic {}.trace().unwrap();
    for n in SAMPLES {
        let expected = [
            n.wrapping_add(7),
            n.wrapping_sub(7),
            n.wrapping_mul(7),
            n / 7,
            n % 7,
            n & 12,
            n | 12,
            n ^ 7,
            n << 3,
            n >> 2,
            !n,
            n.wrapping_neg(),
            n.wrapping_abs(),
            n.max(3),
            n.min(7),
            1i32.wrapping_sub(n).wrapping_mul(2),
        ];
        assert_eq!(out(&kernel, n, 16), expected.map(i64::from), "n={n}");
    }
}

#[kernel]
fn compound(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let mut t = iota(&[2, 3], 1) + n;
    t += 5;
    t -= n * 2;
    t *= iota(&[1, 3], 1);
    t /= 2;
    t %= 100usize;
    t &= 0xff;
    t |= scalar(256);
    t ^= 3;
    t <<= 2;
    t >>= 1;
    let mut mask = t > 300;
    mask &= t > 320;
    mask |= t == 518;
    mask ^= true;
    o.store(0, mask.select(t, -1).max_along(0).reshape(&[3]));
}

#[test]
fn every_compound_assignment_does_what_its_operator_does() {
    let kernel = Compound {}.trace().unwrap();
    for n in [-50, 0, 3, 77] {
        let one = |i: i64| {
            let mut t = i + n;
            t += 5;
            t -= n * 2;
            t *= i;
            t /= 2;
            t %= 100;
            t &= 0xff;
            t |= 256;
            t ^= 3;
            t <<= 2;
            t >>= 1;
            let mut mask = t > 300;
            mask &= t > 320;
            mask |= t == 518;
            mask ^= true;
            if mask { t } else { -1 }
        };
        assert_eq!(out(&kernel, n as i32, 3), [one(0), one(1), one(2)], "n={n}");
    }
}

#[kernel]
fn bindings(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let x: Tile<i32> = Tile::full(n, &[4]);
    let y = if n > 3 { x + 1 } else { x - 1 };
    let (a, [b, _]) = (y, [x, y]);
    let x = a - b; // shadows
    let mut z = x;
    for _ in 0..3 {
        z += 1;
    }
    for _ in 0..n {
        let z = scalar(1000); // another `z`
        let _ = z;
    }
    let mask = z > 3;
    o.store(0, (!mask).select(z, -z));
}

#[test]
fn lets_shadow_and_destructure() {
    let kernel = Bindings {}.trace().unwrap();
    for n in 0..8 {
        let z = if n > 3 { 4 } else { 2 };
        let expected = if z > 3 { -z } else { z };
        assert_eq!(out(&kernel, n, 4), [expected; 4], "n={n}");
    }
}

#[kernel]
fn comparisons(n: Scalar<i32>, o: ViewMut<i32, 1>) {
    let t = iota(&[6], 0);
    let tests =
        [t < n, t <= n, t > n, t >= n, t == n, t != n, n < t, 3 < t, 3usize >= t, !(t == 2) & (t != 4) | (t < 1)];
    for (i, mask) in tests.into_iter().enumerate() {
        o.set(i, 0);
        o.store(i, ((mask.cast::<i32>()) << t).sum_along(0));
    }
}

#[test]
fn comparisons_of_tiles_hold_element_by_element() {
    let kernel = Comparisons {}.trace().unwrap();
    for n in -1..7 {
        let bits = |test: &dyn Fn(i32) -> bool| (0..6).filter(|&t| test(t)).map(|t| 1i64 << t).sum::<i64>();
        let expected = [
            bits(&|t| t < n),
            bits(&|t| t <= n),
            bits(&|t| t > n),
            bits(&|t| t >= n),
            bits(&|t| t == n),
            bits(&|t| t != n),
            bits(&|t| n < t),
            bits(&|t| 3 < t),
            bits(&|t| 3 >= t),
            bits(&|t| t != 2 && t != 4 || t < 1),
        ];
        assert_eq!(out(&kernel, n, 10), expected, "n={n}");
    }
}

fn floats(data: &[f64]) -> Tensor {
    Tensor::new(Elem::F32, &[data.len()], data.iter().copied()).unwrap()
}

#[kernel]
fn float_functions(x: View<f32, 1>, o: ViewMut<f32, 2>, n: usize) {
    let x = x.load(0, [n]);
    let all = [
        x.exp2(),
        x.log2(),
        x.tanh(),
        x.rsqrt(),
        x.recip(),
        x.abs(),
        -x,
        2.0 - x,
        0.5 / x * 3.0 % 2.0,
        (x > 1.0).select(x, 0.25),
        x.max(0.75).min(1.5),
        x.cast::<f16>().cast(),
        x.cast::<bf16>().cast(),
        (x * 3.0).cast::<i8>().cast::<f32>(),
        (x.bitcast::<u32>() & 0xff80_0000u32).bitcast(),
        (x * 2.0).round(),
        (x * -2.0).trunc(),
    ];
    for (i, y) in all.into_iter().enumerate() {
        o.store(i, y.reshape(&[1, n]));
    }
}

#[test]
fn float_functions_are_rusts() {
    let samples = [0.3f32, 1.0, 1.25, 7.5];
    let x = floats(&samples.map(f64::from));
    let mut o = Tensor::zeros(Elem::F32, &[17, 4]).unwrap();
    let kernel = FloatFunctions { n: 4 }.trace().unwrap();
    run(&kernel, [1, 1, 1], vec![("x", HostValue::In(&x)), ("o", HostValue::Out(&mut o))]);
    let mut compared = 0;
    for (j, x) in samples.into_iter().enumerate() {
        let expected = [
            x.exp2(),
            x.log2(),
            x.tanh(),
            1.0 / x.sqrt(),
            1.0 / x,
            x.abs(),
            -x,
            2.0 - x,
            0.5 / x * 3.0 % 2.0,
            if x > 1.0 { x } else { 0.25 },
            x.clamp(0.75, 1.5),
            f16::from_f32(x).to_f32(),
            bf16::from_f32(x).to_f32(),
            (x * 3.0) as i8 as f32,
            f32::from_bits(x.to_bits() & 0xff80_0000),
            (x * 2.0).round_ties_even(),
            (x * -2.0).trunc(),
        ];
        for (i, expected) in expected.into_iter().enumerate() {
            let got = o.get(&[i, j]).unwrap();
            let error = (got - f64::from(expected)).abs();
            assert!(error <= 1e-6 * f64::from(expected.abs().max(1.0)), "row {i}, x={x}: {got}, not {expected}");
            compared += 1;
        }
    }
    assert_eq!(compared, 68);
}

#[kernel]
fn unpacking(x: View<u32, 3>, o: ViewMut<u8, 3>, bits: u32) {
    let words = x.load(0, [2, 1, 3]);
    o.store(0, words.unpack(bits));
}

#[test]
fn codes_are_unpacked_from_the_lowest_bits_of_each_word_up() {
    let words = [0x7654_3210, u32::MAX, 0x8000_0001, 0, 0xdead_beef, 1u32];
    let x = Tensor::new(Elem::U32, &[2, 1, 3], words.map(f64::from)).unwrap();
    let mut compared = 0;
    for bits in [2, 4, 8] {
        let mut o = Tensor::zeros(Elem::U8, &[2, 1, 3 * 32 / bits as usize]).unwrap();
        let kernel = Unpacking { bits }.trace().unwrap();
        run(&kernel, [1, 1, 1], vec![("x", HostValue::In(&x)), ("o", HostValue::Out(&mut o))]);
        let codes = words.iter().flat_map(|w| (0..32 / bits).map(move |i| (w >> (bits * i)) % (1 << bits)));
        let expected: Vec<f64> = codes.map(f64::from).collect();
        assert_eq!(o.to_vec(), expected, "bits={bits}");
        compared += expected.len();
    }
    assert_eq!(compared, 6 * (16 + 8 + 4));
}

#[kernel]
fn generic_literals<E: Float>(x: View<E, 1>, o: ViewMut<E, 1>) {
    let mut y = x.load(0, [2]) * 2.5 + 1.0;
    y -= Scalar::new(0.5);
    o.store(0, (y > 3.0).select(y, 1000.1));
}

#[test]
fn a_float_literal_takes_the_element_type_of_its_tile() {
    for (elem, kernel, far) in [
        (Elem::F32, GenericLiterals {}.trace::<f32>().unwrap(), f64::from(1000.1f32)),
        (Elem::F16, GenericLiterals {}.trace::<f16>().unwrap(), f16::from_f32(1000.1).to_f64()),
        (Elem::Bf16, GenericLiterals {}.trace::<bf16>().unwrap(), bf16::from_f32(1000.1).to_f64()),
    ] {
        let x = Tensor::new(elem, &[2], [0.0, 4.0]).unwrap();
        let mut o = Tensor::zeros(elem, &[2]).unwrap();
        run(&kernel, [1, 1, 1], vec![("x", HostValue::In(&x)), ("o", HostValue::Out(&mut o))]);
        assert_eq!(o.to_vec(), [far, 10.5], "{elem}");
    }
}

#[kernel]
fn narrow_integers(x: View<u8, 1>, o: ViewMut<i32, 1>) {
    let x = x.load(0, [2]);
    let low = (x & 15) - 8;
    let high = x >> 4;
    let signed: Tile<i8> = (x + 200).bitcast();
    let mut word = x.cast::<u32>() << 24;
    word |= 0xffffu32;
    o.store(0, low.cast());
    o.store(2, high.cast());
    o.store(4, signed.cast::<i32>());
    o.store(6, (word >> 20).cast());
}

#[test]
fn narrow_integers_wrap_at_their_width() {
    let x = Tensor::new(Elem::U8, &[2], [0x5a as f64, 0xf3 as f64]).unwrap();
    let mut o = Tensor::zeros(Elem::I32, &[8]).unwrap();
    let kernel = NarrowIntegers {}.trace().unwrap();
    run(&kernel, [1, 1, 1], vec![("x", HostValue::In(&x)), ("o", HostValue::Out(&mut o))]);
    let one = |x: u8| {
        let word = (u32::from(x) << 24) | 0xffff;
        [(x & 15).wrapping_sub(8) as i32, (x >> 4) as i32, x.wrapping_add(200) as i8 as i32, (word >> 20) as i32]
    };
    let (a, b) = (one(0x5a), one(0xf3));
    let expected: Vec<f64> = a.into_iter().zip(b).flat_map(|(a, b)| [f64::from(a), f64::from(b)]).collect();
    assert_eq!(o.to_vec(), expected);
}

#[kernel]
fn shapes(x: View<f32, 2>, o: ViewMut<f32, 1>) {
    let x = x.load([1, 0], [2, 3]);
    let y = x.t().dot(x); // [3, 3]
    let column = y.row_sum();
    o.store(0, column);
    o.store(3, x.reshape(&[6]));
    o.store(9, x.min_along(0).broadcast(&[2, 3]).sum_along(1));
    o.set(11, y.max_along(0).max_along(1).reshape(&[1]).dims().len() as f32);
}

#[test]
fn shapes_change_and_axes_fold() {
    let x = Tensor::new(Elem::F32, &[2, 4], (0..8).map(f64::from)).unwrap();
    let mut o = Tensor::zeros(Elem::F32, &[12]).unwrap();
    let kernel = Shapes {}.trace().unwrap();
    run(&kernel, [1, 1, 1], vec![("x", HostValue::In(&x)), ("o", HostValue::Out(&mut o))]);
    // Row 2 lies outside, so it loads as zeros: x = [[4, 5, 6], [0, 0, 0]].
    let expected = [60.0, 75.0, 90.0, 4.0, 5.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    assert_eq!(o.to_vec(), expected);
}

#[kernel]
fn rows(x: View<f32, 3>, o: ViewMut<f32, 1>) {
    let x = x.load([0, 0, 0], [2, 2, 3]);
    assert_eq!((x.row_max().dims(), x.row_sum().dims()), (vec![2, 2, 1], vec![2, 2, 1]));
    o.store(0, x.row_max().reshape(&[4]));
    o.store(4, x.row_sum().reshape(&[4]));
    o.store(8, x.reshape(&[12]).row_sum());
}

#[test]
fn rows_lie_along_the_last_axis_at_every_rank() {
    let x = Tensor::new(Elem::F32, &[2, 2, 3], (0..12).map(f64::from)).unwrap();
    let mut o = Tensor::zeros(Elem::F32, &[9]).unwrap();
    let kernel = Rows {}.trace().unwrap();
    run(&kernel, [1, 1, 1], vec![("x", HostValue::In(&x)), ("o", HostValue::Out(&mut o))]);
    assert_eq!(o.to_vec(), [2.0, 5.0, 8.0, 11.0, 3.0, 12.0, 21.0, 30.0, 66.0]);
}

#[kernel]
fn windows(x: View<i32, 3>, o: ViewMut<i32, 2>, page: View<i32, 1>) {
    let [program] = program_id();
    let plane = x.at_axis(1, program); // [4, 3]
    let rows = page.load(0, [2]);
    let gathered = plane.gather(0, rows, 0, [2, 4]);
    let across = plane.limit_axis(1, 1, 3).gather(1, page.load(0, [2]).reshape(&[1, 2]), 1, [3, 2]);
    let limited = plane.limit(1, 3).load((0, 1), [4, 2]);
    o.store((program * 9, 0), gathered);
    o.store(program * 9 + 2, across);
    o.limit(0, program * 9 + 8).store((program * 9 + 5, 2), limited);
    o.at(program * 9 + 8).set(3, plane.len(0) * 100 + program_count::<1>()[0]);
}

#[test]
fn views_narrow_gather_and_stay_in_bounds() {
    let x = |i: usize, p: usize, j: usize| (i * 100 + p * 10 + j + 1) as f64;
    let data = (0..4).flat_map(|i| (0..2).flat_map(move |p| (0..3).map(move |j| x(i, p, j))));
    let tensor = Tensor::new(Elem::I32, &[4, 2, 3], data).unwrap();
    let page = Tensor::new(Elem::I32, &[2], [2.0, 0.0]).unwrap();
    let mut o = Tensor::zeros(Elem::I32, &[18, 4]).unwrap();
    let values = vec![("x", HostValue::In(&tensor)), ("o", HostValue::Out(&mut o)), ("page", HostValue::In(&page))];
    run(&Windows {}.trace().unwrap(), [2, 1, 1], values);
    for p in 0..2 {
        let rows: Vec<Vec<f64>> = (0..9).map(|i| (0..4).map(|j| o.get(&[p * 9 + i, j]).unwrap()).collect()).collect();
        let inside = |i: usize, j: usize| if j < 3 { x(i, p, j) } else { 0.0 };
        for (row, from) in [(0, 2), (1, 0)] {
            assert_eq!(rows[row], (0..4).map(|j| inside(from, j)).collect::<Vec<_>>(), "gathered rows");
        }
        for i in 0..3 {
            // Column 2 is inside [1, 3), column 0 is not.
            assert_eq!(rows[2 + i][..2], [x(i + 1, p, 2), 0.0], "gathered columns");
        }
        for i in 0..3 {
            let expected = if (1..3).contains(&i) { [x(i, p, 1), x(i, p, 2)] } else { [0.0; 2] };
            assert_eq!(rows[5 + i][2..], expected, "limited rows");
        }
        assert_eq!(rows[8], [0.0, 0.0, 0.0, 402.0], "row 8 is past the limit of the store");
    }
}

trait Scale {
    fn scale<E: Float>(&self, x: Tile<E>) -> Tile<E>;
}

struct Twice;
struct ByInput;

#[tile]
impl Scale for Twice {
    fn scale<E: Float>(&self, x: Tile<E>) -> Tile<E> {
        x + x
    }
}

#[tile]
impl Scale for ByInput {
    fn scale<E: Float>(&self, x: Tile<E>) -> Tile<E> {
        x * launch_scalar::<f32>("factor").cast()
    }
}

#[tile]
fn both(x: Tile<f32>, a: &impl Scale, b: &impl Scale) -> Tile<f32> {
    b.scale(a.scale(x))
}

#[kernel]
fn hooks(x: View<f32, 1>, o: ViewMut<f32, 1>) {
    o.store(0, both(x.load(0, [2]), &Twice, &ByInput));
}

#[test]
fn hooks_of_a_trait_are_inlined() {
    let kernel = Hooks {}.trace().unwrap();
    let x = floats(&[1.0, 2.0]);
    let mut o = floats(&[0.0; 2]);
    let values = vec![("x", HostValue::In(&x)), ("o", HostValue::Out(&mut o)), ("factor", HostValue::Scalar(5.0))];
    run(&kernel, [1, 1, 1], values);
    assert_eq!(o.to_vec(), [10.0, 20.0]);
}
