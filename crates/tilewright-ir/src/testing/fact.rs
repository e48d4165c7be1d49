//! What is known of a generated value, so that a device can be compared on it.

use crate::types::Elem;

/// Floats larger than this are not generated.
const LARGEST: f64 = 16384.0;
/// A relative error that any device's `exp2`, `log2`, `tanh`, `rsqrt`, reciprocal and division keep.
pub(super) const FUNCTION_ERROR: f64 = 1.0 / 262144.0;

/// The size and the error of all elements of a value; integers and bools are always exact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    /// No element is larger in magnitude; for integers, meaningful only when at most [`Fact::INDEX`].
    pub bound: f64,
    /// How far a device may be from the interpreter.
    pub error: f64,
    /// Exact elements are multiples of this; 0 for those that are not exact.
    pub grain: f64,
}

impl Fact {
    /// An integer of any size.
    pub const INT: Fact = Fact { bound: f64::INFINITY, error: 0.0, grain: 1.0 };
    /// The size of integers that serve as places in tensors.
    pub const INDEX: f64 = 64.0;

    pub fn exact(bound: f64, grain: f64) -> Fact {
        Fact { bound, error: 0.0, grain }
    }

    pub fn is_exact(self) -> bool {
        self.grain > 0.0
    }

    /// What holds after rounding to `elem`, or keeping more digits than that; `None` when the value would be too large or
    /// too inexact to be compared.
    pub fn rounded(self, elem: Elem) -> Option<Fact> {
        let (digits, least) = match elem {
            Elem::F32 => (24, 2f64.powi(-100)),
            Elem::F16 => (11, 2f64.powi(-14)),
            Elem::Bf16 => (8, 2f64.powi(-100)),
            Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 | Elem::Bool => return Some(self),
        };
        if self.is_exact() && self.grain >= least && self.bound <= self.grain * 2f64.powi(digits) {
            return (self.bound <= LARGEST).then_some(self);
        }
        let error = self.error + self.bound * 2f64.powi(1 - digits) + least;
        let usable = self.bound <= LARGEST && error <= 0.125 * self.bound.max(1.0);
        usable.then_some(Fact { bound: self.bound, error, grain: 0.0 })
    }

    /// Of either value.
    pub fn either(self, other: Fact) -> Fact {
        Fact {
            bound: self.bound.max(other.bound),
            error: self.error.max(other.error),
            grain: self.grain.min(other.grain),
        }
    }

    pub fn sum(self, other: Fact) -> Fact {
        Fact { bound: self.bound + other.bound, error: self.error + other.error, grain: self.grain.min(other.grain) }
    }

    pub fn product(self, other: Fact) -> Fact {
        Fact {
            bound: self.bound * other.bound,
            error: self.bound * other.error + other.bound * self.error + self.error * other.error,
            grain: self.grain * other.grain,
        }
    }

    /// Of the sum of `count` values, whatever the order.
    pub fn sum_of(self, count: usize, elem: Elem) -> Option<Fact> {
        let count = count as f64;
        let sum = Fact { bound: count * self.bound, error: count * self.error, grain: self.grain };
        let rounded = sum.rounded(elem)?;
        let error = sum.error + (rounded.error - sum.error) * count;
        (error <= 0.125 * sum.bound.max(1.0)).then_some(Fact { error, ..rounded })
    }

    /// Of a function of this value with this bound and this steepest slope.
    pub fn function(self, bound: f64, slope: f64, elem: Elem) -> Option<Fact> {
        let error = self.error * slope + bound.max(1.0) * FUNCTION_ERROR;
        Fact { bound: bound + error, error, grain: 0.0 }.rounded(elem)
    }
}
