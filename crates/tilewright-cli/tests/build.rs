//! `tile build`: what it writes agrees with itself, with the rendered sources and with the library's own launches.

#[path = "support/formula.rs"]
mod formula;
mod support;

use formula::{Launch, evaluate};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Outcome, tile};
use tilewright::attention::formula::{Numbers, grid};
use tilewright::attention::library;
use tilewright::runtime::cuda::nvrtc_version;

/// Random launches of each kernel.
const LAUNCHES: usize = 200;

fn build(folder: &Path, flags: &[&str]) -> Outcome {
    tile([&["build", "-o", folder.to_str().expect("UTF-8")], flags].concat())
}

fn read(folder: &Path, file: &str) -> String {
    std::fs::read_to_string(folder.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

/// A build for tests, and its manifest.
fn built(folder: &Path) -> Value {
    let outcome = build(folder, &["--types", "bf16", "--head-dims", "64"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    serde_json::from_str(&read(folder, "manifest.json")).expect("the manifest is JSON")
}

/// The struct of a kernel in the Swift file.
fn swift_struct<'s>(swift: &'s str, kernel: &Value) -> &'s str {
    let source = format!("static let source = \"{}.metal\"", text(&kernel["name"]));
    let structs = swift.split("\npublic struct ").filter(|of| of.contains(&source)).collect::<Vec<_>>();
    assert_eq!(structs.len(), 1, "{source}");
    structs[0]
}

/// For Metal.
fn has_metal(kernel: &Value) -> bool {
    list(&kernel["artefacts"]).iter().any(|artefact| artefact["emit"] == "msl")
}

#[test]
fn a_build_has_prefill_both_decode_passes_verify_and_the_cache_kernels_in_cuda_metal_and_swift() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = built(folder.path());
    assert_eq!((&manifest["schema"], list(&manifest["absent"]).len()), (&1.into(), 0));
    let swift = read(folder.path(), "Tilewright.swift");
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for kernel in list(&manifest["kernels"]) {
        for artefact in list(&kernel["artefacts"]) {
            let file = text(&artefact["file"]);
            let source = read(folder.path(), file);
            let digest: String = Sha256::digest(source.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text(&artefact["sha256"]), digest, "{file}");
            assert_eq!(source.matches(&format!(" {}(", text(&artefact["entry"]))).count(), 1, "{file}");
            assert!(number(&artefact["threads"]).is_multiple_of(32) && number(&artefact["threads"]) > 0, "{file}");
            let group = (text(&kernel["kernel"]).to_string(), text(&artefact["emit"]).to_string());
            *seen.entry(group).or_insert(0) += 1;
        }
        if has_metal(kernel) {
            let of = swift_struct(&swift, kernel);
            let metal = list(&kernel["artefacts"]).iter().find(|artefact| artefact["emit"] == "msl").expect("Metal");
            assert!(of.contains(&format!("static let entry = {}", metal["entry"])), "{of}");
            assert!(of.contains(&format!("static let threads = {}\n", metal["threads"])), "{of}");
            assert!(of.contains(&format!("static let argumentBytes = {}\n", kernel["arguments"]["bytes"])), "{of}");
        }
    }
    let at_least = [
        ("attention_forward", 1),
        ("attention_split", 2),
        ("attention_merge", 1),
        ("attention_classify", 2),
        ("cache_append", 2),
        ("cache_quantise", 4),
        ("cache_dequantise", 2),
    ];
    for (kernel, count) in at_least {
        for emit in ["cuda", "msl"] {
            let got = seen.get(&(kernel.to_string(), emit.to_string())).copied().unwrap_or(0);
            assert_eq!(got, count, "{kernel} in {emit}");
        }
    }
    let queries = |kernel: &Value| kernel["specialisation"]["queries"].clone();
    let split = |kernel: &&Value| kernel["kernel"] == "attention_split" && has_metal(kernel);
    let decode_and_verify: Vec<Value> = list(&manifest["kernels"]).iter().filter(split).map(queries).collect();
    assert_eq!(decode_and_verify, ["1", "8"]);
}

/// Name, byte offset and bytes of each field of `struct Args`, laid out as C does.
fn fields(source: &str) -> (BTreeMap<String, u64>, u64) {
    let body = source.split("struct Args {").nth(1).and_then(|rest| rest.split("};").next()).expect("struct Args");
    let (mut at, mut widest, mut fields) = (0u64, 1, BTreeMap::new());
    for field in body.split(';').map(str::trim).filter(|field| !field.is_empty()) {
        let (kind, name) = field.rsplit_once(' ').expect("a type and a name");
        let bytes = match kind {
            "long long" | "long" | "int64_t" => 8,
            "int" | "unsigned" | "float" => 4,
            other => panic!("`{other}` in struct Args"),
        };
        let (name, count) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((name, count)) => (name, count.parse().expect("a count")),
            None => (name, 1u64),
        };
        at = at.next_multiple_of(bytes);
        widest = widest.max(bytes);
        // A parameter that is called as a function of the language has a longer name.
        fields.insert(name.replace("_param_", "_"), at);
        at += bytes * count;
    }
    (fields, at.next_multiple_of(widest))
}

#[test]
fn offsets_of_arguments_are_those_of_the_rendered_struct_in_the_manifest_and_in_swift() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = built(folder.path());
    let swift = read(folder.path(), "Tilewright.swift");
    let mut compared = 0;
    for kernel in list(&manifest["kernels"]) {
        let mut expected = BTreeMap::new();
        for parameter in list(&kernel["parameters"]) {
            let name = text(&parameter["name"]);
            let line = if parameter["kind"] == "tensor" {
                expected.insert(format!("{name}_stride"), number(&parameter["strides_at"]));
                expected.insert(format!("{name}_len"), number(&parameter["lens_at"]));
                format!("all.store({name}, strides: {}, lens: {})\n", parameter["strides_at"], parameter["lens_at"])
            } else {
                expected.insert(name.to_string(), number(&parameter["at"]));
                format!("all.store({name}, at: {})\n", parameter["at"])
            };
            assert!(!has_metal(kernel) || swift_struct(&swift, kernel).contains(&line), "{name}: {line}");
        }
        for artefact in list(&kernel["artefacts"]) {
            let (rendered, bytes) = fields(&read(folder.path(), text(&artefact["file"])));
            assert_eq!(rendered, expected, "{}", artefact["file"]);
            assert!(bytes <= number(&kernel["arguments"]["bytes"]), "{}", artefact["file"]);
            assert_eq!(bytes.next_multiple_of(8), kernel["arguments"]["bytes"], "{}", artefact["file"]);
            compared += rendered.len();
        }
    }
    assert!(compared > 200, "only {compared} fields");
}

/// Random shapes that fit each other as the manifest says, and random numbers.
fn launches(kernel: &Value, runner: &mut TestRunner) -> Vec<Launch> {
    let strategy = prop::collection::vec(0u64..300, 64);
    (0..LAUNCHES)
        .map(|_| {
            let drawn = strategy.new_tree(runner).expect("numbers").current();
            let mut drawn = drawn.into_iter();
            let mut draw = || drawn.next().expect("enough numbers");
            let mut launch = Launch::default();
            for parameter in list(&kernel["parameters"]) {
                let name = text(&parameter["name"]).to_string();
                if parameter["kind"] == "tensor" {
                    let rank = number(&parameter["rank"]);
                    launch.shapes.insert(name, (0..rank).map(|_| draw()).collect());
                } else {
                    launch.numbers.insert(name, draw());
                }
            }
            for name in kernel["numbers"].as_object().expect("names").keys() {
                launch.numbers.insert(name.clone(), draw());
            }
            for pair in list(&kernel["multiples"]) {
                let (name, axis) = text(&pair[0]).split_once(".shape[").expect("an axis");
                let axis: usize = axis.trim_end_matches(']').parse().expect("a number");
                let value = evaluate(text(&pair[1]), &launch) * (draw() % 5);
                launch.shapes.get_mut(name).expect("a tensor")[axis] = value;
            }
            for parameter in list(&kernel["parameters"]) {
                if let Some(shape) = parameter.get("shape") {
                    let shape = list(shape).iter().map(|of| evaluate(text(of), &launch)).collect();
                    launch.shapes.insert(text(&parameter["name"]).to_string(), shape);
                }
            }
            launch
        })
        .collect()
}

/// The grid that the library launches with.
fn own_grid(kernel: &Value, launch: &Launch) -> [u64; 3] {
    let library = library();
    let export = library.find(text(&kernel["kernel"])).and_then(|entry| entry.export).expect("an export");
    let shapes: Vec<(&str, Vec<usize>)> = launch
        .shapes
        .iter()
        .map(|(name, shape)| (name.as_str(), shape.iter().map(|&n| n as usize).collect()))
        .collect();
    let shapes: Vec<(&str, &[usize])> = shapes.iter().map(|(name, shape)| (*name, shape.as_slice())).collect();
    let values = kernel["specialisation"].as_object().expect("values").iter();
    let values = values.filter_map(|(name, value)| Some((name.as_str(), text(value).parse().ok()?)));
    let numbers = launch.numbers.iter().map(|(name, &n)| (name.as_str(), n as usize));
    let values: Vec<(&str, usize)> = values.chain(numbers).collect();
    let grid = grid(export.grid, &Numbers { shapes: &shapes, values: &values });
    grid.unwrap_or_else(|e| panic!("{}: {e}", kernel["name"])).map(u64::from)
}

#[test]
fn the_formulas_of_the_manifest_and_of_swift_give_the_librarys_own_grid_for_200_shapes_of_each_kernel() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = built(folder.path());
    let swift = read(folder.path(), "Tilewright.swift");
    let mut runner = TestRunner::deterministic();
    let mut compared = 0;
    for kernel in list(&manifest["kernels"]) {
        let in_swift = has_metal(kernel).then(|| {
            let of = swift_struct(&swift, kernel);
            let call = of.split("return try size(").nth(1).and_then(|rest| rest.split(")\n").next()).expect("a grid");
            arguments(call)
        });
        for launch in launches(kernel, &mut runner) {
            let own = own_grid(kernel, &launch);
            let of_manifest = list(&kernel["grid"]).iter().map(|axis| evaluate(text(axis), &launch));
            assert_eq!(of_manifest.collect::<Vec<_>>(), own, "{} {launch:?}", kernel["name"]);
            if let Some(in_swift) = &in_swift {
                let of_swift: Vec<u64> = in_swift.iter().map(|axis| evaluate(axis, &launch)).collect();
                assert_eq!(of_swift, own, "{} {launch:?}", kernel["name"]);
                compared += 1;
            }
        }
    }
    assert!(compared >= 14 * LAUNCHES, "only {compared} launches");
}

/// The arguments of a call, at the commas outside of all brackets.
fn arguments(call: &str) -> Vec<String> {
    let (mut depth, mut all) = (0, vec![String::new()]);
    for c in call.chars() {
        depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
        match (c, depth) {
            (',', 0) => all.push(String::new()),
            _ => all.last_mut().expect("one").push(c),
        }
    }
    all
}

/// The Swift interpreter: `TILEWRIGHT_SWIFT`, or `swift` where it is found.
fn swift_tool() -> Option<String> {
    let tool = std::env::var("TILEWRIGHT_SWIFT").unwrap_or_else(|_| "swift".to_string());
    let answers = Command::new(&tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    answers.is_ok_and(|status| status.success()).then_some(tool)
}

#[test]
fn swift_type_checks_the_wrappers_and_what_they_encode_is_the_librarys_own_launch() {
    let Some(tool) = swift_tool() else {
        println!("skipped: no Swift here (`swift` or TILEWRIGHT_SWIFT); the wrappers were not type-checked");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = built(folder.path());
    let kernels: Vec<&Value> = list(&manifest["kernels"]).iter().filter(|kernel| has_metal(kernel)).collect();
    let wrappers = read(folder.path(), "Tilewright.swift");
    let mut program = wrappers.replacen("import Metal\n", include_str!("swift/metal.swift"), 1);
    program += include_str!("swift/launches.swift");
    program +=
        "while let line = readLine() {\n    numbers = line.split(separator: \" \").map { Int($0)! }\n    next = 0\n";
    program += "    switch int() {\n";
    let (mut runner, mut input, mut expected) = (TestRunner::deterministic(), String::new(), Vec::new());
    for (index, kernel) in kernels.iter().enumerate() {
        let of = swift_struct(&wrappers, kernel);
        let name = of.split(':').next().expect("a name");
        let init = of.split("public init(").nth(1).and_then(|rest| rest.split(") {").next()).expect("an init");
        let labels: Vec<&str> = init.split(", ").map(|field| field.split(':').next().expect("a label")).collect();
        let is_tensor =
            |label: &str| list(&kernel["parameters"]).iter().any(|p| p["name"] == label && p["kind"] == "tensor");
        let given = labels.iter().map(|l| format!("{l}: {}", if is_tensor(l) { "tensor()" } else { "number()" }));
        program += &format!("    case {index}: show({name}({}))\n", given.collect::<Vec<_>>().join(", "));
        let line = |launch: &Launch| {
            let given = labels.iter().map(|label| match launch.shapes.get(*label) {
                Some(shape) => {
                    format!("{} {}", shape.len(), shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" "))
                }
                None => launch.numbers[*label].to_string(),
            });
            format!("{index} {}\n", given.collect::<Vec<_>>().join(" "))
        };
        for launch in launches(kernel, &mut runner) {
            input += &line(&launch);
            expected.push(encoded(kernel, &launch));
        }
        let mut wrong = launches(kernel, &mut runner).swap_remove(0);
        wrong.shapes.values_mut().next().expect("a tensor").push(1);
        input += &line(&wrong);
        expected.push("error rank".to_string());
    }
    program += "    default: print(\"no such kernel\")\n    }\n}\n";
    let file = folder.path().join("launches.swift");
    std::fs::write(&file, program).expect("the program");
    let mut command = Command::new(tool);
    command.arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().expect("Swift starts");
    let mut stdin = running.stdin.take().expect("its input");
    let feed = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = running.wait_with_output().expect("Swift ends");
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problems}");
    feed.join().expect("the writer").expect("all was read");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let mut printed = printed.lines();
    for expected in &expected {
        let mut got = Vec::new();
        for line in printed.by_ref() {
            if line.starts_with("error") {
                got.push(line.split('(').next().unwrap_or_default());
                break;
            }
            if line == "end" {
                break;
            }
            got.push(line);
        }
        assert_eq!(got.join("\n"), *expected);
    }
    assert_eq!(printed.next(), None);
    println!("{} launches of {} kernels were type-checked and run by Swift", expected.len(), kernels.len());
}

/// What the encoder must be given: buffers, the struct byte by byte, grid and threads. Tensors are dense, 32 bytes into theirs.
fn encoded(kernel: &Value, launch: &Launch) -> String {
    let grid = own_grid(kernel, launch);
    if grid.contains(&0) {
        return String::new();
    }
    let mut bytes = vec![0u8; number(&kernel["arguments"]["bytes"]) as usize];
    let mut put = |at: u64, value: &[u8]| bytes[at as usize..][..value.len()].copy_from_slice(value);
    let mut lines = Vec::new();
    for parameter in list(&kernel["parameters"]) {
        let name = text(&parameter["name"]);
        if parameter["kind"] == "tensor" {
            let shape = &launch.shapes[name];
            let mut stride = 1i64;
            for (axis, &extent) in shape.iter().enumerate().rev() {
                put(number(&parameter["strides_at"]) + 8 * axis as u64, &stride.to_le_bytes());
                put(number(&parameter["lens_at"]) + 4 * axis as u64, &(extent as i32).to_le_bytes());
                stride *= extent.max(1) as i64;
            }
            lines.push(format!("buffer {} 32", parameter["index"]));
        } else {
            let n = launch.numbers[name];
            let value = if parameter["stored"] == "f32" { (n as f32).to_le_bytes() } else { (n as u32).to_le_bytes() };
            put(number(&parameter["at"]), &value);
        }
    }
    let bytes: Vec<String> = bytes.iter().map(u8::to_string).collect();
    lines.push(format!("bytes {} {}", kernel["arguments"]["index"], bytes.join(" ")));
    let metal = list(&kernel["artefacts"]).iter().find(|artefact| artefact["emit"] == "msl").expect("Metal");
    lines.push(format!("grid {} {} {} {} 1 1", grid[0], grid[1], grid[2], metal["threads"]));
    lines.join("\n")
}

#[test]
fn a_build_refuses_what_it_does_not_know_and_names_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let fails = |flags: &[&str], code: i32, needle: &str| {
        let outcome = build(&out, flags);
        assert_eq!(outcome.code, Some(code), "{flags:?}: {outcome:?}");
        assert!(outcome.stderr.contains(needle), "{flags:?}: {needle:?} is not in {:?}", outcome.stderr);
        assert_eq!(outcome.stderr.matches("error:").count(), 1, "{}", outcome.stderr);
        assert!(!out.exists(), "{flags:?} wrote something");
    };
    fails(
        &["attention_backward"],
        2,
        "kernel `attention_backward` is unknown; there are attention_forward, attention_split",
    );
    fails(&["--types", "f64"], 2, "`--types f64` does not fit; f32, f16, bf16");
    fails(&["--head-dims", "64,1000"], 2, "`--head-dims 1000` does not fit; 1 to 576");
    fails(&["--set", "tiles=3"], 2, "specialisation value `tiles` is unknown; there are at_once, cache");
    fails(&["--set", "queries"], 2, "NAME=VALUE");
    fails(&["--compute", "75"], 2, "`--compute 75` does not fit; one of 80, 86");
    fails(&["--emit", "manifest"], 2, "something for it to describe");
    fails(&["--emit", "spirv"], 2, "spirv");
    match nvrtc_version() {
        Ok(_) => println!("skipped: NVRTC is here, so neither `--emit cubin` nor `--emit ptx` is refused"),
        Err(_) => {
            fails(&["--emit", "cubin"], 1, "`--emit cubin` needs NVRTC, which is absent");
            fails(&["--emit", "cuda,ptx"], 1, "`--emit ptx` needs NVRTC, which is absent");
        }
    }
}

#[test]
fn codes_of_16_bits_are_dequantised_in_what_is_built_and_nothing_else() {
    let flags = ["attention_split", "--types", "bf16", "--head-dims", "128", "--emit", "cuda,msl,manifest"];
    let codes = "--set=cache=dense+k-q8g64+v-q4g64";
    let built = |more: &[&str]| {
        let folder = tempfile::tempdir().expect("a folder");
        let outcome = build(folder.path(), &[&flags[..], &[codes], more].concat());
        let manifest: Value = serde_json::from_str(&read(folder.path(), "manifest.json")).expect("JSON");
        (outcome.code, manifest)
    };
    let (code, manifest) = built(&[]);
    let kernels = list(&manifest["kernels"]);
    assert!(code == Some(0) && !kernels.is_empty(), "{manifest}");
    assert!(kernels.iter().all(|kernel| kernel["specialisation"]["decoding"] == "dequantised"), "{manifest}");
    let (code, manifest) = built(&["--set=decoding=exact"]);
    let absent = list(&manifest["absent"]);
    assert!(code == Some(1) && list(&manifest["kernels"]).is_empty() && !absent.is_empty(), "{manifest}");
    assert!(absent.iter().all(|of| text(&of["reason"]).contains("decoding=exact")), "{manifest}");
}

#[test]
fn nvrtc_makes_assembly_and_machine_code_of_sources() {
    if let Err(reason) = nvrtc_version() {
        return println!("skipped: {reason}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["attention_split", "--types", "bf16", "--head-dims", "64", "--emit", "cuda,ptx,cubin,manifest"];
    let outcome = build(folder.path(), &flags);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let manifest: Value = serde_json::from_str(&read(folder.path(), "manifest.json")).expect("JSON");
    let kernels = list(&manifest["kernels"]);
    assert!(!kernels.is_empty(), "{manifest}");
    for kernel in kernels {
        let artefact = |emit: &str| {
            list(&kernel["artefacts"]).iter().find(|artefact| artefact["emit"] == emit).expect("what was asked for")
        };
        let bytes = |emit: &str| std::fs::read(folder.path().join(text(&artefact(emit)["file"]))).expect("the file");
        let ptx = String::from_utf8(bytes("ptx")).expect("text");
        let entry = format!(".visible .entry {}(", text(&artefact("ptx")["entry"]));
        assert!(ptx.contains(&entry) && ptx.contains(".target sm_90\n"), "{ptx}");
        assert_eq!(&bytes("cubin")[..4], b"\x7fELF");
    }
}

#[test]
fn a_build_writes_what_it_can_and_says_what_it_cannot() {
    let folder = tempfile::tempdir().expect("a folder");
    // 40 does not divide into groups of codes.
    let flags = ["cache_", "--types", "f16", "--head-dims", "40", "--emit", "cuda,manifest", "--json"];
    let outcome = build(folder.path(), &flags);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("files could not be made"), "{outcome:?}");
    let report: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let written: Vec<&str> = list(&report["written"]).iter().map(text).collect();
    assert!(written.contains(&"cache_append__f16__h40__tokens16_dense.cu"), "{written:?}");
    assert!(written.iter().all(|file| folder.path().join(file).is_file()), "{written:?}");
    let absent = list(&report["absent"]);
    assert!(!absent.is_empty() && absent.iter().all(|of| !text(&of["reason"]).is_empty()), "{report}");
    assert!(absent.iter().any(|of| text(&of["name"]).starts_with("cache_quantise__f16__h40")), "{report}");
    let manifest: Value = serde_json::from_str(&read(folder.path(), "manifest.json")).expect("JSON");
    assert_eq!(manifest["absent"], report["absent"]);
}

#[test]
fn settings_types_and_layouts_choose_the_specialisation() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["attention_forward", "--types", "f32-f16", "--head-dims", "192-128", "--emit", "cuda,manifest"];
    let more = ["--set", "features=causal+softcap", "--set=cache=paged(16)", "--set=keys=16", "--any-layout"];
    let outcome = build(folder.path(), &[&flags[..], &more[..]].concat());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let manifest: Value = serde_json::from_str(&read(folder.path(), "manifest.json")).expect("JSON");
    let [kernel] = list(&manifest["kernels"]) else { panic!("{manifest}") };
    let name = text(&kernel["name"]);
    assert!(name.starts_with("attention_forward__f32_f16__h192_128__heads1_"), "{name}");
    assert!(name.contains("_keys16_causal_softcap_paged_16_") && name.ends_with("_no_lse"), "{name}");
    let tensors = || list(&kernel["parameters"]).iter().filter(|parameter| parameter["kind"] == "tensor");
    assert!(tensors().all(|tensor| tensor["aligned"] == false), "{kernel}");
    assert!(tensors().any(|tensor| tensor["name"] == "pages"), "{kernel}");
    assert_eq!(kernel["specialisation"]["cache"], "paged(16)");
}
