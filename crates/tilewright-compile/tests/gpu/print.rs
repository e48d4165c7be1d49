//! What programs look like.

use super::programs::{arguments, attention, column_sums};
use tilewright_compile::gpu::Dialect;
use tilewright_compile::gpu::print::render;
use tilewright_compile::gpu::program::Program;
use tilewright_ir::Elem;

fn text(program: &Program, dialect: Dialect) -> String {
    render(program, dialect, arguments(program)).text
}

/// Without the prelude.
fn kernel(program: &Program, dialect: Dialect) -> String {
    let text = text(program, dialect);
    let start = match dialect {
        Dialect::Cuda => "extern \"C\"",
        Dialect::Msl => "kernel void",
    };
    text[text.find(start).unwrap()..].to_string()
}

#[test]
fn a_fold_over_warps_of_a_padded_tile_in_cuda() {
    insta::assert_snapshot!(text(&column_sums(), Dialect::Cuda));
}

#[test]
fn a_fold_over_warps_of_a_padded_tile_in_metal() {
    insta::assert_snapshot!(text(&column_sums(), Dialect::Msl));
}

#[test]
fn attention_of_aligned_bf16_in_cuda() {
    insta::assert_snapshot!(kernel(&attention(Dialect::Cuda, Elem::Bf16, true), Dialect::Cuda));
}

#[test]
fn attention_of_any_f16_in_metal() {
    insta::assert_snapshot!(kernel(&attention(Dialect::Msl, Elem::F16, false), Dialect::Msl));
}

#[test]
fn only_what_the_body_uses_is_in_the_prelude() {
    let text = text(&column_sums(), Dialect::Cuda);
    assert!(text.contains("low_f16") && !text.contains("low_bf16") && !text.contains("mma_"), "{text}");
    assert!(text.contains("cuda_fp16.h") && !text.contains("cuda_bf16.h"), "{text}");
}
