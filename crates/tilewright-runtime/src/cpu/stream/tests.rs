//! Products of few rows against sums in f64, for every instruction set: in numbers and in pairs, of floats and of codes, of rows that
//! begin and end anywhere.

use super::*;
use crate::cpu::isa::Isa;
use crate::cpu::memory::{Place, View};
use crate::cpu::rows::{Codes, Rows};
use half::bf16;
use tilewright_compile::cpu::PackSource;
use tilewright_ir::Elem;

/// Columns of the tensor: two vectors of pairs, two groups of codes.
const WIDTH: usize = 64;
const GROUP: usize = 32;
/// Rows of the tensor.
const SLOTS: usize = 29;

/// A tensor of rows, and the number at each place.
struct Tensor {
    words: Vec<u32>,
    scales: Vec<bf16>,
    biases: Vec<bf16>,
    numbers: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    F32,
    Bf16,
    Codes(u8),
}

impl Tensor {
    fn new(kind: Kind) -> Tensor {
        let affine = |from: f32| (0..SLOTS * WIDTH / GROUP).map(|i| bf16::from_f32(from + i as f32 / 93.0)).collect();
        let (scales, biases): (Vec<bf16>, Vec<bf16>) = (affine(0.013), affine(-0.7));
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random >> 8
        };
        let mut words = vec![0; SLOTS * WIDTH];
        let numbers = (0..SLOTS * WIDTH).map(|at| match kind {
            Kind::F32 => {
                let number = next() as f32 / 8e6 - 1.0;
                words[at] = number.to_bits();
                f64::from(number)
            }
            Kind::Bf16 => {
                let number = bf16::from_f32(next() as f32 / 8e6 - 1.0);
                words[at / 2] |= u32::from(number.to_bits()) << (16 * (at % 2));
                number.to_f64()
            }
            Kind::Codes(bits) => {
                let (code, per_word) = (next() & ((1 << bits) - 1), 32 / usize::from(bits));
                words[at / per_word] |= code << (at % per_word * usize::from(bits));
                let scaled = bf16::from_f32(code as f32 * scales[at / GROUP].to_f32());
                bf16::from_f32(scaled.to_f32() + biases[at / GROUP].to_f32()).to_f64()
            }
        });
        let numbers = numbers.collect();
        Tensor { words, scales, biases, numbers }
    }

    /// Reads `rows` rows from `start` on, which may be outside, of which those from `first` to `last` count.
    fn read(&self, kind: Kind, start: i32, rows: usize, [first, last]: [usize; 2], f: impl FnOnce(&Reader<'_>)) {
        let view = |base: *const u8, elem, columns: usize| View {
            base: base.cast_mut(),
            elem,
            rank: 2,
            len: [SLOTS as i32, columns as i32, 0, 0],
            first: [first as i32, 0, 0, 0],
            last: [last as i32, columns as i32, 0, 0],
            stride: [columns as isize, 1, 0, 0],
        };
        let [words, scales, biases] = match kind {
            Kind::F32 => [(Elem::F32, WIDTH); 3],
            Kind::Bf16 => [(Elem::Bf16, WIDTH); 3],
            Kind::Codes(bits) => {
                let groups = (Elem::Bf16, WIDTH / GROUP);
                [(Elem::U32, WIDTH * usize::from(bits) / 32), groups, groups]
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
            Kind::F32 | Kind::Bf16 => Reader::Stored(part(0)),
            Kind::Codes(bits) => Reader::Codes(Codes {
                words: part(0),
                scales: part(1),
                biases: part(2),
                bits,
                group: GROUP,
                rounds: Elem::Bf16,
            }),
        });
    }
}

/// One product, by the functions of an instruction set.
fn check(isa: Isa, kind: Kind, pairs: bool, transposed: bool, m: usize, (start, rows): (i32, usize)) {
    let (first, last) = (3, SLOTS - 2);
    let tensor = Tensor::new(kind);
    let (n, k) = if transposed { (rows, WIDTH) } else { (WIDTH, rows) };
    let left: Vec<bf16> = (0..m * k).map(|i| bf16::from_f32((i * 37 % 101) as f32 / 50.0 - 1.0)).collect();
    let lanes = if pairs { k.div_ceil(2) } else { k };
    // Behind the left operand the result, which is added to, and then room for rows.
    let (c, scratch) = (m * lanes, m * (lanes + n));
    let mut arena = vec![f32::NAN.to_bits(); scratch + 16 * WIDTH];
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
    let dot = DotRows {
        a: 0,
        b,
        transposed,
        c: c as u32,
        m: m_,
        n: n_,
        k: k_,
        accumulate: true,
        pairs,
        scratch: scratch as u32,
    };
    let kernels = isa.kernels();
    let run = kernels.pairs.filter(|_| pairs).map_or(kernels.dot_rows, |pairs| pairs.dot_rows);
    // SAFETY: the processor has the instruction set; the arena has room for all of it.
    tensor.read(kind, start, rows, [first, last], |reader| unsafe { run(&dot, reader, arena.as_mut_ptr()) });
    let number = |row: usize, column: usize| {
        let slot = start + row as i32;
        let counts = (first as i32..last as i32).contains(&slot);
        if counts { tensor.numbers[slot as usize * WIDTH + column] } else { 0.0 }
    };
    for row in 0..m {
        for column in 0..n {
            let right = |at: usize| if transposed { number(column, at) } else { number(at, column) };
            let wanted = 0.25 + (0..k).map(|at| left[row * k + at].to_f64() * right(at)).sum::<f64>();
            let got = f64::from(f32::from_bits(arena[c + row * n + column]));
            let bound = 1e-5 * (0..k).map(|at| (left[row * k + at].to_f64() * right(at)).abs()).sum::<f64>() + 1e-6;
            assert!(
                (got - wanted).abs() <= bound,
                "{} {kind:?}, pairs {pairs}, transposed {transposed}, {m} rows with {rows} from {start}: {row}, {column}: {got} {wanted}",
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
        for kind in [Kind::F32, Kind::Bf16, Kind::Codes(8), Kind::Codes(4)] {
            for in_pairs in [false, true].into_iter().filter(|&in_pairs| !in_pairs || (pairs && kind != Kind::F32)) {
                for transposed in [false, true] {
                    for (m, place) in
                        [(1, (4, 20)), (4, (0, 29)), (3, (-3, 33)), (8, (3, 1)), (4, (6, 17)), (2, (26, 5))]
                    {
                        check(isa, kind, in_pairs, transposed, m, place);
                    }
                }
            }
        }
    }
    if !pairs_too {
        println!("skipped: products of pairs, which this processor does not have");
    }
}
