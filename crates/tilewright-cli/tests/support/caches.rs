//! Tokens of an input moved into rings, pages and codes.

use super::{Sizes, Tensors};
use safetensors::tensor::Dtype;
use tilewright::attention::reference::affine;
use tilewright::attention::{Affine, Rounding};
use tilewright::prelude::Elem;

/// k and v with each row `(outer, head, slot)` taken from the token that `from` names, or NaN.
pub fn moved(
    sizes: Sizes,
    tensors: &Tensors,
    outer: usize,
    slots: usize,
    from: impl Fn(usize, usize) -> Option<(usize, usize)>,
) -> Tensors {
    let mut to = tensors.clone();
    for (name, dim) in [("k", sizes.head_dim), ("v", sizes.value_dim)] {
        let values = tensors.values(name);
        let mut all = Vec::new();
        for (block, head, slot) in rows(outer, sizes.kv_heads, slots) {
            match from(block, slot) {
                None => all.extend(vec![f64::NAN; dim]),
                Some((batch, token)) => {
                    let row = (batch * sizes.kv_heads + head) * sizes.kv_len + token;
                    all.extend(&values[row * dim..][..dim]);
                }
            }
        }
        to = to.float(name, Dtype::F32, &[outer, sizes.kv_heads, slots, dim], &all);
    }
    to
}

pub fn rows(outer: usize, heads: usize, slots: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..outer).flat_map(move |o| (0..heads).flat_map(move |h| (0..slots).map(move |s| (o, h, s))))
}

/// Seven pages in another order, one of them unused: batch entry 0 has pages 5, 1 and 3, entry 1 has 0, 6 and 2.
pub fn pages(sizes: Sizes, tensors: &Tensors) -> Tensors {
    let page = |number: usize| [[5, 1, 3], [0, 6, 2]].iter().flatten().position(|&n| n == number);
    moved(sizes, tensors, 7, 16, |number, slot| {
        let place = page(number)?;
        let token = place % 3 * 16 + slot;
        (token < 40).then_some((place / 3, token))
    })
    .i32("kv_len", &[40, 40])
}

/// q, k and v with their second and third axes exchanged.
pub fn sequence_major(tensors: &Tensors) -> Tensors {
    let mut to = tensors.clone();
    for name in ["q", "k", "v"] {
        let &[outer, heads, len, dim] = tensors.shape(name) else { panic!("rank 4") };
        let (values, mut all) = (tensors.values(name), Vec::new());
        for (block, token, head) in rows(outer, len, heads) {
            all.extend(&values[((block * heads + head) * len + token) * dim..][..dim]);
        }
        to = to.float(name, Dtype::F32, &[outer, len, heads, dim], &all);
    }
    to
}

/// `name` as codes, and the numbers that these stand for under its name in the second file.
pub fn coded(mut codes: Tensors, mut plain: Tensors, name: &str, elem: Elem, format: Affine) -> (Tensors, Tensors) {
    let shape = codes.shape(name).to_vec();
    let dtype = codes.dtype(name);
    let values: Vec<f32> = codes.values(name).iter().map(|&x| x as f32).collect();
    let encoded = affine::encode(&values, elem, format, Rounding::TiesToEven).expect("the group divides");
    let last = |n: usize| [&shape[..shape.len() - 1], &[n]].concat();
    let (words, groups) = (format.words(shape[3]).expect("words"), format.groups(shape[3]).expect("groups"));
    plain = plain.float(name, dtype, &shape, &affine::decode(&encoded, elem, format).expect("codes"));
    let bytes = encoded.words.iter().flat_map(|w| w.to_le_bytes()).collect();
    codes = codes.without(name).raw(&format!("{name}.w"), Dtype::U32, &last(words), bytes);
    codes = codes.float(&format!("{name}.scales"), dtype, &last(groups), &encoded.scales);
    (codes.float(&format!("{name}.biases"), dtype, &last(groups), &encoded.biases), plain)
}

/// As [`coded`], for k, v or both.
pub fn cache(elem: Elem, dtype: Dtype, k: Option<Affine>, v: Option<Affine>, sizes: Sizes) -> (Tensors, Tensors) {
    let dense = sizes.tensors(dtype, dtype);
    let (mut codes, mut plain) = (dense.clone(), dense);
    for (name, format) in [("k", k), ("v", v)] {
        if let Some(format) = format {
            (codes, plain) = coded(codes, plain, name, elem, format);
        }
    }
    (codes, plain)
}
