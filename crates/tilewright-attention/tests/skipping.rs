//! Tiles that are skipped, and masks that are not asked, change no bit of a result.

use tilewright_attention::cases::Case;
use tilewright_attention::feature::{Feature, Input, MaskHook, Pair, Pairs, Phase, ScoreHook, SinkHook};
use tilewright_attention::{Features, features};
use tilewright_lang::prelude::*;
use tilewright_runtime::Device;

/// One feature, of which nothing is known but what it does to each pair.
#[derive(Clone, Debug)]
struct Unskipped(Features);

impl SpecValue for Unskipped {
    fn key(&self, into: &mut String) {
        into.push_str("unskipped ");
        self.0.key(into);
    }
}

impl Feature for Unskipped {
    fn inputs(&self) -> Vec<Input<'_>> {
        self.0.inputs().collect()
    }

    fn score(&self) -> Option<(Phase, &dyn ScoreHook)> {
        let of = |phase| self.0.scores(phase).next().map(|hook| (phase, hook));
        of(Phase::Cap).or_else(|| of(Phase::Bias))
    }

    fn mask(&self) -> Option<&dyn MaskHook> {
        self.0.masks().next().map(|_| self as &dyn MaskHook)
    }

    fn sink(&self) -> Option<&dyn SinkHook> {
        self.0.sinks().next()
    }
}

impl MaskHook for Unskipped {
    fn attended(&self, at: &Pairs) -> Tile<bool> {
        self.0.attended(Tile::full(true, &[1, 1]), at)
    }

    fn reference(&self, at: &Pair) -> bool {
        self.0.masks().all(|mask| mask.reference(at))
    }

    fn bias(&self, at: &Pairs) -> Option<Tile<f32>> {
        self.0.bias(at)
    }

    fn reference_bias(&self, at: &Pair) -> f64 {
        self.0.masks().map(|mask| mask.reference_bias(at)).sum()
    }
}

/// Several tiles of queries and of keys, the last ones not whole.
fn case() -> Case {
    Case::new("skipping").heads(4, 2).lengths(37, 75).batch(2).kv_len(&[75, 40]).dims(8, 8).schedule(8, 16)
}

/// The bits of o and lse, in a problem where every key holds numbers.
fn bits(device: &Device, case: Case) -> Vec<u32> {
    let inputs = case.clean_inputs().unwrap();
    let out = case.request(&inputs).unwrap().run(device).unwrap();
    let tensors = [out.o, out.lse.unwrap()];
    let numbers = tensors.iter().flat_map(|tensor| tensor.to_vec::<f32>().unwrap());
    numbers.map(f32::to_bits).collect()
}

/// Holds features against the same without what is known of them; gives how many numbers were compared.
fn check(device: &Device, together: &[&Features]) -> usize {
    let known = together.iter().fold(Features::none(), |all, one| all.and((*one).clone()));
    let unknown = together.iter().fold(Features::none(), |all, one| all.with(Unskipped((*one).clone())));
    let starts = [None, Some(0), Some(-9), Some(60), Some(1 << 29)];
    let compare = |start: Option<i64>| {
        let case = match start {
            Some(start) => case().q_start(start),
            None => case(),
        };
        let (skipped, whole) =
            (bits(device, case.clone().features(known.clone())), bits(device, case.features(unknown.clone())));
        assert!(skipped == whole, "{known:?} from {start:?}");
        skipped.len()
    };
    starts.into_iter().map(compare).sum()
}

/// The samples of each feature of the library.
fn samples() -> Vec<Vec<Features>> {
    let extents = case().extents();
    features::all().iter().map(|entry| (entry.samples)(&extents)).collect()
}

#[test]
fn skipping_changes_no_bit_of_any_feature() {
    let device = Device::cpu();
    let compared: usize = samples().iter().flatten().map(|one| check(&device, &[one])).sum();
    assert!(compared > 100_000, "{compared}");
}

#[test]
fn skipping_changes_no_bit_of_any_two_features() {
    let (device, samples) = (Device::cpu(), samples());
    let mut compared = 0;
    for (i, ones) in samples.iter().enumerate() {
        for others in &samples[i + 1..] {
            for one in ones {
                compared += others.iter().map(|other| check(&device, &[one, other])).sum::<usize>();
            }
        }
    }
    assert!(compared > 100_000, "{compared}");
}
