//! The sample, and `tile devices`, `inspect`, `test` and `bench`.

mod support;

use serde_json::Value;
use std::path::Path;
use support::{Outcome, Tensors, tile};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/smollm2_layer14.safetensors");

fn json(args: &[&str]) -> Value {
    let outcome = ok(args);
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {}", outcome.stdout))
}

fn ok(args: &[&str]) -> Outcome {
    let outcome = tile(args);
    assert_eq!(outcome.code, Some(0), "{args:?}: {outcome:?}");
    assert!(!outcome.stdout.contains('\x1b'), "colour without a terminal: {}", outcome.stdout);
    outcome
}

fn fails(args: &[&str], code: i32, needle: &str) {
    let outcome = tile(args);
    assert_eq!(outcome.code, Some(code), "{args:?}: {outcome:?}");
    assert!(outcome.stderr.contains(needle), "{args:?}: {needle:?} is not in {:?}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("error:").count(), 1, "{}", outcome.stderr);
}

/// `text` with every number and unit of time replaced, and spaces run together: what stays when a machine or a
/// measurement changes.
fn shape(text: &str) -> String {
    let words = text.lines().map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" "));
    words.collect::<Vec<_>>().join("\n")
}

fn word(word: &str) -> String {
    let number = word.trim_matches(['(', ')', ',', ';']);
    if let Some((name, value)) =
        number.split_once('=').filter(|(_, value)| value.trim_end_matches(':').parse::<f64>().is_ok())
    {
        return word.replace(&format!("{name}={value}"), &format!("{name}=N"));
    }
    match number {
        "s" | "ms" | "us" => word.replace(number, "T"),
        _ if number.parse::<f64>().is_ok() => word.replace(number, "N"),
        _ => word.to_string(),
    }
}

#[test]
fn the_sample_gives_its_own_o_and_lse_on_every_device() {
    assert!(std::fs::metadata(SAMPLE).expect("the sample").len() < 1_000_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.safetensors");
    let out = out.to_str().expect("a path in UTF-8");
    for device in ["cpu", "interp"] {
        let report = json(&["attend", SAMPLE, "-o", out, "--causal", "--lse", "--device", device, "--json"]);
        let checks = report["checks"].as_array().expect("checks");
        assert_eq!(checks.len(), 2, "{report}");
        for check in checks {
            assert_eq!(check["holds"], true, "{check}");
            assert_eq!(check["against"], "file");
            let elements = if check["tensor"] == "o" { 9 * 160 * 64 } else { 9 * 160 };
            assert_eq!(check["compared"], elements);
        }
        assert_eq!(Tensors::read(Path::new(out)).names(), ["lse", "o"]);
    }
}

#[test]
fn the_sample_holds_in_every_cache_format_and_in_splits() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.safetensors");
    let out = out.to_str().expect("a path in UTF-8");
    let flags: [(&[&str], &str); 5] = [
        (&["--splits", "3"], "file"),
        (&["--kv", "int8"], "f64"),
        (&["--kv", "int4", "--group", "32"], "f64"),
        (&["--kv", "int8", "--splits", "3", "--dtype", "f16"], "f64"),
        (&["--window", "1000", "--softcap", "1e9"], "file"),
    ];
    for (flags, against) in flags {
        let report = json(&[&["attend", SAMPLE, "-o", out, "--causal", "--json"], flags].concat());
        let checks = report["checks"].as_array().expect("checks");
        assert_eq!(checks.len(), 2, "{report}");
        for check in checks {
            assert_eq!(check["holds"], true, "{flags:?}: {check}");
            assert_eq!(check["against"], against, "{check}");
            assert!(check["compared"].as_u64().expect("a count") > 0, "{check}");
        }
    }
}

#[test]
fn help_says_what_each_command_takes() {
    insta::assert_snapshot!("help", ok(&["--help"]).stdout);
    insta::assert_snapshot!("help_attend", ok(&["attend", "--help"]).stdout);
    insta::assert_snapshot!("help_quantize", ok(&["quantize", "--help"]).stdout);
}

#[test]
fn the_sample_without_its_mask_is_a_miss() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.safetensors");
    fails(&["attend", SAMPLE, "-o", out.to_str().expect("UTF-8")], 1, "outside of the error bound: o, lse");
    assert!(!out.exists());
}

#[test]
fn attend_says_what_ran_and_how_far_off_it_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.safetensors");
    let out = out.to_str().expect("UTF-8");
    let outcome = ok(&["attend", SAMPLE, "-o", out, "--causal", "--explain", "--device", "interp"]);
    insta::assert_snapshot!(shape(&outcome.stdout));
    assert_eq!(outcome.stderr, "");
}

#[test]
fn explain_says_how_keys_are_split_and_stored() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.safetensors");
    let out = out.to_str().expect("UTF-8");
    let flags =
        ["--explain", "--device", "interp", "--kv", "int4", "--group", "32", "--splits", "3", "--window", "9,0"];
    let outcome = ok(&[&["attend", SAMPLE, "-o", out], &flags[..]].concat());
    insta::assert_snapshot!(shape(&outcome.stdout));
}

#[test]
fn devices_lists_what_is_present_and_what_is_not() {
    let rows = json(&["devices", "--json"]);
    let rows = rows.as_array().expect("rows");
    let name = |row: &Value| row["name"].as_str().expect("a name").to_string();
    let names: Vec<String> = rows.iter().map(name).filter(|name| !name.starts_with("cuda:")).collect();
    assert_eq!(names, ["cpu", "cuda", "metal", "interp"]);
    for row in rows {
        match name(row).as_str() {
            "cpu" | "interp" => assert_eq!(row["present"], true),
            "metal" if cfg!(not(target_vendor = "apple")) => {
                assert_eq!(row["present"], false);
                assert!(row["reason"].as_str().is_some_and(|why| why.contains("macOS on Apple silicon")), "{row}");
            }
            // Where it cannot be used, what to do is said.
            _ => assert_eq!(row["present"], row.get("reason").is_none(), "{row}"),
        }
    }
    assert_eq!(ok(&["devices"]).stdout.lines().count(), rows.len());
}

#[test]
fn inspect_prints_a_kernel_after_any_pass() {
    assert!(ok(&["inspect"]).stdout.contains("attention_forward"));
    for after in ["trace", "common", "dead"] {
        let flags =
            ["inspect", "attention_forward", "--after", after, "--set", "features=causal", "--types", "f32,f16"];
        let text = ok(&flags).stdout;
        assert!(text.contains("attention_forward") && text.contains("f16"), "{text}");
    }
    let stats =
        json(&["inspect", "attention_forward", "--stats", "--json", "--set", "head_dim=64", "--set=queries=32"]);
    // Two of a tile of keys that needs a mask, two of one that needs none.
    assert_eq!(stats["ops"]["dot"], 4, "{stats}");
    assert!(stats["specialisation"].as_str().expect("text").contains("queries=32"), "{stats}");
    let kernels = json(&["inspect", "--json"]);
    let kernels: Vec<&String> = kernels.as_object().expect("kernels by name").keys().collect();
    assert!(["attention_split", "attention_merge"].iter().all(|name| kernels.iter().any(|kernel| kernel == name)));
    for kernel in kernels {
        assert!(ok(&["inspect", kernel]).stdout.contains(&format!("kernel {kernel}(")));
        assert!(ok(&["inspect", kernel, "--stats"]).stdout.contains("on the CPU"));
    }
    let count = |after| json(&["inspect", "attention_forward", "--after", after, "--json"])["instructions"].as_u64();
    assert!(count("trace") > count("dead"));
}

#[test]
fn inspect_prints_the_source_that_a_gpu_compiles() {
    let forward = ["inspect", "attention_forward", "--types", "bf16", "--set", "features=causal"];
    let with = |flags: &[&str]| ok(&[&forward[..], flags].concat()).stdout;
    let cuda = with(&["--emit", "cuda"]);
    assert!(cuda.contains("__global__") && cuda.contains("attention_forward") && cuda.contains("cp.async"), "{cuda}");
    let msl = with(&["--emit", "msl", "--set=head_dim=64"]);
    assert!(msl.contains("metal_stdlib") && msl.contains("attention_forward"), "{msl}");
    assert_ne!(cuda, with(&["--emit", "cuda", "--work", "rows=2,stages=1"]), "as it is asked for");
    assert_ne!(cuda, with(&["--emit", "cuda", "--any-layout"]));
    assert_ne!(with(&["--emit=gpu-ir", "--after=trace"]), with(&["--emit=gpu-ir", "--after=factor"]));

    let stats = |flags: &[&str]| json(&[&forward[..], &["--stats", "--json", "--emit", "cuda"], flags].concat());
    let needs = |flags: &[&str]| stats(flags)["gpu"].clone();
    assert_eq!(needs(&["--work", "rows=2,columns=1"])["threads"], 64);
    let shared = |compute| needs(&["--compute", compute, "--set", "head_dim=512"])["shared_bytes"].as_u64();
    assert!(shared("90").is_some_and(|bytes| bytes <= 227 << 10), "{:?}", shared("90"));
    assert!(shared("120").is_some_and(|bytes| bytes <= 99 << 10), "a smaller tile: {:?}", shared("120"));
    for kernel in json(&["inspect", "--json"]).as_object().expect("kernels by name").keys() {
        let source = ok(&["inspect", kernel, "--emit", "cuda"]).stdout;
        assert!(source.contains(&format!(" {kernel}(")), "{kernel}: {source}");
    }
}

#[test]
fn inspect_refuses_what_it_does_not_know() {
    fails(&["inspect", "attention_backward"], 2, "kernel `attention_backward` is unknown; there are attention_forward");
    fails(&["inspect", "attention_forward", "--after", "fuse_all"], 2, "pass `fuse_all` is unknown");
    fails(
        &["inspect", "attention_forward", "--set", "tiles=3"],
        2,
        "`tiles` is no specialisation value of this kernel; it has E, C, heads, queries, keys",
    );
    fails(&["inspect", "attention_forward", "--set", "queries"], 2, "NAME=VALUE");
    fails(&["inspect", "attention_forward", "--set", "queries=many"], 2, "`queries`: `many` is no usize");
    let rope = ["inspect", "attention_forward", "--set", "features=causal+rope"];
    fails(&rope, 2, "`features`: `rope` is no feature; there are none, causal");
    fails(&["inspect", "attention_forward", "--types", "f32,f32,f32"], 2, "--types f32,f32,f32");
    fails(&["inspect", "attention_forward", "--set", "queries=0"], 2, "queries");
    fails(&["inspect", "attention_forward", "--types", "f16,f32"], 2, "f16");
    fails(&["inspect", "attention_forward", "--types", "i32"], 2, "`E` is one of f32, f16, bf16, not `i32`");
    for work in ["rows=0", "rows=3", "rows=64", "columns", "threads=128", "rows=4,,"] {
        fails(&["inspect", "attention_forward", "--emit", "cuda", "--work", work], 2, "--work");
    }
    fails(&["inspect", "attention_forward", "--work", "rows=2"], 2, "`--work with --emit ir or cpu`");
    fails(&["inspect", "attention_forward", "--emit", "cuda", "--compute", "75"], 2, "8.0, 8.6");
    fails(
        &["inspect", "attention_forward", "--emit", "cuda", "--after", "fuse_all"],
        2,
        "there are trace, fold, factor",
    );
    fails(&["inspect", "attention_forward", "--after", "narrow"], 2, "pass `narrow` is unknown");
    fails(&["inspect", "attention_forward", "--set", "head_dim=1000"], 2, "1000");
}

#[test]
fn test_runs_the_cases_that_hold_the_filter() {
    let rows = json(&["test", "causal_square", "--json"]);
    let rows = rows.as_array().expect("rows");
    assert_eq!(rows.len(), 6, "three types on two devices: {rows:?}");
    for row in rows {
        assert_eq!(row["passed"], true, "{row}");
        assert!(row["compared"].as_u64().expect("a count") > 0, "{row}");
    }
    let rows = json(&["test", "cache_quantise", "--json", "--device", "cpu"]);
    assert!(rows.as_array().is_some_and(|rows| rows.len() > 50 && rows.iter().all(|row| row["passed"] == true)));
    assert_eq!(ok(&["test", "causal_square", "--device", "cpu"]).stdout, "cpu: 3 passed, 0 failed, 0 refused\n");
    assert_eq!(ok(&["test", "causal_square/f32", "--list"]).stdout, "attention_forward causal_square/f32\n");
    let few = json(&["test", "--list", "--json", "--limit", "60"]);
    let names = few.as_array().expect("names");
    assert!(names.len() == 60 && few == json(&["test", "--list", "--json", "--limit", "60"]), "{few}");
    for ty in ["f32", "f16", "bf16"] {
        assert!(names.iter().filter(|name| name.to_string().contains(ty)).count() > 5, "{few}");
    }
    let kernels = ok(&["test", "--list", "--limit", "7"]).stdout;
    let kernels: std::collections::BTreeSet<_> = kernels.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(kernels.len(), 7, "one case of each kernel: {kernels:?}");
    fails(&["test", "no such case"], 2, "no case holds `no such case`");
    fails(&["test", "--device", "cuda:1000"], 1, "device `cuda:1000` is absent");
    fails(&["test", "--device", "gpu"], 2, "give cpu, cuda, cuda:1");
}

#[test]
fn bench_measures_a_case_and_checks_it() {
    let args = ["bench", "sdpa_decode_batched_q8/f32", "--seconds", "0"];
    let report = json(&[&args[..], &["--json", "-", "--threads", "1"]].concat());
    assert!(report["ceiling_gflops"].as_f64().expect("a rate") > 0.0, "{report}");
    assert_eq!(report["threads"], 1);
    let row = &report["rows"][0];
    assert_eq!(report["rows"].as_array().expect("rows").len(), 1);
    assert!(row["seconds"].as_f64().expect("a time") > 0.0 && row["gflops"].as_f64().expect("a rate") > 0.0, "{row}");
    assert_eq!((&row["check"]["holds"], &row["features"]), (&true.into(), &"causal".into()), "{row}");
    // 8 drafts over 4096 keys see 4089 to 4096 of them.
    assert_eq!(row["flops"], 4 * 32 * 128 * (4089..=4096).sum::<u64>());

    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("bench.json");
    let file = file.to_str().expect("UTF-8");
    let table = ok(&[&args[..], &["--json", file]].concat()).stdout;
    assert!(table.contains("GFLOP/s") && table.contains("sdpa_decode_batched_q8/f32"), "{table}");
    let saved: Value = serde_json::from_slice(&std::fs::read(file).expect("the file")).expect("JSON");
    assert_eq!(saved["rows"][0]["case"], "sdpa_decode_batched_q8/f32");
}

#[test]
fn the_rows_that_the_gpu_script_asks_for_are_cases() {
    let listed = json(&["bench", "--device", "cuda", "--list", "--json"]);
    let listed: Vec<&str> = listed.as_array().expect("names").iter().filter_map(Value::as_str).collect();
    let bench = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench");
    let names = "import sys; sys.dont_write_bytecode = True; import gpu; print(*[row.name for row in gpu.ROWS])";
    let python = std::process::Command::new("python3").args(["-c", names]).current_dir(bench).output();
    let Ok(python) = python else {
        println!("skipped: there is no python3");
        return;
    };
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let rows = String::from_utf8(python.stdout).expect("UTF-8");
    let mut rows: Vec<String> = rows.split_whitespace().map(|name| format!("{name}/bf16")).collect();
    rows.sort();
    let mut listed: Vec<String> = listed.iter().map(|name| name.to_string()).collect();
    listed.sort();
    assert_eq!(rows, listed);
    assert!(rows.len() > 20, "{rows:?}");
}

#[test]
fn bench_refuses_what_it_cannot_do() {
    fails(&["bench", "no such case"], 2, "no case holds `no such case`");
    if cfg!(not(target_vendor = "apple")) {
        fails(&["bench", "decode", "--device", "metal"], 1, "device `metal` is absent: Metal needs macOS");
    }
    fails(&["bench", "sdpa_decode_batched_q8/f32", "--json", "absent/bench.json"], 1, "cannot write absent/bench.json");
    fails(&["bench", "--threads", "0"], 2, "--threads");
    fails(&["bench", "--threads", "2", "--device", "interp"], 2, "`--threads 2` does not fit");
    fails(&["bench", "--seconds=-1"], 2, "--seconds");
}
