//! `tile tune` on small cases: what it prints, what it counts, and what it refuses.

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::ExitCode;
use support::tile;
use tilewright::attention::cache::{Format, Placement};
use tilewright::attention::cases::Case;
use tilewright::attention::feature::{Pair, Pairs, Phase, ScoreHook};
use tilewright::attention::kernels::ATTENTION_FORWARD;
use tilewright::attention::{KernelEntry, Library};
use tilewright::lang::prelude::*;
use tilewright::prelude::*;

/// A small case of the library.
const CASE: &str = "count_decode_h32_d128_512/bf16";
/// As short as it goes.
const SHORT: [&str; 6] = ["--seconds", "0", "--rounds", "2", "--threads", "1"];

fn tune(flags: &[&str]) -> support::Outcome {
    tile([&["tune"], flags].concat())
}

fn texts<'v>(of: &'v Value, field: &str) -> Vec<&'v str> {
    of.as_array().expect("a list").iter().filter_map(|one| one[field].as_str()).collect()
}

#[test]
fn a_search_ends_with_a_row_of_the_table_that_holds() {
    let outcome = tune(&[&[CASE, "--limit", "6", "--json"], &SHORT[..]].concat());
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let report: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!((&report["format"], &report["device"]), (&"tilewright-tune-1".into(), &"cpu".into()), "{report}");
    assert_eq!(report["cases"].as_array().map(Vec::len), Some(1));
    let case = &report["cases"][0];
    assert_eq!((&case["case"], &case["tried"]), (&CASE.into(), &6.into()), "{case}");
    assert!(case["left_out"].as_u64().is_some_and(|count| count > 0), "{case}");
    assert!(case["check"]["holds"] == true && case["check"]["compared"].as_u64().is_some_and(|n| n > 0), "{case}");

    let schedules = case["schedules"].as_array().expect("schedules");
    let names: BTreeSet<&str> = texts(&case["schedules"], "schedule").into_iter().collect();
    assert_eq!((schedules.len(), names.len()), (6, 6), "{case}");
    for one in schedules {
        let seconds = ["fastest", "seconds", "slowest"].map(|name| one[name].as_f64().expect("a time"));
        assert!(seconds[0] > 0.0 && seconds.is_sorted(), "{one}");
        let rounds = one["rounds"].as_array().map(Vec::len);
        assert_eq!(rounds, Some(2), "{one}");
        assert!(one["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), "{one}");
    }
    let of_table: Vec<&Value> = schedules.iter().filter(|one| one["table"] == true).collect();
    let [of_table] = of_table[..] else { panic!("{case}") };
    assert!(of_table["finalist"] == true && of_table["ratio"] == 1.0, "{of_table}");
    assert_eq!(case["replaces"], of_table["row"], "{case}");
    let best = schedules.iter().find(|one| one["schedule"] == case["best"]).expect("the best one");
    assert_eq!((&best["row"], &best["finalist"]), (&case["row"], &true.into()), "{case}");
    assert_eq!(case["changed"] == true, best["table"] == false, "{case}");
    assert!(case["changed"] == false || best["ratio_low"].as_f64().is_some_and(|ratio| ratio > 1.0), "{case}");
    let row = case["row"].as_str().expect("a row");
    // The second row is of processors that multiply tiles.
    let of_dims = ["Row { max_dim: 128, queries: ", "Row { max_dim: 256, queries: "];
    assert!(of_dims.iter().any(|start| row.starts_with(start)) && row.ends_with(" },"), "{row}");
    let measurement = case["measurement"].as_str().expect("a measurement");
    assert!(measurement.starts_with(&format!("// {CASE}: ")) && measurement.ends_with(", 1 thread"), "{measurement}");
}

#[test]
fn people_read_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("tune.json");
    let flags = [CASE, "--limit", "2", "--json", file.to_str().expect("UTF-8")];
    let outcome = tune(&[&flags, &SHORT[..]].concat());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("the file")).expect("JSON");
    let case = &report["cases"][0];
    for needle in texts(&case["schedules"], "schedule") {
        assert!(outcome.stdout.contains(needle), "{needle}: {}", outcome.stdout);
    }
    for needle in ["2 schedules tried, 2 measured", "left out: ", "the table's", "f64 on the rounded inputs", "holds"] {
        assert!(outcome.stdout.contains(needle), "{needle}: {}", outcome.stdout);
    }
    let lines: Vec<&str> = outcome.stdout.lines().map(str::trim).collect();
    assert_eq!(lines[lines.len() - 2..], ["measurement", "row"].map(|field| case[field].as_str().expect("a text")));
}

#[test]
fn cases_are_listed() {
    let listed = tune(&["count_decode_", "--list"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert_eq!(listed.stdout, tile(["bench", "count_decode_", "--list"]).stdout);
    let on_gpu = tune(&["--device", "cuda", "--list", "decode_int4"]);
    assert!(on_gpu.stdout.contains("decode_int4_d128_b16_h32_kv8_l8192/bf16"), "{}", on_gpu.stderr);
}

#[test]
fn what_cannot_be_tuned_is_refused_by_name() {
    for (flags, code, needle) in [
        (&["no_such_case"][..], 2, "no case holds `no_such_case`"),
        (&[CASE, "--device", "interp"], 2, "`--device interp` does not fit; a device with a tuning table"),
        (&[CASE, "--device", "gpu"], 2, "gpu"),
        (&[CASE, "--device", "cuda:99"], 1, "device `cuda:99` is absent"),
        (&[CASE, "--device", "cuda", "--threads", "2"], 2, "`--threads 2` does not fit"),
        (&[CASE, "--isa", "sse9"], 2, "sse9"),
        (&[CASE, "--limit", "0"], 2, "--limit"),
        (&[CASE, "--rounds", "0"], 2, "--rounds"),
        (&[CASE, "--rounds", "many"], 2, "many"),
        (&[CASE, "--seconds=-1"], 2, "--seconds"),
        (&[CASE, "--seconds=NaN"], 2, "--seconds"),
        (&[CASE, "--json", "no_such_folder/tune.json"], 1, "there is no folder no_such_folder"),
    ] {
        let outcome = tune(flags);
        assert_eq!(outcome.code, Some(code), "{flags:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(needle), "{flags:?}: {needle:?} is not in {:?}", outcome.stderr);
        assert_eq!((outcome.stderr.matches("error:").count(), outcome.stdout.as_str()), (1, ""), "{flags:?}");
    }
}

/// A feature whose kernel does something else than its reference.
#[derive(Clone, Debug)]
struct Wrong;

impl SpecValue for Wrong {
    fn key(&self, key: &mut String) {
        key.push_str("wrong");
    }
}

impl Feature for Wrong {
    fn score(&self) -> Option<(Phase, &dyn ScoreHook)> {
        Some((Phase::Bias, self))
    }
}

#[tile]
impl ScoreHook for Wrong {
    fn apply(&self, scores: Tile<f32>, _: &Pairs) -> Tile<f32> {
        scores * 2.0
    }

    fn reference(&self, _: &Pair, score: f64) -> f64 {
        score
    }
}

fn prefill(name: &str) -> Case {
    Case::new(name).without_lse().heads(1, 1).lengths(70, 128).dims(16, 16)
}

/// One whose pages hold 64 keys; two for one tile shape each, of which the second is in no table; a wrong one.
fn cases() -> Vec<Case> {
    let paged = Format { placement: Placement::Paged { page_size: 64 }, ..Format::DENSE };
    let odd = Schedule { heads: 1, queries: 24, keys: 24 };
    let mask = Mask::new(Tensor::zeros(Elem::F32, &[70, 128]).expect("a tensor")).expect("a mask");
    let even = Schedule { queries: 64, keys: 64, ..odd };
    let classes = |schedule| mask.classify(&Device::cpu(), schedule).expect("classes");
    vec![
        prefill("paged").cache(paged),
        prefill("made_for_64").feature(classes(even)),
        prefill("made_for_one_tile").feature(classes(odd)),
        prefill("wrong").feature(Wrong),
    ]
}

fn own(flags: &[&str]) -> ExitCode {
    let entry = KernelEntry { benches: cases, ..KernelEntry::new(&ATTENTION_FORWARD, "attention") };
    tilewright_cli::run(&Library { entries: vec![entry] }, [&["mine", "tune"], flags, &SHORT[..]].concat())
}

#[test]
fn a_fast_schedule_that_is_wrong_gives_no_row() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("tune.json");
    assert_eq!(own(&["wrong", "--limit", "2", "--json", file.to_str().expect("UTF-8")]), ExitCode::from(1));
    assert!(!file.exists());
}

#[test]
fn what_ends_a_run_leaves_the_cases_before_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (last, code) in [("wrong", 1), ("made_for_one_tile", 2)] {
        let file = folder.path().join(last);
        let flags = ["paged", last, "--limit", "2", "--json", file.to_str().expect("UTF-8")];
        assert_eq!(own(&flags), ExitCode::from(code), "{last}");
        let report: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("the file")).expect("JSON");
        assert_eq!(texts(&report["cases"], "case").len(), 1, "{last}: {report}");
        assert!(report["cases"][0]["row"].is_string(), "{last}: {report}");
    }
}

#[test]
fn schedules_that_no_row_says_or_a_request_refuses_are_counted_with_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("tune.json");
    // Of 30: tiles of 32 and 96 keys, with each number of queries, are no whole pages of 64; all but one are not the
    // tile that a mask's classes are for.
    for (name, why, refusals, tried, measured) in
        [("paged", "no row of the table", 10, 20, 20), ("made_for_64", "a feature was made for", 29, 30, 1)]
    {
        assert_eq!(own(&[name, "--json", file.to_str().expect("UTF-8")]), ExitCode::SUCCESS);
        let report: Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("the file")).expect("JSON");
        let case = &report["cases"][0];
        let refused = case["refused"].as_array().expect("refusals");
        assert_eq!(refused.len(), 1, "{case}");
        assert!(refused[0]["reason"].as_str().is_some_and(|reason| reason.contains(why)), "{case}");
        assert_eq!((refused[0]["count"].as_u64(), &case["tried"]), (Some(refusals), &tried.into()), "{case}");
        assert_eq!(case["schedules"].as_array().map(Vec::len), Some(measured), "{case}");
    }
}

#[test]
fn a_case_without_a_valid_schedule_is_refused() {
    assert_eq!(own(&["made_for_one_tile"]), ExitCode::from(2));
}
