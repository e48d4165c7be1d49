//! `for`: Rust's iterators unroll while tracing; a run-time range becomes a loop of the IR.
//!
//! A run-time body is traced twice. The first pass finds which variables change; the second must be the same program.
//! Inside another first pass one pass is enough, because the outer second pass comes here again.

use super::range::RunRange;
use super::slot::{Leaf, Slot, State, read, write};
use crate::handle::{Scalar, Tile};
use crate::trace::{At, Raw, Tracer, fail, with};
use std::panic::Location;
use tilewright_ir::op::Control;
use tilewright_ir::{Diagnostic, Elem, RegionId, Type, ValueId};

/// What `for x in …` accepts: anything that Rust iterates, or a run-time range.
#[diagnostic::on_unimplemented(
    message = "`for` cannot go through `{Self}`",
    label = "expected a range or a Rust iterator",
    note = "write `for i in 0..n` with a `Scalar<i32>` end for a loop on the device; a tile is worked on as a whole"
)]
pub trait IntoLoop {
    /// What drives it.
    type Loop;
    /// Begins.
    fn into_loop(self) -> Self::Loop;
}

/// A loop that hands out its items, given the mutable variables that its body mentions.
pub trait Loop {
    /// What the pattern binds.
    type Item;
    /// The item of the next pass.
    fn next(&mut self, slots: &mut [Slot<'_>]) -> Option<Self::Item>;
}

/// A loop that unrolls while tracing.
pub struct StaticLoop<I>(I);

impl<I: IntoIterator> IntoLoop for I {
    type Loop = StaticLoop<I::IntoIter>;

    fn into_loop(self) -> StaticLoop<I::IntoIter> {
        StaticLoop(self.into_iter())
    }
}

impl<I: Iterator> Loop for StaticLoop<I> {
    type Item = I::Item;

    fn next(&mut self, _: &mut [Slot<'_>]) -> Option<I::Item> {
        self.0.next()
    }
}

/// Nothing: with an impl for tiles and scalars under this bound, rustc says that these have no `IntoLoop`, instead of that
/// they have no `Iterator`.
pub trait Iterable: Sized {}

macro_rules! not_iterable {
    ($($handle:ident),*) => { $(
        impl<E> IntoLoop for $handle<E>
        where
            $handle<E>: Iterable,
        {
            type Loop = StaticLoop<std::iter::Empty<$handle<E>>>;

            fn into_loop(self) -> Self::Loop {
                StaticLoop(std::iter::empty())
            }
        }
    )* };
}

not_iterable!(Tile, Scalar);

enum Phase {
    Start,
    First,
    Second,
    Done,
}

/// A loop of the IR being recorded.
pub struct RunLoop {
    range: RunRange,
    at: At,
    phase: Phase,
    /// The pass being recorded.
    region: RegionId,
    /// The first pass, when there was one.
    first: Option<RegionId>,
    /// What the variables were before the loop, and as arguments of the pass.
    before: Vec<State>,
    during: Vec<State>,
}

impl IntoLoop for RunRange {
    type Loop = RunLoop;

    #[track_caller]
    fn into_loop(self) -> RunLoop {
        let at = Location::caller();
        if self.step == 0 {
            fail(at, Diagnostic::new("the step of this loop is 0").help("a run-time range advances by 1 or more"));
        }
        RunLoop {
            range: self,
            at,
            phase: Phase::Start,
            region: tilewright_ir::Kernel::BODY,
            first: None,
            before: Vec::new(),
            during: Vec::new(),
        }
    }
}

impl Loop for RunLoop {
    type Item = Scalar<i32>;

    fn next(&mut self, slots: &mut [Slot<'_>]) -> Option<Scalar<i32>> {
        match self.phase {
            Phase::Start => {
                self.before = read(slots);
                let twice = with(|t| {
                    let twice = t.probing == 0;
                    t.probing += u32::from(twice);
                    twice
                });
                self.phase = if twice == Some(true) { Phase::First } else { Phase::Second };
                Some(self.begin(slots))
            }
            Phase::First => {
                self.end(slots);
                self.first = Some(self.region);
                with(|t| t.probing -= 1);
                self.phase = Phase::Second;
                Some(self.begin(slots))
            }
            Phase::Second => {
                self.end(slots);
                if let Some(after) = with(|t| self.record(t)) {
                    write(slots, &after);
                }
                self.phase = Phase::Done;
                None
            }
            Phase::Done => None,
        }
    }
}

impl RunLoop {
    /// Opens a pass: the body sees each variable as an argument of its region.
    fn begin(&mut self, slots: &mut [Slot<'_>]) -> Scalar<i32> {
        let at = self.at;
        let opened = with(|t| {
            let region = t.open("for", at);
            let site = t.site(at);
            let counter = t.kernel.add_value(Type::scalar(Elem::I32), region, site);
            let mut args = vec![counter];
            let during = map(&self.before, |leaf| match leaf {
                Leaf::Value(raw) => {
                    let Some(ty) = t.ty(raw) else { return leaf };
                    let argument = t.kernel.add_value(ty, region, site);
                    args.push(argument);
                    Leaf::Value(t.raw(argument))
                }
                fixed @ Leaf::Fixed(_) => fixed,
            });
            t.kernel.regions[region.index()].args = args; // just opened
            (region, during, t.raw(counter))
        });
        let Some((region, during, counter)) = opened else { return Scalar::from_raw(Raw::POISON) };
        (self.region, self.during) = (region, during);
        write(slots, &self.during);
        Scalar::from_raw(counter)
    }

    /// Closes a pass: checks what the body left in the variables, which the region yields.
    fn end(&mut self, slots: &mut [Slot<'_>]) {
        let after = read(slots);
        with(|t| {
            let mut yields = Vec::new();
            for (before, after) in self.before.iter().zip(&after) {
                self.end_one(t, before, after, &mut yields);
            }
            t.kernel.regions[self.region.index()].yields = yields; // opened by `begin`
            t.close(self.region);
        });
    }

    fn end_one(&self, t: &mut Tracer, before: &State, after: &State, yields: &mut Vec<ValueId>) {
        let (at, name) = (self.at, before.name);
        if before.leaves.len() != after.leaves.len() {
            let message = format!("`{name}` changes its make-up (an Option, a Vec length) inside a run-time `for`");
            t.error(at, Diagnostic::new(message).help("give it its final make-up before the loop"));
            return;
        }
        for (&before, &after) in before.leaves.iter().zip(&after.leaves) {
            match (before, after) {
                (Leaf::Value(old), Leaf::Value(new)) => {
                    let (Some(entered), Some(id)) = (t.ty(old), t.usable(new, at)) else { continue };
                    let left = t.kernel.ty(id);
                    if entered != left {
                        let made = t.made_at(new).map(ToString::to_string).unwrap_or_default();
                        t.error(
                            at,
                            Diagnostic::new(format!("`{name}` enters this loop as {entered} and leaves its body as {left}"))
                                .note(format!("last assigned from a value made at {made}"))
                                .help("a variable keeps its shape from pass to pass"),
                        );
                    }
                    yields.push(id);
                }
                (before, after) if before == after => {}
                _ => t.error(
                    at,
                    Diagnostic::new(format!("`{name}` holds a compile-time value (a number, a flag, whether an Option is there) that changes inside a run-time `for`"))
                        .help("make it a run-time scalar with `scalar(…)`, or loop over a compile-time range"),
                ),
            }
        }
    }

    /// Appends the loop, with only the variables that change, and returns what the variables are after it.
    fn record(&self, t: &mut Tracer) -> Vec<State> {
        let (at, region) = (self.at, self.region);
        if let Some(first) = self.first
            && !t.failed()
            && let Some(which) = t.difference(first, region).map(ToString::to_string)
        {
            t.error(
                at,
                Diagnostic::new(
                    "the body of this run-time `for` is not the same in every pass: it depends on Rust state that the \
                     first pass changed",
                )
                .note(format!("first difference at {which}"))
                .help("state that changes from pass to pass must be a `let mut` variable of tiles and scalars"),
            );
        }
        let ends = [self.range.first.raw, self.range.end.raw].map(|raw| t.usable(raw, at));
        if t.failed() {
            return map(&self.before, |leaf| match leaf {
                Leaf::Value(_) => Leaf::Value(Raw::POISON),
                fixed @ Leaf::Fixed(_) => fixed,
            });
        }
        let [Some(first), Some(end)] = ends else { return self.before.clone() }; // `usable` records why
        let step = t.push_step(self.range.step, at);
        let Some(step) = t.id(step) else { return self.before.clone() }; // a constant is always recorded

        // Without a mistake each value has its argument and its yield, in order.
        let body = &t.kernel.regions[region.index()];
        let passed: Vec<(ValueId, ValueId)> =
            body.args.iter().skip(1).copied().zip(body.yields.iter().copied()).collect();
        let kept: Vec<(ValueId, ValueId)> = passed.iter().copied().filter(|(arg, yielded)| arg != yielded).collect();
        let counter = body.args.first().copied();
        let values = self.before.iter().flat_map(|s| &s.leaves).filter_map(|leaf| match leaf {
            Leaf::Value(raw) => t.id(*raw),
            Leaf::Fixed(_) => None,
        });
        let entered: Vec<ValueId> = values.collect();
        let mut operands = vec![first, end, step];
        for (&(arg, yielded), &before) in passed.iter().zip(&entered) {
            match arg == yielded {
                true => t.alias(arg, before), // mentioned, never changed
                false => operands.push(before),
            }
        }
        let body = &mut t.kernel.regions[region.index()];
        body.args = counter.into_iter().chain(kept.iter().map(|k| k.0)).collect();
        body.yields = kept.iter().map(|k| k.1).collect();
        let site = t.site(at);
        let results = match t.kernel.push(t.region, Control::For { body: region }.into(), &operands, site) {
            Ok(results) => results,
            Err(wrong) => {
                t.error(at, Diagnostic::new(wrong.message)); // unreachable while the checks above are complete
                return self.before.clone();
            }
        };
        let mut results = results.into_iter();
        let mut passed = passed.into_iter();
        map(&self.before, |leaf| match (leaf, leaf.is_value().then(|| passed.next()).flatten()) {
            (Leaf::Value(_), Some((arg, yielded))) if arg != yielded => {
                results.next().map_or(leaf, |id| Leaf::Value(t.raw(id)))
            }
            (unchanged, _) => unchanged,
        })
    }
}

impl Tracer {
    fn push_step(&mut self, step: usize, at: At) -> Raw {
        let Ok(step) = i32::try_from(step) else {
            self.error(at, Diagnostic::new(format!("the step {step} of this loop does not fit i32")));
            return Raw::POISON;
        };
        let value = tilewright_ir::op::Literal(step.into());
        self.push(tilewright_ir::op::Elementwise::Constant { value, elem: Elem::I32 }.into(), &[], at)
    }
}

impl Leaf {
    fn is_value(self) -> bool {
        matches!(self, Leaf::Value(_))
    }
}

fn map(states: &[State], mut f: impl FnMut(Leaf) -> Leaf) -> Vec<State> {
    let one = |s: &State| State { name: s.name, leaves: s.leaves.iter().map(|&leaf| f(leaf)).collect() };
    states.iter().map(one).collect()
}
