//! What the classes of a mask's tiles save: milliseconds of a request with the mask, with its classes, and with the feature
//! that says the same without a tensor.
//!
//! `cargo run --release -p tilewright-attention --example mask_speed`; `-- 2048 0` sets the length and the window, 0 for
//! causal alone. Medians of 7, after one run; the ways take turns.

use std::time::Instant;
use tilewright_attention::cases::Case;
use tilewright_attention::{Attention, AttentionError, Causal, Mask, Schedule};
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor};

fn main() -> Result<(), AttentionError> {
    let arguments: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let (length, window) = match arguments[..] {
        [length, window] => (length, window),
        _ => (2455, 1024),
    };
    let device = Device::cpu();
    let attended = |i: usize, j: usize| j <= i && (window == 0 || j + window > i);
    let cells: Vec<bool> = (0..length * length).map(|n| attended(n / length, n % length)).collect();
    let added: Vec<f32> = cells.iter().map(|&attended| if attended { 0.0 } else { f32::NEG_INFINITY }).collect();
    let boolean = Mask::new(Tensor::from_slice(&cells, &[length, length])?)?;
    let additive = Mask::new(Tensor::from_slice(&added, &[length, length])?)?;
    let schedule = Schedule { heads: 1, queries: 128, keys: 128 };

    let case = Case::new("mask_speed").heads(8, 8).lengths(length, length).dims(128, 128).without_lse();
    let inputs = case.clean_inputs()?;
    let request = case.request(&inputs)?.schedule(schedule);
    let started = Instant::now();
    let classified = boolean.classify(&device, schedule)?;
    let first = started.elapsed();
    let started = Instant::now();
    boolean.classify(&device, schedule)?;
    println!("classified in {first:?} with the compilation, {:?} without", started.elapsed());
    let [none, some, all] = classified.map().shares().map(|share| 100.0 * share);
    println!("tiles: {none:.1} % skipped, {some:.1} % mixed, {all:.1} % read without the mask");

    let ways: [(&str, Attention<'_>); 6] = [
        ("nothing masked", request.clone()),
        ("boolean mask", request.clone().mask(boolean)),
        ("boolean mask with classes", request.clone().feature(classified)),
        ("additive mask", request.clone().mask(additive.clone())),
        ("additive mask with classes", request.clone().feature(additive.classify(&device, schedule)?)),
        ("causal", request.feature(Causal)),
    ];
    let mut times = vec![Vec::new(); ways.len()];
    let mut o = Tensor::zeros(Elem::F32, &case.extents().o())?;
    for round in 0..8 {
        for ((_, request), times) in ways.iter().zip(&mut times) {
            let started = Instant::now();
            request.run_into(&device, o.view_mut(), None)?;
            if round > 0 {
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    for ((name, _), mut times) in ways.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        println!("{name:<28}{:8.1} ms   least {:.1}", times[3], times[0]);
    }
    Ok(())
}
