//! Results against the reference, one element after the other.

use super::{Bound, Reference};

/// A comparison in which every element was within its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Elements compared, of o and lse together; never 0.
    pub compared: usize,
    /// The largest `|o - reference|`.
    pub error: f64,
    /// The bound of the element of o that came nearest to its bound.
    pub bound: f64,
    /// The largest `error / bound` of any element of o or lse; at most 1.
    pub share: f64,
    /// The largest `|lse - reference|`, when lse was given.
    pub lse_error: Option<f64>,
}

/// A result that is wrong, or that cannot be compared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// There was nothing to compare.
    #[error("nothing was compared: the outputs have no elements")]
    Empty,
    /// The tensors have different sizes.
    #[error("{tensor} has {got} elements and the reference {wanted}")]
    Length {
        /// `o` or `lse`.
        tensor: &'static str,
        /// Elements of the result.
        got: usize,
        /// Elements of the reference.
        wanted: usize,
    },
    /// An element is too far from the reference.
    #[error("{tensor}[{index}] is {got:e} and the reference {wanted:e}: error {:e}, allowed {bound:e}", (got - wanted).abs())]
    Element {
        /// `o` or `lse`.
        tensor: &'static str,
        /// In row-major order.
        index: usize,
        /// The result.
        got: f64,
        /// The reference.
        wanted: f64,
        /// The largest allowed difference.
        bound: f64,
    },
}

/// One tensor beside what it should be, whether or not it is that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elements {
    /// Elements compared.
    pub compared: usize,
    /// Elements of the result and of what it should be.
    pub lengths: [usize; 2],
    /// The largest difference; NaN where one of the two is NaN and the other is not.
    pub error: f64,
    /// The allowed difference of the element that came nearest to its own, or went furthest past it.
    pub bound: f64,
    /// That element's difference as a part of its bound; NaN where the difference is.
    pub share: f64,
    /// Elements whose difference is larger than allowed.
    pub misses: usize,
    /// The first of them.
    pub first_miss: Option<Miss>,
}

/// An element that is too far from what it should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Miss {
    /// In row-major order.
    pub index: usize,
    /// The result.
    pub got: f64,
    /// What it should be.
    pub wanted: f64,
    /// The largest allowed difference.
    pub bound: f64,
}

impl Elements {
    /// Whether every element is within its bound, and there is one.
    pub fn hold(&self) -> bool {
        self.compared > 0 && self.misses == 0 && self.lengths[0] == self.lengths[1]
    }

    /// With the elements of another part of the tensor, which starts at `start`.
    pub(crate) fn and(self, other: Elements, start: usize) -> Elements {
        let nearer = self.compared == 0 || other.share.is_nan() || other.share > self.share;
        let (bound, share) = if nearer { (other.bound, other.share) } else { (self.bound, self.share) };
        let worse = other.error.is_nan() || other.error > self.error;
        let [got, wanted] = self.lengths;
        Elements {
            compared: self.compared + other.compared,
            lengths: [got + other.lengths[0], wanted + other.lengths[1]],
            error: if worse { other.error } else { self.error },
            bound,
            share,
            misses: self.misses + other.misses,
            first_miss: self.first_miss.or(other.first_miss.map(|miss| Miss { index: start + miss.index, ..miss })),
        }
    }

    pub(crate) fn refuse(self, tensor: &'static str) -> Result<Elements, Mismatch> {
        match (self.lengths, self.first_miss) {
            ([got, wanted], _) if got != wanted => Err(Mismatch::Length { tensor, got, wanted }),
            (_, Some(Miss { index, got, wanted, bound })) => {
                Err(Mismatch::Element { tensor, index, got, wanted, bound })
            }
            (_, None) => Ok(self),
        }
    }
}

/// Compares `o` (and `lse`, where there is one) with the reference. NaN matches only NaN, an infinity only itself.
///
/// # Errors
/// The first element out of bounds, sizes that differ, and a comparison of nothing.
pub fn compare(o: &[f64], lse: Option<&[f64]>, reference: &Reference, bound: &Bound) -> Result<Comparison, Mismatch> {
    let o = compare_elements(o, &reference.o, |r| bound.o(r)).refuse("o")?;
    let lse = match lse {
        Some(lse) => Some(compare_elements(lse, &reference.lse, |r| bound.lse(r)).refuse("lse")?),
        None => None,
    };
    let compared = o.compared + lse.map_or(0, |lse| lse.compared);
    if compared == 0 {
        return Err(Mismatch::Empty);
    }
    Ok(Comparison {
        compared,
        error: o.error,
        bound: o.bound,
        share: lse.map_or(0.0, |lse| lse.share).max(o.share),
        lse_error: lse.map(|lse| lse.error),
    })
}

/// Each element within `allowed` of what it should be. NaN matches only NaN, and an infinity only itself.
pub fn compare_elements(got: &[f64], wanted: &[f64], allowed: impl Fn(f64) -> f64) -> Elements {
    let lengths = [got.len(), wanted.len()];
    let mut all = Elements { compared: 0, lengths, error: 0.0, bound: 0.0, share: 0.0, misses: 0, first_miss: None };
    let mut bounded = false;
    for (index, (&got, &wanted)) in got.iter().zip(wanted).enumerate() {
        all.compared += 1;
        let same = got == wanted || (got.is_nan() && wanted.is_nan());
        if same && !wanted.is_finite() {
            continue; // it has no bound
        }
        let bound = if wanted.is_finite() { allowed(wanted) } else { 0.0 };
        let error = if same { 0.0 } else { (got - wanted).abs() };
        let share = if same { 0.0 } else { error / bound };
        let within = error <= bound; // false for NaN
        if !within {
            all.misses += 1;
            all.first_miss = all.first_miss.or(Some(Miss { index, got, wanted, bound }));
        }
        // Once NaN, always NaN.
        if error.is_nan() || error > all.error {
            all.error = error;
        }
        if !bounded || share.is_nan() || share > all.share {
            (all.bound, all.share, bounded) = (bound, share, true);
        }
    }
    all
}
