//! The features of the library in requests: by the request's methods, in decode's splits, from launch to launch.

use tilewright_attention::cases::Case;
use tilewright_attention::reference::{Bound, Problem, attention, compare};
use tilewright_attention::{Alibi, Attention, Causal, Features, Schedule, Sinks, Softcap, Splits, Window, features};
use tilewright_lang::SpecValue;
use tilewright_runtime::{Device, Tensor};

fn numbers(numbers: &[f32]) -> Tensor {
    Tensor::from_slice(numbers, &[numbers.len()]).unwrap()
}

/// Holds a request against the reference.
fn check(device: &Device, request: &Attention<'_>) {
    let out = request.run(device).unwrap();
    let problem = Problem::of(request).unwrap();
    let wanted = attention(&problem);
    let lse = out.lse.map(|lse| lse.to_f64());
    let bound = Bound::of(&problem, &wanted);
    if let Err(error) = compare(&out.o.to_f64(), lse.as_deref(), &wanted, &bound) {
        panic!("{error}: {:?} {:?}", request.features(), request.requested_splits());
    }
}

#[test]
fn every_feature_is_right_in_splits_with_a_group_as_rows() {
    let device = Device::cpu();
    let case = Case::new("splits").heads(6, 2).lengths(5, 150).batch(2).kv_len(&[150, 61]);
    let samples: Vec<Features> = features::all().iter().flat_map(|entry| (entry.samples)(&case.extents())).collect();
    for sample in samples {
        for others in [Features::none(), Features::none().with(Window::last(30).sinks(2))] {
            // Two windows would share their inputs.
            let with_window = sample.to_string().starts_with("window");
            let all = if with_window { sample.clone() } else { sample.clone().and(others) };
            let case = case.clone().features(all);
            let inputs = case.inputs().unwrap();
            let request = case.request(&inputs).unwrap();
            for splits in [Splits::Count(1), Splits::Count(3), Splits::Keys(32), Splits::Count(40)] {
                check(&device, &request.clone().splits(splits).schedule(Schedule { heads: 3, queries: 4, keys: 16 }));
            }
        }
    }
}

#[test]
fn the_methods_of_a_request_are_the_features() {
    let q = Tensor::zeros(tilewright_ir::Elem::F32, &[1, 2, 3, 8]).unwrap();
    let request = Attention::new(q.view(), q.view(), q.view());
    let (slopes, logits) = (numbers(&[0.5, 0.25]), numbers(&[1.0, 2.0]));
    let by_methods = request
        .clone()
        .causal()
        .window(Window::last(2).sinks(1))
        .softcap(30.0)
        .sinks(logits.clone())
        .alibi(slopes.clone());
    let by_features = request
        .feature(Alibi::new(slopes))
        .feature(Sinks::new(logits))
        .feature(Softcap(30.0))
        .feature(Window { left: Some(1), right: Some(0), sinks: 1 })
        .feature(Causal);
    assert_eq!(format!("{:?}", by_methods.features()), format!("{:?}", by_features.features()));
    let shown = by_methods.features().to_string();
    assert_eq!(shown, "alibi+causal+sinks+softcap+window(left,right,sinks)");
    assert_eq!(Features::parse(&shown).unwrap().to_string(), shown);
}

#[test]
fn numbers_of_features_change_from_launch_to_launch_without_a_new_kernel() {
    let device = Device::cpu();
    let run = |features: Features| check_case(&device, features);
    for length in [1, 7, 40, usize::MAX] {
        run(Features::none().with(Window::last(length)));
    }
    assert_eq!(device.cached_pipelines(), 1);
    for sinks in [1, 20, usize::MAX] {
        run(Features::none().with(Window::last(5).sinks(sinks)));
    }
    assert_eq!(device.cached_pipelines(), 2, "sinks make another form");
    for number in [0.5, 2.0] {
        run(Features::none().with(Softcap(number.into())));
        run(Features::none().with(Sinks::new(numbers(&[number, -number]))));
        run(Features::none().with(Alibi::new(numbers(&[number, -number]))));
    }
    assert_eq!(device.cached_pipelines(), 5);
}

fn check_case(device: &Device, features: Features) {
    let case = Case::new("launches").lengths(9, 50).schedule(8, 16).features(features);
    let inputs = case.inputs().unwrap();
    check(device, &case.request(&inputs).unwrap());
}
