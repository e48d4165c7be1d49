//! The kernels of the library as a list: what the command line inspects, tests and measures.

use crate::attention::Extents;
use crate::cache::Format;
use crate::cases::{Case, Order, Values};
use crate::error::{AttentionError, MAX_HEAD_DIM};
use crate::feature::Features;
use crate::features::{self, Causal};
use crate::kernels::{ATTENTION_CLASSIFY, ATTENTION_FORWARD, ATTENTION_MERGE, ATTENTION_SPLIT};
use crate::kernels::{CACHE_APPEND, CACHE_DEQUANTISE, CACHE_QUANTISE};
use crate::tuning;
use tilewright_ir::{Elem, Schedule};
use tilewright_lang::{SpecEntry, SpecText, SpecValue};

/// A list of kernels. A user's own binary passes its own.
#[derive(Clone, Debug)]
pub struct Library {
    /// In the order in which they are listed.
    pub entries: Vec<KernelEntry>,
}

/// One kernel: what it serves, its cases, its formulas.
///
/// ```
/// use tilewright_attention::KernelEntry;
/// use tilewright_lang::prelude::*;
///
/// /// Doubles `width` elements a program.
/// #[kernel(entry(E in [f32, f16]))]
/// fn double<E: Float>(x: View<E, 1>, y: ViewMut<E, 1>, width: usize) {
///     let [block] = program_id();
///     y.store(block * width, x.load(block * width, [width]) * 2.0);
/// }
///
/// let entry = KernelEntry::new(&DOUBLE, "doubles what it reads");
/// let text = [("E", "f16"), ("width", "8")].map(|(name, value)| (name.to_string(), value.to_string()));
/// assert_eq!(entry.spec.trace(&text.into())?.params.len(), 2);
/// # Ok::<(), tilewright_lang::EntryError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct KernelEntry {
    /// What `#[kernel(entry(…))]` made: the kernel's name, its specialisation values, and its IR for any of them.
    pub spec: &'static SpecEntry,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The whole specialisation where only some values are given: the others as the planner would choose them.
    pub complete: fn(SpecText) -> Result<SpecText, AttentionError>,
    /// Element types: of q and o, and of k and v.
    pub types: &'static [(Elem, Elem)],
    /// Head dim and value dim that are tuned; every value from 1 to 576 computes.
    pub head_dims: &'static [(usize, usize)],
    /// Schedules worth measuring.
    pub schedules: &'static [Schedule],
    /// Test cases, in all types.
    pub cases: fn() -> Vec<Case>,
    /// Benchmark cases.
    pub benches: fn() -> Vec<Case>,
}

impl KernelEntry {
    /// A kernel that can be inspected: no cases, and every specialisation value must be given.
    pub const fn new(spec: &'static SpecEntry, summary: &'static str) -> KernelEntry {
        KernelEntry {
            spec,
            summary,
            complete: Ok,
            types: &[],
            head_dims: &[],
            schedules: &[],
            cases: Vec::new,
            benches: Vec::new,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.spec.name
    }
}

impl Library {
    /// The entry of this name.
    pub fn find(&self, name: &str) -> Option<&KernelEntry> {
        self.entries.iter().find(|entry| entry.name() == name)
    }
}

/// The kernels of this library.
pub fn library() -> Library {
    Library { entries: vec![FORWARD, SPLIT, MERGE, CLASSIFY, APPEND, QUANTISE, DEQUANTISE] }
}

/// Forward attention over dense tensors.
const FORWARD: KernelEntry = KernelEntry {
    spec: &ATTENTION_FORWARD,
    summary: "attention in one pass over the keys, any features and cache format",
    complete,
    types: &TYPES,
    head_dims: &[
        (32, 32),
        (64, 64),
        (72, 72),
        (80, 80),
        (96, 96),
        (112, 112),
        (128, 128),
        (192, 128),
        (192, 192),
        (256, 256),
        (512, 512),
        (576, 512),
    ],
    schedules: &[
        Schedule { heads: 1, queries: 16, keys: 64 },
        Schedule { heads: 1, queries: 32, keys: 64 },
        Schedule { heads: 1, queries: 32, keys: 128 },
        Schedule { heads: 1, queries: 64, keys: 64 },
        Schedule { heads: 1, queries: 64, keys: 128 },
        Schedule { heads: 1, queries: 128, keys: 64 },
        Schedule { heads: 1, queries: 128, keys: 128 },
        Schedule { heads: 1, queries: 128, keys: 256 },
    ],
    cases: test_cases,
    benches,
};

/// One share of the keys.
const SPLIT: KernelEntry = KernelEntry {
    summary: "one share of the keys for decode and verify: the heads of a group and the queries as rows",
    complete: complete_split,
    types: FORWARD.types,
    head_dims: FORWARD.head_dims,
    ..KernelEntry::new(&ATTENTION_SPLIT, "")
};

/// The shares of the keys combined.
const MERGE: KernelEntry = KernelEntry {
    complete: complete_merge,
    types: FORWARD.types,
    head_dims: FORWARD.head_dims,
    ..KernelEntry::new(&ATTENTION_MERGE, "combines the shares of the keys")
};

/// The classes of a mask's tiles.
const CLASSIFY: KernelEntry = KernelEntry {
    complete: complete_classify,
    ..KernelEntry::new(&ATTENTION_CLASSIFY, "the classes of a mask's tiles: nothing, some or all of each attended")
};

/// New tokens into a cache.
const APPEND: KernelEntry = KernelEntry {
    complete: |text| with(text, &[("E", "f16"), ("tokens", "16"), ("dim", "128"), ("placement", "dense")]),
    ..KernelEntry::new(&CACHE_APPEND, "writes new tokens into a cache: dense, a ring or pages")
};

/// New tokens into a quantised cache.
const QUANTISE: KernelEntry = KernelEntry {
    complete: |text| {
        let text = with(text, &[("format", "q8g64"), ("rounding", "even")])?;
        (APPEND.complete)(text)
    },
    ..KernelEntry::new(&CACHE_QUANTISE, "encodes new tokens as codes of 4 or 8 bits, into a cache or a tensor")
};

/// A cache back to a tensor.
const DEQUANTISE: KernelEntry = KernelEntry {
    complete: |text| with(text, &[("E", "f16"), ("tokens", "32"), ("dim", "128"), ("cache", "dense+k-q8g64")]),
    ..KernelEntry::new(&CACHE_DEQUANTISE, "the tokens of a cache in order, decoded where they are codes")
};

const TYPES: [(Elem, Elem); 5] = [
    (Elem::F32, Elem::F32),
    (Elem::F16, Elem::F16),
    (Elem::Bf16, Elem::Bf16),
    (Elem::F32, Elem::F16),
    (Elem::F32, Elem::Bf16),
];

/// The values that are left out as the planner chooses them for a prefill of 1024 tokens, without features and with lse.
fn complete(text: SpecText) -> Result<SpecText, AttentionError> {
    complete_for(text, 1024, true)
}

/// The same for a decode of one query of a group of four heads over 4096 keys.
fn complete_split(text: SpecText) -> Result<SpecText, AttentionError> {
    complete_for(text, 1, false)
}

fn complete_for(mut text: SpecText, q_len: usize, lse: bool) -> Result<SpecText, AttentionError> {
    // What cannot be read is refused when the kernel is traced.
    let number = |text: &SpecText, name: &str| text.get(name).and_then(|value| value.parse::<usize>().ok());
    let mut or = |name: &str, value: String| text.entry(name.to_string()).or_insert(value).clone();
    let types = [or("E", "f32".to_string()), or("C", "f32".to_string())];
    let head_dim = or("head_dim", "128".to_string());
    or("value_dim", head_dim);
    or("features", Features::none().to_string());
    let cache = or("cache", Format::DENSE.to_string());
    if lse {
        or("lse", true.to_string());
    }

    if let [Some(q), Some(kv)] = types.map(|name| Elem::from_name(&name).filter(|elem| elem.is_float()))
        && !TYPES.contains(&(q, kv))
    {
        return Err(AttentionError::ElementMix { q, kv });
    }
    let (Some(head_dim), Some(value_dim)) = (number(&text, "head_dim"), number(&text, "value_dim")) else {
        return Ok(text);
    };
    for (axis, got) in [("head_dim", head_dim), ("value_dim", value_dim)] {
        if got > MAX_HEAD_DIM {
            return Err(AttentionError::HeadDim { axis, got });
        }
    }
    let Ok(cache) = Format::parse(&cache) else { return Ok(text) };
    let shape = Extents { batch: 1, q_heads: 4, kv_heads: 1, q_len, capacity: 4096, head_dim, value_dim };
    let (schedule, _) = tuning::choose(&shape, &cache);
    let mut extent = |name: &str, chosen: u32| {
        text.entry(name.to_string()).or_insert(chosen.to_string());
        number(&text, name).map(|n| u32::try_from(n).unwrap_or(u32::MAX)) // far outside the limits
    };
    let chosen = [("heads", schedule.heads), ("queries", schedule.queries), ("keys", schedule.keys)];
    if let [Some(heads), Some(queries), Some(keys)] = chosen.map(|(name, chosen)| extent(name, chosen)) {
        tuning::check(Schedule { heads, queries, keys }, head_dim, value_dim, &cache)?;
    }
    Ok(text)
}

/// Values for the merge of one query of a group of four heads.
fn complete_merge(text: SpecText) -> Result<SpecText, AttentionError> {
    let chosen =
        [("E", "f32"), ("heads", "4"), ("queries", "1"), ("value_dim", "128"), ("features", "none"), ("lse", "true")];
    with(text, &chosen)
}

/// The values that are left out as they are given here.
fn with(mut text: SpecText, others: &[(&str, &str)]) -> Result<SpecText, AttentionError> {
    for (name, value) in others {
        text.entry(name.to_string()).or_insert(value.to_string());
    }
    Ok(text)
}

/// Values for a mask of bool and the tiles of a prefill.
fn complete_classify(mut text: SpecText) -> Result<SpecText, AttentionError> {
    for (name, value) in [("E", "bool"), ("queries", "128"), ("keys", "128")] {
        text.entry(name.to_string()).or_insert(value.to_string());
    }
    Ok(text)
}

/// Every case in f32, f16 and bf16; those about types and lengths also with a narrower cache.
fn test_cases() -> Vec<Case> {
    let mut all = Vec::new();
    let of_features = features::all().into_iter().flat_map(|feature| (feature.cases)());
    for case in dense_cases().into_iter().chain(of_features) {
        for &(q, kv) in &TYPES {
            if q == kv || case.name().starts_with("mixed_") {
                all.push(case.clone().types(q, kv));
            }
        }
    }
    all
}

/// Attention without features.
fn dense_cases() -> Vec<Case> {
    let case = |name: &str| Case::new(name).schedule(16, 32);
    let mut all = vec![
        case("one_query_one_key").lengths(1, 1),
        case("one_query").lengths(1, 33),
        case("one_key").lengths(16, 1),
        case("no_keys").lengths(3, 0),
        case("short_of_a_tile").lengths(15, 31),
        case("one_tile"),
        case("past_a_tile").lengths(17, 33),
        case("two_tiles").lengths(32, 64),
        case("many_tiles").lengths(50, 200),
        case("heads_of_1").dims(1, 1).lengths(17, 40),
        case("heads_of_3").dims(3, 3).lengths(17, 40),
        case("heads_of_33").dims(33, 33).lengths(17, 40),
        case("heads_of_64").dims(64, 64).lengths(17, 40),
        case("heads_of_65").dims(65, 65).lengths(17, 40),
        case("heads_of_80").dims(80, 80).lengths(17, 40),
        case("heads_of_128").dims(128, 128).lengths(17, 40),
        case("heads_of_192_and_values_of_128").dims(192, 128).lengths(17, 40),
        case("heads_of_576_and_values_of_512").dims(576, 512).heads(2, 1).lengths(9, 40),
        case("heads_of_3_and_values_of_70").dims(3, 70).lengths(17, 40),
        case("kv_len_of_each_entry").batch(5).lengths(4, 70).kv_len(&[70, 0, 1, 32, 33]),
        case("all_entries_empty").batch(2).lengths(4, 20).kv_len(&[0, 0]),
        case("logits_of_1e5").values(Values::LargeLogits).lengths(17, 40).dims(64, 64),
        case("logits_of_1e5_in_one_dim").values(Values::LargeLogits).lengths(17, 40).dims(1, 8),
        case("scale_of_zero").scale(0.0).lengths(17, 40),
        case("scale_below_zero").scale(-0.7).lengths(17, 40),
        case("sequence_major").sequence_major().heads(6, 3).batch(2).lengths(17, 40),
        case("gaps_between_rows").order(Order::Gaps).heads(6, 3).batch(2).lengths(17, 40),
        case("mixed_cache").heads(4, 2).lengths(17, 70).dims(64, 48),
        case("mixed_cache_of_one_query").heads(8, 2).lengths(1, 70).dims(65, 33),
        case("mixed_cache_with_causal").feature(Causal).lengths(33, 70).kv_len(&[50]),
        case("planned_schedule_of_one_query").lengths(1, 300).dims(64, 64),
    ];
    for group in 1..=9 {
        all.push(case(&format!("group_of_{group}")).heads(2 * group, 2).lengths(7, 40));
    }
    let planned = |name: &str| Case::new(name).heads(2, 1);
    all.push(planned("planned_for_dim_64").lengths(70, 150).dims(64, 64));
    all.push(planned("planned_for_dim_128").lengths(65, 140).dims(128, 128).feature(Causal));
    all.push(planned("planned_for_dim_256").lengths(40, 70).dims(256, 256));
    all.push(planned("planned_for_a_few_queries").lengths(5, 200).dims(64, 64).feature(Causal));
    all
}

/// The shapes of a published model's prefill and decode steps.
fn benches() -> Vec<Case> {
    let mut all = Vec::new();
    for (q, kv) in [(Elem::F32, Elem::F32), (Elem::F16, Elem::F16), (Elem::Bf16, Elem::Bf16)] {
        let case = |name: String| Case::new(name).types(q, kv).without_lse();
        for dim in [64, 128, 256] {
            let heads = 1024 / dim;
            let prefill = |name: &str, n: usize| {
                case(format!("{name}_d{dim}_{n}")).heads(heads, heads.div_ceil(4)).lengths(n, n).dims(dim, dim)
            };
            all.push(prefill("prefill", 1024));
            all.push(prefill("prefill_causal", 1024).feature(Causal));
            all.push(prefill("prefill_causal", 4096).feature(Causal));
        }
        // The shape that bench/torch_sdpa.py measures beside PyTorch.
        all.push(
            case("prefill_causal_h16_d128_2048".into()).heads(16, 4).lengths(2048, 2048).dims(128, 128).feature(Causal),
        );
        all.push(case("decode_d128_4096".into()).heads(32, 8).lengths(1, 4096).dims(128, 128));
        for format in ["ring", "paged(16)", "dense+k-q8g64+v-q8g64", "dense+k-q4g64+v-q4g64"] {
            let Ok(format) = Format::parse(format) else { continue };
            all.push(
                case(format!("decode_{format}_d128_4096")).heads(32, 8).lengths(1, 4096).dims(128, 128).cache(format),
            );
        }
        all.push(case("verify_d128_4096".into()).heads(32, 8).lengths(8, 4096).dims(128, 128).feature(Causal));
        all.push(case("latent_d576_1024".into()).heads(4, 1).lengths(256, 1024).dims(576, 512).feature(Causal));
    }
    all
}
