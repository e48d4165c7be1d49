//! What `tile` refuses: one clear message, the right exit code, and no new file.

mod support;

use safetensors::tensor::Dtype;
use support::{Bench, SMALL, Sizes, Tensors, refuses, refuses_file, tile};

fn small() -> Tensors {
    SMALL.tensors(Dtype::F32, Dtype::F32)
}

#[test]
fn missing_tensors() {
    for name in ["q", "k", "v"] {
        refuses(&small().without(name), &[], 2, &format!("tensor `{name}` is missing"));
    }
    refuses(&Tensors::default(), &[], 2, "tensor `q` is missing; the file has none");
}

#[test]
fn tensors_that_are_unknown() {
    for name in ["Q", "query", "kv_lens", "k.weight"] {
        let needle = format!("tensor `{name}` is unknown");
        refuses(&small().float(name, Dtype::F32, &[1], &[0.0]), &[], 2, &needle);
    }
}

#[test]
fn misshapen_tensors() {
    let with = |name, shape: &[usize]| {
        let count = shape.iter().product();
        small().float(name, Dtype::F32, shape, &vec![0.5; count])
    };
    refuses(&with("q", &[5, 16]), &[], 2, "tensor `q` is f32 [5, 16]; [B,H,L,D] or [H,L,D] is needed");
    refuses(&with("q", &[1, 2, 4, 5, 16]), &[], 2, "`q`");
    refuses(&with("k", &[2, 9, 16]), &[], 2, "tensor `k` is f32 [2, 9, 16]; the rank of q, 4, is needed");
    refuses(&with("k", &[2, 2, 9, 15]), &[], 2, "15");
    refuses(&with("k", &[2, 2, 8, 16]), &[], 2, "8");
    refuses(&with("v", &[3, 2, 9, 24]), &[], 2, "3");
    refuses(&with("v", &[2, 4, 9, 24]), &[], 2, "4");
    refuses(&with("o", &[2, 4, 5, 16]), &[], 2, "tensor `o` is f32 [2, 4, 5, 16]; shape [2, 4, 5, 24] is needed");
    refuses(&with("lse", &[2, 5, 4]), &[], 2, "tensor `lse` is f32 [2, 5, 4]; shape [2, 4, 5] is needed");
}

#[test]
fn heads_that_do_not_divide_and_dims_of_zero() {
    refuses(&Sizes { q_heads: 3, ..SMALL }.tensors(Dtype::F32, Dtype::F32), &[], 2, "3");
    refuses(&Sizes { kv_heads: 0, ..SMALL }.tensors(Dtype::F32, Dtype::F32), &[], 2, "0");
    refuses(&Sizes { head_dim: 0, ..SMALL }.tensors(Dtype::F32, Dtype::F32), &["--scale", "1"], 2, "0");
    refuses(&Sizes { head_dim: 577, ..SMALL }.tensors(Dtype::F32, Dtype::F32), &[], 2, "577");
}

#[test]
fn element_types_that_do_not_go_together() {
    refuses(&SMALL.tensors(Dtype::F16, Dtype::F32), &[], 2, "f16");
    refuses(&SMALL.tensors(Dtype::F16, Dtype::BF16), &[], 2, "bf16");
    refuses(
        &SMALL.tensors(Dtype::F64, Dtype::F64),
        &[],
        2,
        "tensor `q` is F64 [2, 4, 5, 16]; F32, F16 or BF16 is needed",
    );
    let mixed = small().float("v", Dtype::F16, &[2, 2, 9, 24], &[0.5; 2 * 2 * 9 * 24]);
    refuses(&mixed, &[], 2, "f16");
}

#[test]
fn kv_len_out_of_range_or_of_another_shape() {
    refuses(&small().i32("kv_len", &[3, 10]), &[], 2, "10");
    refuses(&small().i32("kv_len", &[-1, 3]), &[], 2, "-1");
    refuses(&small().i32("kv_len", &[3]), &[], 2, "shape [2]");
    refuses(&small().float("kv_len", Dtype::F32, &[2], &[3.0, 3.0]), &[], 2, "I32, U32 or I64");
    let long = [3i64, 1 << 40].iter().flat_map(|n| n.to_le_bytes()).collect();
    refuses(&small().raw("kv_len", Dtype::I64, &[2], long), &[], 2, "1099511627776 at [1]");
}

#[test]
fn scales_that_are_no_numbers() {
    for scale in ["nan", "inf", "-inf", "1e999", "x", ""] {
        refuses(&small(), &[&format!("--scale={scale}")], 2, "--scale");
    }
}

#[test]
fn unknown_flags_and_values() {
    for flags in
        [["--casual"].as_slice(), &["--kv", "int2"], &["--device", "tpu"], &["--layout", "hbld"], &["--dtype", "f64"]]
    {
        refuses(&small(), flags, 2, flags[0]);
    }
    let cases: [(&[&str], &str); 11] = [
        (&["--window=-1,0"], "--window"),
        (&["--window", ""], "--window"),
        (&["--window", ","], "--window"),
        (&["--window", "4,0,0"], "--window"),
        (&["--window", "4", "--window-sinks=-1"], "--window-sinks"),
        (&["--window-sinks", "2"], "--window"),
        (&["--softcap", "inf"], "--softcap"),
        (&["--kv", "int8", "--group", "48"], "--group"),
        (&["--splits", "0"], "--splits"),
        (&["--splits=-1"], "--splits"),
        (&["--splits", "many"], "--splits"),
    ];
    for (flags, needle) in cases {
        refuses(&small(), flags, 2, needle);
    }
    refuses(&small(), &["--q-start", "1.5"], 2, "--q-start");
    refuses(&small(), &["--q-start=99999999999999999999"], 2, "--q-start");
    refuses(&small(), &["--q-start=9223372036854775807", "--causal"], 2, "9223372036854775807");
}

#[test]
fn devices_that_are_absent() {
    let metal = cfg!(not(target_vendor = "apple")).then_some("metal");
    for device in ["cuda:1000"].into_iter().chain(metal) {
        refuses(&small(), &["--device", device], 1, &format!("device `{device}` is absent"));
    }
}

#[test]
fn files_that_are_truncated_or_foreign() {
    let bench = Bench::new(&small());
    let whole = std::fs::read(bench.input()).expect("the input");
    let long_header = (u64::MAX / 2).to_le_bytes();
    let cases: [&[u8]; 7] = [
        b"",
        b"GGUF",
        b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0",
        &whole[..whole.len() - 1],
        &whole[..100],
        &long_header,
        &[&whole[..], b"more"].concat(),
    ];
    for bytes in cases {
        std::fs::write(bench.input(), bytes).expect("the input");
        refuses_file(&bench, &[], 2, "is not a safetensors file");
    }
    std::fs::remove_file(bench.input()).expect("the input");
    refuses_file(&bench, &[], 2, "cannot read");
    std::fs::create_dir(bench.input()).expect("a folder");
    refuses_file(&bench, &[], 2, "not a regular file");
}

#[test]
fn outputs_that_cannot_be_written() {
    let bench = Bench::new(&small());
    let input = bench.input();
    let attend = |output: &std::path::Path| {
        let outcome = tile(["attend".as_ref(), input.as_os_str(), "-o".as_ref(), output.as_os_str()]);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("error: cannot write"), "{outcome:?}");
        assert_eq!(bench.files(), ["in.safetensors"]);
    };
    let absent = input.with_file_name("absent").join("out.safetensors");
    attend(&absent);
    let outcome = tile(["attend".as_ref(), input.as_os_str(), "-o".as_ref(), absent.as_os_str()]);
    assert!(outcome.stderr.contains("there is no folder") && !outcome.stderr.contains(".part"), "{outcome:?}");
    attend(&input.join("out.safetensors"));
    attend(input.parent().expect("the folder"));
    #[cfg(unix)]
    attend("/dev/null".as_ref());
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    for args in [[].as_slice(), &["attends"], &["attend"], &["attend", "in.safetensors"], &["devices", "cpu"]] {
        let outcome = tile(args);
        assert_eq!(outcome.code, Some(2), "{args:?}: {outcome:?}");
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{args:?}: {outcome:?}");
    }
    for args in [["--help"].as_slice(), &["attend", "--help"], &["--version"]] {
        assert_eq!(tile(args).code, Some(0));
    }
}

#[test]
#[cfg(unix)]
fn a_link_as_output_keeps_being_a_link() {
    let bench = Bench::new(&small());
    let target = bench.output().with_file_name("target.safetensors");
    std::fs::write(&target, "old").expect("the target");
    std::os::unix::fs::symlink(&target, bench.output()).expect("a link");
    assert_eq!(bench.attend(&[]).code, Some(0));
    assert!(bench.output().is_symlink());
    assert_eq!(Tensors::read(&target).names(), ["o"]);
}

#[test]
#[cfg(unix)]
fn a_link_to_nothing_is_no_output() {
    let bench = Bench::new(&small());
    let target = bench.output().with_file_name("target.safetensors");
    std::os::unix::fs::symlink(&target, bench.output()).expect("a link");
    let outcome = bench.attend(&[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("it is a link to nothing"), "{outcome:?}");
    assert!(bench.output().is_symlink() && !target.exists());
}

#[test]
fn names_from_a_file_cannot_write_to_the_terminal() {
    let name = "x\n\u{1b}[31m";
    let with = small().float(name, Dtype::F32, &[1], &[0.0]);
    refuses(&with, &[], 2, r"tensor `x\n\u{1b}[31m` is unknown");
    refuses(&Tensors::default().float(name, Dtype::F32, &[1], &[0.0]), &[], 2, r"tensor `x\n\u{1b}[31m` is unknown");
}

#[test]
#[cfg(target_os = "linux")]
fn an_output_path_that_is_no_utf8_is_written_and_reported() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new(&small());
    let output = bench.output().with_file_name(std::ffi::OsStr::from_bytes(b"\xff.safetensors"));
    let outcome =
        tile(["attend".as_ref(), bench.input().as_os_str(), "-o".as_ref(), output.as_os_str(), "--json".as_ref()]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(serde_json::from_str::<serde_json::Value>(&outcome.stdout).is_ok(), "{outcome:?}");
    assert!(output.exists());
}
