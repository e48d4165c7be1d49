//! `tile bench` beside peers, its page, and reports that are kept. The peers here are shell scripts.
#![cfg(unix)]

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A small case of the library.
const CASE: &str = "count_decode_h32_d128_512/bf16";

struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Folders of a test: peers, kept reports, outputs.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().expect("a temporary folder"));
        for folder in ["peers", "cache"] {
            std::fs::create_dir(place.at(folder)).expect("a folder");
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A peer that reads the description and then does this.
    fn peer(&self, name: &str, script: &str) {
        let path = self.at("peers").join(name);
        std::fs::write(&path, format!("#!/bin/sh\nread -r case\n{script}\n")).expect("a script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("may run");
    }

    /// `tile bench` for as short as it goes, on one thread.
    fn bench(&self, flags: &[&str]) -> Outcome {
        let output = Command::new(env!("CARGO_BIN_EXE_tile"))
            .args(["bench", "--seconds", "0", "--threads", "1", "--peers"])
            .arg(self.at("peers"))
            .args(flags)
            .env("TILEWRIGHT_CACHE", self.at("cache"))
            .env_remove("CLICOLOR_FORCE")
            .stdin(Stdio::null())
            .output()
            .expect("tile starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn report(&self, flags: &[&str]) -> Value {
        let outcome = self.bench(&[flags, &["--json"]].concat());
        assert_eq!(outcome.code, Some(0), "{flags:?}: {}", outcome.stderr);
        serde_json::from_str(&outcome.stdout).expect("JSON")
    }

    fn fails(&self, flags: &[&str], code: i32, needle: &str) {
        let outcome = self.bench(flags);
        assert_eq!(outcome.code, Some(code), "{flags:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(needle), "{flags:?}: {needle:?} is not in {:?}", outcome.stderr);
        assert_eq!(outcome.stderr.matches("error:").count(), 1, "{}", outcome.stderr);
    }
}

/// What a peer says when it is ready.
fn ready(ways: &str) -> String {
    format!(r#"echo 'ready {{"version": "fake 1", "threads": 1, "tried": {{{ways}}}}}'"#)
}

/// The same answer to each question.
fn answers(answer: &str) -> String {
    format!("{}\nwhile read -r round; do echo '{answer}'; done", ready(r#""way": 1"#))
}

/// The way `loose` takes 1 s, its error is eight times the bound; the way `exact` takes 100 s.
const LOOSE: &str = r#"echo 'ready {"version": "fake 1", "threads": 1, "tried": {}, "errors": {"loose": 8, "exact": 0.5}}'
while read -r round; do echo '{"loose": [1], "exact": [100]}'; done"#;

#[test]
fn a_way_outside_of_our_bound_is_named_and_not_counted() {
    let place = Place::new();
    place.peer("both", LOOSE);
    place.peer("loose", &LOOSE.replace(r#", "exact": [100]"#, ""));
    let page = place.at("page.html");
    let flags = [CASE, "--rounds", "2", "--against", "both,loose", "--html", page.to_str().expect("UTF-8")];
    let report = place.report(&flags);
    let rows = report["rows"][0]["against"].as_array().expect("peers");
    let found: Vec<_> = rows.iter().map(|row| [&row["peer"], &row["way"], &row["outside"]]).collect();
    let wanted = [["both", "exact"], ["both", "loose"], ["loose", "loose"]].map(|row| row.map(Value::from));
    let wanted: Vec<_> = wanted.into_iter().zip([Value::Null, json!(8.0), json!(8.0)]).collect();
    assert_eq!(found, wanted.iter().map(|([peer, way], error)| [peer, way, error]).collect::<Vec<_>>());
    // The figures name the best peer, which is the exact way though another one took a hundredth of its time.
    let text = std::fs::read_to_string(&page).expect("the page");
    let ratio = rows[0]["ratio"].as_f64().expect("a ratio");
    assert!(text.contains(&format!("<td>both</td><td>{ratio:.2}x as long</td>")), "{text}");
    let said = "not counted: its error is 8.0 times the bound";
    assert_eq!(text.matches(said).count(), 2, "{text}");
    let lines = place.bench(&flags[..5]).stdout;
    assert_eq!(lines.matches(said).count(), 2, "{lines}");
}

#[test]
fn a_peer_that_fails_is_named_and_the_others_count() {
    let place = Place::new();
    // Both ways take 100 s; the best one is what counts.
    place.peer("good", &answers(r#"{"fast": [100, 90, 120], "slow": [1000]}"#));
    place.peer("cannot", "echo 'cannot do <b>this</b>'");
    place.peer("dies", &format!("{}\nread -r round\necho 'out of luck' >&2\nexit 3", ready("")));
    place.peer("dies_late", &format!("{}\nread -r round\necho '{{\"a\": [1]}}'\nread -r round\nexit 4", ready("")));
    place.peer("garbled", "echo 'hello'");
    place.peer("not_ready", "echo 'ready yes'");
    place.peer("nan", &answers(r#"{"way": [NaN]}"#));
    place.peer("zero", &answers(r#"{"way": [1, 0]}"#));
    place.peer("negative", &answers(r#"{"way": [-1]}"#));
    place.peer("none", &answers(r#"{"way": []}"#));
    place.peer("empty", &answers("{}"));
    place.peer(
        "changes",
        &format!("{}\nfor way in a b c; do read -r round; echo \"{{\\\"$way\\\": [1]}}\"; done", ready("")),
    );
    std::fs::create_dir(place.at("peers/unbuilt")).expect("a folder");
    std::fs::write(place.at("peers/unbuilt/Cargo.toml"), "").expect("a file");
    let wanted = [
        ("cannot", "cannot: do <b>this</b>"),
        ("dies", "ended with exit status: 3, having said \"out of luck\""),
        ("dies_late", "ended with exit status: 4"),
        ("garbled", "answered \"hello\"; `ready "),
        ("not_ready", "answered \"ready yes\""),
        ("nan", "NaN"),
        ("zero", "positive times of at least one run is needed"),
        ("negative", "positive times"),
        ("none", "positive times"),
        ("empty", "positive times"),
        ("changes", "measured no way in every round"),
        ("unbuilt", "is absent"),
    ];
    let names: Vec<&str> = ["good"].into_iter().chain(wanted.iter().map(|(name, _)| *name)).collect();
    let against = names.join(",");
    let flags = [CASE, "--rounds", "3", "--against", &against];
    let report = place.report(&flags);
    assert_eq!(report["rows"].as_array().map(Vec::len), Some(1));
    let rows = report["rows"][0]["against"].as_array().expect("peers");
    assert_eq!(rows.iter().filter_map(|row| row["peer"].as_str()).collect::<Vec<_>>(), names);
    let good = &rows[0];
    assert_eq!((&good["way"], &good["seconds"], &good["runs"]), (&json!("fast"), &json!(100.0), &json!(9)), "{good}");
    assert_eq!((&good["fastest"], &good["slowest"], &good["version"]), (&json!(90.0), &json!(120.0), &json!("fake 1")));
    let ours = report["rows"][0]["rounds"].as_array().expect("rounds");
    let ratios: Vec<f64> = ours.iter().map(|seconds| 100.0 / seconds.as_f64().expect("a time")).collect();
    let ratio = good["ratio"].as_f64().expect("a ratio");
    // Reading JSON may round the last digit.
    let near = |other: &f64| (other / ratio - 1.0).abs() < 1e-12;
    let (below, above) = (ratios.iter().filter(|other| **other < ratio), ratios.iter().filter(|other| **other > ratio));
    let (below, above) = (below.filter(|other| !near(other)).count(), above.filter(|other| !near(other)).count());
    assert_eq!((below, above), (1, 1), "{ratio} is not the middle one of {ratios:?}");
    for ((name, needle), row) in wanted.iter().zip(&rows[1..]) {
        let reason = row["reason"].as_str().unwrap_or_else(|| panic!("{name} has times: {row}"));
        assert!(reason.contains(needle), "{name}: {reason}");
    }
    assert_eq!(report["peers"], json!({"good": "fake 1, 1 threads"}));

    // The page says the same, and what a peer says is no element of it.
    let page = place.at("page.html");
    let outcome = place.bench(&[&flags[..], &["--html", page.to_str().expect("UTF-8")]].concat());
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    for name in names {
        assert!(
            outcome.stdout.lines().any(|line| line.starts_with(&format!("  {name} "))),
            "{name}: {}",
            outcome.stdout
        );
    }
    let page = std::fs::read_to_string(page).expect("the page");
    assert!(page.contains("do &lt;b&gt;this&lt;/b&gt;") && !page.contains("<b>"), "{page}");
}

#[test]
fn peers_are_told_the_case_and_the_threads() {
    let place = Place::new();
    place.peer("told", "echo \"cannot $OMP_NUM_THREADS $RAYON_NUM_THREADS $case\"");
    let report = place.report(&["count_verify_q8_h32_d128_256/bf16", "--rounds", "1", "--against", "told"]);
    let reason = report["rows"][0]["against"][0]["reason"].as_str().expect("a reason").to_string();
    let told = reason.strip_prefix("cannot: 1 1 ").unwrap_or_else(|| panic!("{reason}"));
    let wanted = json!({
        "case": "count_verify_q8_h32_d128_256/bf16", "batch": 1, "q_heads": 32, "kv_heads": 8, "q_len": 8, "kv_len": 256,
        "head_dim": 128, "value_dim": 128, "dtype": "bf16", "kv_dtype": "bf16", "mask": "causal", "format": "dense",
        "threads": 1,
    });
    assert_eq!(serde_json::from_str::<Value>(told).expect("JSON"), wanted);
}

#[test]
fn ours_over_a_dense_cache_and_on_one_thread_are_peers_too() {
    let place = Place::new();
    let flags = ["count_decode_", "--rounds", "2", "--against", "dense,one_thread"];
    let report = place.report(&flags);
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2, "{report}");
    for row in rows {
        let dense = &row["against"][0];
        assert_eq!(dense["ratio"].as_f64().is_some(), row["case"].to_string().contains("int4"), "{dense}");
        assert!(row["against"][1]["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0), "{row}");
    }
}

#[test]
fn the_page_has_every_row_and_refers_to_nothing_outside() {
    let place = Place::new();
    place.peer("good", &answers(r#"{"fast": [100]}"#));
    let page = place.at("page.html");
    let report =
        place.report(&["count_", "--rounds", "1", "--against", "good", "--html", page.to_str().expect("UTF-8")]);
    let page = std::fs::read_to_string(page).expect("the page");
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 5, "{report}");
    for row in rows {
        let name = row["case"].as_str().expect("a name");
        // A heading, two points with their titles, and a line of the table.
        assert_eq!(page.matches(name).count(), 4, "{name}");
        assert!(row["percent"].as_f64().is_some_and(|percent| percent > 0.0 && percent <= 100.0), "{row}");
    }
    assert_eq!(page.matches("good (fast)").count(), rows.len());
    for outside in ["http", "//", "src=", "href", "url(", "@import", "<script", "<link", "<iframe"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let plain = |text: &str| report["ceilings"][text].as_f64().is_some_and(|rate| rate > 0.0);
    for ceiling in ["fma_gflops", "read_gigabytes_per_second", "copy_gigabytes_per_second"] {
        assert!(plain(ceiling), "{ceiling}: {report}");
    }
}

#[test]
fn a_kept_report_is_compared_with() {
    let place = Place::new();
    let kept = place.at("cache/bench/main.json");
    let compare = |case: &'static str, threshold: &'static str| {
        [case, "--rounds", "1", "--compare", "main", "--threshold", threshold]
    };
    place.fails(&compare(CASE, "5"), 2, "baseline `main` cannot be used");
    let saved = place.bench(&[CASE, "count_decode_int4_h32_d128_512/bf16", "--rounds", "1", "--save", "main"]);
    assert_eq!(saved.code, Some(0), "{}", saved.stderr);
    let names = std::fs::read_dir(place.at("cache/bench")).expect("the folder").count();
    assert_eq!(names, 1, "only the whole file");
    let text = std::fs::read_to_string(&kept).expect("the report");

    let same = place.bench(&compare(CASE, "1000000"));
    assert_eq!(same.code, Some(0), "{}", same.stderr);
    assert!(same.stdout.contains("not run now: count_decode_int4_h32_d128_512/bf16"), "{}", same.stdout);
    let both = [CASE, "count_verify", "--rounds", "1", "--compare", "main", "--threshold", "1000000"];
    assert!(place.bench(&both).stdout.contains("not in the baseline: count_verify_q8_h32_d128_256/bf16"));
    place.fails(&compare("count_verify", "5"), 2, "baseline `main` has none of these cases");

    let with = |change: &dyn Fn(&mut Value)| {
        let mut report: Value = serde_json::from_str(&text).expect("JSON");
        change(&mut report);
        std::fs::write(&kept, report.to_string()).expect("the report");
    };
    with(&|report| report["rows"][0]["seconds"] = 1e-9.into());
    place.fails(&compare(CASE, "5"), 1, &format!("slower than before by more than 5 %: {CASE}"));
    with(&|report| report["rows"][0]["seconds"] = 1e9.into());
    assert_eq!(place.bench(&compare(CASE, "0")).code, Some(0));
    with(&|report| report["threads"] = 64.into());
    assert!(place.bench(&compare(CASE, "1000000")).stderr.contains("warning: baseline `main` was measured on"));
    for seconds in [json!(0.0), json!(-1.0), json!(null), json!("NaN")] {
        with(&|report| report["rows"][0]["seconds"] = seconds.clone());
        place.fails(&compare(CASE, "5"), 2, "baseline `main` cannot be used");
    }
    with(&|report| report["format"] = "another".into());
    place.fails(&compare(CASE, "5"), 2, "it has the layout `another`");
    std::fs::write(&kept, &text[..text.len() / 2]).expect("half a report");
    place.fails(&compare(CASE, "5"), 2, "baseline `main` cannot be used");
}

#[test]
fn bench_refuses_peers_and_settings_that_it_does_not_have() {
    let place = Place::new();
    place.peer("good", "");
    place.fails(&[CASE, "--against", "nobody"], 2, "peer `nobody` is unknown; there are dense, good, one_thread");
    place.fails(&[CASE, "--against", "../peers/good"], 2, "is unknown");
    let absent = Path::new("absent").to_str().expect("UTF-8");
    let outcome =
        Command::new(env!("CARGO_BIN_EXE_tile")).args(["bench", CASE, "--against", "good", "--peers", absent]).output();
    let outcome = outcome.expect("tile starts");
    assert!(
        outcome.status.code() == Some(2) && String::from_utf8_lossy(&outcome.stderr).contains("cannot read absent")
    );
    for (flags, needle) in [
        (["--isa=sse9"], "this processor has"),
        (["--threshold=-1"], "--threshold"),
        (["--threshold=NaN"], "--threshold"),
        (["--rounds=0"], "--rounds"),
        (["--save=a/b"], "--save"),
        (["--compare=.."], "--compare"),
    ] {
        let outcome = place.bench(&[&[CASE], &flags[..]].concat());
        assert!(outcome.code == Some(2) && outcome.stderr.contains(needle), "{flags:?}: {}", outcome.stderr);
    }
    let outcome = Command::new(env!("CARGO_BIN_EXE_tile"))
        .args(["bench", CASE, "--device", "interp", "--against", "good"])
        .output();
    assert!(String::from_utf8_lossy(&outcome.expect("tile starts").stderr).contains("`--against good` does not fit"));
}

/// A Python with numpy, if there is one.
fn python() -> Option<PathBuf> {
    let given = std::env::var_os("TILEWRIGHT_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| "python3".into());
    let numpy = Command::new(&python).args(["-c", "import numpy"]).stderr(Stdio::null()).status();
    numpy.is_ok_and(|status| status.success()).then_some(python)
}

#[test]
fn a_python_peer_counts_with_the_ways_whose_results_are_right() {
    let Some(python) = python() else {
        println!("skipped: there is no Python with numpy");
        return;
    };
    const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench/peers");
    let place = Place::new();
    let write = |name: &str, text: &str| std::fs::write(place.at("peers").join(name), text).expect("a file");
    write("protocol.py", &std::fs::read_to_string(Path::new(PEERS).join("protocol.py")).expect("the protocol"));
    write(
        "own.py",
        "import numpy
from protocol import Peer, causal_mask, group, inputs, needs

def prepare(case):
    needs(case)
    print('noise of a library')
    q, k, v, added = inputs(case)
    keys, values = (x.repeat(group(case), axis=1) for x in (k, v))
    def attend(mask):
        scores = q @ keys.swapaxes(2, 3) / case['head_dim'] ** 0.5
        weights = numpy.exp(scores + mask)
        return weights @ values / weights.sum(axis=3, keepdims=True)
    def fails():
        raise ValueError('no way')
    ways = {
        'right': lambda: attend(causal_mask(case)),
        'all keys': lambda: attend(0),
        'wrong': lambda: attend(0),
        'nan': lambda: attend(numpy.float32('nan')),
        'flat': lambda: attend(causal_mask(case)).ravel(),
        'fails': fails,
    }
    return Peer('own', 1, ways, lambda o: o, (q, k, v, added), ('all keys',))
",
    );
    write("no_package.py", "import a_package_that_nobody_has");
    write("refuses.py", "from protocol import needs\ndef prepare(case):\n    needs(case, dtypes=('bf16',))\n");
    let python = python.to_str().expect("UTF-8").to_string();
    let flags = [
        "count_prefill_causal_d64_192/f32",
        "--rounds",
        "2",
        "--against",
        "own,no_package,refuses",
        "--python",
        &python,
    ];
    let report = place.report(&flags);
    let peers = report["rows"][0]["against"].as_array().expect("peers");
    let tried: Vec<&String> = peers[0]["tried"].as_object().unwrap_or_else(|| panic!("{report}")).keys().collect();
    assert_eq!(tried, ["all keys", "right"], "{report}");
    let reason = |at: usize| peers[at]["reason"].as_str().expect("a reason");
    assert!(reason(1).contains("cannot: import ModuleNotFoundError: No module named"), "{}", reason(1));
    assert!(reason(2).contains("cannot: no attention in f32 over f32"), "{}", reason(2));
}
