//! Products of few rows against sums in f64, for every instruction set: in numbers, in pairs and in bytes, of floats and of codes, of
//! rows that begin and end anywhere.

use super::*;
use crate::cpu::isa::Isa;
use crate::cpu::memory::{Place, View};
use crate::cpu::rows::{Codes, Rows};
use half::{bf16, f16};
use tilewright_compile::cpu::Target;
use tilewright_compile::cpu::{PackSource, ROWS_IN_DIGITS};
use tilewright_ir::Elem;

/// Rows of the tensor, and those that count; the others are NaN.
const SLOTS: usize = 93;
const COUNT: std::ops::Range<usize> = 3..SLOTS - 2;

/// A tensor of rows, and the number at each place.
struct Tensor {
    kind: Kind,
    width: usize,
    /// Columns that share a scale and a bias.
    group: usize,
    words: Vec<u32>,
    scales: Vec<bf16>,
    biases: Vec<bf16>,
    numbers: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    F32,
    F16,
    Bf16,
    /// So many bits, and what the numbers are rounded to.
    Codes(u8, Elem),
}

impl Tensor {
    fn new(kind: Kind, width: usize, group: usize) -> Tensor {
        let affine = |from: f32| (0..SLOTS * width / group).map(|i| bf16::from_f32(from + i as f32 / 393.0)).collect();
        let (mut scales, biases): (Vec<bf16>, Vec<bf16>) = (affine(0.013), affine(-0.7));
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random >> 8
        };
        let mut words = vec![0; SLOTS * width];
        let mut numbers = vec![0.0; SLOTS * width];
        for (at, number) in numbers.iter_mut().enumerate() {
            let counts = COUNT.contains(&(at / width));
            let float = if counts { next() as f32 / 8e6 - 1.0 } else { f32::NAN };
            *number = match kind {
                Kind::F32 => {
                    words[at] = float.to_bits();
                    f64::from(float)
                }
                Kind::F16 => {
                    words[at / 2] |= u32::from(f16::from_f32(float).to_bits()) << (16 * (at % 2));
                    f16::from_f32(float).to_f64()
                }
                Kind::Bf16 => {
                    words[at / 2] |= u32::from(bf16::from_f32(float).to_bits()) << (16 * (at % 2));
                    bf16::from_f32(float).to_f64()
                }
                Kind::Codes(bits, rounds) => {
                    let (code, per_word) = (next() & ((1 << bits) - 1), 32 / usize::from(bits));
                    words[at / per_word] |= code << (at % per_word * usize::from(bits));
                    if !counts {
                        scales[at / group] = bf16::NAN;
                    }
                    let scaled = rounds.nearest(f64::from(code) * scales[at / group].to_f64());
                    rounds.nearest(scaled + biases[at / group].to_f64())
                }
            };
        }
        Tensor { kind, width, group, words, scales, biases, numbers }
    }

    /// Reads `rows` rows from `start` on, some of which may not count or be outside.
    fn read(&self, start: i32, rows: usize, f: impl FnOnce(&Reader<'_>)) {
        let &Tensor { kind, width, group, .. } = self;
        let view = |base: *const u8, elem, columns: usize| View {
            base: base.cast_mut(),
            elem,
            rank: 2,
            len: [SLOTS as i32, columns as i32, 0, 0],
            first: [COUNT.start as i32, 0, 0, 0],
            last: [COUNT.end as i32, columns as i32, 0, 0],
            stride: [columns as isize, 1, 0, 0],
        };
        let [words, scales, biases] = match kind {
            Kind::F32 => [(Elem::F32, width); 3],
            Kind::F16 => [(Elem::F16, width); 3],
            Kind::Bf16 => [(Elem::Bf16, width); 3],
            Kind::Codes(bits, _) => {
                let groups = (Elem::Bf16, width / group);
                [(Elem::U32, width * usize::from(bits) / 32), groups, groups]
            }
        };
        let views = [
            view(self.words.as_ptr().cast(), words.0, words.1),
            view(self.scales.as_ptr().cast(), scales.0, scales.1),
            view(self.biases.as_ptr().cast(), biases.0, biases.1),
        ];
        let extents = [words, scales, biases].map(|(_, columns)| [rows as u32, columns as u32]);
        let part = |i: usize| Rows::new(Place::new(&views[i], &[start, 0], &extents[i], None));
        f(&match kind {
            Kind::F32 | Kind::F16 | Kind::Bf16 => Reader::Stored(part(0)),
            Kind::Codes(bits, rounds) => {
                Reader::Codes(Codes { words: part(0), scales: part(1), biases: part(2), bits, group, rounds })
            }
        });
    }
}

/// One product, by the functions of an instruction set.
fn check(isa: Isa, tensor: &Tensor, by: Arithmetic, transposed: bool, m: usize, (start, rows): (i32, usize)) {
    let &Tensor { kind, width, group, .. } = tensor;
    let (accumulate, pairs) = (m != 2, by == Arithmetic::Pairs);
    let (n, k) = if transposed { (rows, width) } else { (width, rows) };
    let left: Vec<bf16> = (0..m * k).map(|i| bf16::from_f32((i * 37 % 101) as f32 / 50.0 - 1.0)).collect();
    let lanes = if pairs { k.div_ceil(2) } else { k };
    // Behind the left operand the result, which is added to, and then room for rows.
    let (c, scratch) = (m * lanes, m * (lanes + n));
    let mut arena = vec![f32::NAN.to_bits(); scratch + ROWS_IN_DIGITS as usize * width];
    for row in 0..m {
        for at in 0..k {
            let number = left[row * k + at];
            match pairs {
                true if at % 2 == 0 => arena[row * lanes + at / 2] = number.to_bits().into(),
                true => arena[row * lanes + at / 2] |= u32::from(number.to_bits()) << 16,
                false => arena[row * lanes + at] = number.to_f32().to_bits(),
            }
        }
    }
    arena[c..scratch].fill(0.25f32.to_bits());
    let [m_, n_, k_] = [m, n, k].map(|x| x as u32);
    let b = tilewright_compile::cpu::Rows::Stored(PackSource::Lanes(0)); // the reader says where they are
    let dot =
        DotRows { a: 0, b, transposed, c: c as u32, m: m_, n: n_, k: k_, accumulate, by, scratch: scratch as u32 };
    let kernels = isa.kernels();
    let run = match by {
        Arithmetic::Numbers => Some(kernels.dot_rows),
        Arithmetic::Pairs => kernels.pairs.map(|pairs| pairs.dot_rows),
        Arithmetic::Bytes => kernels.dot_bytes,
    };
    let run = run.expect("asked for where it is there");
    // SAFETY: the processor has the instruction set; the arena has room for all of it.
    tensor.read(start, rows, |reader| unsafe { run(&dot, reader, arena.as_mut_ptr()) });
    let number = |row: usize, column: usize| {
        let slot = usize::try_from(start + row as i32).ok().filter(|slot| COUNT.contains(slot));
        slot.map_or(0.0, |slot| tensor.numbers[slot * width + column])
    };
    let slots = (start..start + rows as i32).filter_map(|slot| usize::try_from(slot).ok());
    let scales =
        slots.filter(|slot| COUNT.contains(slot)).map(|slot| &tensor.scales[slot * width / group..][..width / group]);
    let largest_scale = scales.flatten().fold(0.0, |most, scale| scale.to_f64().max(most));
    for row in 0..m {
        for column in 0..n {
            let right = |at: usize| if transposed { number(column, at) } else { number(at, column) };
            let wanted = if accumulate { 0.25 } else { 0.0 };
            let wanted = wanted + (0..k).map(|at| left[row * k + at].to_f64() * right(at)).sum::<f64>();
            let got = f64::from(f32::from_bits(arena[c + row * n + column]));
            // Digits of weights are off by 2^-16 of the largest of a group, and codes by which that is multiplied are at most 255.
            let off =
                if by == Arithmetic::Bytes && !transposed { 1.6e-5 * k as f64 * 255.0 * largest_scale } else { 0.0 };
            let bound =
                off + 1e-5 * (0..k).map(|at| (left[row * k + at].to_f64() * right(at)).abs()).sum::<f64>() + 1e-6;
            assert!(
                (got - wanted).abs() <= bound,
                "{} {kind:?} of {width} by {group}, {by:?}, transposed {transposed}, {m} rows with {rows} from {start}: \
                 {row}, {column}: {got} {wanted}",
                isa.name()
            );
        }
    }
}

#[test]
fn products_of_few_rows_are_sums_wherever_the_rows_begin_and_end() {
    let mut tried = Vec::new();
    let codes = [(8, Elem::Bf16), (4, Elem::Bf16), (8, Elem::F32), (4, Elem::F32)];
    let kinds = [Kind::F32, Kind::F16, Kind::Bf16].into_iter().chain(codes.map(|(bits, to)| Kind::Codes(bits, to)));
    for (isa, kind) in Isa::available().into_iter().flat_map(|isa| kinds.clone().map(move |kind| (isa, kind))) {
        for (width, group) in [(64, 32), (96, 32), (128, 64), (160, 32), (256, 128), (64, 64), (256, 32), (48, 16)] {
            let tensor = Tensor::new(kind, width, group);
            let Target { pairs, bytes, .. } = isa.target();
            let mut ways = vec![Arithmetic::Numbers];
            let paired = match kind {
                Kind::Bf16 => width % 32 == 0,
                Kind::Codes(_, rounds) => rounds == Elem::Bf16 && group % 32 == 0,
                Kind::F32 | Kind::F16 => false,
            };
            ways.extend((pairs && paired).then_some(Arithmetic::Pairs));
            let multiplied = matches!(kind, Kind::Codes(_, Elem::F32)) && group % 32 == 0;
            ways.extend((bytes && multiplied).then_some(Arithmetic::Bytes));
            for by in ways {
                if !tried.contains(&by) {
                    tried.push(by);
                }
                for transposed in [false, true] {
                    let places = [
                        (1, (4, 20)),
                        (4, (-3, 96)),
                        (8, (5, 21)),
                        (3, (3, 1)),
                        (5, (14, 79)),
                        (2, (90, 5)),
                        (6, (3, 64)),
                    ];
                    for (m, place) in places {
                        check(isa, &tensor, by, transposed, m, place);
                    }
                }
            }
        }
    }
    for by in [Arithmetic::Pairs, Arithmetic::Bytes] {
        if !tried.contains(&by) {
            println!("skipped: products by {by:?}, which this processor does not have");
        }
    }
}
