//! Every kernel of the library's cases as GPU code.

use std::collections::BTreeMap;
use tilewright_attention::library;
use tilewright_compile::gpu::{Access16, Dialect, Target, lower};
use tilewright_compile::pass::run_gpu;
use tilewright_ir::Type;

fn lowered(name: &str, values: &[(&str, &str)]) {
    let library = library();
    let entry = library.find(name).unwrap();
    let text: BTreeMap<String, String> = values.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    let text = (entry.complete)(text).unwrap_or_else(|e| panic!("{}: {e}", entry.name()));
    let kernel = run_gpu(entry.spec.trace(&text).unwrap(), None).unwrap();
    let views = kernel.params.iter().filter(|p| matches!(kernel.ty(p.value), Type::View { .. })).count();
    let target = Target { dialect: Dialect::Cuda, compute: 90, shared_bytes: 227 << 10 };
    match lower(&kernel, &target, &vec![Access16::Aligned; views]) {
        Ok(p) => println!(
            "{name} {values:?}: {} steps, {} fragments, {} buffers",
            p.steps.len(),
            p.fragments.len(),
            p.buffers.len()
        ),
        Err(e) => println!("{name} {values:?}: {e}"),
    }
}

#[test]
fn all() {
    let base = [("E", "bf16"), ("C", "bf16"), ("head_dim", "128"), ("queries", "128"), ("keys", "64")];
    for v in [
        ("features", "causal"),
        ("features", "none"),
        ("cache", "ring"),
        ("cache", "paged(16)"),
        ("cache", "dense+k-q8g64+v-q8g64"),
        ("cache", "dense+k-q4g64+v-q4g64"),
        ("features", "alibi"),
        ("features", "softcap"),
        ("features", "sinks"),
        ("features", "causal+window(100,0)"),
        ("cache", "dense+tail"),
        ("features", "tree"),
        ("features", "mask"),
        ("head_dim", "72"),
        ("E", "f32"),
    ] {
        lowered("attention_forward", &[&base[..], &[v]].concat());
    }
    let split = [("E", "bf16"), ("C", "bf16"), ("head_dim", "128"), ("heads", "4"), ("queries", "1"), ("keys", "64")];
    lowered("attention_split", &split);
    lowered("attention_merge", &[("E", "bf16"), ("heads", "4"), ("queries", "1"), ("value_dim", "128")]);
    lowered("attention_classify", &[("E", "bool"), ("queries", "64"), ("keys", "64")]);
    lowered("cache_append", &[("E", "bf16"), ("tokens", "16"), ("dim", "128")]);
    lowered("cache_quantise", &[("E", "bf16"), ("tokens", "16"), ("dim", "128")]);
    lowered("cache_dequantise", &[("E", "bf16"), ("tokens", "16"), ("dim", "128")]);
}
