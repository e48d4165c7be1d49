//! Where the model's attention is computed: plainly in candle's operations, or by tilewright. Each keeps the keys and values of
//! the positions seen so far, a layer at a time.

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Tensor};
use candle_nn::ops::softmax_last_dim;
use clap::ValueEnum;
use std::fmt;
use tilewright::prelude::{Attention, Device, TensorView};

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

/// Keys and values of one layer, and the attention over them. Tensors are candle's, f32, `[1, heads, positions, head_dim]`.
trait LayerCache {
    /// Adds the keys and values of the next positions.
    fn append(&mut self, k: &Tensor, v: &Tensor) -> Result<()>;

    /// Causal attention of q over all that was appended; the last row of q is at the last position.
    fn attend(&self, q: &Tensor) -> Result<Tensor>;

    /// Forgets the positions from `len` on.
    fn truncate(&mut self, len: usize) -> Result<()>;
}

/// Keys and values of all layers.
pub struct Cache {
    layers: Vec<Box<dyn LayerCache>>,
    len: usize,
    capacity: usize,
}

impl Cache {
    /// Nothing kept, with room for `capacity` positions.
    ///
    /// # Errors
    /// A kind of cache that the back end does not have.
    pub fn new(backend: Backend, kind: CacheKind, heads: Heads, layers: usize, capacity: usize) -> Result<Cache> {
        let layer: Box<dyn Fn() -> Box<dyn LayerCache>> = match (backend, kind) {
            (Backend::Plain, CacheKind::Dense) => Box::new(|| Box::new(Plain::default())),
            (Backend::Tilewright, CacheKind::Dense) => {
                let device = Device::cpu();
                Box::new(move || Box::new(Dense::new(device.clone(), heads, capacity)))
            }
            (Backend::Plain, CacheKind::Int8 | CacheKind::Int4) => {
                bail!("plain attention keeps a dense cache only, not {kind}; leave out --cache or --attention plain")
            }
            (Backend::Tilewright, CacheKind::Int8 | CacheKind::Int4) => {
                bail!("an {kind} cache is not in the library yet; use --cache dense")
            }
        };
        Ok(Cache { layers: (0..layers).map(|_| layer()).collect(), len: 0, capacity })
    }

    /// How many positions are kept.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Keeps the keys and values of one layer for the positions after [`len`](Cache::len), and gives the attention of q over
    /// everything kept. The same positions have to follow for every layer, then [`advance`](Cache::advance).
    ///
    /// # Errors
    /// More positions than there is room for; what the back end reports.
    pub fn attend(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let wanted = self.len + k.dim(2)?;
        ensure!(wanted <= self.capacity, "{wanted} positions; the cache has room for {}", self.capacity);
        self.layers[layer].append(k, v)?;
        self.layers[layer].attend(q)
    }

    /// Counts positions that every layer has kept.
    pub fn advance(&mut self, positions: usize) {
        self.len += positions;
    }

    /// Forgets the positions from `len` on.
    ///
    /// # Errors
    /// What the back end reports.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        self.len = len;
        self.layers.iter_mut().try_for_each(|layer| layer.truncate(len))
    }
}

/// The textbook computation.
#[derive(Default)]
struct Plain {
    kept: Option<(Tensor, Tensor)>,
}

impl LayerCache for Plain {
    fn append(&mut self, k: &Tensor, v: &Tensor) -> Result<()> {
        self.kept = Some(match self.kept.take() {
            None => (k.contiguous()?, v.contiguous()?),
            Some((keys, values)) => (Tensor::cat(&[&keys, k], 2)?, Tensor::cat(&[&values, v], 2)?),
        });
        Ok(())
    }

    fn attend(&self, q: &Tensor) -> Result<Tensor> {
        let Some((k, v)) = &self.kept else { bail!("attention over no positions") };
        let (_, q_heads, q_len, head_dim) = q.dims4()?;
        let (_, kv_heads, kv_len, _) = k.dims4()?;
        // The heads of a group are more rows over the same keys.
        let rows = q.reshape((1, kv_heads, q_heads / kv_heads * q_len, head_dim))?;
        let scores = (rows.matmul(&k.t()?)? / (head_dim as f64).sqrt())?.reshape((1, q_heads, q_len, kv_len))?;
        let weights = softmax_last_dim(&scores.broadcast_add(&causal_mask(q_len, kv_len, q)?)?)?;
        let weights = weights.reshape((1, kv_heads, q_heads / kv_heads * q_len, kv_len))?;
        Ok(weights.matmul(v)?.reshape((1, q_heads, q_len, head_dim))?)
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        if let Some((k, v)) = &mut self.kept {
            (*k, *v) = (k.narrow(2, 0, len)?, v.narrow(2, 0, len)?);
        }
        Ok(())
    }
}

/// `[q_len, kv_len]`: 0 where a query sees a key, minus infinity elsewhere.
fn causal_mask(q_len: usize, kv_len: usize, like: &Tensor) -> Result<Tensor> {
    let first = kv_len - q_len;
    let mask: Vec<f32> = (0..q_len)
        .flat_map(|row| (0..kv_len).map(move |key| if key <= first + row { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    Ok(Tensor::from_vec(mask, (q_len, kv_len), like.device())?)
}

/// tilewright over keys and values in f32, `[kv_heads, capacity, head_dim]` each.
struct Dense {
    device: Device,
    heads: Heads,
    capacity: usize,
    k: Vec<f32>,
    v: Vec<f32>,
    len: usize,
}

impl Dense {
    fn new(device: Device, heads: Heads, capacity: usize) -> Dense {
        let zeros = vec![0.0; heads.kv_heads * capacity * heads.head_dim];
        Dense { device, heads, capacity, k: zeros.clone(), v: zeros, len: 0 }
    }
}

impl LayerCache for Dense {
    fn append(&mut self, k: &Tensor, v: &Tensor) -> Result<()> {
        let positions = k.dim(2)?;
        let (start, rows) = (self.len * self.heads.head_dim, positions * self.heads.head_dim);
        for (kept, new) in [(&mut self.k, k), (&mut self.v, v)] {
            let heads = kept.chunks_exact_mut(self.capacity * self.heads.head_dim);
            for (head, new) in heads.zip(host(new)?.chunks_exact(rows)) {
                head[start..start + rows].copy_from_slice(new);
            }
        }
        self.len += positions;
        Ok(())
    }

    fn attend(&self, q: &Tensor) -> Result<Tensor> {
        let Heads { q_heads, kv_heads, head_dim } = self.heads;
        let shape = [1, q_heads, q.dim(2)?, head_dim];
        let kept = [1, kv_heads, self.capacity, head_dim];
        let (q_host, kv_len) = (host(q)?, [i32::try_from(self.len)?]);
        let q_view = TensorView::from_slice(&q_host, &shape)?;
        let (k, v) = (TensorView::from_slice(&self.k, &kept)?, TensorView::from_slice(&self.v, &kept)?);
        let out = Attention::new(q_view, k, v).causal().kv_len(&kv_len).run(&self.device)?;
        Ok(Tensor::from_vec(out.o.to_vec::<f32>()?, &shape, q.device())?)
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.len = self.len.min(len);
        Ok(())
    }
}

/// The elements in row-major order.
fn host(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: Heads = Heads { q_heads: 6, kv_heads: 2, head_dim: 8 };

    /// Some smooth numbers that no two positions share.
    fn numbers(heads: usize, positions: usize, seed: f32) -> Tensor {
        let count = heads * positions * HEADS.head_dim;
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37 + seed).sin()).collect();
        Tensor::from_vec(values, (1, heads, positions, HEADS.head_dim), &candle_core::Device::Cpu).unwrap()
    }

    fn step(cache: &mut Cache, positions: usize, seed: f32) -> Vec<f32> {
        let q = numbers(HEADS.q_heads, positions, seed);
        let [k, v] = [1.0, 2.0].map(|more| numbers(HEADS.kv_heads, positions, seed + more));
        let o = cache.attend(0, &q, &k, &v).unwrap();
        cache.advance(positions);
        host(&o).unwrap()
    }

    #[test]
    fn tilewright_gives_what_plain_attention_gives_also_after_truncation() {
        let [mut plain, mut tilewright] =
            [Backend::Plain, Backend::Tilewright].map(|b| Cache::new(b, CacheKind::Dense, HEADS, 1, 32).unwrap());
        let mut compared = 0;
        for (positions, kept) in [(5, 5), (1, 6), (4, 7), (3, 10), (1, 0), (2, 2)] {
            let [expected, got] = [&mut plain, &mut tilewright].map(|cache| {
                let o = step(cache, positions, positions as f32);
                cache.truncate(kept).unwrap();
                o
            });
            assert_eq!((plain.len(), expected.len()), (kept, got.len()));
            for (expected, got) in expected.iter().zip(&got) {
                assert!((expected - got).abs() <= 1e-5, "{expected} and {got}");
                compared += 1;
            }
        }
        assert_eq!(compared, 16 * HEADS.q_heads * HEADS.head_dim);
    }

    #[test]
    fn a_full_cache_says_how_much_room_it_has() {
        let mut cache = Cache::new(Backend::Tilewright, CacheKind::Dense, HEADS, 1, 4).unwrap();
        let [q, k] = [HEADS.q_heads, HEADS.kv_heads].map(|heads| numbers(heads, 5, 0.0));
        assert!(cache.attend(0, &q, &k, &k).unwrap_err().to_string().contains("room for 4"));
    }

    #[test]
    fn a_cache_that_the_library_lacks_is_refused_by_name() {
        let error = Cache::new(Backend::Tilewright, CacheKind::Int4, HEADS, 1, 4).err().unwrap();
        assert!(error.to_string().contains("int4 cache is not in the library yet"), "{error}");
    }
}
