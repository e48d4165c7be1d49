//! Rows for bf16 on processors that multiply tiles of it (AMX). Products are so fast there that packing keys and values and moving sums
//! weigh more: larger tiles do both less often. The row of larger dims was not measured.
//!
//! Figures are of two cores of a Sapphire Rapids server that other programs use too (bench/README.md).

use super::Row;

/// As [`super::TABLE`].
pub(super) const TABLE: [Row; 2] = [
    // prefill_h16_d128_2048/bf16: 666 GFLOP/s
    // prefill_h8_d64_1024/bf16: 451 GFLOP/s
    Row { max_dim: 256, queries: 256, shared: Some(64), keys: 256, decode: 256, decode_pages: 512 },
    Row { max_dim: usize::MAX, queries: 128, shared: None, keys: 128, decode: 128, decode_pages: 128 },
];
