//! Tokens of a cache back to plain tensors.

use super::error::CacheError;
use super::format::{Encoding, Format, Placement};
use super::launch::{compiled, launch};
use super::tensors::{Cache, Codes};
use crate::error::AttentionError;
use crate::formula::{self, Numbers};
use crate::grids;
use crate::kernels::{CacheDequantise, CacheDequantiseArgs};
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor, TensorView, TensorViewMut};

/// The numbers of codes, all slots: `[batch, heads, slots, dim]` in the type of the scales. The product of code and scale is
/// rounded to it, and then the sum with the bias.
///
/// # Errors
/// Words, scales and biases that do not fit each other.
pub fn dequantise(device: &Device, codes: Codes<'_>) -> Result<Tensor, CacheError> {
    let cache = Cache::new(codes, codes);
    let layout = cache.layout(0)?;
    let mut o = Tensor::zeros(layout.elem, &[layout.batch, layout.kv_heads, layout.capacity, layout.head_dim])?;
    let too_long = |_| AttentionError::Length { tensor: "the codes", got: layout.capacity };
    let kv_len = vec![i32::try_from(layout.capacity).map_err(too_long)?; layout.batch];
    cache.dequantise_keys(device, &kv_len, o.view_mut())?;
    Ok(o)
}

impl Cache<'_> {
    /// Writes the first `kv_len[b]` keys of each batch entry, in their order, to `o` `[batch, kv_heads, n, head_dim]` of the
    /// cache's type; codes are decoded, the product rounded and then the sum. What lies behind keeps its bytes.
    ///
    /// # Errors
    /// A cache that does not fit together, and outputs too small or of another type; nothing is written then.
    pub fn dequantise_keys(&self, device: &Device, kv_len: &[i32], o: TensorViewMut<'_>) -> Result<(), CacheError> {
        let layout = self.layout(kv_len.len())?;
        if layout.batch != kv_len.len() {
            return Err(AttentionError::EntryCount { what: "kv_len", got: kv_len.len(), batch: layout.batch }.into());
        }
        let capacity = layout.capacity;
        if let Some((entry, &got)) =
            kv_len.iter().enumerate().find(|&(_, &n)| !usize::try_from(n).is_ok_and(|n| n <= capacity))
        {
            return Err(AttentionError::KvLen { entry, got, capacity }.into());
        }
        self.check_entries(kv_len)?;
        if o.elem() != layout.elem {
            return Err(AttentionError::OutputElement { tensor: "o", got: o.elem(), wanted: layout.elem }.into());
        }
        let n = o.shape().get(2).copied().unwrap_or(0);
        let wanted = [layout.batch, layout.kv_heads, n, layout.head_dim];
        if o.shape() != wanted {
            let (got, wanted) = (o.shape().to_vec(), wanted.to_vec());
            return Err(AttentionError::OutputShape { tensor: "o", got, wanted }.into());
        }
        let lengths = || kv_len.iter().map(|&len| len as usize); // checked above
        if let Some(entry) = lengths().position(|len| len > n) {
            return Err(CacheError::Tokens { tensor: "o", entry, tokens: kv_len[entry] as usize, length: n });
        }

        let format = Format { values: Encoding::Stored, ..self.format() };
        let tokens = tile(format.placement);
        let rows = lengths().max().unwrap_or(0);
        let numbers = Numbers { shapes: &[("o", &wanted)], values: &[("tokens", tokens), ("rows", rows)] };
        let grid = formula::grid(&grids::DEQUANTISE, &numbers).map_err(AttentionError::from)?;
        if grid.contains(&0) || layout.head_dim == 0 {
            return Ok(());
        }
        let spec = CacheDequantise { tokens, dim: layout.head_dim, cache: format };
        let pipeline = compiled!(device, spec, layout.elem)?;
        let own = CacheDequantiseArgs { kv_len: TensorView::from_slice(kv_len, &[kv_len.len()])?, o };
        launch(device, &pipeline, grid, own.bind(), self.tensors(kv_len.len())?)
    }

    /// The same for the values; `o` is `[batch, kv_heads, n, value_dim]`.
    ///
    /// # Errors
    /// As [`dequantise_keys`](Cache::dequantise_keys).
    pub fn dequantise_values(&self, device: &Device, kv_len: &[i32], o: TensorViewMut<'_>) -> Result<(), CacheError> {
        self.swapped().dequantise_keys(device, kv_len, o)
    }
}

/// Tokens of a tile: a whole part of a page.
fn tile(placement: Placement) -> usize {
    const MOST: usize = 32;
    match placement {
        Placement::Contiguous | Placement::Ring => MOST,
        Placement::Paged { page_size } => {
            (1..=MOST).rev().find(|&tokens| page_size.is_multiple_of(tokens)).unwrap_or(1)
        }
    }
}
