//! How well a model predicts a text, as its cache gets coarser.

use crate::attention::Cache;
use crate::model::Model;
use anyhow::{Result, ensure};

/// Rows of logits at a time: each is as long as the vocabulary.
const ROWS: usize = 64;

/// exp of the mean negative log-likelihood of each token after those before it.
///
/// # Errors
/// Fewer than two tokens; what the model reports.
pub fn perplexity(model: &Model, cache: &mut Cache, tokens: &[u32]) -> Result<f64> {
    ensure!(tokens.len() >= 2, "a perplexity needs two tokens or more; the text has {}", tokens.len());
    let mut total = 0.0;
    for start in (0..tokens.len() - 1).step_by(ROWS) {
        let end = (start + ROWS).min(tokens.len() - 1);
        let x = model.forward(&tokens[start..end], cache)?;
        for (row, &next) in model.logits(&x, end - start)?.iter().zip(&tokens[start + 1..]) {
            total += surprise(row, next);
        }
    }
    Ok((total / (tokens.len() - 1) as f64).exp())
}

/// Minus the natural logarithm of the softmax of `logits` at `token`.
fn surprise(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(f64::from(b)));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    largest + sum.ln() - f64::from(logits[token as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_surprise_by_the_logarithm_of_their_number() {
        assert!((surprise(&[1e5; 8], 3) - 8f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn a_sure_token_does_not_surprise_and_nan_shows() {
        assert!(surprise(&[100.0, 0.0], 0).abs() < 1e-9);
        assert!(surprise(&[f32::NAN, 0.0], 1).is_nan());
    }
}
