//! The flags of `tile attend`, and what their texts mean.

use super::layout::Layout;
use crate::devices::DeviceName;
use crate::quantise;
use std::path::PathBuf;
use tilewright::attention::{Bits, Group, Splits, Window};
use tilewright::prelude::Elem;

/// Computes attention over q, k and v of a safetensors file and writes o.
///
/// Tensors: q, k, v of rank 4, `[B,H,L,D]`, or 3, `[H,L,D]`; k and v may be codes instead: k.w, k.scales, k.biases,
/// read with the head dim of q, or as --kv and --group say. Optional: mask (rank 1 to 4, BOOL or U8 for what is
/// attended, floats to be added), kv_len `[B]`, sinks and alibi `[H]`, tree `[Lq,Lq]`, ring_start `[B]`; with pages
/// `[B,P]`, k and v are pages `[pages,H,L,D]`. If the file also holds o or lse, the error against them is printed, and
/// a result outside of the error bound fails.
#[derive(clap::Args, Debug)]
#[command(allow_negative_numbers = true)]
pub struct Args {
    /// The safetensors file with q, k and v.
    pub input: PathBuf,
    /// Where to write o (and lse), as safetensors.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Where to run: cpu, cuda (cuda:1 for the second GPU), metal (not tried on Apple hardware yet) or interp (slow, in f64).
    #[arg(long, default_value = "cpu")]
    pub device: DeviceName,
    /// Round q, k and v to this type first; o has it too.
    #[arg(long, value_enum)]
    pub dtype: Option<Dtype>,
    /// How q, k, v and o lie in memory.
    #[arg(long, value_enum, default_value = "bhld")]
    pub layout: Layout,
    /// What scores are multiplied by [default: 1/sqrt(head dim)].
    #[arg(long, value_name = "X", value_parser = finite)]
    pub scale: Option<f64>,
    /// Let no query see keys after its own position.
    #[arg(long)]
    pub causal: bool,
    /// Position of the first query [default: the last query sees the last key].
    #[arg(long, value_name = "N")]
    pub q_start: Option<i64>,
    /// How many keys a query sees before and after its own position: `LEFT`, `LEFT,RIGHT` or `,RIGHT`; a side left out
    /// is unlimited.
    #[arg(long, value_name = "LEFT,RIGHT", allow_hyphen_values = true, value_parser = window)]
    pub window: Option<Window>,
    /// The first N keys are inside every window.
    #[arg(long, value_name = "N", requires = "window")]
    pub window_sinks: Option<usize>,
    /// Scores become X * tanh(score / X).
    #[arg(long, value_name = "X", value_parser = finite)]
    pub softcap: Option<f64>,
    /// Encode k and v, where they are no codes yet, in the activation type [default: as the file has them].
    #[arg(long, value_enum)]
    pub kv: Option<KvFormat>,
    /// Values that share a scale and a bias in codes: 32, 64 or 128 [default: 64, or as the file's codes have them].
    #[arg(long, value_name = "N", value_parser = quantise::group)]
    pub group: Option<Group>,
    /// Shares that the keys are split into: a number, or `auto` for as many as keep the device busy.
    #[arg(long, value_name = "auto|N", value_parser = splits, default_value = "auto")]
    pub splits: Splits,
    /// Classify the tiles of the mask first, and skip those that attend nothing.
    #[arg(long)]
    pub class_map: bool,
    /// Write lse `[B,H,L]` as well: the natural logarithm of each row's softmax denominator.
    #[arg(long)]
    pub lse: bool,
    /// Say which kernel and schedule run, and why.
    #[arg(long)]
    pub explain: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What `--dtype` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Dtype {
    F32,
    F16,
    Bf16,
}

impl Dtype {
    /// The element type of this name.
    pub fn elem(self) -> Elem {
        match self {
            Dtype::F32 => Elem::F32,
            Dtype::F16 => Elem::F16,
            Dtype::Bf16 => Elem::Bf16,
        }
    }
}

/// What `--kv` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum KvFormat {
    /// As they are.
    Dense,
    /// Codes of 8 bits.
    Int8,
    /// Codes of 4 bits.
    Int4,
}

impl KvFormat {
    /// The width of its codes; `None` where there are none.
    pub fn bits(self) -> Option<Bits> {
        match self {
            KvFormat::Dense => None,
            KvFormat::Int8 => Some(Bits::Eight),
            KvFormat::Int4 => Some(Bits::Four),
        }
    }
}

fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x),
        Ok(_) => Err("a finite number is needed".to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// `LEFT`, `LEFT,RIGHT` or `,RIGHT`.
fn window(text: &str) -> Result<Window, String> {
    let side = |text: &str| match text.parse::<usize>() {
        Ok(keys) => Ok(Some(keys)),
        Err(_) => Err(format!("`{text}` is no number of keys; give `LEFT`, `LEFT,RIGHT` or `,RIGHT`, each 0 or more")),
    };
    match text.split_once(',') {
        None => Ok(Window::new(side(text)?, None)),
        Some(("", right)) => Ok(Window::new(None, side(right)?)),
        Some((left, right)) => Ok(Window::new(side(left)?, side(right)?)),
    }
}

/// `auto`, or how many.
fn splits(text: &str) -> Result<Splits, String> {
    match text.parse::<usize>() {
        Ok(n) if n > 0 => Ok(Splits::Count(n)),
        _ if text == "auto" => Ok(Splits::Auto),
        _ => Err("`auto` or a number from 1 on is needed".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_of_a_window_that_is_left_out_is_unlimited() {
        assert_eq!(window("3"), Ok(Window::new(Some(3), None)));
        assert_eq!(window("3,0"), Ok(Window::new(Some(3), Some(0))));
        assert_eq!(window(",0"), Ok(Window::new(None, Some(0))));
        for wrong in ["", ",", "3,", "-1", "-1,0", "3,-1", "3,0,1", "x", "1.5", " 3", "99999999999999999999"] {
            assert!(window(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn splits_are_counted_from_one() {
        assert_eq!(splits("auto"), Ok(Splits::Auto));
        assert_eq!(splits("7"), Ok(Splits::Count(7)));
        for wrong in ["", "0", "-1", "Auto", "1.5"] {
            assert!(splits(wrong).is_err(), "{wrong:?}");
        }
    }
}
