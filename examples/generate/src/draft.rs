//! Drafts by prompt lookup: what followed the last tokens when they stood in the text before.
//!
//! Source: "Prompt Lookup Decoding" (Saxena, 2023). There is no second model: text that quotes its prompt is guessed well, other
//! text is rarely guessed at all.

/// The longest run of last tokens that is looked for.
const LONGEST_RUN: usize = 3;

/// Up to `limit` tokens that may follow `text`: those after the latest earlier place of its last tokens. Longer runs of last
/// tokens are tried first. Empty when no run stands earlier.
pub fn lookup(text: &[u32], limit: usize) -> &[u32] {
    (1..=LONGEST_RUN.min(text.len())).rev().find_map(|run| after_run(text, run, limit)).unwrap_or(&[])
}

fn after_run(text: &[u32], run: usize, limit: usize) -> Option<&[u32]> {
    let last = &text[text.len() - run..];
    // The last window is the run itself.
    let earlier = text.windows(run).rev().skip(1).position(|window| window == last)?;
    let follows = text.len() - 1 - earlier;
    Some(&text[follows..text.len().min(follows + limit)])
}

/// How many drafts hold: `predicted[i]` is the model's token after `drafts[..i]`, so one more than there are drafts.
pub fn accepted(drafts: &[u32], predicted: &[u32]) -> usize {
    drafts.iter().zip(predicted).take_while(|(draft, token)| draft == token).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_what_followed_the_last_tokens() {
        assert_eq!(lookup(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 2), [4, 5]);
    }

    #[test]
    fn the_longer_run_wins_over_the_later_one() {
        assert_eq!(lookup(&[1, 2, 3, 7, 0, 3, 8, 1, 2, 3], 1), [7]);
    }

    #[test]
    fn of_two_equal_runs_the_later_wins() {
        assert_eq!(lookup(&[5, 1, 6, 5, 2, 6, 5], 1), [2]);
    }

    #[test]
    fn a_draft_may_reach_into_the_run_itself() {
        assert_eq!(lookup(&[4, 4, 4, 4], 8), [4]);
        assert_eq!(lookup(&[1, 2, 1, 2], 8), [1, 2]);
    }

    #[test]
    fn a_new_token_or_no_text_has_no_draft() {
        assert_eq!(lookup(&[1, 2, 3], 4), [] as [u32; 0]);
        assert_eq!(lookup(&[1], 4), [] as [u32; 0]);
        assert_eq!(lookup(&[], 4), [] as [u32; 0]);
        assert_eq!(lookup(&[1, 1], 0), [] as [u32; 0]);
    }

    #[test]
    fn drafts_hold_up_to_the_first_wrong_one() {
        assert_eq!(accepted(&[1, 2, 3], &[1, 2, 3, 4]), 3);
        assert_eq!(accepted(&[1, 9, 3], &[1, 2, 3, 4]), 1);
        assert_eq!(accepted(&[9, 2, 3], &[1, 2, 3, 4]), 0);
        assert_eq!(accepted(&[], &[1]), 0);
    }
}
