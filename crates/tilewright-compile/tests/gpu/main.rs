//! The GPU printer, its barriers and its plan of shared memory, on programs built by hand.

mod barriers;
mod print;
mod programs;
