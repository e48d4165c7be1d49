//! The numbers of the quantised cache's format: how many codes, words and groups a head vector has.

use std::fmt;
use std::str::FromStr;
use tilewright_ir::Elem;
use tilewright_lang::SpecValue;

/// Bits of one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bits {
    /// 16 levels, 8 codes a word.
    Four,
    /// 256 levels, 4 codes a word.
    Eight,
}

/// How many consecutive values of one head vector share a scale and a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// 32 values.
    Of32,
    /// 64 values.
    Of64,
    /// 128 values.
    Of128,
}

/// Where the encoder rounds a number that lies halfway between two integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rounding {
    /// To the even one: canonical, what MLX does on the CPU. Its text form is `even`.
    TiesToEven,
    /// To the one farther from zero, what MLX does on GPUs. Its text form is `away`.
    Away,
}

/// The affine format: `x ~ scale * code + bias`, one scale and one bias a group. Its text form is `q4g64` for 4 bits in
/// groups of 64.
///
/// A head vector of `dim` values is `dim * bits / 32` words of u32 and `dim / group` scales and biases in the
/// activation type. Code `i` stands in word `i / codes_per_word` at bit `bits * (i mod codes_per_word)`.
///
/// # Source
/// The `affine` mode of MLX's `quantize` (Apple, <https://github.com/ml-explore/mlx>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Affine {
    /// Bits of one code.
    pub bits: Bits,
    /// Values that share a scale and a bias.
    pub group: Group,
}

/// What a quantised format cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// A length that the group does not divide.
    #[error("{length} values do not divide into groups of {group}; {}", nearest_group(*.length))]
    Length {
        /// Values, or the head dim.
        length: usize,
        /// Values of one group.
        group: usize,
    },
    /// An activation type that is no float.
    #[error("values of {got} cannot be quantised; the activation type is f32, f16 or bf16")]
    Element {
        /// As given.
        got: Elem,
    },
    /// Words, scales and biases that do not belong together.
    #[error(
        "{scales} groups of {format} have {wanted} words and {scales} biases; here are {words} words and {biases} biases"
    )]
    Parts {
        /// The format.
        format: Affine,
        /// Scales given.
        scales: usize,
        /// Biases given.
        biases: usize,
        /// Words given.
        words: usize,
        /// Words that so many groups have.
        wanted: usize,
    },
    /// A text that names no format.
    #[error("`{text}` names no quantised format; it is q4 or q8, then g32, g64 or g128, as in q4g64")]
    Format {
        /// As given.
        text: String,
    },
    /// A text that names no rounding.
    #[error("`{text}` names no rounding; it is `even` or `away`")]
    Rounding {
        /// As given.
        text: String,
    },
}

impl Bits {
    /// Every width.
    pub const ALL: [Bits; 2] = [Bits::Four, Bits::Eight];

    /// 4 or 8.
    pub const fn width(self) -> usize {
        match self {
            Bits::Four => 4,
            Bits::Eight => 8,
        }
    }

    /// The largest code, `2^bits - 1`; as a mask, the bits of one code.
    pub const fn largest(self) -> u32 {
        (1 << self.width()) - 1
    }

    /// Codes in one u32.
    pub const fn codes_per_word(self) -> usize {
        32 / self.width()
    }
}

impl Group {
    /// Every size.
    pub const ALL: [Group; 3] = [Group::Of32, Group::Of64, Group::Of128];

    /// 32, 64 or 128.
    pub const fn size(self) -> usize {
        match self {
            Group::Of32 => 32,
            Group::Of64 => 64,
            Group::Of128 => 128,
        }
    }
}

impl Rounding {
    /// Every rounding.
    pub const ALL: [Rounding; 2] = [Rounding::TiesToEven, Rounding::Away];
}

impl Affine {
    /// Every format.
    pub fn all() -> impl Iterator<Item = Affine> {
        Bits::ALL.into_iter().flat_map(|bits| Group::ALL.into_iter().map(move |group| Affine { bits, group }))
    }

    /// Groups of so many consecutive values, such as a head vector: as many scales and as many biases.
    ///
    /// # Errors
    /// [`QuantError::Length`] where the group does not divide the length.
    pub fn groups(self, length: usize) -> Result<usize, QuantError> {
        let group = self.group.size();
        if length.is_multiple_of(group) { Ok(length / group) } else { Err(QuantError::Length { length, group }) }
    }

    /// Words of u32 that hold the codes of so many consecutive values.
    ///
    /// # Errors
    /// [`QuantError::Length`] where the group does not divide the length.
    pub fn words(self, length: usize) -> Result<usize, QuantError> {
        Ok(self.groups(length)? * self.words_per_group())
    }

    /// Words of u32 that hold the codes of one group.
    pub const fn words_per_group(self) -> usize {
        self.group.size() / self.bits.codes_per_word()
    }
}

/// The next step for a length that a group does not divide.
fn nearest_group(length: usize) -> &'static str {
    match length {
        n if n.is_multiple_of(64) => "groups of 64 fit",
        n if n.is_multiple_of(32) => "groups of 32 fit",
        _ => "no group fits, so keep these values in the activation type",
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.width())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.size())
    }
}

impl fmt::Display for Affine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "q{}g{}", self.bits, self.group)
    }
}

impl FromStr for Affine {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<Affine, QuantError> {
        Affine::all()
            .find(|format| format.to_string() == text)
            .ok_or_else(|| QuantError::Format { text: text.to_string() })
    }
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rounding::TiesToEven => "even",
            Rounding::Away => "away",
        })
    }
}

impl FromStr for Rounding {
    type Err = QuantError;

    fn from_str(text: &str) -> Result<Rounding, QuantError> {
        let found = Rounding::ALL.into_iter().find(|rounding| rounding.to_string() == text);
        found.ok_or_else(|| QuantError::Rounding { text: text.to_string() })
    }
}

macro_rules! by_text {
    ($($ty:ty),*) => { $(
        impl SpecValue for $ty {
            fn key(&self, into: &mut String) {
                into.push_str(&self.to_string());
            }

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error: QuantError| error.to_string())
            }
        }
    )* };
}

by_text!(Affine, Rounding);
