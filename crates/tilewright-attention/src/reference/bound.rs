//! How far a result may be from the reference.

use super::{Problem, Reference, textbook};
use tilewright_ir::Elem;

/// The error that the contract allows.
///
/// With `A` the largest `scale * sum_d |q_d k_d|` and `V` the largest `|v|` of the attended pairs:
///
/// - f32: `|o - ref| <= 2e-6 * V * max(1, A/16)`.
/// - f16, bf16: `|o - ref|` at most twice the largest error of the textbook computation over the tensor. Where the textbook
///   happens to be exact that leaves nothing, so a result is also right when it is what rounding gives of a number within
///   the f32 bound of the reference: half a unit in the last place of the reference on top of that bound.
/// - lse, always f32: `|lse - ref| <= 1e-6 * max(1, A) + 2e-7 * |ref|`. Where queries of f16 and bf16 attend over codes also twice
///   the largest error of the textbook computation, which rounds the numbers that codes stand for, unless the problem is
///   [held to](Problem::held_to) the exact ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    elem: Elem,
    /// Of o, before rounding to its type.
    f32: f64,
    /// Twice the textbook's largest error; 0 for f32.
    textbook: f64,
    /// The same of lse; 0 where the textbook rounds nothing before it.
    textbook_lse: f64,
    largest_score: f64,
}

impl Bound {
    /// The bound for results of this problem in the element type of its queries.
    pub fn of(problem: &Problem, reference: &Reference) -> Bound {
        let (mut o, mut lse) = (0.0, 0.0);
        if matches!(problem.q_elem, Elem::F16 | Elem::Bf16) {
            let textbook = textbook(problem, problem.q_elem);
            o = largest_error(&textbook.o, &reference.o);
            if problem.dequantised.is_some() {
                lse = largest_error(&textbook.lse, &reference.lse);
            }
        }
        Bound {
            elem: problem.q_elem,
            f32: 2e-6 * reference.largest_value * (reference.largest_score / 16.0).max(1.0),
            textbook: 2.0 * o,
            textbook_lse: 2.0 * lse,
            largest_score: reference.largest_score,
        }
    }

    /// The largest allowed `|o - reference|` of one element.
    pub fn o(&self, reference: f64) -> f64 {
        self.textbook.max(self.f32 + half_unit(self.elem, reference))
    }

    /// The same where the reference was itself rounded to the type: half a unit in the last place more.
    pub fn o_of_rounded(&self, reference: f64) -> f64 {
        self.o(reference) + half_unit(self.elem, reference)
    }

    /// The largest allowed `|lse - reference|` of one row.
    pub fn lse(&self, reference: f64) -> f64 {
        self.textbook_lse.max(1e-6 * self.largest_score.max(1.0) + 2e-7 * reference.abs())
    }
}

/// The largest finite difference.
fn largest_error(got: &[f64], wanted: &[f64]) -> f64 {
    let errors = got.iter().zip(wanted).map(|(x, r)| (x - r).abs());
    errors.filter(|e| e.is_finite()).fold(0.0, f64::max)
}

/// Half a unit in the last place of `x`: relative to a normal number, and absolute for subnormal ones. 0 for f32, whose
/// bound has it already.
fn half_unit(elem: Elem, x: f64) -> f64 {
    let (relative, smallest) = match elem {
        Elem::F16 => (2f64.powi(-11), 2f64.powi(-25)),
        Elem::Bf16 => (2f64.powi(-8), 2f64.powi(-134)),
        Elem::F32 | Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 | Elem::Bool => return 0.0,
    };
    (x.abs() * relative).max(smallest)
}
