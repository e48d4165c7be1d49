//! The test cases of each kernel, in all types.

mod cache;
mod classes;
mod formats;
mod forward;
mod split;

use super::TYPES;
use crate::cases::{CacheCase, Case, TestCase};
use crate::features;
use tilewright_ir::Elem;

pub(super) use forward::masked as masked_prefill;

/// One pass: without features, the cases of the features, and every cache format.
pub(super) fn forward() -> Vec<TestCase> {
    let of_features = features::all().into_iter().flat_map(|feature| (feature.cases)());
    let (mixed, others): (Vec<Case>, Vec<Case>) =
        forward::plain().into_iter().chain(of_features).partition(|case| case.label().starts_with("mixed_"));
    let all = in_types(mixed, &TYPES).chain(in_types(others, &SAME)).chain(forward::masked_prefill());
    all.chain(formats::in_one_pass()).map(TestCase::from).collect()
}

/// Shares of the keys: decode and verify.
pub(super) fn split() -> Vec<TestCase> {
    let cases = in_types(split::cases(), &TWO).chain(in_types(split::published(), &SAME));
    cases.chain(split::vector()).chain(formats::in_shares()).map(TestCase::from).collect()
}

/// What is special where shares are combined.
pub(super) fn merge() -> Vec<TestCase> {
    in_types(split::merges(), &TYPES).map(TestCase::from).collect()
}

/// Masks of all sorts in tiles of all sorts.
pub(super) fn classify() -> Vec<TestCase> {
    classes::cases().into_iter().map(TestCase::from).collect()
}

/// New tokens as they are.
pub(super) fn append() -> Vec<TestCase> {
    in_elements(cache::append())
}

/// New tokens as codes.
pub(super) fn quantise() -> Vec<TestCase> {
    in_elements(cache::quantise())
}

/// Caches of all sorts back to tensors.
pub(super) fn dequantise() -> Vec<TestCase> {
    in_elements(cache::dequantise())
}

/// One type for all.
const SAME: [(Elem, Elem); 3] = [TYPES[0], TYPES[1], TYPES[2]];

/// One type for all, and a cache of another.
const TWO: [(Elem, Elem); 2] = [TYPES[0], TYPES[3]];

fn in_types(cases: Vec<Case>, types: &[(Elem, Elem)]) -> impl Iterator<Item = Case> {
    cases.into_iter().flat_map(|case| types.iter().map(move |&(q, kv)| case.clone().types(q, kv)))
}

fn in_elements(cases: Vec<CacheCase>) -> Vec<TestCase> {
    let in_all = |case: CacheCase| SAME.map(|(elem, _)| TestCase::from(case.clone().elem(elem)));
    cases.into_iter().flat_map(in_all).collect()
}
