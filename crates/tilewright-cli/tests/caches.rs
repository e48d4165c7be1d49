//! Caches in a file: rings, pages, codes, and keys split into shares, beside attention in f64 over the tokens in order.

mod support;

use safetensors::tensor::Dtype;
use support::caches::{cache, moved, pages};
use support::{Bench, SMALL, Sizes, Tensors, assert_close, attend, refuses};
use tilewright::attention::{Affine, Bits, Group};
use tilewright::prelude::Elem;

const DEVICES: [&str; 2] = ["cpu", "interp"];

/// Heads as long as every group divides.
const LONG: Sizes = Sizes { head_dim: 128, value_dim: 128, ..SMALL };
/// Three pages of 16 tokens.
const PAGED: Sizes = Sizes { kv_len: 40, ..SMALL };

fn small() -> Tensors {
    SMALL.tensors(Dtype::F32, Dtype::F32)
}

fn causal(sizes: Sizes) -> impl Fn(usize, usize) -> usize {
    move |_, row| sizes.kv_len + row + 1 - sizes.q_len
}

/// Numbers as a file may hold them.
fn integers(numbers: &[i64]) -> [(Dtype, Vec<u8>); 3] {
    [
        (Dtype::I32, numbers.iter().flat_map(|&n| (n as i32).to_le_bytes()).collect()),
        (Dtype::U32, numbers.iter().flat_map(|&n| (n as u32).to_le_bytes()).collect()),
        (Dtype::I64, numbers.iter().flat_map(|&n| n.to_le_bytes()).collect()),
    ]
}

#[test]
fn a_ring_gives_what_its_tokens_in_order_give() {
    let tensors = small();
    let (o, lse) = SMALL.attention(&tensors, 0.25, causal(SMALL));
    let (starts, capacity) = ([7, 2], 11);
    let ring = moved(SMALL, &tensors, 2, capacity, |batch, slot| {
        let token = (slot + capacity - starts[batch]) % capacity;
        (token < 9).then_some((batch, token))
    });
    for (dtype, bytes) in integers(&[7, 2]) {
        for device in DEVICES {
            let ring = ring.clone().raw("ring_start", dtype, &[2], bytes.clone()).i32("kv_len", &[9, 9]);
            let out = attend(&ring, &["--causal", "--lse", "--device", device]);
            assert_close(&out.values("o"), &o, 2e-6);
            assert_close(&out.values("lse"), &lse, 2e-6);
        }
    }
    let ring = ring.i32("kv_len", &[9, 9]);
    refuses(&ring.clone().i32("ring_start", &[7, 11]), &["--causal"], 2, "ring_start[1] is 11");
    refuses(&ring.clone().i32("ring_start", &[7, -1]), &["--causal"], 2, "ring_start[1] is -1");
    refuses(&ring.clone().i32("ring_start", &[7]), &[], 2, "tensor `ring_start` is I32 [1]; shape [2]");
    refuses(&ring.i32("ring_start", &[7, 2]), &["--causal", "--q-start", "0"], 2, "`q_start` with a ring");
}

#[test]
fn pages_give_what_their_tokens_in_order_give() {
    let tensors = PAGED.tensors(Dtype::F32, Dtype::F32);
    let (o, _) = PAGED.attention(&tensors, 0.25, causal(PAGED));
    let paged = pages(PAGED, &tensors);
    // The fourth entries are past kv_len.
    for (dtype, bytes) in integers(&[5, 1, 3, -1, 0, 6, 2, i64::from(i32::MAX)]) {
        for device in DEVICES {
            let out =
                attend(&paged.clone().raw("pages", dtype, &[2, 4], bytes.clone()), &["--causal", "--device", device]);
            assert_close(&out.values("o"), &o, 2e-6);
        }
    }
    let huge = [5, 1, 3, 1 << 40, 0, 6, 2, -(1 << 40)].iter().flat_map(|n: &i64| n.to_le_bytes()).collect();
    let out = attend(&paged.clone().raw("pages", Dtype::I64, &[2, 4], huge), &["--causal", "--splits", "2"]);
    assert_close(&out.values("o"), &o, 2e-6);

    let table = |numbers: &[i32], shape: &[usize]| {
        paged.clone().raw("pages", Dtype::I32, shape, numbers.iter().flat_map(|n| n.to_le_bytes()).collect())
    };
    refuses(&table(&[5, 1, 7, 0, 6, 2], &[2, 3]), &[], 2, "page 2 of batch entry 0 is 7");
    refuses(&table(&[5, 1, 3, 0, -6, 2], &[2, 3]), &[], 2, "page 1 of batch entry 1 is -6");
    refuses(&table(&[5, 1, 3], &[3]), &[], 2, "tensor `pages` is I32 [3]; shape [2, any]");
    refuses(&table(&[5, 1, 0, 6], &[2, 2]), &[], 2, "40");
    let both = table(&[5, 1, 3, 0, 6, 2], &[2, 3]).i32("ring_start", &[0, 0]);
    refuses(&both, &[], 2, "tensor `ring_start` is there beside `pages`");
    let small_pages = small().raw("pages", Dtype::I32, &[2, 1], vec![0; 8]);
    refuses(&small_pages, &[], 2, "pages of 9 tokens");
}

#[test]
fn pages_serve_queries_of_rank_3() {
    let tensors = PAGED.tensors(Dtype::F32, Dtype::F32);
    let (o, _) = PAGED.attention(&tensors, 0.25, causal(PAGED));
    let (half, q) = (o.len() / 2, tensors.values("q"));
    let paged = pages(PAGED, &tensors).float("q", Dtype::F32, &[4, 5, 16], &q[..q.len() / 2]).i32("kv_len", &[40]);
    let table = [5i32, 1, 3].iter().flat_map(|n| n.to_le_bytes()).collect();
    let paged = paged.raw("pages", Dtype::I32, &[1, 3], table);
    let out = attend(&paged, &["--causal"]);
    assert_eq!(out.shape("o"), [4, 5, 24]);
    assert_close(&out.values("o"), &o[..half], 2e-6);
    let flat = paged.float("k", Dtype::F32, &[2, 40, 16], &vec![0.5; 2 * 40 * 16]);
    refuses(&flat, &[], 2, "tensor `k` is f32 [2, 40, 16]; rank 4, pages, is needed");
}

const Q4G32: Affine = Affine { bits: Bits::Four, group: Group::Of32 };
const Q8G64: Affine = Affine { bits: Bits::Eight, group: Group::Of64 };

#[test]
fn codes_in_the_file_are_read_in_every_format() {
    for format in Affine::all() {
        let (codes, plain) = cache(Elem::F32, Dtype::F32, Some(format), Some(format), LONG);
        let (o, lse) = LONG.attention(&plain, 0.125, causal(LONG));
        for device in DEVICES {
            let out = attend(&codes, &["--causal", "--lse", "--scale=0.125", "--device", device]);
            assert_close(&out.values("o"), &o, 2e-6);
            assert_close(&out.values("lse"), &lse, 3e-6);
        }
        // What the flags say as well must be so.
        let (bits, group) = (format!("int{}", format.bits), format.group.to_string());
        attend(&codes, &["--kv", &bits, "--group", &group]);
    }
}

#[test]
fn keys_and_values_have_formats_of_their_own() {
    for (k, v) in [(Some(Q8G64), Some(Q4G32)), (Some(Q4G32), None), (None, Some(Q8G64))] {
        for (elem, dtype, bound) in [(Elem::F32, Dtype::F32, 2e-6), (Elem::F16, Dtype::F16, 2e-3)] {
            for sequence_major in [false, true] {
                let sizes = Sizes { sequence_major, ..LONG };
                let (codes, plain) = cache(elem, dtype, k, v, sizes);
                let (o, _) = sizes.attention(&plain, 0.125, causal(sizes));
                let layout = if sequence_major { "blhd" } else { "bhld" };
                let out = attend(&codes, &["--causal", "--scale=0.125", "--layout", layout]);
                assert_close(&out.values("o"), &o, bound);
            }
        }
    }
}

#[test]
fn kv_encodes_dense_keys_and_values_on_the_way() {
    let flags: [(&[&str], Affine); 3] = [
        (&["--kv", "int8"], Q8G64),
        (&["--kv", "int4", "--group", "32"], Q4G32),
        (&["--kv", "int4", "--group", "128"], Affine { bits: Bits::Four, group: Group::Of128 }),
    ];
    for (flags, format) in flags {
        for (elem, dtype) in [(Elem::F32, Dtype::F32), (Elem::Bf16, Dtype::BF16)] {
            for (layout, sequence_major) in [("bhld", false), ("blhd", true)] {
                let sizes = Sizes { sequence_major, ..LONG };
                let (codes, _) = cache(elem, dtype, Some(format), Some(format), sizes);
                let dense = sizes.tensors(dtype, dtype);
                let flags = [flags, &["--causal", "--layout", layout]].concat();
                assert_eq!(attend(&dense, &flags).bytes("o"), attend(&codes, &flags).bytes("o"), "{flags:?}");
            }
        }
    }
}

#[test]
fn an_o_of_the_file_gives_way_to_f64_where_keys_and_values_were_encoded() {
    let dense = LONG.tensors(Dtype::F32, Dtype::F32);
    let (o, _) = LONG.attention(&dense, 0.125, causal(LONG));
    let flags = ["--causal", "--scale=0.125", "--json"];
    let against = |tensors: &Tensors, flags: &[&str]| {
        let outcome = Bench::new(tensors).attend(flags);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let report: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        assert_eq!(report["checks"][0]["holds"], true, "{report}");
        assert_eq!(report["checks"][0]["compared"], o.len(), "{report}");
        report["checks"][0]["against"].as_str().expect("text").to_string()
    };
    let dense = dense.float("o", Dtype::F32, &LONG.o_shape(), &o);
    assert_eq!(against(&dense, &[&flags[..], &["--kv", "int8"]].concat()), "f64");
    let (codes, plain) = cache(Elem::F32, Dtype::F32, Some(Q8G64), Some(Q8G64), LONG);
    let (o, _) = LONG.attention(&plain, 0.125, causal(LONG));
    assert_eq!(against(&codes.float("o", Dtype::F32, &LONG.o_shape(), &o), &flags), "file");
}

#[test]
fn codes_and_flags_that_contradict_each_other_are_refused() {
    let (codes, _) = cache(Elem::F32, Dtype::F32, Some(Q4G32), Some(Q4G32), LONG);
    refuses(&codes, &["--kv", "dense"], 2, "`--kv dense` does not fit");
    refuses(
        &codes,
        &["--kv", "int8"],
        2,
        "`--kv int8` does not fit; `--kv int4 --group 32`, which the codes of `k.w` are",
    );
    refuses(&codes, &["--group", "64"], 2, "`--group 64` does not fit");
    refuses(
        &small(),
        &["--group", "64"],
        2,
        "`--group 64` does not fit; `--kv int8`, `--kv int4` or a file with codes",
    );
    refuses(&small(), &["--kv", "dense", "--group", "64"], 2, "`--group 64` does not fit");
    refuses(
        &small(),
        &["--kv", "int8"],
        2,
        "tensor `k` cannot be quantised: 16 values do not divide into groups of 64",
    );
    for part in ["k.w", "k.scales", "v.biases"] {
        refuses(&codes.clone().without(part), &[], 2, &format!("tensor `{part}` is missing"));
    }
    let both = codes.clone().float("k", Dtype::F32, &[2, 2, 9, 128], &vec![0.5; 2 * 2 * 9 * 128]);
    refuses(&both, &[], 2, "tensor `k` is there beside `k.w`");
    let words = |last: usize| vec![0; 2 * 2 * 9 * last * 4];
    refuses(
        &codes.clone().raw("k.w", Dtype::I32, &[2, 2, 9, 16], words(16)),
        &[],
        2,
        "`k.w` is I32 [2, 2, 9, 16]; U32",
    );
    refuses(
        &codes.clone().raw("k.w", Dtype::U32, &[2, 2, 9, 12], words(12)),
        &[],
        2,
        "`k.w` is of 12 words and 4 groups",
    );
    refuses(&codes.clone().raw("k.w", Dtype::U32, &[2, 2, 8, 16], vec![0; 2 * 2 * 8 * 16 * 4]), &[], 2, "8");
    refuses(&codes.clone().float("k.scales", Dtype::F16, &[2, 2, 9, 4], &[1.0; 144]), &[], 2, "k_biases");
}

#[test]
fn codes_of_another_value_dim_are_read_as_the_flags_say() {
    let sizes = Sizes { value_dim: 64, ..LONG };
    let q4g64 = Some(Affine { bits: Bits::Four, group: Group::Of64 });
    let (codes, plain) = cache(Elem::F32, Dtype::F32, q4g64, q4g64, sizes);
    let (o, _) = sizes.attention(&plain, 0.125, causal(sizes));
    refuses(&codes, &[], 2, "`v.w` is of 8 words and 1 groups, which several formats have");
    for flag in [["--kv", "int4"], ["--group", "64"]] {
        let out = attend(&codes, &[&flag[..], &["--causal", "--scale=0.125"]].concat());
        assert_close(&out.values("o"), &o, 2e-6);
    }
}

#[test]
fn dtype_rounds_scales_and_biases_too() {
    let (codes, _) = cache(Elem::F32, Dtype::F32, Some(Q8G64), Some(Q4G32), LONG);
    let mut rounded = codes.clone();
    for name in ["q", "k.scales", "k.biases", "v.scales", "v.biases"] {
        rounded = rounded.float(name, Dtype::F16, codes.shape(name), &codes.values(name));
    }
    let (a, b) = (attend(&codes, &["--dtype", "f16"]), attend(&rounded, &[]));
    assert_eq!((a.dtype("o"), a.bytes("o")), (Dtype::F16, b.bytes("o")));
}

#[test]
fn splits_share_out_the_keys_and_change_nothing_else() {
    let tensors = PAGED.tensors(Dtype::F32, Dtype::F32);
    let (o, lse) = PAGED.attention(&tensors, 0.25, causal(PAGED));
    for splits in ["auto", "1", "3", "64"] {
        for device in DEVICES {
            let flags = ["--causal", "--lse", "--splits", splits, "--device", device];
            let out = attend(&tensors, &flags);
            assert_close(&out.values("o"), &o, 2e-6);
            assert_close(&out.values("lse"), &lse, 2e-6);
        }
    }
    let outcome = Bench::new(&tensors).attend(&["--splits=3", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!((&report["splits"], &report["kernel"]), (&3.into(), &"attention_split+attention_merge".into()));
    refuses(&tensors, &["--splits", "1000000"], 2, "1000000 splits");
}

#[test]
fn no_batch_no_queries_and_no_keys_are_served_in_every_format() {
    let of = |sizes: Sizes| sizes.tensors(Dtype::F32, Dtype::F32);
    let flags: [&[&str]; 3] = [&["--kv", "int8", "--splits", "3"], &["--splits", "3"], &["--window", "3", "--lse"]];
    for flags in flags {
        assert_eq!(attend(&of(Sizes { batch: 0, ..LONG }), flags).shape("o"), [0, 4, 5, 128]);
        assert_eq!(attend(&of(Sizes { q_len: 0, ..LONG }), flags).shape("o"), [2, 4, 0, 128]);
        assert_eq!(attend(&of(Sizes { kv_len: 0, ..LONG }), flags).values("o"), [0.0; 2 * 4 * 5 * 128]);
    }
}
