//! Every case of the library on every device that is present.

use std::collections::BTreeSet;
use tilewright_attention::cases::{CacheCase, Case, CaseError, ClassCase, TestCase};
use tilewright_attention::reference::Mismatch;
use tilewright_attention::{AttentionError, Causal, KernelEntry, Mask, Schedule, library};
use tilewright_ir::Elem;
use tilewright_lang::SpecText;
use tilewright_runtime::{Device, Tensor};

fn all_cases() -> Vec<TestCase> {
    library().entries.iter().flat_map(|entry| (entry.cases)()).collect()
}

/// The cases that are attention.
fn attention_cases() -> Vec<Case> {
    all_cases().iter().filter_map(TestCase::attention).cloned().collect()
}

fn check(device: &Device) {
    let failed: Vec<String> =
        all_cases().iter().filter_map(|case| case.run(device).err()).map(|error| error.to_string()).collect();
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn every_case_is_right_on_the_interpreter() {
    check(&Device::interp());
}

#[test]
fn every_case_is_right_on_the_cpu() {
    check(&Device::cpu());
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    // Split the same way: how many shares the planner makes follows from the threads.
    let bits = |threads: usize| -> Vec<Vec<u8>> {
        let device = Device::cpu_with_threads(threads);
        let run = |case: &Case| {
            let inputs = case.inputs().unwrap();
            case.request(&inputs).unwrap().run(&device).unwrap().o.as_bytes().to_vec()
        };
        // Every third, so that all types, kernels and formats are among them.
        attention_cases().iter().filter(|case| !planned(case)).step_by(3).map(run).collect()
    };
    assert!(bits(1) == bits(3));
}

/// Whether the planner splits the keys of a case.
fn planned(case: &Case) -> bool {
    case.extents().capacity > 1000
}

#[test]
fn the_kernels_of_the_library_are_these_and_there_is_no_second_attention() {
    let names: Vec<&str> = library().entries.iter().map(KernelEntry::name).collect();
    assert_eq!(
        names,
        [
            "attention_forward",
            "attention_split",
            "attention_merge",
            "attention_classify",
            "cache_append",
            "cache_quantise",
            "cache_dequantise",
        ]
    );
}

#[test]
fn every_kernel_of_the_library_has_cases_in_all_types_and_no_name_is_there_twice() {
    let mut names: Vec<String> = all_cases().iter().map(TestCase::name).collect();
    assert!(names.len() > 1500, "{} cases", names.len());
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    for entry in library().entries {
        let names: Vec<String> = (entry.cases)().iter().map(TestCase::name).collect();
        for elem in ["/f32", "/f16", "/bf16"] {
            assert!(names.iter().any(|name| name.ends_with(elem)), "{} in {elem}", entry.name());
        }
    }
}

#[test]
fn every_attention_case_runs_the_kernel_that_it_is_a_case_of() {
    let device = Device::interp();
    for entry in library().entries {
        for case in (entry.cases)().iter().filter_map(TestCase::attention) {
            let inputs = case.clean_inputs().unwrap();
            let plan = case.request(&inputs).unwrap().plan(&device).unwrap();
            assert!(plan.pipelines().any(|p| *p.kernel().name == *entry.name()), "{}: {}", case.name(), plan.kernels());
        }
    }
}

#[test]
fn the_names_that_are_fixed_are_there() {
    let library = library();
    let tests: Vec<String> = all_cases().iter().map(TestCase::name).collect();
    let benches: Vec<String> = library.entries.iter().flat_map(|e| (e.benches)()).map(|case| case.name()).collect();
    let mut fixed = Vec::new();
    for dim in [64, 256, 512] {
        for (elem, mask) in [("bf16", "additive"), ("bf16", "boolean"), ("f16", "additive"), ("f16", "boolean")] {
            fixed.push(format!("flash_attn_prefill_d{dim}_{mask}/{elem}"));
        }
    }
    assert_eq!(fixed.len(), 12);
    assert!(fixed.iter().all(|name| tests.contains(name)), "{fixed:?}");
    for elem in ["f32", "f16", "bf16"] {
        let names = ["", "_d64", "_d96", "_d256"].map(|dim| format!("sdpa_decode_2pass{dim}/{elem}"));
        fixed.extend(names.into_iter().chain(["q8", "q16"].map(|q| format!("sdpa_decode_batched_{q}/{elem}"))));
    }
    fixed.extend(["flash_attn_vec/f32+f16", "kv_cache_int4/f16", "kv_cache_int8/f16"].map(str::to_string));
    for name in &fixed {
        assert!(benches.contains(name), "{name}");
        // Its twin over fewer keys.
        let label = name.split('/').next().unwrap();
        assert!(tests.iter().any(|test| test.starts_with(label)), "{name}");
    }
}

#[test]
fn every_case_compares_something() {
    for case in attention_cases() {
        assert!(case.extents().lse().iter().product::<usize>() > 0, "{}", case.name());
    }
}

#[test]
fn a_cache_case_without_tokens_and_a_mask_without_cells_fail() {
    let cpu = Device::cpu();
    let no_tokens = CacheCase::new("no_tokens").tokens(&[(0, 0)]).run(&cpu);
    let empty = Mask::new(Tensor::zeros(Elem::Bool, &[0, 7]).unwrap()).unwrap();
    for result in [no_tokens, ClassCase::new("no_cells", empty, 16, 16).run(&cpu)] {
        let Err(CaseError::Wrong { error, .. }) = result else { panic!("{result:?}") };
        assert_eq!(error, Mismatch::Empty);
    }
}

#[test]
fn a_case_with_nothing_to_compare_fails() {
    let empty = Case::new("empty").lengths(0, 4);
    let Err(CaseError::Wrong { error, .. }) = empty.run(&Device::interp()) else { panic!("it passed") };
    assert_eq!(error, Mismatch::Empty);
}

#[test]
fn pairs_are_counted_as_the_reference_counts_them() {
    for case in attention_cases() {
        let inputs = case.inputs().unwrap();
        let request = case.request(&inputs).unwrap();
        let counted = tilewright_attention::reference::Problem::of(&request).unwrap().attended_pairs();
        assert_eq!(case.attended_pairs(), counted, "{}", case.name());
        assert_eq!(request.attended_pairs(), Ok(counted), "{}", case.name());
    }
}

#[test]
fn benchmark_cases_have_work_and_distinct_names() {
    let both = |entry: &KernelEntry| [(entry.benches)(), (entry.gpu_benches)()].concat();
    let benches: Vec<Case> = library().entries.iter().flat_map(both).collect();
    let names: BTreeSet<String> = benches.iter().map(Case::name).collect();
    assert!(names.len() == benches.len() && names.len() > 50, "{} names of {}", names.len(), benches.len());
    for case in &benches {
        assert!(case.flops() > 0 && case.bytes() > 0, "{}", case.name());
    }
}

#[test]
fn the_shapes_of_a_gpus_benchmarks_have_the_work_that_their_formulas_say() {
    let library = library();
    let benches: Vec<Case> = library.entries.iter().flat_map(|entry| (entry.gpu_benches)()).collect();
    let of = |name: &str| benches.iter().find(|case| case.label() == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(benches.len(), 11 + 2 + 12 + 4);
    assert_eq!(of("prefill_d64_b4_h32_l4096").flops(), 4 * 4 * 32 * 4096 * 4096 * 64);
    let causal = 4 * 8 * 16 * (2048 * 2049 / 2) * 128;
    for name in ["prefill_causal", "prefill_causal_softcap", "prefill_causal_as_a_mask"] {
        assert_eq!(of(&format!("{name}_d128_b8_h16_l2048")).flops(), causal, "{name}");
    }
    let queries = 2 * 16 * 32 * 128 * 2;
    let dense = 2 * 16 * 8 * 8192 * 128 * 2;
    for name in ["decode", "decode_ring", "decode_paged16"] {
        assert_eq!(of(&format!("{name}_d128_b16_h32_kv8_l8192")).bytes(), dense + queries, "{name}");
    }
    // Codes, and a scale and a bias of 2 bytes for each group of 64.
    let codes = |bits: u64| 2 * 16 * 8 * 8192 * (128 * bits / 8 + 2 * 2 * 2);
    assert_eq!(of("decode_int8_d128_b16_h32_kv8_l8192").bytes(), codes(8) + queries);
    assert_eq!(of("decode_int4_d128_b16_h32_kv8_l8192").bytes(), codes(4) + queries);
    assert_eq!(of("verify_q8_d128_b1_h32_kv8_l65536").extents().q_len, 8);
}

/// A specialisation as text, completed by the entry.
fn specialisation(entry: &KernelEntry, given: &[(&str, String)]) -> Result<SpecText, AttentionError> {
    (entry.complete)(given.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
}

#[test]
fn every_schedule_of_the_library_traces_for_every_tuned_head_dim_and_type() {
    for entry in library().entries {
        let trace = |(q, kv): (Elem, Elem), (head_dim, value_dim): (usize, usize), schedule: Schedule| {
            let given = [
                ("E", q.to_string()),
                ("C", kv.to_string()),
                ("head_dim", head_dim.to_string()),
                ("value_dim", value_dim.to_string()),
                ("heads", schedule.heads.to_string()),
                ("queries", schedule.queries.to_string()),
                ("keys", schedule.keys.to_string()),
            ];
            let names =
                entry.spec.spec.iter().map(|(name, _)| *name).chain(entry.spec.types.iter().map(|(name, _)| *name));
            let known: Vec<&str> = names.collect();
            let given: Vec<_> = given.into_iter().filter(|(name, _)| known.contains(name)).collect();
            let traced = entry.spec.trace(&specialisation(&entry, &given).unwrap());
            assert!(traced.is_ok(), "{given:?}: {traced:?}");
        };
        for &dims in entry.head_dims {
            entry.schedules.iter().for_each(|&schedule| trace(entry.types[0], dims, schedule));
        }
        if let (Some(&dims), Some(&schedule)) = (entry.head_dims.first(), entry.schedules.first()) {
            entry.types.iter().for_each(|&types| trace(types, dims, schedule));
        }
    }
}

#[test]
fn the_entry_of_forward_attention_completes_a_specialisation_as_the_planner_would() {
    let library = library();
    let entry = library.find("attention_forward").unwrap();
    let given = [("head_dim", "64".to_string()), ("features", "causal".to_string())];
    let kernel = entry.spec.trace(&specialisation(entry, &given).unwrap()).unwrap();
    let case = Case::new("any").heads(32, 8).lengths(1024, 1024).dims(64, 64).feature(Causal);
    let inputs = case.clean_inputs().unwrap();
    let plan = case.request(&inputs).unwrap().plan(&Device::interp()).unwrap();
    assert_eq!(kernel.to_string(), plan.pipelines().next().unwrap().kernel().to_string());
}

#[test]
fn the_entry_of_forward_attention_refuses_what_the_request_refuses() {
    let library = library();
    let entry = library.find("attention_forward").unwrap();
    let refusal = |name: &'static str, value: &str| specialisation(entry, &[(name, value.into())]).unwrap_err();
    assert!(matches!(refusal("head_dim", "577"), AttentionError::HeadDim { axis: "head_dim", got: 577 }));
    assert!(matches!(refusal("value_dim", "577"), AttentionError::HeadDim { axis: "value_dim", got: 577 }));
    for extent in ["0", "100000", "18446744073709551615"] {
        assert!(matches!(refusal("queries", extent), AttentionError::Schedule { .. }), "{extent}");
        assert!(matches!(refusal("keys", extent), AttentionError::Schedule { .. }), "{extent}");
    }
    // E is f32 where nothing is said; a cache may be narrower, and q may not.
    assert!(specialisation(entry, &[("C", "f16".into())]).is_ok());
    assert!(matches!(refusal("E", "f16"), AttentionError::ElementMix { .. }));
}

#[test]
fn every_shape_that_is_measured_beside_other_libraries_is_a_benchmark() {
    let all: Vec<Case> = library().entries.iter().flat_map(|entry| (entry.benches)()).collect();
    let mut names: Vec<String> = all.iter().map(Case::name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all.len(), "a name is there twice");
    // Name without type, query and key/value heads, queries, keys, head dim.
    type Shape = (String, usize, usize, usize, usize, usize);
    let mut wanted: Vec<Shape> = Vec::new();
    for (heads, kv_heads, tokens, dim) in [(8, 8, 1024, 64), (16, 4, 2048, 128), (8, 2, 1024, 256)] {
        for mask in ["", "_causal", "_additive"] {
            let name = format!("prefill{mask}_h{heads}_d{dim}_{tokens}");
            wanted.push((name, heads, kv_heads, tokens, tokens, dim));
        }
    }
    wanted.push(("sdpa_decode_2pass".into(), 32, 8, 1, 4096, 128));
    wanted.push(("decode_h32_d128_32768".into(), 32, 8, 1, 32768, 128));
    wanted.push(("decode_h16_d256_8192".into(), 16, 8, 1, 8192, 256));
    wanted.push(("sdpa_decode_batched_q8".into(), 32, 8, 8, 4096, 128));
    wanted.push(("sdpa_decode_batched_q16".into(), 32, 8, 16, 4096, 128));
    for (label, heads, kv_heads, q_len, keys, dim) in wanted {
        for elem in ["f32", "f16", "bf16"] {
            let name = format!("{label}/{elem}");
            let case = all.iter().find(|case| case.name() == name).unwrap_or_else(|| panic!("{name} is no benchmark"));
            let shape = case.extents();
            let got = (shape.batch, shape.q_heads, shape.kv_heads, shape.q_len, shape.capacity, shape.head_dim);
            assert_eq!(got, (1, heads, kv_heads, q_len, keys, dim), "{name}");
            // Only a causal mask leaves pairs out.
            let all_pairs = (heads * q_len * keys) as u64;
            let causal = label.contains("causal") || q_len == 8 || q_len == 16;
            assert_eq!(case.attended_pairs() == all_pairs, !causal, "{name}");
        }
    }
    for codes in ["int8", "int4"] {
        let name = format!("decode_{codes}_h32_d128_32768/bf16");
        let of = |name: &str| all.iter().find(|case| case.name() == name).map(Case::bytes).unwrap();
        let share = of(&name) as f64 / of("decode_h32_d128_32768/bf16") as f64;
        assert!(share < 0.6 && share > 0.25, "{name} reads {share} of what bf16 reads");
    }
}
