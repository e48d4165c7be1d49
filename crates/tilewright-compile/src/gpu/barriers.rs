//! Where the threads of a block wait for each other: between a write of shared memory and a read of it by other threads, and
//! between either and the next write.
//!
//! The state before each step is the set of accesses since the last barrier that may still be under way in some thread. A ring's
//! slots are told apart by how far ahead of the stage they are; naming or setting the stage moves all by one. Loops are
//! followed until nothing new comes around, zero passes included.

use super::program::{Buffer, BufferId, DotOperand, Expr, LocalId, Program, Slot, Step};
use std::collections::BTreeSet;

/// A program whose threads race.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Race {
    /// A thread may come to a step while another is still at an earlier one.
    #[error("{later} of shared `{buffer}` with no barrier after {earlier} of `{other}`, whose bytes it shares")]
    Unordered {
        /// What is accessed.
        buffer: String,
        /// A read or a write.
        later: &'static str,
        /// A read or a write before it.
        earlier: &'static str,
        /// Of the same buffer, or of one that lies over it.
        other: String,
    },
    /// An asynchronous copy may still be under way.
    #[error("{later} of shared `{buffer}` with no wait for the copy into `{other}` before it")]
    NotWaited {
        /// What is accessed.
        buffer: String,
        /// A read or a write.
        later: &'static str,
        /// Where the copy goes.
        other: String,
    },
}

/// Puts barriers where they are needed, and nowhere else. Shared memory is planned: buffers that share bytes need barriers.
///
/// # Errors
/// A read or write of a slot whose copy nothing waits for: no barrier can help.
pub fn insert(program: &mut Program) -> Result<(), Race> {
    let mut steps = program.steps.clone();
    Walk { program, mode: Mode::Insert }.steps(&mut steps, &mut State::default());
    program.steps = steps;
    check(program)?;
    remove_needless(program);
    // A barrier before a loop or a branch may spare one in it and one behind it.
    let opens = |step: &Step| matches!(step, Step::For(_) | Step::If { .. });
    for number in 0..count(&program.steps, &opens) {
        let mut other = program.clone();
        let mut left = number;
        edit(&mut other.steps, &mut left, &opens, &mut |steps, at| {
            steps.insert(at, Step::Barrier);
        });
        remove_needless(&mut other);
        if weight(&other.steps) < weight(&program.steps) {
            *program = other;
        }
    }
    Ok(())
}

/// Whether every access of shared memory is ordered after those that it depends on.
///
/// # Errors
/// The first access that is not.
pub fn check(program: &Program) -> Result<(), Race> {
    let mut walk = Walk { program, mode: Mode::Check(None) };
    walk.steps(&mut program.steps.clone(), &mut State::default());
    match walk.mode {
        Mode::Check(Some(race)) => Err(race),
        Mode::Check(None) | Mode::Insert => Ok(()),
    }
}

/// Removes barriers without which the program is in order, those in inner loops first.
fn remove_needless(program: &mut Program) {
    let barrier = |step: &Step| matches!(step, Step::Barrier);
    let mut order: Vec<(u32, usize)> = Vec::new();
    depths(&program.steps, 0, &mut order);
    order.sort_by_key(|&(depth, number)| (std::cmp::Reverse(depth), number));
    let mut removed: Vec<usize> = Vec::new();
    for (_, number) in order {
        let mut left = number - removed.iter().filter(|&&other| other < number).count();
        let mut less = program.clone();
        edit(&mut less.steps, &mut left, &barrier, &mut |steps, at| {
            steps.remove(at);
        });
        if check(&less).is_ok() {
            *program = less;
            removed.push(number);
        }
    }
}

/// The lists of steps inside a step.
fn inner(step: &Step) -> Vec<&Vec<Step>> {
    match step {
        Step::For(step) => vec![&step.body],
        Step::If { then, otherwise, .. } => vec![then, otherwise],
        Step::Let(..)
        | Step::Set(..)
        | Step::Map(_)
        | Step::Assign { .. }
        | Step::Reorder { .. }
        | Step::Scale { .. }
        | Step::Tanh { .. }
        | Step::Load(_)
        | Step::Store(_)
        | Step::Fold(_)
        | Step::Combine(_)
        | Step::Put { .. }
        | Step::Get { .. }
        | Step::Clear(_)
        | Step::Copy(_)
        | Step::Commit
        | Step::Wait(_)
        | Step::Barrier
        | Step::Dot(_) => vec![],
    }
}

fn count(steps: &[Step], which: &dyn Fn(&Step) -> bool) -> usize {
    let inside = |step| inner(step).into_iter().map(|steps| count(steps, which)).sum::<usize>();
    steps.iter().map(|step| usize::from(which(step)) + inside(step)).sum()
}

/// For each barrier in order, how many loops stand around it.
fn depths(steps: &[Step], depth: u32, out: &mut Vec<(u32, usize)>) {
    for step in steps {
        if matches!(step, Step::Barrier) {
            out.push((depth, out.len()));
        }
        let deeper = depth + u32::from(matches!(step, Step::For(_)));
        inner(step).into_iter().for_each(|steps| depths(steps, deeper, out));
    }
}

/// How often barriers run, with loops of 16 passes.
fn weight(steps: &[Step]) -> u64 {
    let mut all = Vec::new();
    depths(steps, 0, &mut all);
    all.iter().map(|&(depth, _)| 16u64.pow(depth.min(8))).sum()
}

/// Changes the list around the step of this number among those that `which` picks.
fn edit(
    steps: &mut Vec<Step>,
    left: &mut usize,
    which: &dyn Fn(&Step) -> bool,
    change: &mut dyn FnMut(&mut Vec<Step>, usize),
) -> bool {
    for at in 0..steps.len() {
        if which(&steps[at]) {
            if *left == 0 {
                change(steps, at);
                return true;
            }
            *left -= 1;
        }
        if let Step::For(step) = &mut steps[at] {
            if edit(&mut step.body, left, which, change) {
                return true;
            }
        } else if let Step::If { then, otherwise, .. } = &mut steps[at]
            && (edit(then, left, which, change) || edit(otherwise, left, which, change))
        {
            return true;
        }
    }
    false
}

/// Which slot of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum At {
    /// Any.
    Any,
    /// So many after the one that a local says.
    Ahead(LocalId, u32),
}

/// What was done to a slot, and not followed by a barrier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Read,
    /// Or a copy that was waited for.
    Write,
    /// A copy under way, in the group that was closed so many groups ago; 0: it is open.
    Copy(u32),
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Read => "a read",
            Kind::Write | Kind::Copy(_) => "a write",
        }
    }
}

type State = BTreeSet<(BufferId, At, Kind)>;

/// Groups further back are all the same.
const GROUPS: u32 = 64;

enum Mode {
    Insert,
    Check(Option<Race>),
}

struct Walk<'a> {
    program: &'a Program,
    mode: Mode,
}

impl Walk<'_> {
    fn steps(&mut self, steps: &mut Vec<Step>, state: &mut State) {
        let mut at = 0;
        while at < steps.len() {
            let found = accesses(self.program, &steps[at]).into_iter().find_map(|access| self.race(&access, state));
            match (&mut self.mode, found) {
                (Mode::Insert, Some(Race::Unordered { .. })) => {
                    steps.insert(at, Step::Barrier);
                    pass_barrier(state);
                    at += 1;
                }
                (Mode::Check(race), Some(found)) => {
                    race.get_or_insert(found);
                }
                (Mode::Insert, Some(Race::NotWaited { .. })) | (_, None) => {}
            }
            self.step(&mut steps[at], state);
            at += 1;
        }
    }

    fn step(&mut self, step: &mut Step, state: &mut State) {
        state.extend(accesses(self.program, step));
        match step {
            Step::Let(local, value) | Step::Set(local, value) => {
                let reset = matches!(value, Expr::Int(_));
                *state = state
                    .iter()
                    .map(|&(buffer, at, kind)| (buffer, self.moved(buffer, at, *local, reset), kind))
                    .collect();
            }
            Step::Barrier => pass_barrier(state),
            Step::Commit => {
                *state = state.iter().map(|&(buffer, at, kind)| (buffer, at, older(kind))).collect();
            }
            Step::Wait(groups) => {
                let done = |kind| match kind {
                    Kind::Copy(age) if age > *groups => Kind::Write,
                    Kind::Copy(_) | Kind::Read | Kind::Write => kind,
                };
                *state = state.iter().map(|&(buffer, at, kind)| (buffer, at, done(kind))).collect();
            }
            Step::For(step) => {
                let before = step.body.clone();
                let entry = state.clone();
                loop {
                    let mut body = before.clone();
                    let mut end = state.clone();
                    self.steps(&mut body, &mut end);
                    step.body = body;
                    let grown: State = entry.union(&end).chain(state.iter()).copied().collect();
                    if grown == *state {
                        break;
                    }
                    *state = grown;
                }
            }
            Step::If { then, otherwise, .. } => {
                let mut other = state.clone();
                self.steps(then, state);
                self.steps(otherwise, &mut other);
                state.extend(other);
            }
            Step::Map(_)
            | Step::Assign { .. }
            | Step::Reorder { .. }
            | Step::Scale { .. }
            | Step::Tanh { .. }
            | Step::Load(_)
            | Step::Store(_)
            | Step::Fold(_)
            | Step::Combine(_)
            | Step::Put { .. }
            | Step::Get { .. }
            | Step::Clear(_)
            | Step::Copy(_)
            | Step::Dot(_) => {}
        }
    }

    /// A slot after the stage was set: one less ahead, or anywhere when it starts anew.
    fn moved(&self, buffer: BufferId, at: At, local: LocalId, reset: bool) -> At {
        let slots = self.program.buffers[buffer.index()].slots.max(1);
        match at {
            At::Ahead(own, _) if own == local && reset => At::Any,
            At::Ahead(own, ahead) if own == local => At::Ahead(own, (ahead + slots - 1) % slots),
            At::Ahead(..) | At::Any => at,
        }
    }

    fn race(&self, &(buffer, at, kind): &(BufferId, At, Kind), state: &State) -> Option<Race> {
        let buffers = &self.program.buffers;
        let own = &buffers[buffer.index()];
        let name = |buffer: BufferId| buffers[buffer.index()].name.clone();
        state.iter().find_map(|&(other, slot, earlier)| {
            let meets = match (at, slot) {
                (At::Ahead(a, x), At::Ahead(b, y)) if a == b && other == buffer => x == y,
                (At::Ahead(..) | At::Any, _) if other == buffer => true,
                _ => self.program.shared_bytes > 0 && overlap(own, &buffers[other.index()]),
            };
            if !meets || (kind == Kind::Read && earlier == Kind::Read) {
                return None;
            }
            let later = kind.name();
            Some(match earlier {
                Kind::Copy(_) => Race::NotWaited { buffer: name(buffer), later, other: name(other) },
                Kind::Read | Kind::Write => {
                    Race::Unordered { buffer: name(buffer), later, earlier: earlier.name(), other: name(other) }
                }
            })
        })
    }
}

fn overlap(a: &Buffer, b: &Buffer) -> bool {
    a.offset < b.offset + b.bytes() && b.offset < a.offset + a.bytes()
}

/// Copies under way are not affected.
fn pass_barrier(state: &mut State) {
    state.retain(|(_, _, kind)| matches!(kind, Kind::Copy(_)));
}

fn older(kind: Kind) -> Kind {
    match kind {
        Kind::Copy(age) => Kind::Copy((age + 1).min(GROUPS)),
        Kind::Read | Kind::Write => kind,
    }
}

/// What a step does to shared memory, steps inside it left out.
fn accesses(program: &Program, step: &Step) -> Vec<(BufferId, At, Kind)> {
    let access = |slot: &Slot, kind| {
        let slots = program.buffers[slot.buffer.index()].slots;
        let at = match slot.at {
            Some(local) if slots > 1 => At::Ahead(local, slot.ahead % slots),
            Some(_) | None => At::Any,
        };
        (slot.buffer, at, kind)
    };
    match step {
        Step::Put { to, .. } | Step::Clear(to) => vec![access(to, Kind::Write)],
        Step::Get { from, .. } => vec![access(from, Kind::Read)],
        Step::Copy(copy) if copy.asynchronous => vec![access(&copy.to, Kind::Copy(0))],
        Step::Copy(copy) => vec![access(&copy.to, Kind::Write)],
        Step::Dot(dot) => {
            let codes = dot.codes.iter().flat_map(|codes| [&codes.scales, &codes.biases]);
            let a = match &dot.a {
                DotOperand::Shared(a) => Some(a),
                DotOperand::Fragment(_) => None,
            };
            a.into_iter().chain([&dot.b]).chain(codes).map(|slot| access(slot, Kind::Read)).collect()
        }
        Step::Fold(fold) => fold.exchange.iter().map(|&buffer| (buffer, At::Any, Kind::Write)).collect(),
        Step::Combine(fold) => fold.exchange.iter().map(|&buffer| (buffer, At::Any, Kind::Read)).collect(),
        Step::Let(..)
        | Step::Set(..)
        | Step::Map(_)
        | Step::Assign { .. }
        | Step::Reorder { .. }
        | Step::Scale { .. }
        | Step::Tanh { .. }
        | Step::Load(_)
        | Step::Store(_)
        | Step::Commit
        | Step::Wait(_)
        | Step::Barrier
        | Step::For(_)
        | Step::If { .. } => vec![],
    }
}
