//! Every cache format by decode, verify and prefill.

use super::TYPES;
use crate::cache::Format;
use crate::cases::Case;
use crate::features::{Causal, Tree};
use crate::{Features, Schedule, Splits};
use tilewright_lang::SpecValue;

/// Formats of caches, as text.
const FORMATS: [&str; 16] = [
    "dense",
    "ring",
    "paged(16)",
    "paged(64)",
    "dense+k-q8g64+v-q8g64",
    "dense+k-q4g32+v-q4g32",
    "dense+k-q4g64+v-q8g32",
    "dense+k-q8g64+v-q4g32",
    "dense+k-q8g32",
    "dense+v-q4g64",
    "dense+tail",
    "dense+k-q8g64+v-q8g64+tail",
    "dense+k-q4g32+tail",
    "ring+k-q8g64+v-q8g64",
    "ring+v-q4g32",
    "paged(16)+k-q4g32+v-q8g64",
];

/// A way to ask: its name, the queries of a sequence, and what they see.
struct Form {
    name: &'static str,
    q_len: usize,
    features: fn() -> Features,
}

const DECODE: Form = Form { name: "decode", q_len: 1, features: Features::none };
const FORMS: [Form; 4] = [
    DECODE,
    Form { name: "verify_causal", q_len: 5, features: || Features::none().with(Causal) },
    Form { name: "verify_flat", q_len: 4, features: Features::none },
    Form { name: "verify_tree", q_len: 7, features: || tree(7) },
];
const PREFILL: Form = Form { name: "prefill_causal", q_len: 33, features: || Features::none().with(Causal) };

/// All formats, each with its text.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Format)> + Clone {
    FORMATS.iter().filter_map(|text| Some((*text, Format::parse(text).ok()?)))
}

/// A binary tree of drafts.
pub(super) fn tree(drafts: usize) -> Features {
    let parents: Vec<_> = (0..drafts).map(|draft| draft.checked_sub(1).map(|before| before / 2)).collect();
    Tree::of_parents(&parents).map_or(Features::none(), |tree| Features::none().with(tree))
}

/// By the split kernel, in all types.
pub(super) fn in_shares() -> Vec<Case> {
    let each = |form| of_form(form, "").into_iter().map(|case| case.splits(Splits::Count(3)));
    FORMS.iter().flat_map(each).collect()
}

/// By the kernel of one pass, in all types.
pub(super) fn in_one_pass() -> Vec<Case> {
    let each = |form| of_form(form, "_in_one_pass").into_iter().map(|case| case.splits(Splits::Count(1)));
    [DECODE, PREFILL].iter().flat_map(each).collect()
}

/// Three sequences of different lengths, tiles of two heads of a group.
fn of_form(form: &Form, way: &str) -> Vec<Case> {
    let queries = form.q_len.next_power_of_two().min(16) as u32;
    let mut cases = Vec::new();
    for (text, format) in all() {
        for (q, kv) in TYPES {
            let case = Case::new(format!("{}_{text}{way}", form.name)).types(q, kv).heads(4, 2).dims(64, 64).batch(3);
            let case = case.lengths(form.q_len, 70).kv_len(&[70, 33, 48]).ring_start(&[69, 0, 41]);
            let case = case.tile(Schedule { heads: 2, queries, keys: 16 });
            cases.push(case.cache(format).features((form.features)()));
        }
    }
    cases
}
