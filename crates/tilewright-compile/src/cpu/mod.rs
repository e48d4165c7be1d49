//! The CPU program of a kernel.
//!
//! A tile value lives as 32-bit *lanes* in one arena that stays in cache: floats as f32 (f16 and bf16 values exactly),
//! integers as 32 bits, bool as all ones or all zeros. Scalars are tiles of one lane. Elementwise ops and reductions along
//! the last axis over the same rows run fused, block of rows by block of rows ([`VectorLoop`]); products go to packed
//! panels and a register-blocked microkernel ([`Dot`]).
//!
//! - `program`: the data that the device executes, and `print`, its text
//! - `forms`: which values are needed as plain lanes and which as packed panels
//! - `rows`: which right operands of products are read where they lie, or decoded
//! - `units`: which instructions run together, in which order
//! - `weights`: what of a fused loop is the weights of a softmax
//! - `masked`: what of it is the scores, with bias and mask
//! - `lower` and `vector`: where each value lives, the steps, and the micro-ops of a fused loop

mod arena;
mod forms;
mod lower;
mod masked;
mod print;
mod program;
mod rows;
mod units;
mod vector;
mod weights;

pub use lower::{MAX_LANES, TooLarge, lane_bits, lower};
pub use program::*;
