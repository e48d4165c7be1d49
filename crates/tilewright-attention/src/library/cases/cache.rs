//! Cases of the kernels of caches: written and read back.

use crate::cache::Placement;
use crate::cases::CacheCase;
use crate::quant::{Affine, Rounding};

/// Where tokens go: a name, how positions are slots, the slots, and of each batch entry its position and new tokens.
type Where = (&'static str, Placement, usize, &'static [(usize, usize)]);

const PLACES: [Where; 13] = [
    ("one_token", Placement::Contiguous, 1, &[(0, 1)]),
    ("a_tile", Placement::Contiguous, 16, &[(0, 16)]),
    ("past_a_tile", Placement::Contiguous, 40, &[(3, 17), (39, 1)]),
    ("to_the_last_slot", Placement::Contiguous, 33, &[(1, 32), (18, 15), (33, 0)]),
    ("to_a_ring", Placement::Ring, 20, &[(0, 20), (20, 3), (0, 0)]),
    ("across_the_end_of_a_ring", Placement::Ring, 33, &[(30, 17), (65, 2), (1000, 16)]),
    ("more_than_a_ring_holds", Placement::Ring, 17, &[(5, 40), (0, 34)]),
    ("to_a_ring_of_one", Placement::Ring, 1, &[(0, 3), (7, 1)]),
    ("to_pages_of_16", Placement::Paged { page_size: 16 }, 48, &[(0, 48), (15, 2), (16, 16)]),
    ("to_pages_of_17", Placement::Paged { page_size: 17 }, 51, &[(16, 19), (34, 17)]),
    ("to_pages_of_64", Placement::Paged { page_size: 64 }, 128, &[(60, 9), (0, 1)]),
    ("to_pages_of_48", Placement::Paged { page_size: 48 }, 96, &[(47, 33), (95, 1)]),
    ("to_a_page_of_256", Placement::Paged { page_size: 256 }, 256, &[(100, 40)]),
];

fn everywhere(verb: &str) -> impl Iterator<Item = CacheCase> {
    PLACES.iter().map(move |&(name, placement, capacity, new)| {
        CacheCase::new(format!("{verb}_{name}")).placement(placement).capacity(capacity).tokens(new)
    })
}

/// Tokens as they are: every place, and dims of all sorts.
pub(super) fn append() -> Vec<CacheCase> {
    let of_dim = |dim| CacheCase::new(format!("append_d{dim}")).heads(3, dim);
    everywhere("append").chain([1, 3, 65, 96, 128, 576].map(of_dim)).collect()
}

/// Tokens as codes: every format and rounding, every place, and the caches of 8 heads of dim 128.
pub(super) fn quantise() -> Vec<CacheCase> {
    let formats = Affine::all().flat_map(|format| Rounding::ALL.map(|rounding| (format, rounding)));
    let of_format = formats.map(|(format, rounding)| {
        CacheCase::new(format!("quantise_{format}_{rounding}")).heads(2, 128).codes(format, rounding)
    });
    let of_place = in_formats("quantise", &["q8g64", "q4g32"]);
    let published = [("int4", "q4g32"), ("int8", "q8g32")].into_iter().filter_map(|(name, format)| {
        let case = CacheCase::new(format!("kv_cache_{name}")).heads(8, 128).capacity(70).tokens(&[(0, 70), (33, 9)]);
        Some(case.codes(format.parse().ok()?, Rounding::TiesToEven))
    });
    of_format.chain(of_place).chain(published).collect()
}

/// What was written before and what is new, in order: caches as they are and as codes.
pub(super) fn dequantise() -> Vec<CacheCase> {
    everywhere("read").chain(in_formats("read", &["q4g64", "q8g32"])).collect()
}

fn in_formats(verb: &str, formats: &[&str]) -> Vec<CacheCase> {
    let formats = formats.iter().filter_map(|format| format.parse::<Affine>().ok());
    let codes = |format: Affine| {
        everywhere(&format!("{verb}_{format}")).map(|case| case.codes(format, Rounding::Away)).collect::<Vec<_>>()
    };
    formats.flat_map(codes).collect()
}
