//! Are the tokens those of plain attention?

use crate::decode::likeliest;
use anyhow::{Result, ensure};

/// By how much rounding may move a logit. Two logits that are no further apart may change places.
pub const ROUNDING: f32 = 1e-3;

/// By how much rounding may move an element of one layer's attention.
pub const ATTENTION_ROUNDING: f32 = 1e-4;

/// Where and how another run leaves the plain one.
#[derive(Debug, PartialEq)]
pub struct Departure {
    /// Index of the first token that differs.
    pub at: usize,
    /// The plain run's two largest logits there, each with its token.
    pub top: [(u32, f32); 2],
}

impl Departure {
    /// Whether rounding explains it: the two logits are as good as equal, and the other run took the second.
    pub fn is_tie(&self, other: u32) -> bool {
        let [first, second] = self.top;
        first.1 - second.1 <= ROUNDING && other == second.0
    }
}

/// The first token in which `other` differs from `plain`, whose logits are given.
///
/// # Errors
/// Runs of different lengths, or empty ones: nothing would be compared.
pub fn departure(plain: &[u32], logits: &[Vec<f32>], other: &[u32]) -> Result<Option<Departure>> {
    let counts = (plain.len(), logits.len(), other.len());
    ensure!(
        counts.0 > 0 && counts.0 == counts.1 && counts.0 == counts.2,
        "{counts:?} tokens, logits, tokens to compare"
    );
    let Some(at) = plain.iter().zip(other).position(|(plain, other)| plain != other) else { return Ok(None) };
    Ok(Some(Departure { at, top: top_two(&logits[at])? }))
}

fn top_two(logits: &[f32]) -> Result<[(u32, f32); 2]> {
    let first = likeliest(logits)?;
    let mut others = logits.to_vec();
    others[first as usize] = f32::NEG_INFINITY;
    let second = likeliest(&others)?;
    Ok([first, second].map(|token| (token, logits[token as usize])))
}

/// How two sets of logits differ over the same text.
#[derive(Debug, PartialEq)]
pub struct Difference {
    /// Tokens compared.
    pub tokens: usize,
    /// Tokens that would have been chosen differently.
    pub disagreements: usize,
    /// The largest difference between two logits.
    pub largest: f32,
}

/// Compares logits row by row.
///
/// # Errors
/// Different numbers of rows, no rows, NaN.
pub fn difference(plain: &[Vec<f32>], other: &[Vec<f32>]) -> Result<Difference> {
    ensure!(!plain.is_empty() && plain.len() == other.len(), "{} and {} rows of logits", plain.len(), other.len());
    let mut all = Difference { tokens: plain.len(), disagreements: 0, largest: 0.0 };
    for (plain, other) in plain.iter().zip(other) {
        all.disagreements += usize::from(likeliest(plain)? != likeliest(other)?);
        all.largest = all.largest.max(largest_gap(plain, other)?);
    }
    Ok(all)
}

/// The largest difference between numbers in the same place.
///
/// # Errors
/// Different counts of numbers, none at all.
pub fn largest_gap(a: &[f32], b: &[f32]) -> Result<f32> {
    ensure!(!a.is_empty() && a.len() == b.len(), "{} and {} numbers to compare", a.len(), b.len());
    Ok(a.iter().zip(b).map(|(a, b)| gap(*a, *b)).fold(0.0, f32::max))
}

/// `f32::max` passes over NaN, so infinities that cannot be compared count as infinitely far apart.
fn gap(a: f32, b: f32) -> f32 {
    if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_runs_have_no_departure() {
        assert_eq!(departure(&[1, 0], &[vec![0.0, 1.0], vec![1.0, 0.0]], &[1, 0]).unwrap(), None);
    }

    #[test]
    fn a_departure_at_a_tie_is_rounding_and_any_other_is_not() {
        let logits = [vec![5.0, 1.0, 4.9995], vec![5.0, 4.0, 3.0]];
        let tie = departure(&[0, 0], &logits, &[2, 0]).unwrap().unwrap();
        assert_eq!(tie.top, [(0, 5.0), (2, 4.9995)]);
        assert!(tie.is_tie(2) && !tie.is_tie(1));
        let wide = departure(&[0, 0], &logits, &[0, 1]).unwrap().unwrap();
        assert!(wide.at == 1 && !wide.is_tie(1));
    }

    #[test]
    fn comparing_nothing_is_an_error() {
        assert!(departure(&[], &[], &[]).is_err());
        assert!(departure(&[1], &[vec![1.0, 0.0]], &[]).is_err());
        assert!(difference(&[], &[]).is_err());
        assert!(difference(&[vec![1.0]], &[vec![1.0, 0.0]]).is_err());
    }

    #[test]
    fn infinities_and_nan_are_not_passed_over() {
        let infinite = [vec![f32::INFINITY, 0.0]];
        assert_eq!(difference(&infinite, &infinite).unwrap().largest, f32::INFINITY);
        assert!(difference(&[vec![0.0, 1.0]], &[vec![f32::NAN, 1.0]]).is_err());
    }

    #[test]
    fn rows_count_other_choices_and_find_the_largest_difference() {
        let got = difference(&[vec![1.0, 0.0], vec![1.0, 0.0]], &[vec![0.5, 0.75], vec![1.0, 0.0]]).unwrap();
        assert_eq!(got, Difference { tokens: 2, disagreements: 1, largest: 0.75 });
    }
}
