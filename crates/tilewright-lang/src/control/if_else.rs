//! `if`: on a `bool` it just runs; on a `Scalar<bool>` both branches are traced and become a branch of the IR.

use super::carried::Assignable;
use super::slot::{Leaf, Slot, State, read, read_one, write, write_one};
use crate::handle::Scalar;
use crate::trace::{At, Raw, Tracer, with};
use std::panic::Location;
use tilewright_ir::op::Control;
use tilewright_ir::{Diagnostic, Kernel, RegionId, ValueId};

/// What can decide an `if`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot decide an `if`",
    label = "expected `bool` (decided while specialising) or `Scalar<bool>` (decided on the device)",
    note = "a `Tile<bool>` has one answer per element: use `mask.select(yes, no)`"
)]
pub trait IntoIf {
    /// What drives it.
    type If: If;
    /// Begins.
    fn into_if(self) -> Self::If;
}

/// An `if`, given the mutable variables that its branches mention.
pub trait If: Sized {
    /// Whether the first branch runs.
    fn enter_then(&mut self, slots: &mut [Slot<'_>]) -> bool;
    /// Whether the second branch runs.
    fn enter_else(&mut self, slots: &mut [Slot<'_>]) -> bool;
}

/// The value of an `if` expression: any Rust type at compile time, carried state at run time.
#[diagnostic::on_unimplemented(
    message = "a run-time `if` cannot give a `{T}`",
    label = "the device decides which branch gives this value",
    note = "its branches give tiles, scalars, or structs of them under `#[derive(Carried)]`"
)]
pub trait Finish<T>: If {
    /// Merges the branches.
    fn finish(self, slots: &mut [Slot<'_>], then: Option<T>, otherwise: Option<T>) -> T;
}

/// An `if` that is decided while tracing.
pub struct StaticIf(bool);

impl IntoIf for bool {
    type If = StaticIf;

    fn into_if(self) -> StaticIf {
        StaticIf(self)
    }
}

impl If for StaticIf {
    fn enter_then(&mut self, _: &mut [Slot<'_>]) -> bool {
        self.0
    }

    fn enter_else(&mut self, _: &mut [Slot<'_>]) -> bool {
        !self.0
    }
}

impl<T> Finish<T> for StaticIf {
    fn finish(self, _: &mut [Slot<'_>], then: Option<T>, otherwise: Option<T>) -> T {
        match then.or(otherwise) {
            Some(value) => value,
            None => unreachable!("one of `enter_then` and `enter_else` said true"),
        }
    }
}

/// An `if` of the IR being recorded.
pub struct RunIf {
    condition: Scalar<bool>,
    at: At,
    regions: [RegionId; 2],
    before: Vec<State>,
    after_then: Vec<State>,
}

impl IntoIf for Scalar<bool> {
    type If = RunIf;

    #[track_caller]
    fn into_if(self) -> RunIf {
        RunIf {
            condition: self,
            at: Location::caller(),
            regions: [Kernel::BODY; 2],
            before: Vec::new(),
            after_then: Vec::new(),
        }
    }
}

impl RunIf {
    fn open(&mut self, branch: usize) {
        if let Some(region) = with(|t| t.open("if", self.at)) {
            self.regions[branch] = region; // 0 or 1
        }
    }

    fn close(&self, branch: usize) {
        with(|t| t.close(self.regions[branch])); // 0 or 1
    }
}

impl If for RunIf {
    fn enter_then(&mut self, slots: &mut [Slot<'_>]) -> bool {
        self.before = read(slots);
        self.open(0);
        true
    }

    fn enter_else(&mut self, slots: &mut [Slot<'_>]) -> bool {
        self.after_then = read(slots);
        write(slots, &self.before);
        self.close(0);
        self.open(1);
        true
    }
}

#[diagnostic::do_not_recommend]
impl<T: Assignable> Finish<T> for RunIf {
    fn finish(mut self, slots: &mut [Slot<'_>], then: Option<T>, otherwise: Option<T>) -> T {
        let mut after_else = read(slots);
        self.close(1);
        let (Some(mut then), Some(mut otherwise)) = (then, otherwise) else {
            unreachable!("`enter_then` and `enter_else` both said true")
        };
        self.after_then.push(State { name: VALUE, leaves: read_one(&mut then) });
        after_else.push(State { name: VALUE, leaves: read_one(&mut otherwise) });
        let merged = with(|t| self.record(t, &after_else));
        if let Some(mut merged) = merged
            && let Some(value) = merged.pop()
        {
            write(slots, &merged);
            write_one(&mut then, &value.leaves);
        }
        then
    }
}

/// How messages call what an `if` expression gives.
const VALUE: &str = "the value of this `if`";

/// What the branches hand over: the values that differ.
#[derive(Default)]
struct Yields {
    then: Vec<ValueId>,
    otherwise: Vec<ValueId>,
}

/// A part of a variable after the `if`: the same on both sides, or a result of the branch.
enum Merged {
    Same(Leaf),
    Result,
}

impl RunIf {
    /// Appends the branch and returns what the variables are after it.
    fn record(&self, t: &mut Tracer, after_else: &[State]) -> Vec<State> {
        let mut yields = Yields::default();
        let merged: Vec<(&'static str, Vec<Merged>)> = self
            .after_then
            .iter()
            .zip(after_else)
            .map(|(then, otherwise)| (then.name, self.merge(t, then, otherwise, &mut yields)))
            .collect();
        let condition = t.usable(self.condition.raw, self.at);
        let results = match condition {
            Some(condition) if !t.failed() => self.push(t, condition, yields),
            _ => Vec::new(),
        };
        let mut results = results.into_iter();
        let after: Vec<State> = merged
            .into_iter()
            .map(|(name, leaves)| {
                let leaf = |merged| match merged {
                    Merged::Same(leaf) => leaf,
                    Merged::Result => Leaf::Value(results.next().unwrap_or(Raw::POISON)),
                };
                State { name, leaves: leaves.into_iter().map(leaf).collect() }
            })
            .collect();
        self.check_fixed(t, &after);
        after
    }

    fn merge(&self, t: &mut Tracer, then: &State, otherwise: &State, yields: &mut Yields) -> Vec<Merged> {
        let name = quoted(then.name);
        if then.leaves.len() != otherwise.leaves.len() {
            let message = format!(
                "the branches of this run-time `if` leave {name} in different make-up (an Option, a Vec length)"
            );
            t.error(self.at, Diagnostic::new(message).help("give it one make-up in both branches"));
            return then.leaves.iter().map(|&leaf| Merged::Same(leaf)).collect();
        }
        let one = |(&x, &y): (&Leaf, &Leaf)| match (x, y) {
            (x, y) if x == y => Merged::Same(x),
            (Leaf::Value(x), Leaf::Value(y)) => {
                let (Some(tx), Some(ty)) = (t.ty(x), t.ty(y)) else {
                    return Merged::Same(Leaf::Value(if t.ty(x).is_some() { y } else { x })); // its use says why
                };
                if tx != ty {
                    let made = |raw| t.made_at(raw).map(ToString::to_string).unwrap_or_default();
                    let mistake =
                        Diagnostic::new(format!("the branches of this `if` leave {name} as {tx} and as {ty}"))
                            .note(format!("the first was made at {}", made(x)))
                            .note(format!("the second was made at {}", made(y)))
                            .help("both branches leave one type and shape");
                    t.error(self.at, mistake);
                    return Merged::Same(Leaf::Value(Raw::POISON));
                }
                yields.then.extend(t.id(x));
                yields.otherwise.extend(t.id(y));
                Merged::Result
            }
            (x, _) => {
                let message =
                    format!("the branches of this run-time `if` leave different compile-time values in {name}");
                t.error(self.at, Diagnostic::new(message).help("make it a run-time scalar with `scalar(…)`"));
                Merged::Same(x)
            }
        };
        then.leaves.iter().zip(&otherwise.leaves).map(one).collect()
    }

    /// A compile-time part must also be what it was before.
    fn check_fixed(&self, t: &mut Tracer, after: &[State]) {
        for (before, after) in self.before.iter().zip(after) {
            let changed = before
                .leaves
                .iter()
                .zip(&after.leaves)
                .any(|(x, y)| matches!((x, y), (Leaf::Fixed(x), Leaf::Fixed(y)) if x != y));
            if changed {
                let message = format!(
                    "{} holds a compile-time value (a number, a flag, whether an Option is there) that changes inside a run-time `if`",
                    quoted(before.name)
                );
                t.error(self.at, Diagnostic::new(message).help("make it a run-time scalar with `scalar(…)`"));
            }
        }
    }

    fn push(&self, t: &mut Tracer, condition: ValueId, yields: Yields) -> Vec<Raw> {
        let [then, otherwise] = self.regions;
        t.kernel.regions[then.index()].yields = yields.then; // opened by `enter_then`
        t.kernel.regions[otherwise.index()].yields = yields.otherwise; // opened by `enter_else`
        let site = t.site(self.at);
        match t.kernel.push(t.region, Control::If { then, otherwise }.into(), &[condition], site) {
            Ok(results) => results.into_iter().map(|id| t.raw(id)).collect(),
            Err(wrong) => {
                t.error(self.at, Diagnostic::new(wrong.message)); // unreachable while the checks above are complete
                Vec::new()
            }
        }
    }
}

fn quoted(name: &str) -> String {
    if name == VALUE { name.to_string() } else { format!("`{name}`") }
}
