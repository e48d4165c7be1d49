//! The mutable variables of the surrounding code, as a `for` or `if` sees them.

use super::carried::{Assignable, Carried, Visitor};
use super::for_loop::{RunLoop, StaticLoop};
use super::if_else::{RunIf, StaticIf};
use crate::trace::Raw;

/// One mutable variable that a block mentions. Under compile-time control it is left alone.
pub struct Slot<'a> {
    name: &'static str,
    state: Option<&'a mut dyn Carried>,
}

/// One part of a variable.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Leaf {
    Value(Raw),
    Fixed(u64),
}

/// The parts of one variable at one moment.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub name: &'static str,
    pub leaves: Vec<Leaf>,
}

struct Read<'a>(&'a mut Vec<Leaf>);

impl Visitor for Read<'_> {
    fn value(&mut self, raw: &mut Raw) {
        self.0.push(Leaf::Value(*raw));
    }

    fn fixed(&mut self, what: u64) {
        self.0.push(Leaf::Fixed(what));
    }
}

struct Write<'a>(std::slice::Iter<'a, Leaf>);

impl Visitor for Write<'_> {
    fn value(&mut self, raw: &mut Raw) {
        if let Some(Leaf::Value(new)) = self.0.next() {
            *raw = *new;
        }
    }

    fn fixed(&mut self, _: u64) {
        self.0.next();
    }
}

pub(super) fn read_one(value: &mut (impl Carried + ?Sized)) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    value.visit(&mut Read(&mut leaves));
    leaves
}

pub(super) fn write_one(value: &mut (impl Carried + ?Sized), leaves: &[Leaf]) {
    value.visit(&mut Write(leaves.iter()));
}

pub(super) fn read(slots: &mut [Slot<'_>]) -> Vec<State> {
    let state = |slot: &mut Slot<'_>| State {
        name: slot.name,
        leaves: slot.state.as_mut().map(|s| read_one(&mut **s)).unwrap_or_default(),
    };
    slots.iter_mut().map(state).collect()
}

pub(super) fn write(slots: &mut [Slot<'_>], states: &[State]) {
    for (slot, state) in slots.iter_mut().zip(states) {
        if let Some(value) = &mut slot.state {
            write_one(&mut **value, &state.leaves);
        }
    }
}

/// A type that may be mentioned in a block under the control `C`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot live across a run-time `for` or `if`",
    label = "this mutable variable is used inside run-time control flow",
    note = "tiles, scalars, and structs of them under `#[derive(Carried)]` can"
)]
pub trait CarriedBy<C> {
    /// The variable as the block sees it.
    fn slot<'a>(&'a mut self, name: &'static str) -> Slot<'a>;
}

/// A type that may be assigned in a block under the control `C`.
#[diagnostic::on_unimplemented(
    message = "a variable of type `{Self}` is assigned inside a run-time `for` or `if`",
    label = "assigned here, in a block that the device runs zero or more times",
    note = "a compile-time value cannot change there: start it as `let mut x = scalar(0);`, or loop over a compile-time range",
    note = "a struct of tiles and scalars needs `#[derive(Carried)]`"
)]
pub trait AssignedBy<C>: CarriedBy<C> {}

macro_rules! compile_time {
    ($([$($param:ident)?] $control:ty;)*) => { $(
        impl<T: ?Sized $(, $param)?> CarriedBy<$control> for T {
            fn slot<'a>(&'a mut self, name: &'static str) -> Slot<'a> {
                Slot { name, state: None }
            }
        }

        impl<T: ?Sized $(, $param)?> AssignedBy<$control> for T {}
    )* };
}

compile_time! {
    [I] StaticLoop<I>;
    [] StaticIf;
}

macro_rules! run_time {
    ($($control:ty),*) => { $(
        #[diagnostic::do_not_recommend]
        impl<T: Carried> CarriedBy<$control> for T {
            fn slot<'a>(&'a mut self, name: &'static str) -> Slot<'a> {
                Slot { name, state: Some(self) }
            }
        }

        #[diagnostic::do_not_recommend]
        impl<T: Assignable> AssignedBy<$control> for T {}
    )* };
}

run_time!(RunLoop, RunIf);

/// A variable that the block mentions.
pub fn slot<'a, C, T: CarriedBy<C> + ?Sized>(_: &C, name: &'static str, value: &'a mut T) -> Slot<'a> {
    value.slot(name)
}

/// A variable that the block assigns to by name.
pub fn slot_assigned<'a, C, T: AssignedBy<C> + ?Sized>(_: &C, name: &'static str, value: &'a mut T) -> Slot<'a> {
    value.slot(name)
}

// A binding that is not `mut` can still be a `&mut` reference (from a pattern, say). Its type tells: method lookup tries
// the receiver by value first, where `&mut T` is `ThroughMut`'s `&mut self`, then by `&`, which takes everything else.

/// Found for a binding that is a `&mut` reference.
pub trait ThroughMut {
    /// The place behind it.
    fn __through(&mut self) -> Mutable<'_, Self> {
        Mutable(self)
    }
}

impl<T: ?Sized> ThroughMut for T {}

/// Found for any other binding.
pub trait ThroughOther {
    /// Nothing can change through it.
    fn __through(&self) -> Immutable {
        Immutable
    }
}

impl<T: ?Sized> ThroughOther for T {}

/// A place behind a reference.
pub struct Mutable<'a, T: ?Sized>(&'a mut T);

/// A binding that does not change.
pub struct Immutable;

/// Either, as a slot of the control `C`.
pub trait Through<'a, C> {
    /// The variable as the block sees it.
    fn slot(self, control: &C, name: &'static str) -> Slot<'a>;
}

impl<'a, C, T: CarriedBy<C> + ?Sized> Through<'a, C> for Mutable<'a, T> {
    fn slot(self, _: &C, name: &'static str) -> Slot<'a> {
        self.0.slot(name)
    }
}

impl<'a, C> Through<'a, C> for Immutable {
    fn slot(self, _: &C, name: &'static str) -> Slot<'a> {
        Slot { name, state: None }
    }
}
