//! The text form of kernels: what `tile inspect` shows, and what test files hold.
//!
//! ```text
//! kernel scale(x: view<f32, 1>, factor: f32, out y: view<f32, 1>) {
//!   %0: i32 = program_id axis=0                       @ "scale.rs":4:13
//!   %1: f32[8] = load %x, %0 shape=[8]                @ "scale.rs":5:13
//!   %2: f32[8] = mul %1, %factor                      @ "math.rs":9:5 in scaled from "scale.rs":6:13
//!   store %y, %2, %0
//! }
//! ```
//!
//! An instruction is: its results with their types, the op, its operands, its attributes, where it was written, and its
//! regions in braces, the second one after `else`. A region may start with its arguments in parentheses and end with
//! `yield`. When printed, values are numbered in the order in which they appear; in hand-written text a value may have any
//! name, types of results and places may be left out, and `//` starts a comment. Names that are no identifiers stand in
//! double quotes.

mod lex;
mod parse;
mod print;

pub use parse::parse;

/// Whether a name can stand without quotes.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
}

/// What tells values apart: `%1` and `%"1"` are different ones, `%x` and `%"x"` are one.
fn key(quoted: String) -> String {
    if is_plain(&quoted) { quoted } else { format!("\"{quoted}") }
}

#[cfg(test)]
mod tests;
