//! The text form, samples and test cases of masks.

use super::{Cells, Mask};
use crate::attention::Extents;
use crate::cases::{Case, Values};
use crate::feature::Features;
use crate::features::{Causal, FeatureEntry};
use tilewright_ir::Elem;
use tilewright_runtime::{Tensor, TensorError};

pub(in crate::features) const ENTRY: FeatureEntry = FeatureEntry { name: "mask", parse, samples, cases };

/// `bool,batch,heads,q`: the type of the cells, then the axes along which they differ. Text says the kernel and the cells come
/// at launch: the mask that is made has two places along each axis that is named and blocks all.
fn parse(of: &str) -> Result<Features, String> {
    let mut words = of.split(',').map(str::trim);
    let named = words.next().unwrap_or_default();
    let cells =
        [Cells::Bool, Cells::F32, Cells::F16, Cells::Bf16].into_iter().find(|cells| cells.elem().name() == named);
    let cells = cells.ok_or_else(|| format!("`{named}` are no cells of a mask; bool, f32, f16 and bf16 are"))?;
    let mut shape = [1, 1, 1, 2];
    for word in words {
        match ["batch", "heads", "q"].iter().position(|name| *name == word) {
            Some(axis) => shape[axis] = 2,
            None => return Err(format!("`{word}` is no axis of a mask; batch, heads and q are")),
        }
    }
    let blocked = vec![if cells == Cells::Bool { 0.0 } else { f64::NEG_INFINITY }; shape.iter().product()];
    let tensor = Tensor::from_f64(cells.elem(), &blocked, &shape).map_err(|error| error.to_string())?;
    Ok(Features::none().with(Mask::new(tensor).map_err(|error| error.to_string())?))
}

/// A mask of `[batch, heads, q, kv]` whose cells are made from their places.
pub(crate) fn made(elem: Elem, shape: [usize; 4], cell: impl Fn([usize; 4]) -> f64) -> Option<Mask> {
    let [batch, heads, queries, keys] = shape;
    let mut cells = Vec::with_capacity(shape.iter().product());
    for b in 0..batch {
        for h in 0..heads {
            (0..queries).for_each(|i| cells.extend((0..keys).map(|j| cell([b, h, i, j]))));
        }
    }
    let tensor: Result<Tensor, TensorError> = Tensor::from_f64(elem, &cells, &shape);
    Mask::new(tensor.ok()?).ok() // a shape that cannot be made has no cases
}

/// 0 to 15, without a pattern that tiles could follow.
fn scattered([b, h, i, j]: [usize; 4]) -> u64 {
    let mixed =
        [b, h, i, j].into_iter().fold(7u64, |x, n| (x ^ n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    mixed >> 60
}

/// Six of ten pairs attended; some keys by no query.
pub(crate) fn boolean(at: [usize; 4]) -> f64 {
    f64::from(at[3] % 7 != 3 && scattered(at) < 10)
}

/// Blocks, zeros, biases of both signs, and one of -1e9 a row.
pub(crate) fn additive(at: [usize; 4]) -> f64 {
    match scattered(at) {
        _ if at[3] == at[2] => -1e9,
        0..=3 => f64::NEG_INFINITY,
        4..=6 => 0.0,
        n => n as f64 / 2.0 - 5.25,
    }
}

fn samples(shape: &Extents) -> Vec<Features> {
    let Extents { batch, q_heads, q_len, capacity, .. } = *shape;
    let short = capacity - capacity / 3;
    let of = |elem, shape, cell: fn([usize; 4]) -> f64| made(elem, shape, cell).map(|mask| Features::none().with(mask));
    [
        of(Elem::Bool, [1, 1, 1, capacity], boolean),
        of(Elem::U8, [1, 1, q_len, capacity], |at| 200.0 * boolean(at)),
        of(Elem::Bool, [batch, q_heads, q_len, short], boolean),
        of(Elem::F32, [1, q_heads, 1, capacity], additive),
        of(Elem::F32, [batch, 1, q_len, short], additive),
        of(Elem::Bf16, [batch, q_heads, q_len, capacity], additive),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn cases() -> Vec<Case> {
    let case = |name, lengths: (usize, usize), elem, shape, cell: fn([usize; 4]) -> f64| {
        let mask = made(elem, shape, cell)?;
        Some(Case::new(name).schedule(16, 32).lengths(lengths.0, lengths.1).feature(mask))
    };
    let (bool, u8, f32, f16, bf16) = (Elem::Bool, Elem::U8, Elem::F32, Elem::F16, Elem::Bf16);
    const NONE: f64 = f64::NEG_INFINITY;
    let plain = [
        case("mask_one_tile", (16, 32), bool, [1, 1, 16, 32], boolean),
        case("mask_short_of_a_tile", (15, 31), bool, [1, 1, 15, 31], boolean),
        case("mask_past_a_tile", (17, 33), bool, [1, 1, 17, 33], boolean),
        case("mask_of_keys", (17, 65), bool, [1, 1, 1, 65], boolean),
        case("mask_of_each_head", (17, 65), bool, [1, 2, 1, 65], boolean),
        case("mask_of_each_head_and_query", (33, 63), bool, [1, 2, 33, 63], boolean),
        case("mask_of_bytes", (17, 33), u8, [1, 1, 17, 33], |at| [0.0, 1.0, 2.0, 128.0, 255.0][at[3] % 5]),
        case("mask_of_nothing", (17, 40), bool, [1, 1, 17, 40], |_| 0.0),
        case("mask_of_everything", (17, 40), bool, [1, 1, 17, 40], |_| 1.0),
        case("mask_with_whole_rows_blocked", (20, 40), bool, [1, 1, 20, 40], |at| (at[2] % 3 != 1).into()),
        case("mask_with_whole_tiles_blocked", (33, 100), bool, [1, 1, 33, 100], |at| (at[3] / 32 % 2).min(1) as f64),
        case("mask_shorter_than_the_keys", (17, 70), bool, [1, 1, 17, 33], |_| 1.0),
        case("mask_of_no_keys", (5, 20), bool, [1, 1, 5, 0], boolean),
        case("mask_of_one_pair", (1, 1), bool, [1, 1, 1, 1], |_| 1.0),
        case("mask_added", (17, 33), f32, [1, 1, 17, 33], additive),
        case("mask_added_in_f16", (17, 33), f16, [1, 1, 17, 33], |at| additive(at).max(-6e4)),
        case("mask_added_in_f16_with_blocks", (17, 33), f16, [1, 1, 17, 33], |at| [NONE, 0.5][(at[3] + at[2]) % 2]),
        case("mask_added_in_bf16", (17, 33), bf16, [1, 2, 17, 33], additive),
        case("mask_added_and_shorter_than_the_keys", (17, 70), f32, [1, 1, 17, 33], |_| 0.25),
        case("mask_added_to_keys", (17, 65), f32, [1, 1, 1, 65], additive),
        case("mask_of_blocks_only", (17, 33), f32, [1, 1, 17, 33], |_| NONE),
        case("mask_of_a_large_bias_is_no_block", (17, 33), f32, [1, 1, 17, 33], |at| {
            if at[2] == at[3] { -1e9 } else { NONE }
        }),
        case("mask_with_rows_of_blocks", (20, 40), f32, [1, 1, 20, 40], |at| [NONE, 0.0, 1.0][at[2] % 3]),
    ];
    let batched = |shape, cell: fn([usize; 4]) -> f64, elem| made(elem, shape, cell);
    let grouped = |name, mask: Option<Mask>| Some(Case::new(name).batch(2).heads(6, 2).lengths(19, 45).feature(mask?));
    let more = [
        grouped("mask_of_each_entry", batched([2, 1, 19, 45], boolean, bool)),
        grouped("mask_of_each_entry_and_head", batched([2, 6, 19, 45], boolean, bool)),
        grouped("mask_of_entry_keys", batched([2, 1, 1, 45], boolean, bool)),
        grouped("mask_of_entry_keys_added", batched([2, 1, 1, 45], additive, f32)),
        grouped("mask_of_packed_heads", batched([1, 6, 19, 45], additive, f32)),
        grouped("mask_of_packed_heads_and_keys", batched([1, 6, 1, 45], boolean, bool)),
        grouped("mask_with_lengths", batched([2, 1, 19, 45], boolean, bool)).map(|case| case.kv_len(&[45, 20])),
        grouped("mask_with_causal", batched([2, 1, 19, 45], boolean, bool)).map(|case| case.feature(Causal)),
        grouped("mask_with_logits_of_1e5", batched([1, 1, 19, 45], boolean, bool))
            .map(|case| case.values(Values::LargeLogits)),
    ];
    plain.into_iter().chain(more).flatten().collect()
}
