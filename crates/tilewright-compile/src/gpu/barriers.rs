//! Barriers: inserted where threads would race for shared memory, and verified.
//!
//! For each slot of each buffer we follow what was done to it since the last barrier, in the order of steps, around loops and
//! through both ways of a branch. A read after a write, and a write after a read or a write, need a barrier between them. An
//! asynchronous copy writes when it is issued, as far as what came before is concerned, and when it is waited for, as far as
//! what follows is. Slots are counted from the one that is current, so they move by one at the end of each pass of the loop
//! that turns them.

use super::program::{BufferId, Copy, DotOperand, For, LocalId, Program, Slot, Step};
use std::collections::BTreeMap;
use thiserror::Error;

/// A program whose threads race for shared memory: a bug of the compiler.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("shared tile `{buffer}` is {what}")]
pub struct Race {
    /// The buffer's name.
    pub buffer: String,
    /// What happens too early.
    pub what: &'static str,
}

/// Inserts the barriers that a program needs, and no others.
///
/// # Errors
/// A read of a copy that nothing waits for: no barrier can help.
pub fn insert(program: &mut Program) -> Result<(), Race> {
    let steps = std::mem::take(&mut program.steps);
    let (walked, _) = Walk { program, insert: true }.block(&steps, State::default())?;
    program.steps = walked;
    Ok(())
}

/// Verifies that no barrier is missing.
///
/// # Errors
/// The first race.
pub fn check(program: &Program) -> Result<(), Race> {
    Walk { program, insert: false }.block(&program.steps, State::default()).map(|_| ())
}

/// A slot: of which buffer, turned by which local, how far ahead of the current one.
type Key = (BufferId, Option<LocalId>, u32);

/// What was done to a slot since the last barrier.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Touched {
    read: bool,
    written: bool,
    /// A copy that nothing has waited for yet: how many groups were closed since it was issued.
    pending: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Default)]
struct State(BTreeMap<Key, Touched>);

impl State {
    /// What either way may have done.
    fn or(mut self, other: &State) -> State {
        for (key, theirs) in &other.0 {
            let own = self.0.entry(*key).or_default();
            own.read |= theirs.read;
            own.written |= theirs.written;
            own.pending = match (own.pending, theirs.pending) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        self
    }

    /// The same at the start of the next pass, when `stage` has moved on.
    fn turned(&self, stage: Option<LocalId>, program: &Program) -> State {
        let turn = |&(buffer, at, ahead): &Key| match at {
            Some(local) if Some(local) == stage => {
                let slots = program.buffers[buffer.index()].slots;
                (buffer, at, (ahead + slots - 1) % slots)
            }
            _ => (buffer, at, ahead),
        };
        let moved = self.0.iter().map(|(key, touched)| (turn(key), *touched));
        moved.fold(State::default(), |state, (key, touched)| state.or(&State(BTreeMap::from([(key, touched)]))))
    }

    fn barrier(&mut self) {
        for touched in self.0.values_mut() {
            (touched.read, touched.written) = (false, false);
        }
    }
}

/// What a step does to a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    WriteLater,
}

struct Walk<'p> {
    program: &'p Program,
    insert: bool,
}

impl Walk<'_> {
    fn block(&self, steps: &[Step], mut state: State) -> Result<(Vec<Step>, State), Race> {
        let mut out = Vec::new();
        for step in steps {
            let step = match step {
                Step::For(of) => {
                    let (body, after) = self.looped(of, state)?;
                    state = after;
                    Step::For(For { body, ..of.clone() })
                }
                Step::If { cond, then, otherwise } => {
                    let mut cleared = state.clone();
                    cleared.barrier();
                    // A barrier in front serves both ways, and what follows.
                    if self.insert
                        && (self.first_barrier(then, &state, &cleared)?
                            || self.first_barrier(otherwise, &state, &cleared)?)
                    {
                        out.push(Step::Barrier);
                        state = cleared;
                    }
                    let (then, first) = self.block(then, state.clone())?;
                    let (otherwise, second) = self.block(otherwise, state)?;
                    state = first.or(&second);
                    Step::If { cond: cond.clone(), then, otherwise }
                }
                Step::Barrier => {
                    state.barrier();
                    Step::Barrier
                }
                Step::Commit => {
                    state.0.values_mut().for_each(|t| t.pending = t.pending.map(|age| (age + 1).min(MOST_GROUPS)));
                    Step::Commit
                }
                Step::Wait(left) => {
                    for touched in state.0.values_mut().filter(|t| t.pending.is_some_and(|age| age > *left)) {
                        (touched.pending, touched.written) = (None, true);
                    }
                    Step::Wait(*left)
                }
                other => {
                    if self.touch(other, &mut state)? {
                        out.push(Step::Barrier);
                    }
                    other.clone()
                }
            };
            out.push(step);
        }
        Ok((out, state))
    }

    /// Whether one way of a branch needs fewer barriers when one stands in front.
    fn first_barrier(&self, way: &[Step], state: &State, cleared: &State) -> Result<bool, Race> {
        let count = |state: &State| Ok(barriers(&self.block(way, state.clone())?.0));
        Ok(count(cleared)? < count(state)?)
    }

    /// A loop: what a pass leaves is where the next one starts, until nothing is added.
    fn looped(&self, of: &For, before: State) -> Result<(Vec<Step>, State), Race> {
        let stage = of.body.iter().find_map(|step| match step {
            Step::Set(local, _) => self.turns(*local).then_some(*local),
            _ => None,
        });
        let mut start = before;
        loop {
            let (body, end) = self.block(&of.body, start.clone())?;
            let again = start.clone().or(&end.turned(stage, self.program));
            if again == start {
                return Ok((body, start));
            }
            start = again;
        }
    }

    /// Whether a local says which slot of some buffer is current.
    fn turns(&self, local: LocalId) -> bool {
        fn within(steps: &[Step], local: LocalId) -> bool {
            steps.iter().any(|step| match step {
                Step::For(of) => within(&of.body, local),
                Step::If { then, otherwise, .. } => within(then, local) || within(otherwise, local),
                other => accesses(other).iter().any(|(slot, _)| slot.at == Some(local)),
            })
        }
        // While barriers are inserted the program's own steps are in hand: any local of slots counts.
        self.insert || within(&self.program.steps, local)
    }

    /// Does what a step does; whether a barrier must stand before it.
    fn touch(&self, step: &Step, state: &mut State) -> Result<bool, Race> {
        let all = accesses(step);
        let mut barrier = false;
        for (slot, access) in &all {
            let before = state.0.get(&key(slot)).copied().unwrap_or_default();
            let race = |what| Err(Race { buffer: self.program.buffers[slot.buffer.index()].name.clone(), what });
            if before.pending.is_some() {
                return race("used before its copy was waited for");
            }
            let needed = match access {
                Access::Read => before.written,
                Access::Write | Access::WriteLater => before.read || before.written,
            };
            match (needed, self.insert) {
                (true, true) => barrier = true,
                (true, false) => return race("used without a barrier"),
                (false, _) => {}
            }
        }
        if barrier {
            state.barrier();
        }
        for (slot, access) in all {
            let touched = state.0.entry(key(&slot)).or_default();
            match access {
                Access::Read => touched.read = true,
                Access::Write => touched.written = true,
                Access::WriteLater => touched.pending = Some(0),
            }
        }
        Ok(barrier)
    }
}

fn barriers(steps: &[Step]) -> usize {
    let of = |step: &Step| match step {
        Step::Barrier => 1,
        Step::For(of) => barriers(&of.body),
        Step::If { then, otherwise, .. } => barriers(then) + barriers(otherwise),
        _ => 0,
    };
    steps.iter().map(of).sum()
}

/// More groups under way than any schedule has.
const MOST_GROUPS: u32 = 64;

fn key(slot: &Slot) -> Key {
    (slot.buffer, slot.at, slot.ahead)
}

/// The slots that a step reads and writes.
fn accesses(step: &Step) -> Vec<(Slot, Access)> {
    let whole = |buffer| Slot { buffer, at: None, ahead: 0 };
    match step {
        Step::Put { to, .. } | Step::Clear(to) => vec![(to.clone(), Access::Write)],
        Step::Get { from, .. } => vec![(from.clone(), Access::Read)],
        Step::Copy(Copy { to, vector, .. }) => {
            vec![(to.clone(), if *vector { Access::WriteLater } else { Access::Write })]
        }
        Step::Dot(dot) => {
            let a = match &dot.a {
                DotOperand::Shared(slot) => Some(slot.clone()),
                DotOperand::Fragment(_) => None,
            };
            a.into_iter().chain([dot.b.clone()]).map(|slot| (slot, Access::Read)).collect()
        }
        Step::Fold(fold) => fold.exchange.map(|b| (whole(b), Access::Write)).into_iter().collect(),
        Step::Combine(fold) => fold.exchange.map(|b| (whole(b), Access::Read)).into_iter().collect(),
        Step::Let(..)
        | Step::Set(..)
        | Step::Map(_)
        | Step::Assign { .. }
        | Step::Load(_)
        | Step::Store(_)
        | Step::Commit
        | Step::Wait(_)
        | Step::Barrier
        | Step::For(_)
        | Step::If { .. } => Vec::new(),
    }
}
