//! A cache that owns its tensors: append, truncate, and a view for attention.

use super::append::{CodeTensors, Destination, Slots, append, quantise_append};
use super::error::CacheError;
use super::format::{Encoding, Format, Placement};
use super::kv_cache_builder::KvCacheBuilder;
use super::pages::Pages;
use super::tensors::{BATCH, Cache, HEADS, LENGTH, Tokens, axes, float, same};
use crate::error::AttentionError;
use crate::quant::Rounding;
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor, TensorView};

/// What a cache has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheShape {
    /// Batch entries.
    pub batch: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Tokens of a batch entry; for a ring, of the last of them.
    pub capacity: usize,
    /// Numbers of a key.
    pub head_dim: usize,
    /// Numbers of a value.
    pub value_dim: usize,
    /// f32, f16 or bf16: of new tokens, of what is stored as it is, and of the scales and biases of codes.
    pub elem: Elem,
}

/// Keys and values of a batch of sequences, each of its own length.
///
/// Positions count from the first token that was appended. What attention reads are the tokens that are still there, of which
/// [`kv_len`](KvCache::kv_len) says how many: all of them, or the last ones of a ring.
///
/// ```
/// use tilewright_attention::cache::{CacheShape, KvCache};
/// use tilewright_attention::Attention;
/// use tilewright_ir::Elem;
/// use tilewright_runtime::{Device, Tensor};
///
/// let device = Device::cpu();
/// let shape = CacheShape { batch: 1, kv_heads: 2, capacity: 100, head_dim: 64, value_dim: 64, elem: Elem::F16 };
/// let mut cache = KvCache::builder(shape).paged(16).quantised("q8g64".parse()?, "q4g32".parse()?).build()?;
/// let new = Tensor::zeros(Elem::F16, &[1, 2, 5, 64])?; // 5 tokens
/// cache.append(&device, new.view(), new.view())?;
///
/// let q = Tensor::zeros(Elem::F16, &[1, 8, 5, 64])?;
/// let out = Attention::over(q.view(), cache.view()).causal().run(&device)?;
/// assert_eq!(out.o.shape(), [1, 8, 5, 64]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(super) shape: CacheShape,
    pub(super) keys: Store,
    pub(super) values: Store,
    pub(super) rounding: Rounding,
    pub(super) room: Room,
    /// Tokens appended and not truncated; one a batch entry.
    pub(super) lens: Vec<usize>,
    /// Tokens that are there; one a batch entry.
    pub(super) kv_len: Vec<i32>,
}

/// The tensors of keys or values.
#[derive(Clone, Debug)]
pub(super) enum Store {
    Stored(Tensor),
    Affine(Box<CodeTensors>),
}

/// Where tokens lie.
#[derive(Clone, Debug)]
pub(super) enum Room {
    Contiguous,
    Ring(Ring),
    Paged(Pages),
}

/// What a ring still holds; one number a batch entry.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    /// Tokens that a truncation must leave, where there were as many.
    pub window: usize,
    /// Position of the oldest token that is there.
    pub oldest: Vec<usize>,
    /// Its slot.
    pub start: Vec<i32>,
}

impl KvCache {
    /// A cache of this shape; dense, unless the builder is told otherwise.
    pub fn builder(shape: CacheShape) -> KvCacheBuilder {
        KvCacheBuilder::new(shape)
    }

    /// Appends tokens k `[batch, kv_heads, n, head_dim]` and v `[batch, kv_heads, n, value_dim]`, `n` to each batch entry.
    ///
    /// # Errors
    /// [`CacheError::Overflow`] and [`CacheError::Pages`] where they do not fit, tensors of another shape or type; the cache is
    /// as before then. What goes wrong on the device leaves the lengths as before, and may leave a ring's oldest tokens
    /// overwritten.
    pub fn append(&mut self, device: &Device, k: TensorView<'_>, v: TensorView<'_>) -> Result<(), CacheError> {
        let [_, _, n, _] = axes("k", &k)?;
        self.append_counts(device, k, v, &vec![n; self.shape.batch])
    }

    /// The same with the first `counts[b]` of the `n` tokens for batch entry `b`.
    ///
    /// # Errors
    /// As [`append`](KvCache::append), and counts of another number than the batch or above `n`.
    pub fn append_counts(
        &mut self,
        device: &Device,
        k: TensorView<'_>,
        v: TensorView<'_>,
        counts: &[usize],
    ) -> Result<(), CacheError> {
        self.check_new(&k, &v, counts)?;
        if let Room::Paged(pages) = &mut self.room {
            pages.reserve(self.lens.iter().zip(counts).map(|(len, count)| len + count))?;
        }
        let at = Destination { slots: self.room.slots(), positions: &self.lens, counts };
        let written = self
            .keys
            .append(device, k, &at, self.rounding)
            .and_then(|()| self.values.append(device, v, &at, self.rounding));
        if let Err(error) = written {
            if let Room::Paged(pages) = &mut self.room {
                self.lens.iter().enumerate().for_each(|(entry, &len)| pages.release(entry, len));
            }
            return Err(error);
        }
        for (entry, count) in counts.iter().enumerate() {
            self.set_len(entry, self.lens[entry] + count);
        }
        Ok(())
    }

    /// Forgets the tokens of a batch entry from position `len` on. Their slots keep their bytes, which nothing reads.
    ///
    /// # Errors
    /// [`CacheError::Overwritten`] where a ring no longer has the tokens before, [`CacheError::Longer`], and
    /// [`CacheError::Entry`].
    pub fn truncate(&mut self, entry: usize, len: usize) -> Result<(), CacheError> {
        let now = self.len(entry)?;
        if len > now {
            return Err(CacheError::Longer { entry, to: len, len: now });
        }
        match &mut self.room {
            Room::Contiguous => {}
            Room::Ring(ring) => {
                let (window, oldest) = (ring.window, ring.oldest[entry]);
                let needed = len.saturating_sub(window);
                if len == 0 {
                    ring.oldest[entry] = 0;
                } else if len < now && needed < oldest {
                    return Err(CacheError::Overwritten { entry, to: len, needed, oldest, window });
                }
            }
            Room::Paged(pages) => pages.release(entry, len),
        }
        self.set_len(entry, len);
        Ok(())
    }

    /// Tokens appended to a batch entry and not truncated: the position of the next.
    ///
    /// # Errors
    /// [`CacheError::Entry`].
    pub fn len(&self, entry: usize) -> Result<usize, CacheError> {
        self.lens.get(entry).copied().ok_or(CacheError::Entry { entry, batch: self.shape.batch })
    }

    /// The lengths of all batch entries.
    pub fn lens(&self) -> &[usize] {
        &self.lens
    }

    /// Whether no batch entry has a token.
    pub fn is_empty(&self) -> bool {
        self.lens.iter().all(|&len| len == 0)
    }

    /// Tokens that attention reads, one number a batch entry: all, or what a ring still holds.
    pub fn kv_len(&self) -> &[i32] {
        &self.kv_len
    }

    /// Tokens that a batch entry has room for; a ring has room for any number and keeps as many as this.
    pub fn capacity(&self) -> usize {
        self.shape.capacity
    }

    /// What it has room for.
    pub fn shape(&self) -> CacheShape {
        self.shape
    }

    /// Where tokens lie and how they are stored.
    pub fn format(&self) -> Format {
        self.view().format()
    }

    /// Pages that no batch entry holds; `None` without pages.
    pub fn free_pages(&self) -> Option<usize> {
        match &self.room {
            Room::Contiguous | Room::Ring(_) => None,
            Room::Paged(pages) => Some(pages.free()),
        }
    }

    /// For attention, of the tokens that [`kv_len`](KvCache::kv_len) counts.
    pub fn view(&self) -> Cache<'_> {
        let cache = Cache::new(self.keys.view(), self.values.view()).kv_len(&self.kv_len);
        match &self.room {
            Room::Contiguous => cache,
            Room::Ring(ring) => cache.ring(&ring.start),
            Room::Paged(pages) => cache.paged(pages.table()),
        }
    }

    /// Sets the length of an entry, and what follows from it.
    fn set_len(&mut self, entry: usize, len: usize) {
        let capacity = self.shape.capacity;
        self.lens[entry] = len;
        let mut there = len;
        if let Room::Ring(ring) = &mut self.room {
            ring.oldest[entry] = ring.oldest[entry].max(len.saturating_sub(capacity));
            ring.start[entry] = (ring.oldest[entry] % capacity) as i32; // capacity is at most MAX_LENGTH
            there -= ring.oldest[entry];
        }
        self.kv_len[entry] = there as i32; // at most the capacity
    }

    /// Holds new tokens against the cache before anything is written.
    fn check_new(&self, k: &TensorView<'_>, v: &TensorView<'_>, counts: &[usize]) -> Result<(), CacheError> {
        let CacheShape { batch, kv_heads, capacity, head_dim, value_dim, elem } = self.shape;
        let [_, _, n, _] = axes("k", k)?;
        for (tensor, view, axis, dim) in [("k", k, "head dim", head_dim), ("v", v, "value dim", value_dim)] {
            let [of_batch, of_heads, length, of_dim] = axes(tensor, view)?;
            same(tensor, [BATCH, HEADS, axis], [of_batch, of_heads, of_dim], "the cache", [batch, kv_heads, dim])?;
            same(tensor, [LENGTH], [length], "k", [n])?;
            let got = float(tensor, view)?;
            if got != elem {
                return Err(AttentionError::Element { tensor, got, wanted: "the type of the cache" }.into());
            }
        }
        if counts.len() != batch {
            return Err(AttentionError::EntryCount { what: "counts", got: counts.len(), batch }.into());
        }
        for (entry, (&len, &adding)) in self.lens.iter().zip(counts).enumerate() {
            if adding > n {
                return Err(CacheError::Tokens { tensor: "k", entry, tokens: adding, length: n });
            }
            if !matches!(self.room, Room::Ring(_)) && adding > capacity - len {
                return Err(CacheError::Overflow { entry, len, adding, capacity });
            }
        }
        Ok(())
    }
}

impl Room {
    fn slots(&self) -> Slots<'_> {
        match self {
            Room::Contiguous => Slots::Contiguous,
            Room::Ring(_) => Slots::Ring,
            Room::Paged(pages) => Slots::Paged(pages.table()),
        }
    }

    /// For `batch` entries, with pages of pools of so many.
    pub fn new(placement: Placement, shape: &CacheShape, window: usize, pages: usize) -> Room {
        let CacheShape { batch, capacity, .. } = *shape;
        match placement {
            Placement::Contiguous => Room::Contiguous,
            Placement::Ring => Room::Ring(Ring { window, oldest: vec![0; batch], start: vec![0; batch] }),
            Placement::Paged { page_size } => Room::Paged(Pages::new(page_size, batch, capacity, pages)),
        }
    }
}

impl Store {
    /// Zeros `[outer, heads, slots, dim]`.
    pub fn zeros(encoding: Encoding, elem: Elem, axes: [usize; 3], dim: usize) -> Result<Store, CacheError> {
        let [outer, heads, slots] = axes;
        match encoding {
            Encoding::Stored => Ok(Store::Stored(Tensor::zeros(elem, &[outer, heads, slots, dim])?)),
            Encoding::Affine(format) => Ok(Store::Affine(Box::new(CodeTensors::zeros(format, elem, axes, dim)?))),
        }
    }

    fn view(&self) -> Tokens<'_> {
        match self {
            Store::Stored(tensor) => tensor.view().into(),
            Store::Affine(codes) => codes.view().into(),
        }
    }

    fn append(
        &mut self,
        device: &Device,
        x: TensorView<'_>,
        at: &Destination<'_>,
        rounding: Rounding,
    ) -> Result<(), CacheError> {
        match self {
            Store::Stored(tensor) => append(device, x, tensor.view_mut(), at),
            Store::Affine(codes) => quantise_append(device, x, codes.view_mut(), at, rounding),
        }
    }
}
