//! Random numbers, and tensors of them in any order in memory.

use tilewright_attention::Affine;
use tilewright_attention::cache::{Codes, Tokens};
use tilewright_ir::Elem;
use tilewright_lang::{bf16, f16};
use tilewright_runtime::{Tensor, TensorView};

pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    /// -1.7 to 1.7, variance 1.
    pub fn number(&mut self) -> f64 {
        ((self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0) * 1.7
    }
}

pub fn tensor_of(elem: Elem, numbers: &[f64], shape: &[usize]) -> Tensor {
    let bits = numbers.iter().map(|&x| elem.to_bits(x));
    match elem {
        Elem::F16 => Tensor::from_slice(&bits.map(|b| f16::from_bits(b as u16)).collect::<Vec<_>>(), shape),
        Elem::Bf16 => Tensor::from_slice(&bits.map(|b| bf16::from_bits(b as u16)).collect::<Vec<_>>(), shape),
        Elem::U8 => Tensor::from_slice(&bits.map(|b| b as u8).collect::<Vec<_>>(), shape),
        Elem::Bool => Tensor::from_slice(&bits.map(|b| b != 0).collect::<Vec<_>>(), shape),
        _ => Tensor::from_slice(&bits.map(f32::from_bits).collect::<Vec<_>>(), shape),
    }
    .unwrap()
}

/// One array of memory, logically `[outer, heads, slots, width]`, perhaps with heads and slots swapped in memory.
pub struct Memory {
    tensor: Tensor,
    shape: [usize; 4],
    strides: [usize; 4],
}

impl Memory {
    pub fn new(
        shape: [usize; 4],
        swapped: bool,
        make: impl FnOnce(&[usize], &dyn Fn(usize) -> usize) -> Tensor,
    ) -> Memory {
        let [_, h, s, w] = shape;
        let (inner, strides) =
            if swapped { ([shape[0], s, h, w], [s * h * w, w, h * w, 1]) } else { (shape, [h * s * w, s * w, w, 1]) };
        let logical = |at: usize| {
            let (c, at) = (at % w.max(1), at / w.max(1));
            let [a, b] = [inner[1], inner[2]];
            let (y, at) = (at % b, at / b);
            let (x, o) = (at % a, at / a);
            let (head, slot) = if swapped { (y, x) } else { (x, y) };
            ((o * h + head) * s + slot) * w + c
        };
        Memory { tensor: make(&inner, &logical), shape, strides }
    }
    pub fn floats(elem: Elem, numbers: &[f64], shape: [usize; 4], swapped: bool) -> Memory {
        Memory::new(shape, swapped, |inner, at| {
            tensor_of(elem, &(0..numbers.len()).map(|i| numbers[at(i)]).collect::<Vec<_>>(), inner)
        })
    }
    pub fn words(words: &[u32], shape: [usize; 4], swapped: bool) -> Memory {
        Memory::new(shape, swapped, |inner, at| {
            Tensor::from_slice(&(0..words.len()).map(|i| words[at(i)]).collect::<Vec<_>>(), inner).unwrap()
        })
    }
    pub fn view(&self) -> TensorView<'_> {
        self.tensor.view().with_strides(&self.shape, &self.strides).unwrap()
    }
}

/// Keys or values before they become tensors.
pub struct Side {
    elem: Elem,
    affine: Option<Affine>,
    shape: [usize; 4],
    numbers: Vec<f64>,
    words: Vec<u32>,
    scales: Vec<f64>,
    biases: Vec<f64>,
}

pub struct StoredSide {
    pub affine: Option<Affine>,
    pub parts: Vec<Memory>,
}

impl Side {
    pub fn new(rng: &mut Rng, elem: Elem, affine: Option<Affine>, shape: [usize; 4], size: f64) -> Side {
        let [o, h, s, d] = shape;
        let mut side = Side { elem, affine, shape, numbers: vec![], words: vec![], scales: vec![], biases: vec![] };
        let rows = o * h * s;
        match affine {
            None => side.numbers = (0..rows * d).map(|_| elem.nearest(rng.number() * size)).collect(),
            Some(Affine { bits, group }) => {
                let n = bits.largest() as f64;
                side.words = (0..rows * d * bits.width() / 32).map(|_| rng.next() as u32).collect();
                for _ in 0..rows * d / group.size() {
                    let scale = rng.number() * size * 2.0 / n;
                    side.scales.push(elem.nearest(scale));
                    side.biases.push(elem.nearest(-scale * n / 2.0 + 0.1 * rng.number()));
                }
            }
        }
        side
    }
    /// The numbers of a row; of codes the exact ones.
    pub fn row(&self, outer: usize, head: usize, slot: usize) -> Vec<f64> {
        self.numbers_of(outer, head, slot, |x| x)
    }
    /// The same of a dequantised cache.
    pub fn dequantised_row(&self, outer: usize, head: usize, slot: usize) -> Vec<f64> {
        self.numbers_of(outer, head, slot, |x| self.elem.nearest(x))
    }
    fn numbers_of(&self, outer: usize, head: usize, slot: usize, round: impl Fn(f64) -> f64) -> Vec<f64> {
        let [_, h, s, d] = self.shape;
        let row = (outer * h + head) * s + slot;
        match self.affine {
            None => self.numbers[row * d..][..d].to_vec(),
            Some(Affine { bits, group }) => (0..d)
                .map(|i| {
                    let per = 32 / bits.width();
                    let word = self.words[row * (d / per) + i / per];
                    let code = word >> (bits.width() * (i % per)) & ((1u32 << bits.width()) - 1);
                    let g = row * (d / group.size()) + i / group.size();
                    round(round(f64::from(code) * self.scales[g]) + self.biases[g])
                })
                .collect(),
        }
    }
    pub fn poison(&mut self, outer: usize, head: usize, slot: usize, rng: &mut Rng) {
        let [_, h, s, d] = self.shape;
        let row = (outer * h + head) * s + slot;
        let bad = rng.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
        match self.affine {
            None => self.numbers[row * d..][..d].fill(bad),
            Some(Affine { group, .. }) => {
                let g = d / group.size();
                self.scales[row * g..][..g].fill(bad);
                self.biases[row * g..][..g].fill(f64::NAN);
            }
        }
    }
    pub fn store(&self, rng: &mut Rng) -> StoredSide {
        let [o, h, s, d] = self.shape;
        let mut swapped = || rng.one_in(3);
        let parts = match self.affine {
            None => vec![Memory::floats(self.elem, &self.numbers, self.shape, swapped())],
            Some(Affine { bits, group }) => {
                let g = [o, h, s, d / group.size()];
                vec![
                    Memory::words(&self.words, [o, h, s, d * bits.width() / 32], swapped()),
                    Memory::floats(self.elem, &self.scales, g, swapped()),
                    Memory::floats(self.elem, &self.biases, g, swapped()),
                ]
            }
        };
        StoredSide { affine: self.affine, parts }
    }
}

impl StoredSide {
    pub fn tokens(&self) -> Tokens<'_> {
        match self.affine {
            None => self.parts[0].view().into(),
            Some(format) => {
                Codes { w: self.parts[0].view(), scales: self.parts[1].view(), biases: self.parts[2].view(), format }
                    .into()
            }
        }
    }
}
