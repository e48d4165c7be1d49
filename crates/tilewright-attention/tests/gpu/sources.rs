//! The text that GPUs get, for a person to read. After a change of the compiler or of a tuned schedule, accept it with
//! `INSTA_UPDATE=always cargo test -p tilewright-attention --test gpu sources` (or `cargo insta accept`) and read the diff.

use super::{source, tuned};
use tilewright_compile::gpu::{Dialect, Target};

const SM_90: Target = Target { dialect: Dialect::Cuda, compute: 90, shared_bytes: 227 << 10 };
const METAL: Target = Target { dialect: Dialect::Msl, compute: 0, shared_bytes: 32 << 10 };

/// What a kernel with these values is compiled to, under a line that says which it is.
fn text(target: Target, kernel: &str, values: &[(&str, &str)]) -> String {
    let tuned = tuned(kernel, values, &target).expect("what the planner serves");
    let source = source(kernel, &tuned, &target).expect("a source");
    let values: Vec<String> = tuned.text.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let work = tuned.work.map_or("as the compiler chooses".to_string(), |work| work.to_string());
    let (values, threads, shared) = (values.join(" "), source.threads, source.shared_bytes);
    format!("// {values}\n// work: {work}; {threads} threads, {shared} bytes of shared memory\n{}", source.text)
}

#[test]
fn prefill_with_a_causal_mask() {
    let values = [("E", "bf16"), ("C", "bf16"), ("features", "causal")];
    insta::assert_snapshot!("forward_causal_bf16_d128_sm90", text(SM_90, "attention_forward", &values));
}

#[test]
fn decode_over_pages() {
    let values = [("E", "bf16"), ("C", "bf16"), ("cache", "paged(64)"), ("features", "causal")];
    insta::assert_snapshot!("split_paged_bf16_d128_sm90", text(SM_90, "attention_split", &values));
}

#[test]
fn decode_over_codes() {
    let values = [("E", "bf16"), ("C", "bf16"), ("cache", "dense+k-q4g64+v-q8g64"), ("keys", "32")];
    insta::assert_snapshot!("split_codes_bf16_d128_sm90", text(SM_90, "attention_split", &values));
}

#[test]
fn codes_back_to_numbers() {
    insta::assert_snapshot!("dequantise_f16_q8_sm90", text(SM_90, "cache_dequantise", &[]));
}

#[test]
fn prefill_in_f32() {
    insta::assert_snapshot!("forward_f32_d64_sm90", text(SM_90, "attention_forward", &[("head_dim", "64")]));
}

#[test]
fn prefill_on_an_apple_gpu() {
    let values = [("E", "f16"), ("C", "f16"), ("head_dim", "64")];
    insta::assert_snapshot!("forward_f16_d64_metal", text(METAL, "attention_forward", &values));
}

#[test]
fn cells_of_a_mask_are_read_two_at_a_time() {
    let values = [("E", "bf16"), ("C", "bf16"), ("features", "mask(bool,q)")];
    let text = text(SM_90, "attention_forward", &values);
    assert!(text.contains("*(const unsigned short*)(mask + offset)"), "{text}");
}

#[test]
fn a_soft_cap_has_a_way_for_small_scores() {
    for (target, types) in [(SM_90, "bf16"), (METAL, "f16")] {
        let values = [("E", types), ("C", types), ("head_dim", "64"), ("features", "softcap")];
        let text = text(target, "attention_forward", &values);
        assert!(text.contains("= tanh_coarse(") && text.contains("= tanh_near("), "{text}");
    }
}
