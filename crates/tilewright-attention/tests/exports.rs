//! Exports: the formulas of a launch against the library's own launches, and against shapes worked out by hand.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;
use tilewright_attention::formula::{Formula, FormulaError, Numbers, grid};
use tilewright_attention::{Attention, Export, Extents, KernelEntry, Schedule, Splits, Wanted, library};
use tilewright_ir::{Elem, Type};
use tilewright_runtime::{Device, Tensor};

fn export(name: &str) -> Export {
    let entry = *library().find(name).unwrap_or_else(|| panic!("no kernel {name}"));
    entry.export.unwrap_or_else(|| panic!("{name} has no export"))
}

/// A plan of these shapes, its grids, and what they should be by hand.
fn planned(shape: &Extents, schedule: Schedule, splits: usize, device: &Device) -> Vec<(String, [u32; 3], [usize; 3])> {
    let Extents { batch, q_heads, kv_heads, q_len, capacity, head_dim, value_dim } = *shape;
    let zeros = |shape: [usize; 4]| Tensor::zeros(Elem::F32, &shape).expect("a tensor");
    let q = zeros([batch, q_heads, q_len, head_dim]);
    let (k, v) = (zeros([batch, kv_heads, capacity, head_dim]), zeros([batch, kv_heads, capacity, value_dim]));
    let request = Attention::new(q.view(), k.view(), v.view()).schedule(schedule).splits(Splits::Count(splits));
    let plan = request.plan(device).unwrap_or_else(|e| panic!("{shape:?} {schedule}: {e}"));
    let names = plan.pipelines().map(|pipeline| pipeline.kernel().name.to_string());
    let (heads, queries) = (schedule.heads as usize, schedule.queries as usize);
    let tiles = (0..q_len).step_by(queries).count();
    let by_hand = |name: &str| match name {
        "attention_forward" => [tiles, q_heads / heads, batch],
        "attention_split" => [tiles * splits, q_heads / heads, batch],
        "attention_merge" => [q_len, q_heads, batch],
        other => panic!("a plan has no pass {other}"),
    };
    names.zip(plan.grids()).map(|(name, grid)| (name.clone(), grid, by_hand(&name))).collect()
}

#[test]
fn the_formulas_of_prefill_decode_and_merge_give_the_plans_own_grids() {
    let device = Device::interp();
    let mut compared = BTreeSet::new();
    let shapes = (1usize..=3, 1usize..=3, 0usize..4, 1usize..200, 1usize..4, 0usize..3, 0usize..3);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(200));
    let seen = std::cell::RefCell::new(&mut compared);
    let result = runner.run(&shapes, |(batch, kv_heads, doublings, q_len, splits, heads, queries)| {
        let heads = 1 << heads.min(doublings);
        let schedule = Schedule { heads, queries: [1, 4, 16][queries], keys: 16 };
        let q_heads = kv_heads << doublings;
        let shape = Extents { batch, q_heads, kv_heads, q_len, capacity: 40, head_dim: 8, value_dim: 16 };
        for (name, got, by_hand) in planned(&shape, schedule, splits, &device) {
            prop_assert_eq!(got.map(|n| n as usize), by_hand, "{} of {:?}", &name, shape);
            let (q, o) = ([batch, q_heads, q_len, 8], [batch, q_heads, q_len, 16]);
            let values = [("heads", heads as usize), ("queries", schedule.queries as usize), ("splits", splits)];
            let numbers = Numbers { shapes: &[("q", &q), ("o", &o)], values: &values };
            prop_assert_eq!(grid(export(&name).grid, &numbers), Ok(got), "{} of {:?}", &name, shape);
            seen.borrow_mut().insert(name);
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(Vec::from_iter(&compared), ["attention_forward", "attention_merge", "attention_split"]);
}

#[test]
fn the_formulas_of_cache_kernels_and_class_maps_are_those_worked_out_by_hand() {
    let of = |name: &str, shapes: &[(&str, &[usize])], values: &[(&str, usize)]| {
        grid(export(name).grid, &Numbers { shapes, values })
    };
    for name in ["cache_append", "cache_quantise"] {
        let x: &[(&str, &[usize])] = &[("x", &[2, 3, 40, 64])];
        assert_eq!(of(name, x, &[("tokens", 16), ("rows", 33)]), Ok([3, 3, 2]), "{name}");
        assert_eq!(of(name, x, &[("tokens", 16), ("rows", 4000)]), Ok([3, 3, 2]), "{name}: no more than x has");
        assert_eq!(of(name, x, &[("tokens", 1), ("rows", 1)]), Ok([1, 3, 2]), "{name}");
    }
    let o: &[(&str, &[usize])] = &[("o", &[2, 3, 65, 64])];
    assert_eq!(of("cache_dequantise", o, &[("tokens", 32), ("rows", 65)]), Ok([3, 3, 2]));
    let mask: &[(&str, &[usize])] = &[("mask", &[2, 3, 65, 129])];
    assert_eq!(of("attention_classify", mask, &[("queries", 64), ("keys", 64)]), Ok([3, 2, 6]));
}

#[test]
fn a_formula_without_a_value_says_what_is_wrong() {
    let export = export("attention_split");
    let q: &[(&str, &[usize])] = &[("q", &[1, 8, 100, 64])];
    let with = |values: &[(&str, usize)]| grid(export.grid, &Numbers { shapes: q, values });
    let missing = with(&[("queries", 4), ("heads", 2)]);
    assert_eq!(missing, Err(FormulaError::Missing { name: "splits".to_string() }));
    let zero = with(&[("queries", 0), ("heads", 2), ("splits", 2)]);
    assert_eq!(zero, Err(FormulaError::Zero { name: "queries".to_string() }));
    let many = with(&[("queries", 1), ("heads", 2), ("splits", usize::MAX)]);
    assert_eq!(many, Err(FormulaError::TooMany { got: usize::MAX }));
    let past = Formula::Axis("q", 4).evaluate(&Numbers { shapes: q, values: &[] });
    assert_eq!(past, Err(FormulaError::Missing { name: "q.shape[4]".to_string() }));
}

/// Traces every specialisation of an entry's export and holds the export's names against the kernel's parameters.
fn check_names(entry: &KernelEntry, export: &Export, wanted: &Wanted) {
    let all = (export.specialise)(wanted);
    assert!(!all.is_empty(), "{}: nothing for {wanted:?}", entry.name());
    for text in all {
        let text = (entry.complete)(text).unwrap_or_else(|e| panic!("{} {wanted:?}: {e}", entry.name()));
        let kernel = entry.spec.trace(&text).unwrap_or_else(|e| panic!("{} {text:?}: {e}", entry.name()));
        let rank = |name: &str| {
            let param = kernel.params.iter().find(|param| param.name == name)?;
            if let Type::View { rank, .. } = kernel.ty(param.value) { Some(usize::from(rank)) } else { None }
        };
        for (name, shape) in export.shapes {
            assert!(rank(name).is_none_or(|rank| rank == shape.len()), "{}: the rank of {name}", entry.name());
        }
        let given = |name: &str| {
            let scalar = kernel.params.iter().any(|p| p.name == name && rank(name).is_none());
            scalar || export.numbers.iter().any(|(number, _)| *number == name)
        };
        export.grid.iter().for_each(|formula| {
            formula.walk(&mut |part| {
                let known = match part {
                    Formula::Value(name) => text.get(*name).is_some_and(|value| value.parse::<usize>().is_ok()),
                    Formula::Number(name) => given(name),
                    Formula::Axis(name, axis) => rank(name).is_some_and(|rank| *axis < rank),
                    _ => true,
                };
                assert!(known, "{} {text:?}: {part:?}", entry.name());
            });
        });
    }
}

#[test]
fn every_export_traces_and_mentions_only_what_its_kernel_has() {
    let mut exported = 0;
    for entry in library().entries {
        let Some(export) = entry.export else { continue };
        exported += 1;
        for (q, kv) in Export::TYPES {
            for head_dim in [64, 96, 512] {
                let wanted = Wanted { q, kv, head_dim, value_dim: head_dim, shared_bytes: 32 << 10 };
                check_names(&entry, &export, &wanted);
            }
        }
    }
    assert_eq!(exported, library().entries.len());
}
