//! A case on the host's clock: ours and each peer in turn, round after round.

use super::ceilings::Ceilings;
use super::peers::{Answer, Description, PeerError, Runner, Running};
use super::report::{Clock, Outcome, PeerRow, ReadyPeer, Row, Timing};
use super::stats::{Ratio, Times};
use crate::check::Check;
use crate::error::CliError;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tilewright::attention::Extents;
use tilewright::attention::cache::Format;
use tilewright::attention::cases::{Case, Inputs};
use tilewright::attention::reference::{self, Bound, Problem};
use tilewright::prelude::{Attention, Device, Elem, Plan, Tensor};

/// What a case is measured beside.
pub enum Against {
    /// Ours over a dense cache of the same type.
    Dense,
    /// Ours on one thread.
    OneThread(Device),
    /// Another library.
    Peer(Runner),
}

/// How cases are measured.
pub struct Rounds {
    /// At least one.
    pub rounds: usize,
    /// For which each side runs in a round.
    pub each: Duration,
    /// By name, in the order in which they are reported.
    pub against: Vec<(String, Against)>,
}

/// Between two sides: threads of the one that ran may still wait awake for more work.
const SETTLE: Duration = Duration::from_millis(30);

/// One row of the table.
pub fn measure(
    device: &Device,
    (kernel, case): (&'static str, &Case),
    how: &Rounds,
    ceilings: Option<&mut Ceilings>,
) -> Result<Row, CliError> {
    let inputs = case.clean_inputs().map_err(CliError::Refused)?;
    let dense = case.clone().cache(Format::DENSE);
    let wants_dense = how.against.iter().any(|(_, against)| matches!(against, Against::Dense));
    let dense_inputs = match wants_dense && case.format() != Format::DENSE {
        true => Some(dense.clean_inputs().map_err(CliError::Refused)?),
        false => None,
    };
    let mut own = Own::new(device, case, &inputs)?;
    let features = own.request.features().to_string();
    let description = Description::new(case, &features, device.info().threads);
    let mut others = Vec::new();
    for (name, against) in &how.against {
        let side = match (against, &dense_inputs) {
            (Against::Dense, Some(inputs)) => Ok(Side::Own(Own::new(device, &dense, inputs)?.into())),
            (Against::Dense, None) => Err(PeerError::Cannot("the cache of the case is dense".to_string())),
            (Against::OneThread(device), _) => Ok(Side::Own(Own::new(device, case, &inputs)?.into())),
            (Against::Peer(runner), _) => Running::start(runner, &description).map(Side::Peer),
        };
        others.push(Other { name, side, answers: Vec::new() });
    }

    let mut rounds = Vec::new();
    for round in 0..how.rounds.max(1) {
        // Each side comes first, and last, about as often as any other.
        let mut turns: Vec<Option<usize>> = std::iter::once(None).chain((0..others.len()).map(Some)).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for turn in turns {
            match turn {
                None => rounds.push(own.round(how.each)?),
                Some(at) => others[at].round(how.each)?,
            }
            if !others.is_empty() {
                std::thread::sleep(SETTLE);
            }
        }
    }
    let times = Times::of(&rounds).ok_or_else(|| CliError::Failed("a run took no time".to_string()))?;
    let against = others.into_iter().flat_map(|other| other.rows(&times)).collect();
    let check = own.check(case)?;
    let timing = Timing { clock: Clock::Host, times, planned: own.planned.as_secs_f64(), host: None, sets: 1 };
    let mut row = Row::new(kernel, case, &own.plan, features, timing, check);
    row.against = against;
    row.roofline = ceilings.map(|ceilings| ceilings.roofline(case.elements().0, row.flops, row.bytes));
    Ok(row)
}

/// Something beside ours.
struct Other<'r> {
    name: &'r str,
    /// Or why it has no times.
    side: Result<Side<'r>, PeerError>,
    answers: Vec<Answer>,
}

enum Side<'r> {
    Own(Box<Own<'r>>),
    Peer(Running),
}

impl Other<'_> {
    /// One round. A peer that fails is not asked again.
    fn round(&mut self, long: Duration) -> Result<(), CliError> {
        match &mut self.side {
            Ok(Side::Own(own)) => self.answers.push(BTreeMap::from([(String::new(), own.round(long)?)])),
            Ok(Side::Peer(peer)) => match peer.round(long.as_secs_f64()) {
                Ok(answer) => self.answers.push(answer),
                Err(error) => self.side = Err(error),
            },
            Err(_) => {}
        }
        Ok(())
    }

    /// Beside these times of ours: the best way, and one that was faster but is outside of the bound that ours are held to.
    fn rows(self, ours: &Times) -> Vec<PeerRow> {
        let row = |outcome: Outcome| PeerRow { peer: self.name.to_string(), outcome };
        let ready = match &self.side {
            Ok(Side::Own(_)) => None,
            Ok(Side::Peer(running)) => Some(&running.ready),
            Err(error) => return vec![row(Outcome::Missing { reason: error.to_string() })],
        };
        let error = |way: &str| ready.and_then(|ready| ready.outside(way));
        let [inside, outside] =
            [false, true].map(|outside| best(&self.answers, ours, |way| error(way).is_some() == outside));
        let faster =
            outside.filter(|(_, times, _)| inside.as_ref().is_none_or(|(_, other, _)| times.seconds < other.seconds));
        let rows: Vec<PeerRow> = inside
            .into_iter()
            .chain(faster)
            .map(|(way, times, ratio)| {
                let (outside, ready) = (error(&way), ready.map(ReadyPeer::from));
                row(Outcome::Measured { way, times, ratio, outside, ready })
            })
            .collect();
        match rows.is_empty() {
            true => vec![row(Outcome::Missing { reason: "measured no way in every round".to_string() })],
            false => rows,
        }
    }
}

/// The fastest of these ways that were measured in every round.
fn best(answers: &[Answer], ours: &Times, counts: impl Fn(&str) -> bool) -> Option<(String, Times, Ratio)> {
    let ways = answers.first()?.keys().filter(|way| counts(way)).filter_map(|way| {
        let rounds: Option<Vec<_>> = answers.iter().map(|answer| answer.get(way).cloned()).collect();
        let times = Times::of(&rounds?)?;
        let ratio = Ratio::of(&times, ours)?;
        Some((way.clone(), times, ratio))
    });
    ways.min_by(|(_, one, _), (_, other, _)| one.seconds.total_cmp(&other.seconds))
}

/// A plan of ours with what it runs on.
pub(super) struct Own<'r> {
    plan: Plan,
    request: Attention<'r>,
    o: Tensor,
    lse: Option<Tensor>,
    planned: Duration,
}

impl<'r> Own<'r> {
    fn new(device: &Device, case: &'r Case, inputs: &'r Inputs) -> Result<Own<'r>, CliError> {
        let request = case.request(inputs).map_err(CliError::Refused)?;
        let started = Instant::now();
        let plan = request.plan(device).map_err(CliError::Refused)?;
        Ok(Own { planned: started.elapsed(), ..Own::of(plan, case, request)? })
    }

    /// A plan for a request of this case.
    pub fn of(plan: Plan, case: &Case, request: Attention<'r>) -> Result<Own<'r>, CliError> {
        let Extents { batch, q_heads, q_len, value_dim, .. } = case.extents();
        let (dtype, _) = case.elements();
        let o = Tensor::zeros(dtype, &[batch, q_heads, q_len, value_dim])?;
        let lse = match request.wants_lse() {
            true => Some(Tensor::zeros(Elem::F32, &[batch, q_heads, q_len])?),
            false => None,
        };
        Ok(Own { plan, request, o, lse, planned: Duration::ZERO })
    }

    /// Seconds of each run for about so long, at least one, after one that warms caches and is not counted.
    pub fn round(&mut self, long: Duration) -> Result<Vec<f64>, CliError> {
        self.counted()?;
        let (mut times, began) = (Vec::new(), Instant::now());
        while times.is_empty() || began.elapsed() < long {
            let started = Instant::now();
            self.counted()?;
            times.push(started.elapsed().as_secs_f64());
        }
        Ok(times)
    }

    /// What the last run wrote, held against f64.
    pub fn check(&self, case: &Case) -> Result<Check, CliError> {
        sampled(case, &self.request, &self.o)
    }

    /// One run: the function whose instructions `bench/instructions` counts, by its name.
    #[inline(never)]
    fn counted(&mut self) -> Result<(), CliError> {
        let lse = self.lse.as_mut().map(Tensor::view_mut);
        self.plan.run(&self.request, self.o.view_mut(), lse).map_err(|error| CliError::Failed(error.to_string()))
    }
}

/// Operations that the f64 reference may take for one row of the table.
const REFERENCE_OPERATIONS: u64 = 200_000_000;

/// Every n-th row of `o` beside the f64 reference, n as small as the reference stays quick.
fn sampled(case: &Case, request: &Attention<'_>, o: &Tensor) -> Result<Check, CliError> {
    let Extents { q_len, value_dim, .. } = case.extents();
    let step =
        usize::try_from(case.flops().div_ceil(REFERENCE_OPERATIONS)).unwrap_or(usize::MAX).clamp(1, q_len.max(1));
    let problem = Problem::of(request).map_err(CliError::Refused)?.every_nth_row(step);
    let wanted = reference::attention(&problem);
    let bound = Bound::of(&problem, &wanted);
    // The last row of each `step`, as the reference takes them.
    let heads = o.to_f64();
    let rows =
        heads.chunks(q_len.max(1) * value_dim).flat_map(|head| head.chunks(value_dim).skip(step - 1).step_by(step));
    let got: Vec<f64> = rows.flatten().copied().collect();
    Ok(Check::of("o", "f64", &got, &wanted.o, |x| bound.o(x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_way_is_the_fastest_of_those_that_were_measured_in_every_round() {
        let answer = |ways: &[(&str, f64)]| -> Answer {
            ways.iter().map(|(way, seconds)| (way.to_string(), vec![*seconds])).collect()
        };
        let ours = Times::of(&[vec![1.0], vec![1.0]]).unwrap();
        let answers = [answer(&[("a", 4.0), ("b", 3.0), ("c", 1.0)]), answer(&[("a", 4.0), ("b", 3.0)])];
        let (way, times, ratio) = best(&answers, &ours, |_| true).unwrap();
        assert_eq!((way.as_str(), times.seconds, ratio.ratio), ("b", 3.0, 3.0));
        assert!(best(&[], &ours, |_| true).is_none());
        assert!(best(&answers[..1], &ours, |_| true).is_none(), "a round is missing");
        let (way, ..) = best(&answers, &ours, |way| way != "b").unwrap();
        assert_eq!(way, "a", "what does not count is passed over");
    }
}
