//! From the tensors of a file to those of an attention call.

use super::args::Args;
use super::layout::Layout;
use super::tokens::{Asked, K, Tokens, V};
use crate::error::CliError;
use crate::output;
use crate::tensors::{BITS, CELLS, FLOATS, SINGLES, TensorFile, describe, rounded};
use std::sync::Arc;
use tilewright::attention::{Affine, Group, Mask, Tree};
use tilewright::prelude::{Device, Elem, Tensor, TensorError, TensorView};

/// Tensors that an attention call takes, beside keys and values.
const INPUTS: [&str; 8] = ["q", "kv_len", "mask", "sinks", "alibi", "ring_start", "tree", "pages"];
/// Tensors that its results are compared with.
const EXPECTED: [&str; 2] = ["o", "lse"];

/// The tensors of one attention call, as they lie in the file.
pub struct Inputs {
    q: Tensor,
    layout: Layout,
    /// Keys, `[batch, kv_heads, capacity, head_dim]`, or pages of them.
    pub k: Tokens,
    /// Values, the same with `value_dim`.
    pub v: Tokens,
    /// Valid keys of each batch entry.
    pub kv_len: Option<Vec<i32>>,
    /// The slot of the oldest token of each batch entry.
    pub ring_start: Option<Vec<i32>>,
    /// The page numbers of each batch entry, row after row.
    pub pages: Option<Vec<i32>>,
    /// Which pairs are attended, or what is added to their scores.
    pub mask: Option<Mask>,
    /// Which drafts each query sees.
    pub tree: Option<Tree>,
    /// A sink logit for each query head.
    pub sinks: Option<Arc<Tensor>>,
    /// A slope for each query head.
    pub alibi: Option<Arc<Tensor>>,
    /// `o` of the file, in the layout of q.
    pub expected_o: Option<Tensor>,
    /// `lse` of the file.
    pub expected_lse: Option<Tensor>,
    /// Whether q, k or v were rounded to a narrower type on the way in, or encoded.
    pub rounded: bool,
}

impl Inputs {
    /// Reads what the call needs, and refuses every tensor that it does not know.
    ///
    /// # Errors
    /// Missing, unknown or misshapen tensors, other element types, and flags that do not fit what is there.
    pub fn read(args: &Args) -> Result<Inputs, CliError> {
        let (layout, file) = (args.layout, TensorFile::read(&args.input)?);
        file.names().try_for_each(known)?;
        if file.has("ring_start") && file.has("pages") {
            return Err(CliError::Both { one: "ring_start".to_string(), other: "pages".to_string() });
        }

        let mut narrowed = false;
        let mut floats = |name| {
            let tensor = file.tensor(name, FLOATS)?;
            let Some(to) = args.dtype.map(|dtype| dtype.elem()) else { return Ok(tensor) };
            narrowed |= to != Elem::F32 && to != tensor.elem();
            narrow(name, tensor, to)
        };
        let q = floats("q")?;
        let asked = Asked { bits: args.kv.and_then(|kv| kv.bits()), group: args.group };
        let head_dim = q.shape().last().copied().unwrap_or(0);
        let [k, v] = [&K, &V].map(|names| Tokens::read(&file, names, layout, head_dim, asked, &mut floats));
        let (k, v) = (k?, v?);
        ranks(&q, &k, &v, file.has("pages"), layout)?;
        flags(args, asked, &k, &v)?;

        let [batch, _, q_len, _] = layout.shape(q.shape());
        let optional = |name, kinds| file.has(name).then(|| file.tensor(name, kinds)).transpose();
        let numbers = |name, shape: &[Option<usize>]| file.has(name).then(|| file.integers(name, shape)).transpose();
        let keys = |name| numbers(name, &[Some(batch)])?.map(|numbers| of_keys(name, &numbers)).transpose();
        let mut inputs = Inputs {
            kv_len: keys("kv_len")?,
            ring_start: keys("ring_start")?,
            // Entries past `kv_len` may hold anything, also what no page number is; plans refuse
            // those that count.
            pages: numbers("pages", &[Some(batch), None])?
                .map(|pages| pages.into_iter().map(|n| n.clamp(i32::MIN.into(), i32::MAX.into()) as i32).collect()),
            mask: optional("mask", CELLS)?.map(Mask::new).transpose().map_err(CliError::Refused)?,
            tree: optional("tree", BITS)?
                .map(|bits| shaped("tree", bits, &[q_len, q_len]).and_then(|b| Tree::new(b).map_err(CliError::Refused)))
                .transpose()?,
            sinks: optional("sinks", SINGLES)?.map(Arc::new),
            alibi: optional("alibi", SINGLES)?.map(Arc::new),
            expected_o: None,
            expected_lse: None,
            rounded: narrowed,
            q,
            layout,
            k,
            v,
        };
        let heads = [inputs.logical_q()[1]];
        for (name, tensor) in [("sinks", &inputs.sinks), ("alibi", &inputs.alibi)] {
            tensor.as_ref().map(|tensor| fits(name, tensor, &heads)).transpose()?;
        }
        let expected =
            |name, shape: &[usize]| optional(name, FLOATS)?.map(|tensor| shaped(name, tensor, shape)).transpose();
        inputs.expected_o = expected("o", &inputs.o_shape())?;
        inputs.expected_lse = expected("lse", &inputs.lse_shape())?;
        Ok(inputs)
    }

    /// With keys and values as `--kv` says: those that are no codes yet become codes, in groups of 64 unless `--group`
    /// says otherwise.
    ///
    /// # Errors
    /// Heads that the group does not divide; what goes wrong on the device.
    pub fn encoded(self, args: &Args, device: &Device) -> Result<Inputs, CliError> {
        let Some(bits) = args.kv.and_then(|kv| kv.bits()) else { return Ok(self) };
        let format = Affine { bits, group: args.group.unwrap_or(Group::Of64) };
        let rounded = self.rounded || !self.k.is_codes() || !self.v.is_codes();
        let (k, v) = (self.k.encoded(device, K.dense, format)?, self.v.encoded(device, V.dense, format)?);
        Ok(Inputs { k, v, rounded, ..self })
    }

    /// Queries `[batch, q_heads, q_len, head_dim]`.
    pub fn q(&self) -> Result<TensorView<'_>, TensorError> {
        self.layout.view(&self.q)
    }

    /// How q and o lie.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The shape of `o` in the file: rank and layout of q, the last axis of v.
    pub fn o_shape(&self) -> Vec<usize> {
        let mut shape = self.q.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.v.dim();
        }
        shape
    }

    /// The shape of `lse` in the file: `[B,H,L]`, or `[H,L]` where q has rank 3.
    pub fn lse_shape(&self) -> Vec<usize> {
        self.logical_q()[4 - self.q.shape().len()..3].to_vec() // q has rank 3 or 4
    }

    /// The shape of q as `[batch, q_heads, q_len, head_dim]`.
    pub fn logical_q(&self) -> [usize; 4] {
        self.layout.shape(self.q.shape())
    }
}

fn known(name: &str) -> Result<(), CliError> {
    let all = [&INPUTS[..], &EXPECTED, &K.all(), &V.all()];
    match all.iter().any(|names| names.contains(&name)) {
        true => Ok(()),
        false => Err(CliError::UnknownTensor { name: name.to_string() }),
    }
}

/// `tensor` in another type, with a warning where its numbers overflow it.
fn narrow(name: &str, tensor: Tensor, to: Elem) -> Result<Tensor, CliError> {
    let Some(rounded) = rounded(&tensor, to)? else { return Ok(tensor) };
    let infinite = |t: &Tensor| t.to_f64().into_iter().filter(|x| x.is_infinite()).count();
    let overflowed = infinite(&rounded) - infinite(&tensor); // rounding keeps infinities
    if overflowed > 0 {
        output::warn(format!("{overflowed} of the numbers of `{name}` are too large for {to} and become infinite"));
    }
    Ok(rounded)
}

/// q has rank 3 or 4; keys and values have the same, or 4 where they are pages.
fn ranks(q: &Tensor, k: &Tokens, v: &Tokens, paged: bool, layout: Layout) -> Result<(), CliError> {
    let rank = q.shape().len();
    let cache = k.tensors(&K).into_iter().chain(v.tensors(&V)).map(|(name, tensor)| (name, tensor, paged));
    for (name, tensor, paged) in std::iter::once(("q", q, false)).chain(cache) {
        let wanted = match tensor.shape().len() {
            4 if paged => continue,
            _ if paged => "rank 4, pages,".to_string(),
            got @ (3 | 4) if got == rank => continue,
            3 | 4 => format!("the rank of q, {rank},"),
            _ => match layout {
                Layout::Bhld => "[B,H,L,D] or [H,L,D]".to_string(),
                Layout::Blhd => "[B,L,H,D] or [L,H,D]".to_string(),
            },
        };
        return Err(CliError::Tensor { name: name.to_string(), got: describe(tensor), wanted });
    }
    Ok(())
}

/// Flags that say something of codes need some, and `--kv dense` none.
fn flags(args: &Args, asked: Asked, k: &Tokens, v: &Tokens) -> Result<(), CliError> {
    let codes = k.is_codes() || v.is_codes();
    let refuse = |text: String, wanted: &str| Err(CliError::Setting { text, wanted: wanted.to_string() });
    match (asked, args.kv) {
        (Asked { bits: None, .. }, Some(_)) if codes => refuse("--kv dense".to_string(), "a file without codes"),
        (Asked { bits: None, group: Some(group) }, _) if !codes => {
            refuse(format!("--group {group}"), "`--kv int8`, `--kv int4` or a file with codes")
        }
        _ => Ok(()),
    }
}

/// Numbers that count keys or slots.
fn of_keys(name: &str, numbers: &[i64]) -> Result<Vec<i32>, CliError> {
    let narrow = |(at, &x): (usize, &i64)| {
        let wrong = || CliError::Tensor {
            name: name.to_string(),
            got: format!("{x} at [{at}]"),
            wanted: "a number of keys".to_string(),
        };
        i32::try_from(x).map_err(|_| wrong())
    };
    numbers.iter().enumerate().map(narrow).collect()
}

fn shaped(name: &str, tensor: Tensor, wanted: &[usize]) -> Result<Tensor, CliError> {
    fits(name, &tensor, wanted).map(|()| tensor)
}

fn fits(name: &str, tensor: &Tensor, wanted: &[usize]) -> Result<(), CliError> {
    if tensor.shape() == wanted {
        return Ok(());
    }
    let (got, wanted) = (describe(tensor), format!("shape {wanted:?}"));
    Err(CliError::Tensor { name: name.to_string(), got, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_meaning_are_read() {
        for name in ["q", "k", "v", "kv_len", "o", "lse", "mask", "sinks", "alibi", "ring_start", "tree", "pages"] {
            assert!(known(name).is_ok(), "{name}");
        }
        for name in ["k.w", "k.scales", "k.biases", "v.w", "v.scales", "v.biases"] {
            assert!(known(name).is_ok(), "{name}");
        }
        for name in ["Q", "query", "k.", "k.weight", "q.w", "kvlen", "o.w", ""] {
            assert!(matches!(known(name), Err(CliError::UnknownTensor { .. })), "{name}");
        }
    }
}
