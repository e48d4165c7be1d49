//! The tensors of a case, in its cache format and order in memory.

use super::random::Random;
use super::{Case, Order, Values};
use crate::attention::Extents;
use crate::cache::{Cache, Codes, Encoding, Placement, Tokens};
use crate::error::AttentionError;
use crate::quant::{Affine, Rounding};
use crate::reference::affine;
use tilewright_ir::Elem;
use tilewright_runtime::{Tensor, TensorError, TensorView};

/// The tensors of a case.
#[derive(Clone, Debug)]
pub struct Inputs {
    q: Stored,
    keys: StoredTokens,
    values: StoredTokens,
    slots: Slots,
    /// Dense keys and values behind the prefix.
    tail: Option<(Stored, Stored)>,
}

/// Where the tokens of a case lie.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    pub placement: Placement,
    /// Batch entries, or pages of the pool.
    pub outer: usize,
    /// Tokens of each head of them.
    pub each: usize,
    pub ring_start: Vec<i32>,
    /// Pages of each batch entry, row after row.
    pub pages: Vec<i32>,
    /// Tokens before the tail.
    pub prefix_len: Vec<i32>,
}

/// A tensor in some order.
#[derive(Clone, Debug)]
struct Stored {
    memory: Tensor,
    shape: [usize; 4],
    strides: [usize; 4],
}

#[derive(Clone, Debug)]
enum StoredTokens {
    Stored(Stored),
    /// Words, scales and biases.
    Affine(Box<[Stored; 3]>, Affine),
}

impl Inputs {
    /// Where `attended`, `[batch, kv_heads, capacity]`, is given, what it does not name is NaN.
    pub(super) fn new(case: &Case, attended: Option<&[bool]>) -> Result<Inputs, AttentionError> {
        let Extents { batch, q_heads, kv_heads, q_len, capacity, head_dim, value_dim } = case.shape;
        let mut random = Random::new(&case.name);
        let q_shape = [batch, q_heads, q_len, head_dim];
        let mut q = random.normals(q_shape);
        let mut k = random.normals([batch, kv_heads, capacity, head_dim]);
        if case.values == Values::LargeLogits {
            // With q and k of this size the terms of a score add up to 1e5 before the signs.
            let size = (1e5 / (0.7 * (head_dim as f64).sqrt())).sqrt();
            let key = random.normals([1, 1, 1, head_dim]);
            q.iter_mut().for_each(|x| *x *= size);
            for row in k.chunks_mut(head_dim) {
                row.iter_mut().zip(&key).for_each(|(x, base)| *x = size * (base + 1e-5 * *x));
            }
        }
        let mut v = random.normals([batch, kv_heads, capacity, value_dim]);
        if let Some(attended) = attended {
            for (tokens, dim) in [(&mut k, head_dim), (&mut v, value_dim)] {
                let rows = tokens.chunks_mut(dim).zip(attended);
                rows.filter(|(_, attended)| !**attended).for_each(|(row, _)| row.fill(f64::NAN));
            }
        }
        let slots = Slots::of(case, attended.is_some(), &mut random);
        let unused = if attended.is_some() { f64::NAN } else { 1.0 };
        let tokens = |logical: &[f64], dim: usize, encoding: Encoding| {
            let rows = slots.arrange(case, logical, dim, unused);
            StoredTokens::new(case, [slots.outer, kv_heads, slots.each, dim], &rows, encoding)
        };
        let tail = |logical: &[f64], dim: usize| {
            let (room, rows) = slots.tail(case, logical, dim, unused);
            Stored::new(case.kv_elem, [batch, kv_heads, room, dim], case.order, &rows)
        };
        Ok(Inputs {
            q: Stored::new(case.q_elem, q_shape, case.order, &q)?,
            keys: tokens(&k, head_dim, case.format.keys)?,
            values: tokens(&v, value_dim, case.format.values)?,
            tail: if case.format.tail { Some((tail(&k, head_dim)?, tail(&v, value_dim)?)) } else { None },
            slots,
        })
    }

    /// The queries.
    ///
    /// # Errors
    /// None.
    pub fn q(&self) -> Result<TensorView<'_>, TensorError> {
        self.q.view()
    }

    /// Keys and values.
    ///
    /// # Errors
    /// None.
    pub fn cache(&self) -> Result<Cache<'_>, TensorError> {
        let cache = Cache::new(self.keys.tokens()?, self.values.tokens()?);
        let cache = match self.slots.placement {
            Placement::Contiguous => cache,
            Placement::Ring => cache.ring(&self.slots.ring_start),
            Placement::Paged { .. } => cache.paged(&self.slots.pages),
        };
        Ok(match &self.tail {
            Some((k, v)) => cache.tail(k.view()?, v.view()?, &self.slots.prefix_len),
            None => cache,
        })
    }
}

impl Slots {
    pub fn of(case: &Case, wild: bool, random: &mut Random) -> Slots {
        let Extents { batch, capacity, .. } = case.shape;
        let lengths = case.lengths_of_entries();
        let placement = case.format.placement;
        let mut below = |n: usize| (random.next() % n.max(1) as u64) as i32;
        let mut slots = Slots {
            placement,
            outer: batch,
            each: capacity,
            ring_start: Vec::new(),
            pages: Vec::new(),
            prefix_len: Vec::new(),
        };
        match placement {
            Placement::Contiguous => {}
            Placement::Ring => {
                let anywhere = || (0..batch).map(|_| below(capacity)).collect();
                slots.ring_start = case.ring_start.clone().unwrap_or_else(anywhere);
            }
            Placement::Paged { page_size } => {
                let of_entry = capacity / page_size;
                (slots.outer, slots.each) = (batch * of_entry + 2, page_size); // two pages belong to nobody
                let mut pages: Vec<i32> = (0..slots.outer as i32).collect();
                for at in (1..pages.len()).rev() {
                    pages.swap(at, below(at + 1) as usize);
                }
                pages.truncate(batch * of_entry);
                for (row, &len) in pages.chunks_mut(of_entry.max(1)).zip(&lengths).filter(|_| wild) {
                    let used = (len.max(0) as usize).div_ceil(page_size).min(row.len());
                    let nowhere = [-1, 1 << 30, i32::MIN, 0];
                    row[used..].iter_mut().for_each(|page| *page = nowhere[below(4) as usize]);
                }
                slots.pages = pages;
            }
        }
        if case.format.tail {
            slots.each = capacity.div_ceil(2);
            let room = (capacity - slots.each) as i32;
            let prefix = |&len: &i32| {
                let (least, most) = ((len - room).max(0), len.min(slots.each as i32));
                least + below((most - least + 1).max(1) as usize)
            };
            slots.prefix_len = lengths.iter().map(prefix).collect();
        }
        slots
    }

    /// Logical tokens `[batch, kv_heads, capacity, dim]` as `[outer, kv_heads, each, dim]`.
    fn arrange(&self, case: &Case, logical: &[f64], dim: usize, unused: f64) -> Vec<f64> {
        let Extents { batch, kv_heads, capacity, .. } = case.shape;
        if self.placement == Placement::Contiguous && !case.format.tail {
            return logical.to_vec();
        }
        let mut rows = vec![unused; self.outer * kv_heads * self.each * dim];
        let lengths = case.lengths_of_entries();
        for (entry, &len) in lengths.iter().enumerate().take(batch) {
            for token in 0..capacity.min(len.max(0) as usize) {
                let (outer, slot) = match self.placement {
                    Placement::Contiguous => (entry, token),
                    Placement::Ring => (entry, (self.ring_start[entry] as usize + token) % capacity),
                    Placement::Paged { page_size } => {
                        let page = self.pages[entry * (capacity / page_size) + token / page_size];
                        (page as usize, token % page_size) // of a token that counts
                    }
                };
                let in_tail = self.prefix_len.get(entry).is_some_and(|&prefix| token >= prefix as usize);
                if in_tail {
                    continue;
                }
                for head in 0..kv_heads {
                    let from = ((entry * kv_heads + head) * capacity + token) * dim;
                    let to = ((outer * kv_heads + head) * self.each + slot) * dim;
                    rows[to..to + dim].copy_from_slice(&logical[from..from + dim]);
                }
            }
        }
        rows
    }

    /// The tokens behind the prefix: room for them, and `[batch, kv_heads, room, dim]`.
    fn tail(&self, case: &Case, logical: &[f64], dim: usize, unused: f64) -> (usize, Vec<f64>) {
        let Extents { batch, kv_heads, capacity, .. } = case.shape;
        let room = capacity - self.each;
        let mut rows = vec![unused; batch * kv_heads * room * dim];
        for entry in 0..batch {
            let prefix = self.prefix_len[entry] as usize;
            for token in prefix..capacity.min(prefix + room) {
                for head in 0..kv_heads {
                    let from = ((entry * kv_heads + head) * capacity + token) * dim;
                    let to = ((entry * kv_heads + head) * room + token - prefix) * dim;
                    rows[to..to + dim].copy_from_slice(&logical[from..from + dim]);
                }
            }
        }
        (room, rows)
    }
}

impl StoredTokens {
    /// Rows `[outer, heads, slots, dim]`; a row of NaN has NaN as its scales and biases, and ones as its codes.
    fn new(case: &Case, shape: [usize; 4], rows: &[f64], encoding: Encoding) -> Result<StoredTokens, AttentionError> {
        let [outer, heads, slots, dim] = shape;
        let Encoding::Affine(format) = encoding else {
            return Ok(StoredTokens::Stored(Stored::new(case.kv_elem, shape, case.order, rows)?));
        };
        let values: Vec<f32> = rows.iter().map(|&x| x as f32).collect();
        let wrong = |_| AttentionError::Group { tensor: "k", dim, group: format.group };
        let mut encoded = affine::encode(&values, case.kv_elem, format, Rounding::TiesToEven).map_err(wrong)?;
        let (groups, words) = (dim / format.group.size(), dim / format.bits.codes_per_word());
        for (row, values) in values.chunks(dim).enumerate().filter(|(_, row)| row[0].is_nan()) {
            debug_assert!(values.iter().all(|x| x.is_nan()));
            encoded.words[row * words..][..words].fill(u32::MAX);
            encoded.scales[row * groups..][..groups].fill(f64::NAN);
            encoded.biases[row * groups..][..groups].fill(f64::NAN);
        }
        let w: Vec<f64> = encoded.words.iter().map(|&word| word.into()).collect();
        let stored = |elem, width, values: &[f64]| Stored::new(elem, [outer, heads, slots, width], case.order, values);
        let of_groups = |values| stored(case.kv_elem, groups, values);
        let parts = [stored(Elem::U32, words, &w)?, of_groups(&encoded.scales)?, of_groups(&encoded.biases)?];
        Ok(StoredTokens::Affine(Box::new(parts), format))
    }

    fn tokens(&self) -> Result<Tokens<'_>, TensorError> {
        Ok(match self {
            StoredTokens::Stored(stored) => stored.view()?.into(),
            StoredTokens::Affine(parts, format) => {
                let [w, scales, biases] = &**parts;
                let (w, scales, biases) = (w.view()?, scales.view()?, biases.view()?);
                Codes { w, scales, biases, format: *format }.into()
            }
        })
    }
}

impl Stored {
    fn new(elem: Elem, shape: [usize; 4], order: Order, values: &[f64]) -> Result<Stored, TensorError> {
        let [batch, heads, length, dim] = shape;
        let (strides, count) = match order {
            Order::HeadMajor => ([heads * length * dim, length * dim, dim, 1], batch * heads * length * dim),
            Order::SequenceMajor => ([length * heads * dim, dim, heads * dim, 1], batch * heads * length * dim),
            Order::Gaps => {
                let (row, head) = (dim + 3, length * (dim + 3) + 5);
                ([heads * head + 1, head, row, 1], batch * (heads * head + 1))
            }
        };
        let mut stored = Stored { memory: Tensor::zeros(elem, &[count])?, shape, strides };
        stored.fill(values)?;
        Ok(stored)
    }

    fn fill(&mut self, values: &[f64]) -> Result<(), TensorError> {
        self.memory.view_mut().with_strides(&self.shape, &self.strides)?.copy_from_f64(values)
    }

    fn view(&self) -> Result<TensorView<'_>, TensorError> {
        self.memory.view().with_strides(&self.shape, &self.strides)
    }
}
