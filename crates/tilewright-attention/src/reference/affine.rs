//! The quantised cache's encoding and decoding, one value at a time as the contract writes them: what the kernels are
//! compared with, bit by bit.

use crate::quant::{Affine, QuantError, Rounding};
use tilewright_ir::Elem;

/// Groups of values as the cache stores them, in the order of the values.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The codes, as many words a group as the format says.
    pub words: Vec<u32>,
    /// One a group, a value of the activation type.
    pub scales: Vec<f64>,
    /// One a group, a value of the activation type.
    pub biases: Vec<f64>,
}

/// Encodes consecutive values, which are rounded to `elem` first. All arithmetic after that is f32; scales and biases
/// are rounded to `elem` at the end, after the codes are made.
///
/// A code that would be NaN is 0: of a NaN value, and of a constant group of about 3e31 and more, whose scale comes out
/// as 0.
///
/// # Errors
/// [`QuantError::Length`] where the group does not divide the length, [`QuantError::Element`] where `elem` is no float.
pub fn encode(values: &[f32], elem: Elem, format: Affine, rounding: Rounding) -> Result<Encoded, QuantError> {
    if !elem.is_float() {
        return Err(QuantError::Element { got: elem });
    }
    let groups = format.groups(values.len())?;
    let mut out = Encoded {
        words: Vec::with_capacity(groups * format.words_per_group()),
        scales: Vec::with_capacity(groups),
        biases: Vec::with_capacity(groups),
    };
    let round = match rounding {
        Rounding::TiesToEven => f32::round_ties_even,
        Rounding::Away => f32::round,
    };
    let largest = format.bits.largest() as f32;
    let values: Vec<f32> = values.iter().map(|&x| elem.nearest(x.into()) as f32).collect();
    for group in values.chunks(format.group.size()) {
        let w_min = group.iter().copied().fold(f32::INFINITY, f32::min);
        let w_max = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut scale = ((w_max - w_min) / largest).max(1e-7);
        let edge = if w_min.abs() > w_max.abs() {
            w_min
        } else {
            scale = -scale;
            w_max
        };
        // Snapping makes zero a code of its own wherever the group spans it.
        let at_zero = round(edge / scale);
        let mut bias = 0.0;
        if at_zero != 0.0 {
            scale = edge / at_zero;
            bias = edge;
        }
        let code = |x: f32| round((x - bias) / scale).clamp(0.0, largest) as u32;
        for codes in group.chunks(format.bits.codes_per_word()) {
            let at = |i: usize| format.bits.width() * i;
            out.words.push(codes.iter().enumerate().fold(0, |word, (i, &x)| word | code(x) << at(i)));
        }
        out.scales.push(elem.nearest(scale.into()));
        out.biases.push(elem.nearest(bias.into()));
    }
    Ok(out)
}

/// The number that a code stands for in a dequantised cache, `T(T(code * scale) + bias)`: f64 has enough digits that what it
/// loses of the sum changes no bit of `elem`.
pub(super) fn dequantised(code: u32, scale: f64, bias: f64, elem: Elem) -> f64 {
    elem.nearest(elem.nearest(f64::from(code) * scale) + bias)
}

/// The values of codes in the canonical mode: the product is rounded to `elem`, and then the sum.
///
/// A group of f16 that spans more than 65504 overflows in the product and gives infinities, as in MLX.
///
/// # Errors
/// [`QuantError::Parts`] where words, scales and biases are not of the same number of groups, [`QuantError::Element`]
/// where `elem` is no float.
pub fn decode(encoded: &Encoded, elem: Elem, format: Affine) -> Result<Vec<f64>, QuantError> {
    if !elem.is_float() {
        return Err(QuantError::Element { got: elem });
    }
    let Encoded { words, scales, biases } = encoded;
    let wanted = scales.len() * format.words_per_group();
    if words.len() != wanted || biases.len() != scales.len() {
        let (scales, biases, words) = (scales.len(), biases.len(), words.len());
        return Err(QuantError::Parts { format, scales, biases, words, wanted });
    }
    let mut out = Vec::with_capacity(scales.len() * format.group.size());
    for ((words, scale), bias) in words.chunks(format.words_per_group()).zip(scales).zip(biases) {
        for word in words {
            for i in 0..format.bits.codes_per_word() {
                let code = word >> (format.bits.width() * i) & format.bits.largest();
                out.push(dequantised(code, *scale, *bias, elem));
            }
        }
    }
    Ok(out)
}
