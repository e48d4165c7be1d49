//! What a kernel is given at launch.

use crate::element::Element;
use crate::handle::{Scalar, View, ViewMut};
use crate::trace::{At, Raw, with};
use std::panic::Location;
use tilewright_ir::{Access, Type};

/// A value on the host's side of a launch parameter: a tensor to read (`T`), a tensor to write (`M`), or a number.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum HostValue<T, M> {
    /// For a [`View`].
    In(T),
    /// For a [`ViewMut`].
    Out(M),
    /// For a [`Scalar`] of any element type: f64 holds every value of each.
    Scalar(f64),
}

/// A parameter whose value comes at launch. An optional one is there or not for each specialisation.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed at launch",
    note = "launch parameters are `View`, `ViewMut`, `Scalar` and `Option` of them, named by exactly these words"
)]
pub trait LaunchParam: Sized {
    /// Whether it is there.
    type Presence;
    /// Adds it to the kernel being traced.
    #[track_caller]
    fn declare(name: &'static str, presence: &Self::Presence) -> Self;
}

fn declare(name: &'static str, ty: Type, access: Access, at: At) -> Raw {
    with(|t| t.parameter(name, ty, access, at)).unwrap_or(Raw::POISON)
}

impl<E: Element, const RANK: usize> LaunchParam for View<E, RANK> {
    type Presence = ();

    #[track_caller]
    fn declare(name: &'static str, _: &()) -> Self {
        View::from_raw(declare(name, view_type::<E, RANK>(), Access::Read, Location::caller()))
    }
}

impl<E: Element, const RANK: usize> LaunchParam for ViewMut<E, RANK> {
    type Presence = ();

    #[track_caller]
    fn declare(name: &'static str, _: &()) -> Self {
        ViewMut::from_raw(declare(name, view_type::<E, RANK>(), Access::Write, Location::caller()))
    }
}

impl<E: Element> LaunchParam for Scalar<E> {
    type Presence = ();

    #[track_caller]
    fn declare(name: &'static str, _: &()) -> Self {
        Scalar::from_raw(declare(name, Type::scalar(E::ELEM), Access::Read, Location::caller()))
    }
}

impl<P: LaunchParam<Presence = ()>> LaunchParam for Option<P> {
    type Presence = bool;

    #[track_caller]
    fn declare(name: &'static str, present: &bool) -> Self {
        if *present { Some(P::declare(name, &())) } else { None }
    }
}

/// The type of a view. Ranks past 4 have no operations, so nothing comes of a wrong one.
fn view_type<E: Element, const RANK: usize>() -> Type {
    Type::View { elem: E::ELEM, rank: u8::try_from(RANK).unwrap_or(u8::MAX) }
}

/// A scalar that comes at launch with a specialisation value, such as an attention feature: a parameter of this name,
/// declared by the first who asks and shared by all who ask for it.
///
/// The host gives its value under the same name.
#[track_caller]
pub fn launch_scalar<E: Element>(name: &str) -> Scalar<E> {
    let at = Location::caller();
    Scalar::from_raw(with(|t| t.input(name, Type::scalar(E::ELEM), at)).unwrap_or(Raw::POISON))
}

/// An input tensor that comes at launch with a specialisation value; see [`launch_scalar`].
#[track_caller]
pub fn launch_view<E: Element, const RANK: usize>(name: &str) -> View<E, RANK> {
    let at = Location::caller();
    View::from_raw(with(|t| t.input(name, view_type::<E, RANK>(), at)).unwrap_or(Raw::POISON))
}
