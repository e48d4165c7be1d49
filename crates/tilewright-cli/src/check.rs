//! Results beside what the input file says that they should be.

use crate::attend::Inputs;
use crate::error::CliError;
use crate::output::{BAD, GOOD, paint};
use serde::Serialize;
use tilewright::attention::reference::{self, Bound, Elements, Problem, compare_elements};
use tilewright::prelude::{Attention, Tensor};

/// One result compared with what it should be, element by element.
#[derive(Serialize)]
pub struct Check {
    /// `o` or `lse`.
    pub tensor: &'static str,
    /// `file`: the tensor of the input file. `f64`: attention computed in f64 on the rounded inputs.
    pub against: &'static str,
    /// Elements compared; a check of none does not hold.
    pub compared: usize,
    /// The largest difference; NaN where one of the two is NaN and the other is not.
    pub error: f64,
    /// The allowed difference of the element that came nearest to it, or went furthest past it.
    pub bound: f64,
    /// Elements whose difference is larger than allowed.
    pub misses: usize,
    /// Whether every element is within its bound.
    pub holds: bool,
}

/// Compares the results with the `o` and `lse` of the file. Where the file's tensor has another type than the result,
/// or the inputs were rounded on the way in, the f64 reference on the rounded inputs takes its place.
///
/// # Errors
/// What the reference refuses; a miss is none.
pub fn check(
    inputs: &Inputs,
    request: &Attention<'_>,
    o: &Tensor,
    lse: Option<&Tensor>,
) -> Result<Vec<Check>, CliError> {
    if inputs.expected_o.is_none() && inputs.expected_lse.is_none() {
        return Ok(Vec::new());
    }
    let problem = Problem::of(request).map_err(CliError::Refused)?;
    let reference = reference::attention(&problem);
    let bound = Bound::of(&problem, &reference);
    let mut checks = Vec::new();
    if let Some(expected) = &inputs.expected_o {
        let got = inputs.layout().view(o)?.to_f64()?;
        checks.push(if inputs.rounded || expected.elem() != o.elem() {
            Check::of("o", "f64", &got, &reference.o, |x| bound.o(x))
        } else {
            Check::of("o", "file", &got, &inputs.layout().view(expected)?.to_f64()?, |x| bound.o_of_rounded(x))
        });
    }
    if let (Some(expected), Some(lse)) = (&inputs.expected_lse, lse) {
        let got = lse.to_f64();
        checks.push(if inputs.rounded || expected.elem() != lse.elem() {
            Check::of("lse", "f64", &got, &reference.lse, |x| bound.lse(x))
        } else {
            Check::of("lse", "file", &got, &expected.to_f64(), |x| bound.lse(x))
        });
    }
    Ok(checks)
}

impl Check {
    /// Each element of `got` within `allowed` of that of `wanted`.
    pub fn of(
        tensor: &'static str,
        against: &'static str,
        got: &[f64],
        wanted: &[f64],
        allowed: impl Fn(f64) -> f64,
    ) -> Check {
        let all = compare_elements(got, wanted, allowed);
        let Elements { compared, error, bound, misses, .. } = all;
        Check { tensor, against, compared, error, bound, misses, holds: all.hold() }
    }

    /// Both as one: the error of the one that came nearest to its bound, or went furthest past it.
    pub fn and(self, other: Check) -> Check {
        let (compared, misses) = (self.compared + other.compared, self.misses + other.misses);
        let holds = self.holds && other.holds;
        // In this order a NaN goes furthest of all.
        let share = |check: &Check| (check.error / check.bound).abs();
        let further = share(&other).total_cmp(&share(&self)).is_gt();
        Check { compared, misses, holds, ..if further { other } else { self } }
    }

    /// For people.
    pub fn line(&self) -> String {
        let against = match self.against {
            "file" => format!("the file's {}", self.tensor),
            _ => "f64 on the rounded inputs".to_string(),
        };
        let verdict = if self.holds {
            paint(GOOD, "holds")
        } else {
            paint(BAD, format!("does not hold for {} of {} elements", self.misses, self.compared))
        };
        format!("{:4} error {:.2e} against {against}; the bound {:.2e} {verdict}", self.tensor, self.error, self.bound)
    }
}
