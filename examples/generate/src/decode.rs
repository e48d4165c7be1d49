//! Greedy decoding, with drafts or without.

use crate::attention::Cache;
use crate::draft;
use crate::model::Model;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// What was generated, and how fast.
pub struct Run {
    /// The tokens after the prompt.
    pub tokens: Vec<u32>,
    /// Logits that each of the tokens was chosen from, where they were asked for.
    pub logits: Vec<Vec<f32>>,
    /// Time over the prompt, up to the first token.
    pub prefill: Duration,
    /// Time over the other tokens.
    pub decode: Duration,
    /// Drafted tokens, and how many of them held.
    pub drafts: (usize, usize),
}

impl Run {
    /// Tokens after the first, per second.
    pub fn rate(&self) -> f64 {
        self.tokens.len().saturating_sub(1) as f64 / self.decode.as_secs_f64()
    }
}

/// What to generate.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// At least one token.
    pub prompt: &'a [u32],
    /// How many tokens follow it.
    pub tokens: usize,
    /// Up to so many drafts are verified at once; 0 for one token at a time.
    pub speculate: usize,
    /// Whether logits are kept.
    pub keep_logits: bool,
}

impl Request<'_> {
    /// Positions that a cache needs: prompt and tokens, and the drafts behind the last token.
    pub fn capacity(&self) -> usize {
        self.prompt.len().saturating_add(self.tokens).saturating_add(self.speculate)
    }
}

/// The likeliest token each time. `each` is told of every token and says whether to go on.
///
/// # Errors
/// An empty prompt; what the model reports.
pub fn greedy(
    model: &Model,
    cache: &mut Cache,
    request: Request<'_>,
    mut each: impl FnMut(u32) -> Result<bool>,
) -> Result<Run> {
    let started = Instant::now();
    let mut text = request.prompt.to_vec();
    let mut run =
        Run { tokens: vec![], logits: vec![], prefill: started.elapsed(), decode: started.elapsed(), drafts: (0, 0) };
    // Tokens that the cache does not hold yet: first the prompt, then the last token; behind it come the drafts.
    let mut pending = text.clone();
    'tokens: while run.tokens.len() < request.tokens {
        let drafts = if run.tokens.is_empty() { &[] } else { draft::lookup(&text, request.speculate) };
        let before = cache.len()? + pending.len();
        pending.extend(drafts);
        let x = model.forward(&pending, cache)?;
        let logits = model.logits(&x, 1 + drafts.len())?;
        let predicted = logits.iter().map(|row| likeliest(row)).collect::<Result<Vec<u32>>>()?;
        let held = draft::accepted(drafts, &predicted);
        run.drafts = (run.drafts.0 + drafts.len(), run.drafts.1 + held);
        if held < drafts.len() {
            cache.truncate(before + held)?;
        }
        if run.tokens.is_empty() {
            run.prefill = started.elapsed();
        }
        for (token, row) in predicted.into_iter().zip(logits).take(held + 1) {
            if run.tokens.len() == request.tokens {
                break 'tokens;
            }
            text.push(token);
            run.tokens.push(token);
            if request.keep_logits {
                run.logits.push(row);
            }
            if !each(token)? {
                break 'tokens;
            }
        }
        pending = text[text.len() - 1..].to_vec();
    }
    run.decode = started.elapsed() - run.prefill;
    Ok(run)
}

/// The logits of each of `tokens` after `prompt` and the tokens before it, one step at a time as in decoding.
///
/// # Errors
/// What the model reports.
pub fn forced(model: &Model, cache: &mut Cache, prompt: &[u32], tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
    let mut pending = prompt;
    let mut all = Vec::new();
    for index in 0..tokens.len() {
        let x = model.forward(pending, cache)?;
        all.append(&mut model.logits(&x, 1)?);
        pending = &tokens[index..=index];
    }
    Ok(all)
}

/// The index of the largest logit; of equal ones the first.
///
/// # Errors
/// No logits, or a NaN among them.
pub fn likeliest(logits: &[f32]) -> Result<u32> {
    ensure!(!logits.iter().any(|logit| logit.is_nan()), "a logit is NaN");
    let best = (0..).zip(logits).reduce(|best, next| if next.1 > best.1 { next } else { best });
    Ok(best.context("a model without a vocabulary")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_logits_the_first_is_likeliest() {
        assert_eq!(likeliest(&[1.0, 3.0, 3.0, f32::NEG_INFINITY]).unwrap(), 1);
    }

    #[test]
    fn no_logits_and_nan_are_errors() {
        assert!(likeliest(&[]).is_err());
        assert!(likeliest(&[0.0, f32::NAN]).is_err());
    }
}
