//! The comparison goes red when a kernel is wrong: kernels broken on purpose, and results changed by hand.

use std::ops::Range;
use tilewright_attention::Causal;
use tilewright_attention::cases::{Case, CaseError};
use tilewright_attention::feature::{Feature, Keys, MaskHook, Pair, Pairs, Phase, Queries, ScoreHook};
use tilewright_attention::reference::{Bound, Mismatch, Problem, attention, compare, compare_elements};
use tilewright_ir::Elem;
use tilewright_lang::prelude::*;
use tilewright_runtime::Device;

/// Causal in its reference, and something near it in the kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Nearly {
    /// The mask hides the diagonal.
    HidesTheDiagonal,
    /// The mask shows one key too many.
    ShowsOneMore,
    /// The loop ends one key early.
    EndsEarly,
    /// One key too many skips the mask.
    MasksTooLittle,
    /// The scores are off by a thousandth.
    Scores,
}

impl SpecValue for Nearly {
    fn key(&self, into: &mut String) {
        into.push_str(&format!("{self:?}"));
    }
}

impl Feature for Nearly {
    fn mask(&self) -> Option<&dyn MaskHook> {
        Some(self)
    }

    fn score(&self) -> Option<(Phase, &dyn ScoreHook)> {
        (*self == Nearly::Scores).then_some((Phase::Bias, self))
    }
}

#[tile]
impl MaskHook for Nearly {
    fn attended(&self, at: &Pairs) -> Tile<bool> {
        match self {
            Nearly::HidesTheDiagonal => at.key < at.query,
            Nearly::ShowsOneMore => at.key <= at.query + 1,
            Nearly::EndsEarly | Nearly::MasksTooLittle | Nearly::Scores => at.key <= at.query,
        }
    }

    fn reference(&self, at: &Pair) -> bool {
        Causal.reference(at)
    }

    fn interval(&self, at: &Pair) -> Option<Range<i64>> {
        Causal.interval(at)
    }

    fn may(&self, at: &Queries, all: Keys) -> Keys {
        match self {
            Nearly::EndsEarly => Keys { end: all.end.min(at.last), ..all },
            Nearly::ShowsOneMore => Keys { end: all.end.min(at.last + 2), ..all },
            Nearly::HidesTheDiagonal | Nearly::MasksTooLittle | Nearly::Scores => Causal.may(at, all),
        }
    }

    fn must(&self, at: &Queries, all: Keys) -> Keys {
        match self {
            Nearly::MasksTooLittle => Keys { end: all.end.min(at.first + 2), ..all },
            Nearly::HidesTheDiagonal | Nearly::ShowsOneMore | Nearly::EndsEarly | Nearly::Scores => {
                Causal.must(at, all)
            }
        }
    }

    fn leaves_holes(&self) -> bool {
        false
    }
}

impl ScoreHook for Nearly {
    fn apply(&self, scores: Tile<f32>, _: &Pairs) -> Tile<f32> {
        scores * 1.001
    }

    fn reference(&self, _: &Pair, score: f64) -> f64 {
        score
    }
}

#[test]
fn a_kernel_that_is_nearly_causal_is_found_wrong() {
    use Nearly::*;
    for broken in [HidesTheDiagonal, ShowsOneMore, EndsEarly, MasksTooLittle, Scores] {
        // The tiles end where the diagonal does, so that each mistake has a tile to show in.
        let case = Case::new("nearly").lengths(16, 16).schedule(4, 2).feature(broken);
        let result = case.run(&Device::interp());
        assert!(matches!(result, Err(CaseError::Wrong { .. })), "{broken:?}: {result:?}");
    }
}

/// The reference of a small problem, its bound, and its own numbers as a result.
fn exact(elem: Elem) -> (tilewright_attention::reference::Reference, Bound) {
    let case = Case::new("exact").types(elem, elem).feature(Causal).lengths(20, 12);
    let inputs = case.inputs().unwrap();
    let problem = Problem::of(&case.request(&inputs).unwrap()).unwrap();
    let wanted = attention(&problem);
    let bound = Bound::of(&problem, &wanted);
    (wanted, bound)
}

#[test]
fn an_element_just_out_of_bounds_is_found_and_one_just_inside_is_not() {
    for elem in [Elem::F32, Elem::F16, Elem::Bf16] {
        let (wanted, bound) = exact(elem);
        assert!(compare(&wanted.o, Some(&wanted.lse), &wanted, &bound).is_ok());
        let last = wanted.o.len() - 1;
        let mut o = wanted.o.clone();
        o[last] = wanted.o[last] + 0.99 * bound.o(wanted.o[last]);
        let near = compare(&o, None, &wanted, &bound).unwrap();
        assert!(near.share > 0.9 && near.error > 0.0, "{near:?}");
        o[last] = wanted.o[last] + 1.01 * bound.o(wanted.o[last]);
        assert!(matches!(compare(&o, None, &wanted, &bound), Err(Mismatch::Element { tensor: "o", .. })), "{elem}");
        let mut lse = wanted.lse.clone();
        let last = lse.len() - 1;
        lse[last] += 1.01 * bound.lse(lse[last]);
        let found = compare(&wanted.o, Some(&lse), &wanted, &bound);
        assert!(matches!(found, Err(Mismatch::Element { tensor: "lse", .. })), "{elem}");
    }
}

#[test]
fn nan_infinity_and_nothing_are_wrong() {
    let (wanted, bound) = exact(Elem::F32);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut o = wanted.o.clone();
        o[3] = bad;
        assert!(matches!(compare(&o, None, &wanted, &bound), Err(Mismatch::Element { index: 3, .. })), "{bad}");
        let mut lse = wanted.lse.clone();
        assert_eq!(lse[0], f64::NEG_INFINITY, "the first rows attend to nothing");
        lse[0] = if bad == f64::NEG_INFINITY { 0.0 } else { bad };
        assert!(compare(&wanted.o, Some(&lse), &wanted, &bound).is_err(), "{bad}");
    }
    let short = &wanted.o[1..];
    assert!(matches!(compare(short, None, &wanted, &bound), Err(Mismatch::Length { tensor: "o", .. })));
    let mut empty = wanted.clone();
    (empty.o, empty.lse) = (Vec::new(), Vec::new());
    assert_eq!(compare(&[], Some(&[]), &empty, &bound), Err(Mismatch::Empty));
}

/// How many elements miss a bound of a half; `None` when all hold.
fn misses(got: &[f64], wanted: &[f64]) -> Option<usize> {
    let all = compare_elements(got, wanted, |_| 0.5);
    assert_eq!(all.first_miss.is_some(), all.misses > 0);
    (!all.hold()).then_some(all.misses)
}

#[test]
fn elements_hold_only_when_every_one_does() {
    assert_eq!(misses(&[1.0, 2.5], &[1.0, 2.0]), None);
    assert_eq!(misses(&[1.0, 2.6, 9.0], &[1.0, 2.0, 0.0]), Some(2));
    assert_eq!(misses(&[f64::NEG_INFINITY, f64::NAN], &[f64::NEG_INFINITY, f64::NAN]), None);
    assert_eq!(misses(&[1.0], &[1.0, 2.0]), Some(0), "an element is not there");
    assert_eq!(misses(&[], &[]), Some(0), "nothing was compared");
}

#[test]
fn nan_and_infinity_match_only_themselves() {
    assert_eq!(misses(&[f64::NAN], &[1.0]), Some(1));
    assert_eq!(misses(&[1.0], &[f64::NAN]), Some(1));
    assert_eq!(misses(&[f64::INFINITY], &[f64::NEG_INFINITY]), Some(1));
    assert_eq!(misses(&[1.0], &[f64::INFINITY]), Some(1));
    assert!(compare_elements(&[f64::NAN, 1.0, 3.0], &[1.0; 3], |_| 0.5).error.is_nan());
}

#[test]
fn a_reference_that_was_rounded_itself_leaves_half_a_unit_more() {
    for (elem, half_unit) in [(Elem::F16, 2f64.powi(-11)), (Elem::Bf16, 2f64.powi(-8)), (Elem::F32, 0.0)] {
        let (_, bound) = exact(elem);
        assert_eq!(bound.o_of_rounded(-2.0), bound.o(-2.0) + 2.0 * half_unit, "{elem}");
    }
}

#[test]
fn f16_and_bf16_bounds_are_of_the_size_of_their_rounding() {
    for (elem, unit) in [(Elem::F16, 2f64.powi(-11)), (Elem::Bf16, 2f64.powi(-8))] {
        let (wanted, bound) = exact(elem);
        let allowed = bound.o(1.0);
        assert!(allowed >= unit && allowed < 16.0 * unit * wanted.largest_value, "{elem}: {allowed}");
    }
}
