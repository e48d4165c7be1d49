//! Codes are read in place: where they are taken for the numbers of a dequantised cache the same results as over one, and never an
//! expanded copy.

use std::fs;
use tilewright_attention::cache::{Cache, Codes};
use tilewright_attention::quant::{Affine, Rounding};
use tilewright_attention::{Attention, Causal, Splits, cache};
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor};

/// Numbers between -2 and 2 that look random.
fn numbers(salt: u64, elem: Elem, shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>() as u64;
    let number = |i: u64| ((i + salt * 7919).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / (1 << 22) as f64 - 2.0;
    Tensor::from_f64(elem, &(0..count).map(number).collect::<Vec<_>>(), shape).unwrap()
}

/// In f32, and for more rows than multiply codes themselves; those take codes for their exact numbers.
#[test]
fn attention_over_codes_has_the_bits_of_attention_over_the_dequantised_cache() {
    let device = Device::cpu();
    for (elem, format) in [
        (Elem::F32, "q8g64"),
        (Elem::F32, "q4g32"),
        (Elem::F16, "q8g128"),
        (Elem::F16, "q4g64"),
        (Elem::Bf16, "q8g32"),
        (Elem::Bf16, "q4g64"),
    ] {
        let format: Affine = format.parse().unwrap();
        let shape = [2, 2, 300, 128];
        let quantised =
            |salt| cache::quantise(&device, numbers(salt, elem, &shape).view(), format, Rounding::TiesToEven).unwrap();
        let (k, v) = (quantised(1), quantised(2));
        let (plain_k, plain_v) =
            (cache::dequantise(&device, k.view()).unwrap(), cache::dequantise(&device, v.view()).unwrap());
        for (q_len, splits) in
            [(1, Splits::Count(3)), (8, Splits::Count(1)), (8, Splits::Count(4)), (100, Splits::Auto)]
        {
            if elem != Elem::F32 && q_len == 1 {
                continue;
            }
            let q = numbers(3, elem, &[2, 6, q_len, 128]);
            let run = |request: Attention<'_>| {
                request.feature(Causal).splits(splits).kv_len(&[300, 211]).run(&device).unwrap().o.as_bytes().to_vec()
            };
            let codes = run(Attention::over(q.view(), Cache::new(k.view(), v.view())));
            let plain = run(Attention::new(q.view(), plain_k.view(), plain_v.view()));
            assert!(codes == plain && codes.iter().any(|&byte| byte != 0), "{elem} {format} {q_len} {splits:?}");
        }
    }
}

/// The most memory that this process has had, in bytes; `None` where the system does not say.
fn peak() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? * 1024)
}

#[test]
fn no_expanded_copy_of_codes_is_allocated() {
    let (heads, tokens, dim) = (8, 32_768, 128);
    let format: Affine = "q4g64".parse().unwrap();
    let words: Vec<u32> = (0..(heads * tokens * dim / 8) as u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
    let w = Tensor::from_slice(&words, &[1, heads, tokens, dim / 8]).unwrap();
    drop(words);
    let groups = [1, heads, tokens, dim / 64];
    let (scales, biases) = (numbers(4, Elem::F16, &groups), numbers(5, Elem::F16, &groups));
    let codes = Codes { w: w.view(), scales: scales.view(), biases: biases.view(), format };
    let expanded = 2 * heads * tokens * dim * 2; // keys and values in f16
    let device = Device::cpu();
    for q_len in [1, 8, 128] {
        let q = numbers(6, Elem::F16, &[1, 16, q_len, dim]);
        let request = Attention::over(q.view(), Cache::new(codes, codes)).feature(Causal);
        let plan = request.plan(&device).unwrap();
        assert!(plan.working_bytes() + plan.scratch_bytes() < expanded / 8, "{}", plan.explain());
        let Some(before) = peak() else {
            println!("skipped: this system does not say what a process uses");
            return;
        };
        let out = request.run(&device).unwrap();
        let grown = peak().unwrap() - before;
        assert!(out.o.to_f64().iter().all(|x| x.is_finite()));
        assert!(grown < expanded / 8, "{q_len} queries: {grown} bytes more; expanded, the cache has {expanded}");
        println!("{q_len} queries: {grown} bytes at the peak, {expanded} expanded");
    }
}
