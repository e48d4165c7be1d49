//! A cache read on the host, whatever its format: the keys or values in logical order.

use crate::attention::Checked;
use crate::cache::{Cache, Codes, Decoding, Place, Tokens};
use crate::quant::Affine;
use crate::reference::affine;
use tilewright_runtime::TensorError;

/// Which tensors of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Keys,
    Values,
}

/// `[batch, kv_heads, capacity, dim]`; NaN where no token is.
pub(super) fn unroll(
    cache: &Cache<'_>,
    side: Side,
    decoding: Decoding,
    checked: &Checked,
) -> Result<Vec<f64>, TensorError> {
    let shape = &checked.shape;
    let (tokens, tail, dim) = match side {
        Side::Keys => (&cache.keys, cache.tail.map(|tail| tail.k), shape.head_dim),
        Side::Values => (&cache.values, cache.tail.map(|tail| tail.v), shape.value_dim),
    };
    let slots = numbers(tokens, decoding)?;
    let tail = tail.map(|tail| Ok::<_, TensorError>((tail.shape()[2], tail.to_f64()?))).transpose()?;
    let per_head = tokens.shape()[2];
    let mut all = vec![f64::NAN; shape.batch * shape.kv_heads * shape.capacity * dim];
    for batch in 0..shape.batch {
        for head in 0..shape.kv_heads {
            for token in 0..checked.kv_len[batch] as usize {
                // The row among those of the tensor, which is contiguous now.
                let (from, row) = match (&cache.place, &tail) {
                    (_, Some((room, tail))) if token >= prefix(cache, batch) => {
                        (tail, (batch * shape.kv_heads + head) * room + token - prefix(cache, batch))
                    }
                    (Place::Contiguous, _) => (&slots, (batch * shape.kv_heads + head) * per_head + token),
                    (Place::Ring(start), _) => {
                        let slot = (start[batch] as usize + token) % per_head;
                        (&slots, (batch * shape.kv_heads + head) * per_head + slot)
                    }
                    (Place::Paged(table), _) => {
                        let page = table[batch * (table.len() / shape.batch) + token / per_head] as usize;
                        (&slots, (page * shape.kv_heads + head) * per_head + token % per_head)
                    }
                };
                let to = ((batch * shape.kv_heads + head) * shape.capacity + token) * dim;
                all[to..to + dim].copy_from_slice(&from[row * dim..][..dim]);
            }
        }
    }
    Ok(all)
}

fn prefix(cache: &Cache<'_>, batch: usize) -> usize {
    cache.tail.map_or(usize::MAX, |tail| tail.prefix_len[batch] as usize)
}

/// The numbers of the tokens, in the order of their tensor.
fn numbers(tokens: &Tokens<'_>, decoding: Decoding) -> Result<Vec<f64>, TensorError> {
    match tokens {
        Tokens::Stored(view) => view.to_f64(),
        Tokens::Affine(codes) => decoded(codes, decoding),
    }
}

/// The numbers that codes stand for, in the order of their words.
fn decoded(codes: &Codes<'_>, decoding: Decoding) -> Result<Vec<f64>, TensorError> {
    let Affine { bits, group } = codes.format;
    let elem = codes.scales.elem();
    let (words, scales, biases) = (codes.w.to_f64()?, codes.scales.to_f64()?, codes.biases.to_f64()?);
    let number = |at: usize| {
        let word = words[at / bits.codes_per_word()] as u32;
        let code = word >> (bits.width() * (at % bits.codes_per_word())) & bits.largest();
        let (scale, bias) = (scales[at / group.size()], biases[at / group.size()]);
        match decoding {
            Decoding::Exact => f64::from(code) * scale + bias,
            Decoding::Dequantised => affine::dequantised(code, scale, bias, elem),
        }
    };
    Ok((0..words.len() * bits.codes_per_word()).map(number).collect())
}
