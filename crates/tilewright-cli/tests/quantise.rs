//! `tile quantize` and `tile dequantize` beside the reference's codes, bit for bit.

mod support;

use safetensors::tensor::Dtype;
use support::{Bench, Tensors, command_refuses, noise, tile};
use tilewright::attention::reference::affine;
use tilewright::attention::{Affine, Rounding};
use tilewright::prelude::Elem;

const TYPES: [(Dtype, Elem); 3] = [(Dtype::F32, Elem::F32), (Dtype::F16, Elem::F16), (Dtype::BF16, Elem::Bf16)];

/// Numbers with groups of zeros, of one constant, and of large ones among them.
fn numbers(count: usize) -> Vec<f64> {
    let scaled = |(at, x): (usize, &f64)| match at / 128 % 4 {
        0 => *x,
        1 => 0.0,
        2 => 1.75,
        _ => x * 3e4,
    };
    noise(count, 7).iter().enumerate().map(scaled).collect()
}

fn run(command: &str, tensors: &Tensors, flags: &[&str]) -> Tensors {
    let bench = Bench::new(tensors);
    let outcome = bench.run(command, flags);
    assert_eq!(outcome.code, Some(0), "{command} {flags:?}: {outcome:?}");
    assert_eq!(bench.files(), ["in.safetensors", "out.safetensors"]);
    Tensors::read(&bench.output())
}

#[test]
fn codes_and_what_they_decode_to_are_the_references_bit_for_bit() {
    for format in Affine::all() {
        for rounding in Rounding::ALL {
            for (dtype, elem) in TYPES {
                let (bits, group) = (format.bits.to_string(), format.group.to_string());
                let values = numbers(2 * 3 * 5 * 256);
                let file = Tensors::default().float("x", dtype, &[2, 3, 5, 256], &values).i32("lengths", &[7, 8]);
                let given: Vec<f32> = file.values("x").iter().map(|&x| x as f32).collect();
                let wanted = affine::encode(&given, elem, format, rounding).expect("the group divides");

                let rounding = rounding.to_string();
                let codes = run("quantize", &file, &["--bits", &bits, "--group", &group, "--rounding", &rounding]);
                assert_eq!(codes.names(), ["lengths", "x.biases", "x.scales", "x.w"]);
                assert_eq!(codes.dtype("x.w"), Dtype::U32);
                assert_eq!(codes.shape("x.w"), [2, 3, 5, format.words(256).expect("words")]);
                let words: Vec<u8> = wanted.words.iter().flat_map(|w| w.to_le_bytes()).collect();
                assert_eq!(codes.bytes("x.w"), words, "{format} {rounding} {elem}");
                for (part, wanted) in [("x.scales", &wanted.scales), ("x.biases", &wanted.biases)] {
                    assert_eq!(
                        (codes.dtype(part), codes.shape(part)),
                        (dtype, &[2, 3, 5, 256 / format.group.size()][..])
                    );
                    assert_eq!(&codes.values(part), wanted, "{part} {format} {rounding} {elem}");
                }

                let back = run("dequantize", &codes, &["--bits", &bits, "--group", &group]);
                assert_eq!(back.names(), ["lengths", "x"]);
                assert_eq!((back.dtype("x"), back.shape("x")), (dtype, &[2, 3, 5, 256][..]));
                assert_eq!(back.values("x"), affine::decode(&wanted, elem, format).expect("codes"), "{format} {elem}");
                assert_eq!(back.bytes("lengths"), file.bytes("lengths"));
            }
        }
    }
}

#[test]
fn tensors_of_any_rank_keep_their_shape() {
    for shape in [[64].as_slice(), &[3, 64], &[2, 1, 3, 2, 128], &[0, 64], &[3, 0]] {
        let count = shape.iter().product();
        let file = Tensors::default().float("x", Dtype::F32, shape, &noise(count, 3));
        let codes = run("quantize", &file, &["--bits", "8"]);
        assert_eq!(codes.shape("x.scales"), [&shape[..shape.len() - 1], &[shape[shape.len() - 1] / 64]].concat());
        let back = run("dequantize", &codes, &["--bits=8", "--group=64"]);
        assert_eq!(back.shape("x"), shape);
    }
}

#[test]
fn what_is_no_float_and_what_are_no_codes_is_copied() {
    let file = Tensors::default()
        .raw("bytes", Dtype::U8, &[3], vec![1, 2, 3])
        .raw("flags", Dtype::BOOL, &[2], vec![0, 1])
        .raw("long", Dtype::I64, &[1], vec![9; 8])
        .raw("words.w", Dtype::I32, &[1], vec![9; 4]);
    let same = run("quantize", &file, &["--bits", "4"]);
    let file = file.float("alone.scales", Dtype::F16, &[1], &[2.0]).float("dense.w", Dtype::F32, &[1], &[0.5]);
    let decoded = run("dequantize", &file, &["--bits", "4"]);
    assert_eq!(decoded.names(), file.names());
    for name in file.names() {
        assert_eq!(decoded.bytes(name), file.bytes(name), "{name}");
    }
    for name in same.names() {
        assert_eq!((same.dtype(name), same.bytes(name)), (file.dtype(name), file.bytes(name)), "{name}");
    }
    assert_eq!(same.names(), ["bytes", "flags", "long", "words.w"]);
}

#[test]
fn a_file_that_was_quantised_is_read_by_attend() {
    let sizes = support::Sizes { head_dim: 64, value_dim: 64, ..support::SMALL };
    let tensors = sizes.tensors(Dtype::F32, Dtype::F32);
    let cache = tensors.clone().without("q");
    let mut codes = run("quantize", &cache, &["--bits", "4", "--group", "32"]);
    codes = codes.float("q", Dtype::F32, &sizes.q_shape(), &tensors.values("q"));
    let on_the_way = support::attend(&tensors, &["--kv", "int4", "--group", "32"]);
    assert_eq!(support::attend(&codes, &[]).bytes("o"), on_the_way.bytes("o"));
}

#[test]
fn what_cannot_be_encoded_is_refused_by_name_and_nothing_is_written() {
    let good = || Tensors::default().float("a", Dtype::F32, &[2, 64], &noise(128, 1));
    let refuses = |tensors: &Tensors, flags: &[&str], needle: &str| {
        command_refuses(&Bench::new(tensors), "quantize", flags, 2, needle);
    };
    let short = good().float("b", Dtype::F16, &[4, 48], &noise(192, 1));
    refuses(&short, &["--bits", "4"], "tensor `b` cannot be quantised: 48 values do not divide into groups of 64");
    refuses(&good().float("b", Dtype::F32, &[], &[1.0]), &["--bits", "4"], "tensor `b` is F32 []");
    refuses(
        &good().float("b", Dtype::F64, &[64], &[1.0; 64]),
        &["--bits", "4"],
        "tensor `b` is F64 [64]; F32, F16 or BF16",
    );
    refuses(&good().raw("a.w", Dtype::U8, &[1], vec![0]), &["--bits", "4"], "tensor `a.w` is there beside `a`");
    refuses(&good(), &["--bits", "3"], "--bits");
    refuses(&good(), &["--bits", "4", "--group", "16"], "--group");
    refuses(&good(), &["--bits", "4", "--rounding", "up"], "--rounding");
    refuses(&good(), &[], "--bits");
}

#[test]
fn codes_that_do_not_belong_together_are_refused_by_name() {
    let codes = run("quantize", &Tensors::default().float("a", Dtype::F32, &[2, 64], &noise(128, 1)), &["--bits", "4"]);
    let refuses = |tensors: &Tensors, flags: &[&str], needle: &str| {
        command_refuses(&Bench::new(tensors), "dequantize", flags, 2, needle);
    };
    refuses(&codes, &["--bits", "8"], "tensor `a.w` is U32 [2, 8]; 16 words of q8g64 for each group of `a.scales`");
    refuses(&codes, &["--bits", "4", "--group", "32"], "tensor `a.w` is U32 [2, 8]; 4 words of q4g32");
    refuses(&codes.clone().without("a.scales"), &["--bits", "4"], "tensor `a.scales` is missing");
    refuses(&codes.clone().without("a.biases"), &["--bits", "4"], "tensor `a.biases` is missing");
    let other = codes.clone().float("a.biases", Dtype::F16, &[2, 1], &[0.0; 2]);
    refuses(&other, &["--bits", "4"], "tensor `a.biases` is F16 [2, 1]; F32 [2, 1], as `a.scales` is, is needed");
    let flat = codes.clone().float("a.scales", Dtype::F32, &[2], &[1.0; 2]);
    refuses(&flat, &["--bits", "4"], "tensor `a.w` is U32 [2, 8]");
    let there = codes.float("a", Dtype::F32, &[1], &[1.0]);
    refuses(&there, &["--bits", "4"], "tensor `a.w` is there beside `a`");
}

#[test]
fn an_output_that_cannot_be_written_is_exit_1() {
    let bench = Bench::new(&Tensors::default().float("a", Dtype::F32, &[64], &noise(64, 1)));
    let absent = bench.output().join("out.safetensors");
    let input = bench.input();
    for command in ["quantize", "dequantize"] {
        let outcome =
            tile([command.as_ref(), input.as_os_str(), "--bits=4".as_ref(), "-o".as_ref(), absent.as_os_str()]);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("error: cannot write"), "{outcome:?}");
    }
    assert_eq!(bench.files(), ["in.safetensors"]);
}

#[test]
fn the_report_counts_tensors_and_bytes() {
    let file = Tensors::default().float("a", Dtype::F16, &[2, 64], &noise(128, 1)).i32("n", &[1]);
    let bench = Bench::new(&file);
    let report: serde_json::Value =
        serde_json::from_str(&bench.run("quantize", &["--bits", "8", "--json"]).stdout).expect("JSON");
    assert_eq!((&report["format"], &report["copied"]), (&"q8g64".into(), &1.into()), "{report}");
    assert_eq!(report["converted"], serde_json::json!(["a"]));
    // 128 codes of a byte, two groups of two f16, and an i32.
    assert_eq!((&report["bytes_read"], &report["bytes_written"]), (&260.into(), &140.into()), "{report}");
    let text = bench.run("quantize", &["--bits", "8"]).stdout;
    assert_eq!(text, "encoded 1 tensor (q8g64), copied 1; 260 bytes are 140 now\n");
}
