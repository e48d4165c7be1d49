//! Every case of the library on every device that is present.

use tilewright_attention::cases::{Case, CaseError};
use tilewright_attention::reference::Mismatch;
use tilewright_attention::{AttentionError, Causal, KernelEntry, Schedule, library};
use tilewright_ir::Elem;
use tilewright_lang::SpecText;
use tilewright_runtime::Device;

fn all_cases() -> Vec<Case> {
    library().entries.iter().flat_map(|entry| (entry.cases)()).collect()
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
    let bits = |threads: usize| -> Vec<Vec<u8>> {
        let device = Device::cpu_with_threads(threads);
        let run = |case: &Case| {
            let inputs = case.inputs().unwrap();
            case.request(&inputs).unwrap().run(&device).unwrap().o.as_bytes().to_vec()
        };
        all_cases().iter().map(run).collect()
    };
    assert!(bits(1) == bits(3));
}

#[test]
fn the_library_has_its_cases_and_no_name_twice() {
    let mut names: Vec<String> = all_cases().iter().map(Case::name).collect();
    assert!(names.len() > 150, "{} cases", names.len());
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn every_case_compares_something() {
    for case in all_cases() {
        assert!(case.extents().lse().iter().product::<usize>() > 0, "{}", case.name());
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
    for case in all_cases() {
        let inputs = case.inputs().unwrap();
        let request = case.request(&inputs).unwrap();
        let counted = tilewright_attention::reference::Problem::of(&request).unwrap().attended_pairs();
        assert_eq!(case.attended_pairs(), counted, "{}", case.name());
        assert_eq!(request.attended_pairs(), Ok(counted), "{}", case.name());
    }
}

#[test]
fn benchmark_cases_have_work_and_distinct_names() {
    let benches: Vec<Case> = library().entries.iter().flat_map(|entry| (entry.benches)()).collect();
    assert!(!benches.is_empty());
    for case in &benches {
        assert!(case.flops() > 0 && case.bytes() > 0, "{}", case.name());
    }
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
    let case = Case::new("any").lengths(1024, 1024).dims(64, 64).feature(Causal);
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
