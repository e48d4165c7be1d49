//! Cases of the kernels that write a cache and read it back.

use super::random::Random;
use super::{CaseError, CaseReport};
use crate::cache::{Cache, CacheError, CodeTensors, Destination, Encoding, Placement, Slots, append, quantise_append};
use crate::quant::{Affine, Rounding};
use crate::reference::affine::{Encoded, decode, encode};
use crate::reference::{Elements, Mismatch, compare_elements};
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor, TensorError};

/// New tokens written into a cache, as they are or as codes, and the cache read back: every element of the cache and of what
/// is read is that of the reference, other slots keep their numbers, and the tokens are as near as the format promises.
#[derive(Clone, Debug)]
pub struct CacheCase {
    name: String,
    elem: Elem,
    heads: usize,
    dim: usize,
    /// Slots of a batch entry; with pages, as many pages as hold them.
    capacity: usize,
    /// Position of the first new token, and how many there are, of each batch entry.
    new: Vec<(usize, usize)>,
    placement: Placement,
    encoding: Encoding,
    rounding: Rounding,
}

/// The tensors of keys in a cache.
enum Stored {
    Dense(Tensor),
    Codes(Box<CodeTensors>),
}

/// The same as numbers: of each tensor its name, the width of a row, and `[outer, heads, each, width]`.
type Parts = Vec<(&'static str, usize, Vec<f64>)>;

/// How positions are slots.
struct Place {
    /// Batch entries, or pages of the pool.
    outer: usize,
    /// Slots of each.
    each: usize,
    /// Pages of each batch entry, row after row.
    pages: Vec<i32>,
}

impl CacheCase {
    /// Two heads of dim 64 and 40 slots in f32, 20 tokens from position 3 on and 5 from 17 on; the methods change that.
    pub fn new(name: impl Into<String>) -> CacheCase {
        CacheCase {
            name: name.into(),
            elem: Elem::F32,
            heads: 2,
            dim: 64,
            capacity: 40,
            new: vec![(3, 20), (17, 5)],
            placement: Placement::Contiguous,
            encoding: Encoding::Stored,
            rounding: Rounding::TiesToEven,
        }
    }

    /// The element type of the tokens.
    pub fn elem(mut self, elem: Elem) -> CacheCase {
        self.elem = elem;
        self
    }

    /// Heads, and numbers of each.
    pub fn heads(mut self, heads: usize, dim: usize) -> CacheCase {
        (self.heads, self.dim) = (heads, dim);
        self
    }

    /// Slots of a batch entry.
    pub fn capacity(mut self, capacity: usize) -> CacheCase {
        self.capacity = capacity;
        self
    }

    /// For each batch entry the position of its first new token, and how many there are.
    pub fn tokens(mut self, new: &[(usize, usize)]) -> CacheCase {
        self.new = new.to_vec();
        self
    }

    /// How positions are slots.
    pub fn placement(mut self, placement: Placement) -> CacheCase {
        self.placement = placement;
        self
    }

    /// Codes instead of the numbers themselves.
    pub fn codes(mut self, format: Affine, rounding: Rounding) -> CacheCase {
        (self.encoding, self.rounding) = (Encoding::Affine(format), rounding);
        self
    }

    /// `append_past_a_tile/f16`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.name, self.elem)
    }

    /// Writes and reads on a device, and compares. The error is that of the tokens after both.
    ///
    /// # Errors
    /// What was refused, or the first wrong element; a case with no tokens is wrong.
    pub fn run(&self, device: &Device) -> Result<CaseReport, CaseError> {
        let refused = |error: CacheError| CaseError::Cache { name: self.name(), error };
        let wrong = |error: Mismatch| CaseError::Wrong { name: self.name(), error };
        let place = self.place();
        let most = self.new.iter().map(|&(_, count)| count).max().unwrap_or(0);
        let shape = [self.new.len(), self.heads, most, self.dim];
        let x = Tensor::from_f64(self.elem, &Random::new(&self.name).normals(shape), &shape);
        let x = x.map_err(|error| refused(error.into()))?;

        let mut stored = self.sentinels(&place).map_err(refused)?;
        let mut wanted = stored.parts();
        self.write(&x.to_f64(), most, &place, &mut wanted).map_err(refused)?;
        self.write_on(device, &x, &mut stored, &place).map_err(refused)?;
        let mut compared = 0;
        for ((name, _, got), (_, _, wanted)) in stored.parts().iter().zip(&wanted) {
            compared += compare_elements(got, wanted, |_| 0.0).refuse(name).map_err(wrong)?.compared;
        }

        let mut o = sentinels(self.elem, &[self.new.len(), self.heads, self.capacity, self.dim], 4)
            .map_err(|error| refused(error.into()))?;
        let mut wanted_o = o.to_f64();
        self.read(&wanted, &place, &mut wanted_o).map_err(refused)?;
        self.read_on(device, &stored, &place, &mut o).map_err(refused)?;
        let got = o.to_f64();
        compared += compare_elements(&got, &wanted_o, |_| 0.0).refuse("o").map_err(wrong)?.compared;

        let round_trip = self.round_trip(&x.to_f64(), most, &wanted, &place, &got).map_err(wrong)?;
        let Elements { error, bound, share, .. } = round_trip;
        let kernel = match self.encoding {
            Encoding::Stored => format!("cache_append {} {}", self.elem, self.placement),
            Encoding::Affine(format) => format!("cache_quantise {} {format} {}", self.elem, self.placement),
        };
        Ok(CaseReport { name: self.name(), error, bound, share, compared: compared + round_trip.compared, kernel })
    }

    fn place(&self) -> Place {
        let batch = self.new.len();
        match self.placement {
            Placement::Contiguous | Placement::Ring => Place { outer: batch, each: self.capacity, pages: Vec::new() },
            Placement::Paged { page_size } => {
                // Entries' pages take turns from the last one down; two belong to nobody.
                let outer = batch * self.capacity.div_ceil(page_size) + 2;
                let of_entry = |entry| (entry..outer - 2).step_by(batch).map(move |page| (outer - 1 - page) as i32);
                Place { outer, each: page_size, pages: (0..batch).flat_map(of_entry).collect() }
            }
        }
    }

    /// Tokens of a batch entry after the new ones, and the position of the oldest that is still there.
    fn kept(&self, entry: usize) -> (usize, usize) {
        let (position, count) = self.new[entry];
        let len = (position + count).min(self.capacity);
        (len, position + count - len)
    }

    /// Slots that hold numbers of their own.
    fn sentinels(&self, place: &Place) -> Result<Stored, CacheError> {
        let of = |elem, width, salt| sentinels(elem, &[place.outer, self.heads, place.each, width], salt);
        Ok(match self.encoding {
            Encoding::Stored => Stored::Dense(of(self.elem, self.dim, 0)?),
            Encoding::Affine(format) => Stored::Codes(Box::new(CodeTensors {
                w: of(Elem::U32, format.words(self.dim)?, 1)?,
                scales: of(self.elem, format.groups(self.dim)?, 2)?,
                biases: of(self.elem, format.groups(self.dim)?, 3)?,
                format,
            })),
        })
    }

    /// What the new tokens make of the cache, one after the other.
    fn write(&self, x: &[f64], most: usize, place: &Place, parts: &mut Parts) -> Result<(), CacheError> {
        for (entry, &(position, count)) in self.new.iter().enumerate() {
            for (token, head) in (0..count).flat_map(|token| (0..self.heads).map(move |head| (token, head))) {
                let row = &x[((entry * self.heads + head) * most + token) * self.dim..][..self.dim];
                let to = place.row(self, entry, position + token, head);
                let numbers = match self.encoding {
                    Encoding::Stored => vec![row.to_vec()],
                    Encoding::Affine(format) => {
                        let row: Vec<f32> = row.iter().map(|&x| x as f32).collect();
                        let Encoded { words, scales, biases } = encode(&row, self.elem, format, self.rounding)?;
                        vec![words.into_iter().map(f64::from).collect(), scales, biases]
                    }
                };
                for ((_, width, part), numbers) in parts.iter_mut().zip(&numbers) {
                    part[to * *width..][..*width].copy_from_slice(numbers);
                }
            }
        }
        Ok(())
    }

    fn write_on(&self, device: &Device, x: &Tensor, stored: &mut Stored, place: &Place) -> Result<(), CacheError> {
        let slots = match self.placement {
            Placement::Contiguous => Slots::Contiguous,
            Placement::Ring => Slots::Ring,
            Placement::Paged { .. } => Slots::Paged(&place.pages),
        };
        let (positions, counts): (Vec<usize>, Vec<usize>) = self.new.iter().copied().unzip();
        let at = Destination { slots, positions: &positions, counts: &counts };
        match stored {
            Stored::Dense(to) => append(device, x.view(), to.view_mut(), &at),
            Stored::Codes(to) => quantise_append(device, x.view(), to.view_mut(), &at, self.rounding),
        }
    }

    /// The tokens of the cache in order.
    fn read(&self, parts: &Parts, place: &Place, o: &mut [f64]) -> Result<(), CacheError> {
        for entry in 0..self.new.len() {
            let (len, oldest) = self.kept(entry);
            for (token, head) in (0..len).flat_map(|token| (0..self.heads).map(move |head| (token, head))) {
                let from = place.row(self, entry, oldest + token, head);
                let part = |i: usize| {
                    let (_, width, part) = &parts[i];
                    part[from * width..][..*width].to_vec()
                };
                let numbers = match self.encoding {
                    Encoding::Stored => part(0),
                    Encoding::Affine(format) => {
                        let words = part(0).into_iter().map(|word| word as u32).collect();
                        decode(&Encoded { words, scales: part(1), biases: part(2) }, self.elem, format)?
                    }
                };
                let to = ((entry * self.heads + head) * self.capacity + token) * self.dim;
                o[to..][..self.dim].copy_from_slice(&numbers);
            }
        }
        Ok(())
    }

    fn read_on(&self, device: &Device, stored: &Stored, place: &Place, o: &mut Tensor) -> Result<(), CacheError> {
        let entries = || (0..self.new.len()).map(|entry| self.kept(entry));
        let kv_len: Vec<i32> = entries().map(|(len, _)| len as i32).collect();
        let starts: Vec<i32> = entries().map(|(_, oldest)| (oldest % self.capacity) as i32).collect();
        let cache = match stored {
            Stored::Dense(tensor) => Cache::new(tensor.view(), tensor.view()),
            Stored::Codes(codes) => Cache::new(codes.view(), codes.view()),
        };
        let cache = match self.placement {
            Placement::Contiguous => cache,
            Placement::Ring => cache.ring(&starts),
            Placement::Paged { .. } => cache.paged(&place.pages),
        };
        cache.dequantise_keys(device, &kv_len, o.view_mut())
    }

    /// The tokens that were read beside those that were written: the same, or as near as their group's scale and bias say.
    fn round_trip(
        &self,
        x: &[f64],
        most: usize,
        parts: &Parts,
        place: &Place,
        o: &[f64],
    ) -> Result<Elements, Mismatch> {
        let unit = match self.elem {
            Elem::F16 => 2f64.powi(-11),
            Elem::Bf16 => 2f64.powi(-8),
            Elem::F32 | Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 | Elem::Bool => 2f64.powi(-24),
        };
        let mut all = compare_elements(&[], &[], |_| 0.0);
        for (entry, &(position, count)) in self.new.iter().enumerate() {
            let (_, oldest) = self.kept(entry);
            let kept = oldest.max(position)..position + count;
            for (at, head) in kept.flat_map(|at| (0..self.heads).map(move |head| (at, head))) {
                let row = place.row(self, entry, at, head);
                let (group, allowed): (usize, Box<dyn Fn(usize) -> f64>) = match self.encoding {
                    Encoding::Stored => (self.dim, Box::new(|_| 0.0)),
                    Encoding::Affine(format) => {
                        let groups = parts[1].1;
                        // The promise is of the scale and bias before they were rounded.
                        let before = move |part: usize, i: usize| parts[part].2[row * groups + i].abs() / (1.0 - unit);
                        let largest = f64::from(format.bits.largest());
                        let of = move |i| before(1, i) + unit * (largest * before(1, i) + 3.0 * before(2, i));
                        (format.group.size(), Box::new(of))
                    }
                };
                let from = ((entry * self.heads + head) * most + at - position) * self.dim;
                let to = ((entry * self.heads + head) * self.capacity + at - oldest) * self.dim;
                for i in 0..self.dim / group {
                    let (got, wanted) = (&o[to + i * group..][..group], &x[from + i * group..][..group]);
                    all = all.and(compare_elements(got, wanted, |_| allowed(i)), to + i * group);
                }
            }
        }
        match all.compared {
            0 => Err(Mismatch::Empty),
            _ => all.refuse("the round trip"),
        }
    }
}

impl Place {
    /// The row of the cache's tensors that holds a position.
    fn row(&self, case: &CacheCase, entry: usize, position: usize, head: usize) -> usize {
        let (outer, slot) = match case.placement {
            Placement::Contiguous => (entry, position),
            Placement::Ring => (entry, position % self.each),
            Placement::Paged { page_size } => {
                let of_entry = self.pages.len() / case.new.len();
                (self.pages[entry * of_entry + position / page_size] as usize, position % page_size)
            }
        };
        (outer * case.heads + head) * self.each + slot
    }
}

impl Stored {
    fn parts(&self) -> Parts {
        let part = |name, tensor: &Tensor| (name, tensor.shape()[3], tensor.to_f64());
        match self {
            Stored::Dense(tensor) => vec![part("the cache", tensor)],
            Stored::Codes(codes) => {
                vec![part("w", &codes.w), part("scales", &codes.scales), part("biases", &codes.biases)]
            }
        }
    }
}

/// Numbers that every type holds, of which neighbours differ.
fn sentinels(elem: Elem, shape: &[usize], salt: usize) -> Result<Tensor, TensorError> {
    let number = |i: usize| match elem.is_float() {
        true => ((i + salt) * 97 % 251) as f64 - 125.0,
        false => f64::from((i as u32 + 1).wrapping_mul(0x9e37_79b9)),
    };
    let numbers: Vec<f64> = (0..shape.iter().product()).map(number).collect();
    Tensor::from_f64(elem, &numbers, shape)
}
