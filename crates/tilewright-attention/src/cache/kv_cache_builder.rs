//! How a cache is made.

use super::error::CacheError;
use super::format::{Encoding, Placement};
use super::kv_cache::{CacheShape, KvCache, Room, Store};
use super::tensors::PAGE_SIZES;
use crate::error::{AttentionError, MAX_HEAD_DIM, MAX_LENGTH};
use crate::quant::{Affine, Rounding};

/// Makes a [`KvCache`].
#[derive(Clone, Copy, Debug)]
pub struct KvCacheBuilder {
    shape: CacheShape,
    window: Option<usize>,
    page_size: Option<usize>,
    pool: Option<usize>,
    keys: Encoding,
    values: Encoding,
    rounding: Rounding,
}

impl KvCacheBuilder {
    pub(super) fn new(shape: CacheShape) -> KvCacheBuilder {
        let (keys, values) = (Encoding::Stored, Encoding::Stored);
        KvCacheBuilder {
            shape,
            window: None,
            page_size: None,
            pool: None,
            keys,
            values,
            rounding: Rounding::TiesToEven,
        }
    }

    /// The slots of each batch entry are a ring: only its last `capacity` tokens are kept. Once it has overwritten one, it
    /// can be truncated only as far as the last `window` tokens before are still there; a window of `capacity` allows
    /// none. Attention with a window of at most so many keys then finds all of them.
    pub fn ring(self, window: usize) -> Self {
        KvCacheBuilder { window: Some(window), ..self }
    }

    /// Tokens lie in pages of `page_size`, 16 to 256, that batch entries take when they grow and give back when they are
    /// truncated.
    pub fn paged(self, page_size: usize) -> Self {
        KvCacheBuilder { page_size: Some(page_size), ..self }
    }

    /// How many pages all batch entries share; as many as all can need if it is not said.
    pub fn pool(self, pages: usize) -> Self {
        KvCacheBuilder { pool: Some(pages), ..self }
    }

    /// Keys and values are stored as codes.
    pub fn quantised(self, keys: Affine, values: Affine) -> Self {
        self.keys(Encoding::Affine(keys)).values(Encoding::Affine(values))
    }

    /// How keys are stored.
    pub fn keys(self, keys: Encoding) -> Self {
        KvCacheBuilder { keys, ..self }
    }

    /// How values are stored.
    pub fn values(self, values: Encoding) -> Self {
        KvCacheBuilder { values, ..self }
    }

    /// Where the encoder rounds ties; [`Rounding::TiesToEven`] if it is not said.
    pub fn rounding(self, rounding: Rounding) -> Self {
        KvCacheBuilder { rounding, ..self }
    }

    /// Allocates the cache.
    ///
    /// # Errors
    /// Heads or head dims of 0 or above what is served, a type that is no float, a head dim that a group does not divide, a
    /// page size that is not served, a window that the ring cannot hold, and choices that do not go together.
    pub fn build(self) -> Result<KvCache, CacheError> {
        let CacheShape { batch, kv_heads, capacity, head_dim, value_dim, elem } = self.shape;
        if !elem.is_float() {
            return Err(AttentionError::Element { tensor: "the cache", got: elem, wanted: "f32, f16 or bf16" }.into());
        }
        for (axis, got) in [("heads", kv_heads), ("head dim", head_dim), ("value dim", value_dim)] {
            if got == 0 {
                return Err(AttentionError::Zero { tensor: "the cache", axis }.into());
            }
        }
        for (axis, got) in [("head_dim", head_dim), ("value_dim", value_dim)] {
            if got > MAX_HEAD_DIM {
                return Err(AttentionError::HeadDim { axis, got }.into());
            }
        }
        for (tensor, got) in [("the batch", batch), ("the cache", capacity)] {
            if got > MAX_LENGTH {
                return Err(AttentionError::Length { tensor, got }.into());
            }
        }
        let placement = self.placement()?;
        let (outer, slots) = match placement {
            Placement::Contiguous | Placement::Ring => (batch, capacity),
            Placement::Paged { page_size } => {
                let all = batch.saturating_mul(capacity.div_ceil(page_size));
                (self.pool.unwrap_or(all), page_size)
            }
        };
        if outer > MAX_LENGTH {
            return Err(AttentionError::Length { tensor: "the pool of pages", got: outer }.into());
        }
        let axes = [outer, kv_heads, slots];
        Ok(KvCache {
            shape: self.shape,
            keys: Store::zeros(self.keys, elem, axes, head_dim)?,
            values: Store::zeros(self.values, elem, axes, value_dim)?,
            rounding: self.rounding,
            room: Room::new(placement, &self.shape, self.window.unwrap_or(0), outer),
            lens: vec![0; batch],
            kv_len: vec![0; batch],
        })
    }

    fn placement(&self) -> Result<Placement, CacheError> {
        let capacity = self.shape.capacity;
        let refuse = |what, nearest| Err(AttentionError::combination(what, nearest).into());
        match (self.window, self.page_size, self.pool) {
            (Some(_), Some(_), _) => refuse("a ring of pages", "a ring, or pages"),
            (_, None, Some(_)) => refuse("a pool without pages", "pages of 16 tokens"),
            (Some(window), None, None) if window == 0 || window > capacity => {
                Err(CacheError::Window { window, capacity })
            }
            (Some(_), None, None) => Ok(Placement::Ring),
            (None, Some(got), _) if !PAGE_SIZES.contains(&got) => Err(AttentionError::PageSize { got }.into()),
            (None, Some(page_size), _) => Ok(Placement::Paged { page_size }),
            (None, None, None) => Ok(Placement::Contiguous),
        }
    }
}
