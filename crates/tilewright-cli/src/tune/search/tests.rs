use super::*;
use std::cell::RefCell;
use std::sync::Arc;
use tilewright::attention::cases::Case;
use tilewright::attention::{Candidates, Tuning};
use tilewright::lang::ir::{Elem, Kernel, Schedule, Work};
use tilewright::runtime::cuda::{Cubin, compile_cubin, nvrtc_version, shared_bytes};
use tilewright::runtime::{Arg, DeviceKind, ExternalDevice, ExternalPipeline, Grid, LaunchError};
use tilewright_compile::gpu::{Access16, Dialect, Source, Target, compile as render};
use tilewright_compile::pass::run_gpu;
use tilewright_ir::testing::tools;

const STAGES: Stages = Stages { rounds: 3, long: Duration::from_secs(60) };

/// Which was measured for how long, in order.
type Calls = Vec<(usize, Duration)>;

/// Schedules whose runs take `seconds(at, call)`.
fn halved(count: usize, present: Option<usize>, seconds: impl Fn(usize, usize) -> f64) -> (Vec<Measured>, Calls) {
    let calls = RefCell::new(Vec::new());
    let (measured, failed) = halve(count, present, &STAGES, |at, long| {
        let call = calls.borrow().iter().filter(|(other, _)| *other == at).count();
        calls.borrow_mut().push((at, long));
        Ok(vec![seconds(at, call)])
    });
    assert!(failed.is_empty(), "{failed:?}");
    (measured, calls.into_inner())
}

#[test]
fn all_are_measured_shortly_and_the_best_eighth_longer_in_turns() {
    // The later the faster; the machine was busy when the fastest one ran first.
    let (measured, calls) = halved(48, Some(0), |at, call| if (at, call) == (47, 0) { 1e6 } else { 100.0 - at as f64 });
    assert_eq!(measured.len(), 48, "none is lost");
    let finalists: Vec<usize> = measured.iter().filter(|one| one.finalist).map(|one| one.at).collect();
    assert_eq!(finalists, [47, 46, 45, 44, 43, 42, 0], "an eighth, and the table's choice");
    assert!(measured[..7].iter().all(|one| one.times.rounds.len() == 3));
    let (short, long) = calls.split_at(2 * 48);
    let order: Vec<usize> = short.iter().map(|(at, _)| *at).collect();
    assert_eq!(order, (0..48).chain((0..48).rev()).collect::<Vec<_>>());
    assert!(short.iter().all(|(_, each)| *each == Duration::from_secs(3)));
    assert!(long.iter().all(|(_, each)| *each == Duration::from_secs(20)));
    let turns: Vec<usize> = long.iter().map(|(at, _)| *at).collect();
    let (once, back) = (finalists.clone(), finalists.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(turns, [once.clone(), back, once].concat());
    assert_eq!(calls.len(), STAGES.steps(48));
    let ratio = measured[0].ratio.expect("a ratio");
    assert!((ratio.ratio - 100.0 / 53.0).abs() < 1e-12 && ratio.ratio_low == ratio.ratio_high);
}

#[test]
fn few_schedules_are_all_measured_longer() {
    for count in 1..=4 {
        let (measured, calls) = halved(count, Some(count - 1), |at, _| 1.0 + at as f64);
        assert!(measured.iter().all(|one| one.finalist), "{count}");
        assert_eq!(calls.len(), STAGES.steps(count), "{count}");
    }
}

#[test]
fn a_schedule_that_fails_while_it_is_timed_is_left_out_with_the_reason() {
    let left = |fails: &dyn Fn(usize, Duration) -> Result<f64, CliError>| {
        let (measured, reasons) = halve(6, Some(0), &STAGES, |at, long| Ok(vec![fails(at, long)?]));
        (measured.iter().map(|one| one.at).collect::<Vec<_>>(), reasons)
    };
    let error = || CliError::Failed("out of memory".to_string());
    let seconds = |at: usize| 10.0 - at as f64;
    // At once, in the first rounds, or only when it is measured longer.
    let (measured, reasons) = left(&|at, _| if at == 4 { Err(error()) } else { Ok(seconds(at)) });
    assert_eq!((measured, reasons), (vec![5, 3, 2, 1, 0], vec![error().to_string()]));
    let longer = Duration::from_secs(20);
    let (measured, reasons) = left(&|at, long| if (at, long) == (5, longer) { Err(error()) } else { Ok(seconds(at)) });
    assert_eq!((measured, reasons), (vec![4, 3, 2, 0, 1], vec![error().to_string()]));
    let (measured, reasons) = left(&|_, _| Err(error()));
    assert_eq!((measured.len(), reasons.len()), (0, 6));
    for none in [0.0, f64::NAN, -1.0] {
        let (measured, reasons) = left(&|at, _| Ok(if at == 4 { none } else { seconds(at) }));
        assert_eq!((measured.len(), &reasons[..]), (5, &["a run took no time".to_string()][..]), "{none}");
    }
    // Without the table's choice nothing is a ratio of it.
    let (measured, reasons) = halve(3, Some(1), &STAGES, |at, _| if at == 1 { Err(error()) } else { Ok(vec![1.0]) });
    assert!(measured.len() == 2 && reasons.len() == 1 && measured.iter().all(|one| one.ratio.is_none()));
}

#[test]
fn the_best_is_faster_than_the_tables_choice_in_every_round_and_not_wrong() {
    // 1 is faster by median, but not in every round; 2 is in each; 3 is slower than the table's choice.
    let seconds = |at: usize, call: usize| match (at, call) {
        (1, 4) => 11.0,
        _ => [10.0, 7.0, 8.0, 12.0][at],
    };
    let (measured, _) = halved(4, Some(0), seconds);
    assert_eq!(measured.iter().map(|one| one.at).collect::<Vec<_>>(), [1, 2, 0, 3]);
    let at = |dropped: &[usize]| best(&measured, Some(0), dropped).map(|one| one.at);
    assert_eq!(at(&[]), Some(2));
    assert_eq!(at(&[2]), Some(0), "2 is wrong");
    assert_eq!(at(&[2, 0]), Some(1), "the table's choice is wrong too");
    assert_eq!(at(&[2, 0, 1]), Some(3));
    assert_eq!(at(&[2, 0, 1, 3]), None);
    let (measured, _) = halved(4, None, seconds);
    assert_eq!(best(&measured, None, &[]).map(|one| one.at), Some(1), "nothing to be slower than");
}

#[test]
fn reasons_that_differ_in_numbers_alone_are_counted_together() {
    let reasons = ["16 bytes spill", "2 heads of 4", "128 bytes spill\nand more", "bytes spill"].map(str::to_string);
    let of = |count, reason: &str| Refusal { count, reason: reason.to_string() };
    let wanted = [of(2, "16 bytes spill"), of(1, "2 heads of 4"), of(1, "bytes spill")];
    assert_eq!(by_reason(reasons.to_vec()), wanted);
}

/// Compiles for an H200 and runs nothing.
struct Hopper;

struct Code(Source, Cubin);

impl ExternalDevice for Hopper {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Cuda
    }

    fn name(&self) -> &'static str {
        "a compiler"
    }

    fn compile(&self, kernel: &Kernel) -> Result<Box<dyn ExternalPipeline>, LaunchError> {
        let refused = |error: String| LaunchError::Failed { kernel: kernel.name.to_string(), reason: error };
        let shared_bytes = shared_bytes(90).map_err(|error| refused(error.to_string()))?;
        let kernel = run_gpu(kernel.clone(), None)?;
        let target = Target { dialect: Dialect::Cuda, compute: 90, shared_bytes };
        let source =
            render(&kernel, &target, &Access16::likely(&kernel)).map_err(|error| refused(error.to_string()))?;
        let cubin = compile_cubin(&source, 90).map_err(|error| refused(error.to_string()))?;
        Ok(Box::new(Code(source, cubin)))
    }
}

impl ExternalPipeline for Code {
    fn listing(&self) -> String {
        self.0.text.clone()
    }

    fn resources(&self) -> Option<Resources> {
        Some(self.1.resources)
    }

    fn launch(&self, _: Grid, _: &mut [Arg<'_>]) -> Result<(), LaunchError> {
        Err(LaunchError::Failed { kernel: self.0.entry.clone(), reason: "there is no GPU".to_string() })
    }
}

#[test]
fn schedules_of_a_gpu_that_spill_or_do_not_fit_are_counted() {
    if tools::present(nvrtc_version()).is_none() {
        return;
    }
    let device = Device::external(Arc::new(Hopper));
    let case = Case::new("prefill").types(Elem::Bf16, Elem::Bf16).without_lse().lengths(512, 512).dims(128, 128);
    let inputs = case.clean_inputs().unwrap();
    let request = || case.request(&inputs).map_err(CliError::Refused);
    let tuning = Tuning::of(&request().unwrap(), &device.info()).unwrap();
    let Candidates { kept, refused, left_out } = tuning.candidates(usize::MAX);
    assert!(kept.len() > 100 && left_out == 0 && refused.len() == 3, "{} {refused:?}", kept.len());
    let find = |queries, keys, [rows, columns, stages, blocks]: [u32; 4]| {
        let schedule = Schedule { heads: 1, queries, keys };
        let work = Some(Work { rows, columns, stages, blocks });
        *kept.iter().find(|one| (one.schedule, one.work) == (schedule, work)).expect("a candidate")
    };
    let too_large = find(128, 128, [8, 1, 3, 1]);
    // Sums are in 96 of 128 registers.
    let spilling = find(128, 64, [8, 1, 2, 2]);
    let steps = std::sync::atomic::AtomicUsize::new(0);
    let step = || {
        steps.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    let (ready, refused) = compile(&device, request, &[kept[0], too_large, spilling, too_large], step);
    let [Ready { candidate, spilled: 0, .. }] = &ready[..] else { panic!("{} are ready", ready.len()) };
    assert!(candidate.same(&tuning.chosen()) && steps.into_inner() == 4);
    let [large, spills] = &refused[..] else { panic!("{refused:?}") };
    assert!(large.count == 2 && large.reason.contains("bytes of shared memory a block"), "{large:?}");
    assert!(spills.count == 1 && spills.reason.ends_with("bytes of a thread's registers spill"), "{spills:?}");
}
