//! From tile IR to what a device runs.
//!
//! [`pass`] holds the passes from IR to IR, in the order in which they run; [`cpu`] lowers the result to the program that
//! the CPU device executes.

pub mod cpu;
pub mod gpu;
pub mod pass;
