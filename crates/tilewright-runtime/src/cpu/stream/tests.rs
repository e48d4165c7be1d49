//! Products of few rows against sums in f64, for every instruction set: in numbers and in pairs, of floats and of codes, of rows that
//! begin and end anywhere.

use super::*;
use crate::cpu::isa::Isa;
use crate::cpu::memory::{Place, View};
use crate::cpu::rows::{Codes, Rows};
use half::{bf16, f16};
use tilewright_compile::cpu::PackSource;
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
    Codes(u8),
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
                Kind::Codes(bits) => {
                    let (code, per_word) = (next() & ((1 << bits) - 1), 32 / usize::from(bits));
                    words[at / per_word] |= code << (at % per_word * usize::from(bits));
                    if !counts {
                        scales[at / group] = bf16::NAN;
                    }
                    let scaled = bf16::from_f32(code as f32 * scales[at / group].to_f32());
                    bf16::from_f32(scaled.to_f32() + biases[at / group].to_f32()).to_f64()
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
            Kind::Codes(bits) => {
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
            Kind::Codes(bits) => Reader::Codes(Codes {
                words: part(0),
                scales: part(1),
                biases: part(2),
                bits,
                group,
                rounds: Elem::Bf16,
            }),
        });
    }
}

/// One product, by the functions of an instruction set.
fn check(isa: Isa, tensor: &Tensor, pairs: bool, transposed: bool, m: usize, (start, rows): (i32, usize)) {
    let &Tensor { kind, width, group, .. } = tensor;
    let accumulate = m != 2;
    let (n, k) = if transposed { (rows, width) } else { (width, rows) };
    let left: Vec<bf16> = (0..m * k).map(|i| bf16::from_f32((i * 37 % 101) as f32 / 50.0 - 1.0)).collect();
    let lanes = if pairs { k.div_ceil(2) } else { k };
    // Behind the left operand the result, which is added to, and then room for rows.
    let (c, scratch) = (m * lanes, m * (lanes + n));
    let mut arena = vec![f32::NAN.to_bits(); scratch + 16 * width];
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
        DotRows { a: 0, b, transposed, c: c as u32, m: m_, n: n_, k: k_, accumulate, pairs, scratch: scratch as u32 };
    let kernels = isa.kernels();
    let run = kernels.pairs.filter(|_| pairs).map_or(kernels.dot_rows, |pairs| pairs.dot_rows);
    // SAFETY: the processor has the instruction set; the arena has room for all of it.
    tensor.read(start, rows, |reader| unsafe { run(&dot, reader, arena.as_mut_ptr()) });
    let number = |row: usize, column: usize| {
        let slot = usize::try_from(start + row as i32).ok().filter(|slot| COUNT.contains(slot));
        slot.map_or(0.0, |slot| tensor.numbers[slot * width + column])
    };
    for row in 0..m {
        for column in 0..n {
            let right = |at: usize| if transposed { number(column, at) } else { number(at, column) };
            let wanted = if accumulate { 0.25 } else { 0.0 };
            let wanted = wanted + (0..k).map(|at| left[row * k + at].to_f64() * right(at)).sum::<f64>();
            let got = f64::from(f32::from_bits(arena[c + row * n + column]));
            let bound = 1e-5 * (0..k).map(|at| (left[row * k + at].to_f64() * right(at)).abs()).sum::<f64>() + 1e-6;
            assert!(
                (got - wanted).abs() <= bound,
                "{} {kind:?} of {width} by {group}, pairs {pairs}, transposed {transposed}, {m} rows with {rows} from {start}: \
                 {row}, {column}: {got} {wanted}",
                isa.name()
            );
        }
    }
}

#[test]
fn products_of_few_rows_are_sums_wherever_the_rows_begin_and_end() {
    let mut pairs_too = false;
    for isa in Isa::available() {
        let pairs = isa.target().pairs;
        pairs_too |= pairs;
        for kind in [Kind::F32, Kind::F16, Kind::Bf16, Kind::Codes(8), Kind::Codes(4)] {
            for (width, group) in [(64, 32), (96, 32), (128, 64), (48, 16)] {
                let tensor = Tensor::new(kind, width, group);
                let alike = if matches!(kind, Kind::Codes(_)) { group } else { width };
                let may_pair = pairs && matches!(kind, Kind::Bf16 | Kind::Codes(_)) && alike % 32 == 0;
                for in_pairs in [false, true].into_iter().filter(|&in_pairs| may_pair || !in_pairs) {
                    for transposed in [false, true] {
                        for (m, place) in
                            [(1, (4, 20)), (4, (-3, 96)), (8, (5, 21)), (3, (3, 1)), (5, (14, 79)), (2, (90, 5))]
                        {
                            check(isa, &tensor, in_pairs, transposed, m, place);
                        }
                    }
                }
            }
        }
    }
    if !pairs_too {
        println!("skipped: products of pairs, which this processor does not have");
    }
}
