//! Caches, masks, codes, splits and layouts together.

mod support;

use safetensors::tensor::Dtype;
use support::caches::{moved, pages, sequence_major};
use support::{Bench, SMALL, Sizes, Tensors};

const SIZES: Sizes = Sizes { kv_len: 40, head_dim: 32, value_dim: 32, ..SMALL };

/// The same tokens as they are, in a ring and in pages; NaN in every slot without one.
fn placements() -> [Tensors; 3] {
    let dense = SIZES.tensors(Dtype::F32, Dtype::F32);
    let ring = moved(SIZES, &dense, 2, 41, |batch, slot| {
        let token = (slot + 41 - [7, 40][batch]) % 41;
        (token < 40).then_some((batch, token))
    });
    let ring = ring.i32("ring_start", &[7, 40]).i32("kv_len", &[40, 40]);
    let table = [5i32, 1, 3, 0, 6, 2].iter().flat_map(|n| n.to_le_bytes()).collect();
    let paged = pages(SIZES, &dense).raw("pages", Dtype::I32, &[2, 3], table);
    [dense, ring, paged]
}

/// Without a mask, with one, and with a tree and sinks as well.
fn features(plain: Tensors) -> [Tensors; 3] {
    let bias = |cell: usize| if cell % 7 == 3 { f64::NEG_INFINITY } else { (cell % 5) as f64 };
    let masked = plain.clone().float("mask", Dtype::BF16, &[5, 40], &(0..200).map(bias).collect::<Vec<f64>>());
    let tree = (0..25).map(|cell| u8::from(cell % 5 <= cell / 5)).collect();
    let treed = masked.clone().raw("tree", Dtype::U8, &[5, 5], tree).float("sinks", Dtype::F32, &[4], &[0.5; 4]);
    [plain, masked, treed]
}

/// Whether these flags ran and held against f64; else they were refused by name.
fn ran(bench: &Bench, flags: &[&str]) -> bool {
    let outcome = bench.attend(flags);
    if outcome.code == Some(2) {
        let named = flags.contains(&"--class-map") && outcome.stderr.contains("class map");
        assert!(named, "{flags:?}: {outcome:?}");
        return false;
    }
    assert_eq!(outcome.code, Some(0), "{flags:?}: {outcome:?}");
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let check = &report["checks"][0];
    assert_eq!((&check["holds"], &check["against"]), (&true.into(), &"f64".into()), "{flags:?}: {report}");
    assert_eq!(check["compared"], 2 * 4 * 5 * 32, "{flags:?}: {report}");
    true
}

#[test]
fn any_combination_computes_the_contract_or_is_refused_by_name() {
    let kv: [&[&str]; 3] = [&[], &["--kv", "int8", "--group", "32"], &["--kv", "int4", "--group", "32"]];
    let (mut served, mut refused) = (0, 0);
    for tensors in placements().into_iter().flat_map(features) {
        for (layout, tensors) in [("bhld", tensors.clone()), ("blhd", sequence_major(&tensors))] {
            // An o of another type gives way to f64 on what was read.
            let shape = tensors.shape("q").to_vec();
            let bench = Bench::new(&tensors.clone().float("o", Dtype::F16, &shape, &[0.0; 2 * 4 * 5 * 32]));
            let maps: &[&[&str]] = if tensors.names().contains(&"mask") { &[&[], &["--class-map"]] } else { &[&[]] };
            for (kv, map) in kv.iter().flat_map(|kv| maps.iter().map(move |map| (kv, map))) {
                for splits in ["1", "3"] {
                    let flags = ["--layout", layout, "--splits", splits, "--causal", "--window", "30", "--json"];
                    match ran(&bench, &[&flags[..], kv, map].concat()) {
                        true => served += 1,
                        false => refused += 1,
                    }
                }
            }
        }
    }
    // Maps are refused over rings: placements, features with their maps, layouts, formats, splits.
    assert_eq!((served, refused), (3 * 5 * 2 * 3 * 2 - 24, 24));
}
