//! Medians, spreads and ratios of times that were taken in rounds.

use serde::Serialize;

/// Times of one side.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub struct Times {
    /// The median of the rounds' medians.
    pub seconds: f64,
    /// The fastest run of all.
    pub fastest: f64,
    /// The slowest run of all.
    pub slowest: f64,
    /// All runs that count.
    pub runs: usize,
    /// The median of each round.
    pub rounds: Vec<f64>,
}

impl Times {
    /// Of each round's times; `None` where a round has none, or one that is no positive number.
    pub fn of(rounds: &[Vec<f64>]) -> Option<Times> {
        let medians: Vec<f64> = rounds.iter().map(|times| median(times)).collect::<Option<_>>()?;
        let all = || rounds.iter().flatten().copied();
        Some(Times {
            seconds: median(&medians)?,
            fastest: all().fold(f64::INFINITY, f64::min),
            slowest: all().fold(0.0, f64::max),
            runs: all().count(),
            rounds: medians,
        })
    }
}

/// How much faster one side is than the other.
#[derive(Serialize, Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The median over the rounds: a slow spell of the machine hits both sides of a round.
    pub ratio: f64,
    /// Of the round in which it was least.
    pub ratio_low: f64,
    /// Of the round in which it was most.
    pub ratio_high: f64,
}

impl Ratio {
    /// How many times as long `theirs` took as `ours`, round by round; `None` where the rounds are not as many.
    pub fn of(theirs: &Times, ours: &Times) -> Option<Ratio> {
        if theirs.rounds.len() != ours.rounds.len() {
            return None;
        }
        let ratios: Vec<f64> = theirs.rounds.iter().zip(&ours.rounds).map(|(theirs, ours)| theirs / ours).collect();
        Some(Ratio {
            ratio: median(&ratios)?,
            ratio_low: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratio_high: ratios.iter().copied().fold(0.0, f64::max),
        })
    }
}

/// The one in the middle, or the mean of the two; `None` for nothing, and where anything is no positive number.
pub fn median(values: &[f64]) -> Option<f64> {
    if values.is_empty() || !values.iter().all(|&value| value.is_finite() && value > 0.0) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted[sorted.len() / 2];
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        for (values, wanted) in [
            (&[3.0][..], Some(3.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[4.0, 1.0, 2.0, 100.0], Some(3.0)),
            (&[], None),
            (&[1.0, f64::NAN], None),
            (&[1.0, 0.0], None),
            (&[1.0, f64::INFINITY], None),
            (&[-1.0], None),
        ] {
            assert_eq!(median(values), wanted, "{values:?}");
        }
    }

    #[test]
    fn times_are_the_median_of_the_rounds_medians_with_the_spread_of_all_runs() {
        let times = Times::of(&[vec![1.0, 2.0, 9.0], vec![4.0], vec![3.0, 5.0]]).unwrap();
        assert_eq!((times.seconds, times.fastest, times.slowest, times.runs), (4.0, 1.0, 9.0, 6));
        assert_eq!(times.rounds, [2.0, 4.0, 4.0]);
        assert_eq!(Times::of(&[vec![1.0], vec![]]), None);
        assert_eq!(Times::of(&[vec![1.0], vec![f64::NAN]]), None);
        assert_eq!(Times::of(&[]), None);
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let of = |rounds: &[f64]| Times::of(&rounds.iter().map(|&x| vec![x]).collect::<Vec<_>>()).unwrap();
        // The machine was three times as slow in the second round.
        let (ours, theirs) = (of(&[1.0, 3.0, 1.0]), of(&[2.0, 6.0, 1.5]));
        let ratio = Ratio::of(&theirs, &ours).unwrap();
        assert_eq!(ratio, Ratio { ratio: 2.0, ratio_low: 1.5, ratio_high: 2.0 });
        assert_eq!(Ratio::of(&of(&[1.0]), &ours), None);
    }
}
