//! The keys, or the values, of a file: numbers as they are, or codes.

use super::layout::Layout;
use crate::error::CliError;
use crate::tensors::{TensorFile, WORDS};
use tilewright::attention::cache::{self, CodeTensors, Codes};
use tilewright::attention::{Affine, Bits, Group, Rounding};
use tilewright::prelude::{Device, Tensor, TensorError};

/// Keys or values in the axes of the file.
pub enum Tokens {
    /// As they are.
    Dense(Tensor, Layout),
    /// As codes.
    Codes(Box<CodeTensors>, Layout),
}

/// The names of the tensors of keys or of values.
pub struct Names {
    /// As they are.
    pub dense: &'static str,
    w: &'static str,
    scales: &'static str,
    biases: &'static str,
}

/// Of keys.
pub const K: Names = Names { dense: "k", w: "k.w", scales: "k.scales", biases: "k.biases" };
/// Of values.
pub const V: Names = Names { dense: "v", w: "v.w", scales: "v.scales", biases: "v.biases" };

/// What flags say of codes.
#[derive(Clone, Copy)]
pub struct Asked {
    /// By `--kv`.
    pub bits: Option<Bits>,
    /// By `--group`.
    pub group: Option<Group>,
}

impl Names {
    /// Every name.
    pub fn all(&self) -> [&'static str; 4] {
        [self.dense, self.w, self.scales, self.biases]
    }
}

impl Asked {
    fn allows(&self, format: Affine) -> bool {
        self.bits.is_none_or(|bits| bits == format.bits) && self.group.is_none_or(|group| group == format.group)
    }

    fn flags(bits: Option<Bits>, group: Option<Group>) -> String {
        let parts = [bits.map(|bits| format!("--kv int{bits}")), group.map(|group| format!("--group {group}"))];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

impl Tokens {
    /// Reads what is there: the dense tensor, or the three of codes. `floats` reads a tensor of numbers, rounded as the
    /// flags say. The format of codes follows from their shapes where heads are `head_dim` long; else the flags say it.
    ///
    /// # Errors
    /// Neither, both, or codes that have no format or another one than the flags ask for.
    pub fn read(
        file: &TensorFile,
        names: &Names,
        layout: Layout,
        head_dim: usize,
        asked: Asked,
        mut floats: impl FnMut(&'static str) -> Result<Tensor, CliError>,
    ) -> Result<Tokens, CliError> {
        let code = [names.w, names.scales, names.biases].into_iter().find(|name| file.has(name));
        let Some(code) = code else { return Ok(Tokens::Dense(floats(names.dense)?, layout)) };
        if file.has(names.dense) {
            return Err(CliError::Both { one: names.dense.to_string(), other: code.to_string() });
        }
        let w = file.tensor(names.w, WORDS)?;
        let (scales, biases) = (floats(names.scales)?, floats(names.biases)?);
        let format = format(names, &w, &scales, head_dim, asked)?;
        Ok(Tokens::Codes(Box::new(CodeTensors { w, scales, biases, format }), layout))
    }

    /// The same tokens as codes of this format, encoded in their own type; codes stay what they are.
    ///
    /// # Errors
    /// Heads that the group does not divide; what goes wrong on the device.
    pub fn encoded(self, device: &Device, name: &'static str, format: Affine) -> Result<Tokens, CliError> {
        let Tokens::Dense(tensor, layout) = &self else { return Ok(self) };
        let undivided = |error| CliError::Quantise { name: name.to_string(), error };
        format.groups(self.dim()).map_err(undivided)?;
        let codes = cache::quantise(device, layout.view(tensor)?, format, Rounding::TiesToEven)?;
        Ok(Tokens::Codes(Box::new(codes), Layout::Bhld)) // that is how they are made
    }

    /// Seen as `[batch, heads, len, …]`.
    pub fn view(&self) -> Result<cache::Tokens<'_>, TensorError> {
        Ok(match self {
            Tokens::Dense(tensor, layout) => layout.view(tensor)?.into(),
            Tokens::Codes(codes, layout) => {
                let CodeTensors { w, scales, biases, format } = &**codes;
                let [w, scales, biases] = [layout.view(w)?, layout.view(scales)?, layout.view(biases)?];
                Codes { w, scales, biases, format: *format }.into()
            }
        })
    }

    /// Numbers of one head of one token.
    pub fn dim(&self) -> usize {
        let last = |tensor: &Tensor| tensor.shape().last().copied().unwrap_or(0);
        match self {
            Tokens::Dense(tensor, _) => last(tensor),
            Tokens::Codes(codes, _) => last(&codes.scales) * codes.format.group.size(),
        }
    }

    /// Whether they are codes.
    pub fn is_codes(&self) -> bool {
        matches!(self, Tokens::Codes(..))
    }

    /// The tensors, by name.
    pub fn tensors<'a>(&'a self, names: &Names) -> Vec<(&'static str, &'a Tensor)> {
        match self {
            Tokens::Dense(tensor, _) => vec![(names.dense, tensor)],
            Tokens::Codes(codes, _) => {
                vec![(names.w, &codes.w), (names.scales, &codes.scales), (names.biases, &codes.biases)]
            }
        }
    }
}

/// The format of codes of these shapes.
fn format(names: &Names, w: &Tensor, scales: &Tensor, head_dim: usize, asked: Asked) -> Result<Affine, CliError> {
    let last = |tensor: &Tensor| tensor.shape().last().copied().unwrap_or(0);
    let (words, groups) = (last(w), last(scales));
    let fits = |format: &Affine| groups > 0 && groups * format.words_per_group() == words;
    let fitting: Vec<Affine> = Affine::all().filter(fits).collect();
    let allowed = || fitting.iter().copied().filter(|&format| asked.allows(format));
    let of_head = |format: &Affine| groups * format.group.size() == head_dim;
    // Two formats may have as many words and groups: then heads as long as q's decide, or one is left by the flags.
    let mut left = allowed();
    if let Some(format) = allowed().find(of_head) {
        return Ok(format);
    }
    if let (Some(format), None) = (left.next(), left.next()) {
        return Ok(format);
    }
    let is = || fitting.iter().find(|&format| of_head(format)).or(fitting.first());
    match (allowed().next(), is()) {
        (None, Some(is)) => Err(CliError::Setting {
            text: Asked::flags(asked.bits, asked.group),
            wanted: format!("`{}`, which the codes of `{}` are,", Asked::flags(Some(is.bits), Some(is.group)), names.w),
        }),
        (Some(_), _) => Err(CliError::Tensor {
            name: names.w.to_string(),
            got: format!("of {words} words and {groups} groups, which several formats have"),
            wanted: "`--kv` or `--group` as they were encoded with".to_string(),
        }),
        (None, None) => Err(CliError::Tensor {
            name: names.w.to_string(),
            got: format!("of {words} words and {groups} groups"),
            wanted: "codes of 4 or 8 bits in groups of 32, 64 or 128".to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright::prelude::Elem;

    fn of(dim: usize, words: usize, groups: usize, bits: Option<Bits>) -> Result<Affine, CliError> {
        let [w, scales] = [(Elem::U32, words), (Elem::F32, groups)].map(|(e, n)| Tensor::zeros(e, &[1, 1, n]).unwrap());
        format(&K, &w, &scales, dim, Asked { bits, group: None })
    }

    #[test]
    fn the_format_of_codes_follows_from_their_shapes() {
        for format in Affine::all() {
            let dim = 256;
            let (words, groups) = (format.words(dim).unwrap(), format.groups(dim).unwrap());
            assert_eq!(of(dim, words, groups, None).unwrap(), format);
            assert_eq!(of(dim, words, groups, Some(format.bits)).unwrap(), format);
        }
    }

    #[test]
    fn another_head_dim_needs_a_flag_where_two_formats_fit() {
        let q4g64 = Affine { bits: Bits::Four, group: Group::Of64 };
        assert!(matches!(of(16, 8, 1, None), Err(CliError::Tensor { .. })));
        assert_eq!(of(16, 8, 1, Some(Bits::Four)).unwrap(), q4g64);
        assert!(matches!(of(64, 4, 1, Some(Bits::Eight)), Err(CliError::Setting { .. })));
        assert!(matches!(of(64, 5, 1, None), Err(CliError::Tensor { .. })));
        assert!(matches!(of(64, 0, 0, None), Err(CliError::Tensor { .. })));
    }
}
