//! Where the model's attention is computed: plainly in candle's operations, or by tilewright. Each keeps the keys and values of
//! the positions seen so far, a layer at a time.

use crate::check::largest_gap;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor};
use candle_nn::ops::softmax_last_dim;
use clap::ValueEnum;
use std::fmt;
use tilewright::attention::reference::affine::{decode, encode};
use tilewright::prelude::{Affine, Attention, CacheShape, Device, Elem, Encoding, KvCache, Rounding, TensorView};

/// Who computes attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// softmax(q k^T) v in f32, in candle's operations
    Plain,
    /// This library
    Tilewright,
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CacheKind {
    /// f32, as the model makes them
    Dense,
    /// 8-bit codes
    Int8,
    /// 4-bit codes
    Int4,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Backend::Plain => "plain",
            Backend::Tilewright => "tilewright",
        })
    }
}

impl fmt::Display for CacheKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CacheKind::Dense => "dense",
            CacheKind::Int8 => "int8",
            CacheKind::Int4 => "int4",
        })
    }
}

impl CacheKind {
    /// What the library calls it; codes share a scale and a bias in groups of `group` numbers of a head.
    ///
    /// # Errors
    /// Groups that the library does not have.
    pub fn encoding(self, group: usize) -> Result<Encoding> {
        let codes = |bits| -> Result<Encoding> { Ok(Encoding::Affine(format!("q{bits}g{group}").parse::<Affine>()?)) };
        match self {
            CacheKind::Dense => Ok(Encoding::Stored),
            CacheKind::Int8 => codes(8),
            CacheKind::Int4 => codes(4),
        }
    }
}

/// The extents of the attention of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Heads of q.
    pub q_heads: usize,
    /// Heads of k and v; divides `q_heads`.
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
}

/// Keys and values of all layers, and the attention over them. Tensors are candle's, f32, `[1, heads, positions, head_dim]`.
pub enum Cache {
    /// Kept and computed with by candle.
    Plain(Vec<Option<(Tensor, Tensor)>>),
    /// Kept and computed with by this library.
    Tilewright(Device, Vec<KvCache>),
    /// Both, layer by layer with the same q, k and v, so that the rounding of one layer is not amplified by the next. What
    /// goes on is tilewright's.
    Compared {
        /// Candle's, with the numbers that the codes stand for.
        plain: Box<Cache>,
        /// This library's.
        tilewright: Box<Cache>,
        /// How the library keeps keys and values.
        encoding: Encoding,
        /// The largest difference between the two so far.
        largest: Option<f32>,
    },
}

impl Cache {
    /// Nothing kept. tilewright's has room for `capacity` positions.
    ///
    /// # Errors
    /// Codes in plain attention; what the library refuses, such as a group that does not divide the head.
    pub fn new(backend: Backend, encoding: Encoding, heads: Heads, layers: usize, capacity: usize) -> Result<Cache> {
        match (backend, encoding) {
            (Backend::Plain, Encoding::Stored) => Ok(Cache::Plain(vec![None; layers])),
            (Backend::Plain, Encoding::Affine(codes)) => {
                bail!("plain attention has no cache of codes, here {codes}; leave out --cache or --attention plain")
            }
            (Backend::Tilewright, encoding) => {
                let Heads { kv_heads, head_dim, .. } = heads;
                let shape = CacheShape { batch: 1, kv_heads, capacity, head_dim, value_dim: head_dim, elem: Elem::F32 };
                let empty = KvCache::builder(shape).keys(encoding).values(encoding).build()?;
                Ok(Cache::Tilewright(Device::cpu(), vec![empty; layers]))
            }
        }
    }

    /// Both kinds at once, compared: `plain` as candle keeps it, `tilewright` in this encoding.
    pub fn compared(plain: Cache, tilewright: Cache, encoding: Encoding) -> Cache {
        Cache::Compared { plain: Box::new(plain), tilewright: Box::new(tilewright), encoding, largest: None }
    }

    /// By how much an element of tilewright's attention differed from plain attention at most.
    ///
    /// # Errors
    /// Nothing was compared.
    pub fn largest_difference(&self) -> Result<f32> {
        match self {
            Cache::Plain(_) | Cache::Tilewright(..) => None,
            Cache::Compared { largest, .. } => *largest,
        }
        .context("no attention was compared")
    }

    /// How many positions every layer has.
    pub fn len(&self) -> Result<usize> {
        match self {
            Cache::Plain(layers) => match layers.last() {
                Some(Some((k, _))) => Ok(k.dim(2)?),
                Some(None) | None => Ok(0),
            },
            Cache::Tilewright(_, layers) => Ok(layers.last().map_or(Ok(0), |layer| layer.len(0))?),
            Cache::Compared { tilewright, .. } => tilewright.len(),
        }
    }

    /// Keeps the keys and values of one layer for the next positions, and gives the attention of q over everything that the
    /// layer keeps. The same positions have to follow for every layer, in their order.
    ///
    /// # Errors
    /// More positions than there is room for; what candle or the library reports.
    pub fn attend(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        match self {
            Cache::Plain(layers) => {
                let (k, v) = match layers[layer].take() {
                    None => (k.contiguous()?, v.contiguous()?),
                    Some((keys, values)) => (Tensor::cat(&[&keys, k], 2)?, Tensor::cat(&[&values, v], 2)?),
                };
                let o = plain_attention(q, &k, &v)?;
                layers[layer] = Some((k, v));
                Ok(o)
            }
            Cache::Tilewright(device, layers) => {
                let cache = &mut layers[layer];
                let [q_host, k_host, v_host] = [host(q)?, host(k)?, host(v)?];
                let k_new = TensorView::from_slice(&k_host, k.dims())?;
                cache.append(device, k_new, TensorView::from_slice(&v_host, v.dims())?)?;
                let q_view = TensorView::from_slice(&q_host, q.dims())?;
                let request = Attention::over(q_view, cache.view()).kv_len(cache.kv_len()).causal();
                Ok(Tensor::from_vec(request.run(device)?.o.to_vec::<f32>()?, q.dims(), q.device())?)
            }
            Cache::Compared { plain, tilewright, encoding, largest } => {
                let o = tilewright.attend(layer, q, k, v)?;
                let expected = plain.attend(layer, q, &through_codes(k, *encoding)?, &through_codes(v, *encoding)?)?;
                let gap = largest_gap(&host(&expected)?, &host(&o)?)?;
                *largest = Some(largest.map_or(gap, |largest| largest.max(gap)));
                Ok(o)
            }
        }
    }

    /// Forgets the positions from `len` on.
    ///
    /// # Errors
    /// More positions than are kept.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        match self {
            Cache::Plain(layers) => {
                for (k, v) in layers.iter_mut().flatten() {
                    (*k, *v) = (k.narrow(2, 0, len)?, v.narrow(2, 0, len)?);
                }
            }
            Cache::Tilewright(_, layers) => {
                for layer in layers {
                    layer.truncate(0, len)?;
                }
            }
            Cache::Compared { plain, tilewright, .. } => {
                plain.truncate(len)?;
                tilewright.truncate(len)?;
            }
        }
        Ok(())
    }
}

/// The textbook computation, causal; the last row of q is at the last position.
fn plain_attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (_, q_heads, q_len, head_dim) = q.dims4()?;
    let (_, kv_heads, kv_len, _) = k.dims4()?;
    // The heads of a group are more rows over the same keys.
    let rows = q.reshape((1, kv_heads, q_heads / kv_heads * q_len, head_dim))?;
    let scores = (rows.matmul(&k.t()?)? / (head_dim as f64).sqrt())?.reshape((1, q_heads, q_len, kv_len))?;
    let weights = softmax_last_dim(&scores.broadcast_add(&causal_mask(q_len, kv_len, q)?)?)?;
    let weights = weights.reshape((1, kv_heads, q_heads / kv_heads * q_len, kv_len))?;
    Ok(weights.matmul(v)?.reshape((1, q_heads, q_len, head_dim))?)
}

/// `[q_len, kv_len]`: 0 where a query sees a key, minus infinity elsewhere.
fn causal_mask(q_len: usize, kv_len: usize, like: &Tensor) -> Result<Tensor> {
    let first = kv_len - q_len;
    let mask: Vec<f32> = (0..q_len)
        .flat_map(|row| (0..kv_len).map(move |key| if key <= first + row { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    Ok(Tensor::from_vec(mask, (q_len, kv_len), like.device())?)
}

/// The numbers that are read again, by the library's reference: one value at a time in plain Rust.
fn through_codes(x: &Tensor, encoding: Encoding) -> Result<Tensor> {
    match encoding {
        Encoding::Stored => Ok(x.clone()),
        Encoding::Affine(format) => {
            let codes = encode(&host(x)?, Elem::F32, format, Rounding::TiesToEven)?;
            let read: Vec<f32> = decode(&codes, Elem::F32, format)?.into_iter().map(|x| x as f32).collect();
            Ok(Tensor::from_vec(read, x.dims(), x.device())?)
        }
    }
}

/// The elements in row-major order.
fn host(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: Heads = Heads { q_heads: 6, kv_heads: 2, head_dim: 64 };

    /// Some smooth numbers that no two positions share.
    fn numbers(heads: usize, positions: usize, seed: f32) -> Tensor {
        let count = heads * positions * HEADS.head_dim;
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37 + seed).sin()).collect();
        Tensor::from_vec(values, (1, heads, positions, HEADS.head_dim), &candle_core::Device::Cpu).unwrap()
    }

    fn cache(backend: Backend, encoding: Encoding) -> Cache {
        Cache::new(backend, encoding, HEADS, 1, 10).unwrap()
    }

    /// By how much tilewright's attention over `encoding` differs from plain attention over the numbers of `peer`.
    fn difference(encoding: Encoding, peer: Encoding) -> f32 {
        let mut both =
            Cache::compared(cache(Backend::Plain, Encoding::Stored), cache(Backend::Tilewright, encoding), peer);
        for (positions, kept) in [(5, 5), (1, 6), (4, 7), (3, 10), (0, 8), (1, 0), (2, 2)] {
            if positions > 0 {
                let seed = positions as f32;
                let q = numbers(HEADS.q_heads, positions, seed);
                let [k, v] = [1.0, 2.0].map(|more| numbers(HEADS.kv_heads, positions, seed + more));
                both.attend(0, &q, &k, &v).unwrap();
            }
            both.truncate(kept).unwrap();
            assert_eq!(both.len().unwrap(), kept);
        }
        both.largest_difference().unwrap()
    }

    #[test]
    fn tilewright_gives_what_plain_attention_gives_also_after_truncation() {
        let got = difference(Encoding::Stored, Encoding::Stored);
        assert!(got <= 1e-5, "{got}");
    }

    #[test]
    fn attention_over_codes_is_plain_attention_over_the_numbers_that_they_stand_for() {
        for kind in [CacheKind::Int8, CacheKind::Int4] {
            for group in [64, 32] {
                let codes = kind.encoding(group).unwrap();
                let got = difference(codes, codes);
                assert!(got <= 1e-5, "{kind} in groups of {group}: {got}");
                let coarse = difference(codes, Encoding::Stored);
                assert!(coarse > 1e-4, "{kind} in groups of {group} lost only {coarse}: are these codes?");
            }
        }
    }

    #[test]
    fn comparing_no_attention_is_an_error() {
        let [plain, tilewright] = [Backend::Plain, Backend::Tilewright].map(|b| cache(b, Encoding::Stored));
        assert!(plain.largest_difference().is_err());
        assert!(Cache::compared(plain, tilewright, Encoding::Stored).largest_difference().is_err());
    }

    #[test]
    fn a_full_cache_says_how_much_room_it_has() {
        let [q, k] = [HEADS.q_heads, HEADS.kv_heads].map(|heads| numbers(heads, 11, 0.0));
        let error = cache(Backend::Tilewright, Encoding::Stored).attend(0, &q, &k, &k).unwrap_err().to_string();
        assert!(error.contains("0 tokens of 10; 11 more do not fit"), "{error}");
    }

    #[test]
    fn codes_that_cannot_be_are_refused_by_name() {
        let error = CacheKind::Int4.encoding(48).unwrap_err().to_string();
        assert!(error.contains("`q4g48`"), "{error}");
        for (backend, group, named) in [(Backend::Plain, 64, "q8g64"), (Backend::Tilewright, 128, "groups of 64 fit")] {
            let codes = CacheKind::Int8.encoding(group).unwrap();
            let error = Cache::new(backend, codes, HEADS, 1, 4).err().unwrap().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
