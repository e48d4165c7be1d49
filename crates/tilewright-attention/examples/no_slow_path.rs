//! What cache formats, score modifiers and masks cost beside the plain way, measured in turns in one run.
//!
//!     cargo run --release -p tilewright-attention --example no_slow_path

use std::error::Error;
use std::time::Instant;
use tilewright_attention::cache::Format;
use tilewright_attention::cases::{Case, Inputs};
use tilewright_attention::feature::{Feature, Pair, Pairs, Phase, ScoreHook};
use tilewright_attention::{Attention, Causal, Features, Mask, Plan, Softcap};
use tilewright_ir::Elem;
use tilewright_lang::prelude::*;
use tilewright_runtime::{Device, Tensor};

const ROUNDS: usize = 15;

/// A user's modifier: nearer keys count more, by `distance / (8 + distance)`.
#[derive(Clone, Debug)]
struct Fading;

impl SpecValue for Fading {
    fn key(&self, into: &mut String) {
        into.push_str("fading");
    }
}

impl Feature for Fading {
    fn score(&self) -> Option<(Phase, &dyn ScoreHook)> {
        Some((Phase::Bias, self))
    }
}

impl ScoreHook for Fading {
    fn apply(&self, scores: Tile<f32>, at: &Pairs) -> Tile<f32> {
        let distance = (at.query - at.key).abs().cast::<f32>();
        scores - distance * (distance + 8.0).recip()
    }

    fn reference(&self, at: &Pair, score: f64) -> f64 {
        let distance = (at.query - at.key).abs() as f64;
        score - distance / (distance + 8.0)
    }
}

/// One way to compute a problem, planned.
struct Way {
    name: String,
    case: Case,
    inputs: Inputs,
    features: Features,
    plan: Plan,
    o: Tensor,
    seconds: Vec<f64>,
}

impl Way {
    fn new(name: &str, case: &Case, features: Features, device: &Device) -> Result<Way, Box<dyn Error>> {
        let case = case.clone();
        let inputs = case.clean_inputs()?;
        let plan = case.request(&inputs)?.with_features(features.clone()).plan(device)?;
        let o = Tensor::zeros(case.elements().0, &case.extents().o())?;
        Ok(Way { name: name.to_string(), case, inputs, features, plan, o, seconds: Vec::new() })
    }

    fn run(&mut self) -> Result<(), Box<dyn Error>> {
        let request: Attention<'_> = self.case.request(&self.inputs)?.with_features(self.features.clone());
        let started = Instant::now();
        self.plan.run(&request, self.o.view_mut(), None)?;
        self.seconds.push(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn median(&mut self) -> f64 {
        self.seconds.sort_by(f64::total_cmp);
        self.seconds[self.seconds.len() / 2]
    }
}

/// Runs all ways in turns and prints each beside the first.
fn compare(title: &str, mut ways: Vec<Way>) -> Result<(), Box<dyn Error>> {
    for way in &mut ways {
        way.run()?; // memory is touched for the first time
        way.seconds.clear();
    }
    for _ in 0..ROUNDS {
        ways.iter_mut().try_for_each(Way::run)?;
    }
    println!("{title}");
    let first = ways[0].median();
    for way in &mut ways {
        let median = way.median();
        println!("  {:<28} {:>9.3} ms   {:>5.2}x the speed of the first", way.name, median * 1e3, first / median);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu();
    println!("{} threads, {}, medians of {ROUNDS} in turns", device.info().threads, device.info().isa);
    for elem in [Elem::F32, Elem::Bf16] {
        for keys in [4096, 32_768] {
            let case = Case::new("decode").types(elem, elem).heads(32, 8).dims(128, 128).lengths(1, keys).without_lse();
            let ways = ["dense", "ring", "paged(16)", "dense+k-q8g64+v-q8g64", "dense+k-q4g64+v-q4g64"];
            let ways = ways
                .into_iter()
                .map(|format| Way::new(format, &case.clone().cache(Format::parse(format)?), Features::none(), &device));
            compare(&format!("decode {elem} Hq32 Hkv8 D128, {keys} keys"), ways.collect::<Result<_, _>>()?)?;
        }
    }

    let (tokens, heads) = (2048, 8);
    let case = Case::new("prefill").heads(heads, heads).dims(128, 128).lengths(tokens, tokens).without_lse();
    let causal = Features::none().with(Causal);
    let with = |name: &str, features: Features| Way::new(name, &case, features, &device);
    let bits: Vec<f64> = (0..tokens * tokens).map(|at| f64::from(at % tokens <= at / tokens)).collect();
    let mask = Mask::new(Tensor::from_f64(Elem::Bool, &bits, &[tokens, tokens])?)?;
    let schedule = with("causal", causal.clone())?.plan.schedule();
    let classified = mask.classify(&device, schedule)?;
    let ways = vec![
        with("causal", causal.clone())?,
        with("causal, soft cap", causal.clone().with(Softcap(50.0)))?,
        with("causal, a user's modifier", causal.with(Fading))?,
        with("mask with class map", Features::none().with(classified))?,
        with("mask", Features::none().with(mask))?,
    ];
    compare(&format!("prefill f32 H{heads} D128, {tokens} tokens"), ways)
}
