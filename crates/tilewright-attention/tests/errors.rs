//! Every refusal of the contract: typed, with the offending value.

use tilewright_attention::cache::{Cache, Codes};
use tilewright_attention::{Attention, AttentionError, Schedule, Window};
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor};

fn zeros(elem: Elem, shape: &[usize]) -> Tensor {
    Tensor::zeros(elem, shape).unwrap()
}

/// What planning and running say about tensors of these shapes.
fn shapes(q: &[usize], k: &[usize], v: &[usize]) -> AttentionError {
    elements((Elem::F32, q), (Elem::F32, k), (Elem::F32, v))
}

fn elements(q: (Elem, &[usize]), k: (Elem, &[usize]), v: (Elem, &[usize])) -> AttentionError {
    let [q, k, v] = [q, k, v].map(|(elem, shape)| zeros(elem, shape));
    refusal(&Attention::new(q.view(), k.view(), v.view()))
}

fn refusal(request: &Attention<'_>) -> AttentionError {
    let device = Device::interp();
    let planned = request.plan(&device).expect_err("the plan was made");
    // As text, because NaN is no NaN's equal.
    assert_eq!(request.run(&device).expect_err("it ran").to_string(), planned.to_string());
    planned
}

/// A request that is right, changed by `change`.
fn changed(change: impl for<'a> FnOnce(Attention<'a>) -> Attention<'a>) -> AttentionError {
    let q = zeros(Elem::F32, &[2, 4, 3, 8]);
    let k = zeros(Elem::F32, &[2, 2, 5, 8]);
    refusal(&change(Attention::new(q.view(), k.view(), k.view())))
}

const Q: &[usize] = &[2, 4, 3, 8];
const K: &[usize] = &[2, 2, 5, 8];

#[test]
fn ranks_other_than_four_are_refused() {
    assert!(matches!(shapes(&[4, 3, 8], K, K), AttentionError::Rank { tensor: "q", got: 3, .. }));
    assert!(matches!(shapes(Q, &[5, 8], K), AttentionError::Rank { tensor: "k", got: 2, .. }));
    assert!(matches!(shapes(Q, K, &[]), AttentionError::Rank { tensor: "v", got: 0, .. }));
}

#[test]
fn shapes_that_disagree_are_refused() {
    use AttentionError::Extent;
    assert!(matches!(
        shapes(Q, &[1, 2, 5, 8], &[1, 2, 5, 8]),
        Extent { tensor: "k", axis: "batch", got: 1, wanted: 2, .. }
    ));
    assert!(matches!(shapes(Q, K, &[3, 2, 5, 8]), Extent { tensor: "v", axis: "batch", got: 3, .. }));
    assert!(matches!(shapes(Q, K, &[2, 1, 5, 8]), Extent { tensor: "v", axis: "number of heads", .. }));
    assert!(matches!(shapes(Q, K, &[2, 2, 6, 8]), Extent { tensor: "v", axis: "length", got: 6, wanted: 5, .. }));
    assert!(matches!(shapes(Q, &[2, 2, 5, 9], K), Extent { tensor: "k", axis: "head dim", got: 9, .. }));
}

#[test]
fn parts_of_a_cache_that_disagree_name_the_axis() {
    let (q, k) = (zeros(Elem::F32, Q), zeros(Elem::F32, K));
    let says = |cache: Cache<'_>| match refusal(&Attention::over(q.view(), cache)) {
        AttentionError::Extent { tensor, axis, got, wanted, .. } => (tensor, axis, got, wanted),
        error => panic!("{error}"),
    };
    let tail = |k_tail: &[usize], v_tail: &[usize]| {
        let (k_tail, v_tail) = (zeros(Elem::F32, k_tail), zeros(Elem::F32, v_tail));
        says(Cache::new(k.view(), k.view()).tail(k_tail.view(), v_tail.view(), &[1, 1]))
    };
    assert_eq!(tail(&[2, 2, 3, 7], &[2, 2, 3, 8]), ("k_tail", "head dim", 7, 8));
    assert_eq!(tail(&[2, 2, 3, 8], &[2, 2, 3, 9]), ("v_tail", "value dim", 9, 8));
    assert_eq!(tail(&[2, 2, 3, 8], &[2, 2, 4, 8]), ("v_tail", "length", 4, 3));

    let (w, groups, more) = (zeros(Elem::U32, &[2, 2, 5, 8]), zeros(Elem::F32, &[2, 2, 5, 2]), zeros(Elem::F32, K));
    let codes = |biases: &Tensor| {
        let codes =
            Codes { w: w.view(), scales: groups.view(), biases: biases.view(), format: "q4g32".parse().unwrap() };
        says(Cache::new(codes, codes))
    };
    assert_eq!(codes(&more), ("k_biases", "number of groups", 8, 2));
}

#[test]
fn heads_that_do_not_divide_are_refused() {
    let error = shapes(Q, &[2, 3, 5, 8], &[2, 3, 5, 8]);
    assert!(matches!(error, AttentionError::Heads { q_heads: 4, kv_heads: 3 }));
    assert_eq!(
        error.to_string(),
        "4 query heads cannot share 3 key/value heads; the first number must be a multiple of the second"
    );
}

#[test]
fn no_heads_and_no_dims_are_refused() {
    use AttentionError::Zero;
    assert!(matches!(shapes(&[2, 0, 3, 8], K, K), Zero { tensor: "q", axis: "heads" }));
    assert!(matches!(shapes(Q, &[2, 0, 5, 8], &[2, 0, 5, 8]), Zero { tensor: "k", axis: "heads" }));
    assert!(matches!(shapes(&[2, 4, 3, 0], &[2, 2, 5, 0], K), Zero { tensor: "q", axis: "head dim" }));
    assert!(matches!(shapes(Q, K, &[2, 2, 5, 0]), Zero { tensor: "v", axis: "value dim" }));
}

#[test]
fn dims_above_576_are_refused() {
    use AttentionError::HeadDim;
    assert!(matches!(shapes(&[1, 1, 1, 577], &[1, 1, 1, 577], &[1, 1, 1, 8]), HeadDim { axis: "head_dim", got: 577 }));
    assert!(matches!(shapes(&[1, 1, 1, 8], &[1, 1, 1, 8], &[1, 1, 1, 600]), HeadDim { axis: "value_dim", got: 600 }));
}

#[test]
fn mixed_types_are_refused_but_for_a_narrow_cache() {
    use Elem::*;
    for (q, kv) in [(F16, Bf16), (Bf16, F16), (F16, F32)] {
        assert_eq!(elements((q, Q), (kv, K), (kv, K)), AttentionError::ElementMix { q, kv });
    }
    for (k, v) in [(F16, F32), (F16, Bf16)] {
        assert_eq!(elements((F32, Q), (k, K), (v, K)), AttentionError::CacheMix { k, v });
    }
    assert!(matches!(elements((I32, Q), (I32, K), (I32, K)), AttentionError::Element { tensor: "q", got: I32, .. }));
    let (q, k) = (zeros(F32, Q), zeros(Bf16, K));
    assert!(Attention::new(q.view(), k.view(), k.view()).plan(&Device::interp()).is_ok());
}

#[test]
fn a_last_axis_with_gaps_is_refused() {
    let data = zeros(Elem::F32, &[2, 4, 3, 16]);
    let q = data.view().with_strides(Q, &[192, 48, 16, 2]).unwrap();
    let k = zeros(Elem::F32, K);
    let error = refusal(&Attention::new(q, k.view(), k.view()));
    assert_eq!(error, AttentionError::Stride { tensor: "q", stride: 2 });
}

#[test]
fn a_scale_that_is_no_number_is_refused() {
    for scale in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39] {
        assert!(matches!(changed(|r| r.scale(scale)), AttentionError::Scale { .. }), "{scale}");
    }
}

#[test]
fn key_lengths_outside_the_cache_are_refused() {
    assert_eq!(changed(|r| r.kv_len(&[1])), AttentionError::EntryCount { what: "kv_len", got: 1, batch: 2 });
    assert_eq!(changed(|r| r.kv_len(&[5, 6])), AttentionError::KvLen { entry: 1, got: 6, capacity: 5 });
    assert_eq!(changed(|r| r.kv_len(&[-1, 5])), AttentionError::KvLen { entry: 0, got: -1, capacity: 5 });
}

#[test]
fn a_start_that_32_bits_cannot_count_is_refused() {
    for start in [1 << 40, -(1 << 40), i64::MIN, i64::MAX] {
        assert_eq!(changed(|r| r.q_start(start)), AttentionError::Position { got: start });
    }
}

#[test]
fn schedules_outside_their_limits_are_refused() {
    for (queries, keys) in [(0, 16), (16, 0), (2048, 16), (16, 5000), (u32::MAX, u32::MAX)] {
        let schedule = Schedule { heads: 1, queries, keys };
        assert!(matches!(changed(|r| r.schedule(schedule)), AttentionError::Schedule { .. }), "{schedule}");
    }
}

/// What a feature that does not fit is refused with.
fn reason(change: impl for<'a> FnOnce(Attention<'a>) -> Attention<'a>) -> String {
    match changed(change) {
        AttentionError::Feature { feature, reason } => format!("{feature}: {reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn caps_that_f32_cannot_divide_by_are_refused() {
    for cap in [0.0, -0.0, -50.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-31, 1e31] {
        let told = reason(|r| r.softcap(cap));
        assert_eq!(told, format!("softcap: a cap of {cap}; give one from 1e-30 to 1e30, or leave it out"));
    }
}

#[test]
fn sinks_and_slopes_are_one_usable_number_a_head() {
    let numbers = |numbers: &[f32]| Tensor::from_slice(numbers, &[numbers.len()]).unwrap();
    let told = reason(|r| r.sinks(numbers(&[0.0; 3])));
    assert_eq!(told, "sinks: a tensor of f32 [3]; give f32 [4], one number a query head");
    assert!(reason(|r| r.sinks(zeros(Elem::F16, &[4]))).contains("f16 [4]"));
    assert!(reason(|r| r.alibi(zeros(Elem::F32, &[4, 1]))).contains("[4, 1]"));
    assert!(reason(|r| r.alibi(zeros(Elem::F32, &[]))).contains("give f32 [4]"));
    for bad in [f32::NAN, f32::INFINITY] {
        let told = reason(|r| r.sinks(numbers(&[0.0, f32::NEG_INFINITY, bad, 0.0])));
        assert_eq!(told, format!("sinks: {bad} for head 2; give a finite number, or -inf for no sink"));
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let told = reason(|r| r.alibi(numbers(&[0.0, bad, 0.0, 0.0])));
        assert_eq!(told, format!("alibi: {bad} for head 1; give a finite slope"));
    }
}

#[test]
fn two_windows_in_one_request_are_refused() {
    let error = changed(|r| r.window(Window::last(4)).window(Window::last(5)));
    assert_eq!(error, AttentionError::InputName { name: "window_left".into() });
}

#[test]
fn outputs_of_another_shape_or_type_are_refused_and_not_written() {
    let (q, k) = (zeros(Elem::F32, Q), zeros(Elem::F32, K));
    let device = Device::interp();
    let request = Attention::new(q.view(), k.view(), k.view());
    let into = |request: &Attention<'_>, o: &[usize], elem, lse: Option<&[usize]>| {
        let mut o = Tensor::zeros(elem, o).unwrap();
        let mut lse = lse.map(|shape| zeros(Elem::F32, shape));
        request.run_into(&device, o.view_mut(), lse.as_mut().map(Tensor::view_mut))
    };
    let short: &[usize] = &[2, 4, 3, 7];
    assert!(matches!(into(&request, short, Elem::F32, None), Err(AttentionError::OutputShape { tensor: "o", .. })));
    assert!(matches!(into(&request, Q, Elem::F16, None), Err(AttentionError::OutputElement { tensor: "o", .. })));
    let lse: &[usize] = &[2, 4, 3];
    assert_eq!(into(&request, Q, Elem::F32, Some(lse)), Err(AttentionError::Lse { requested: false }));
    let request = request.lse();
    assert_eq!(into(&request, Q, Elem::F32, None), Err(AttentionError::Lse { requested: true }));
    let wrong: &[usize] = &[2, 4, 4];
    assert!(matches!(
        into(&request, Q, Elem::F32, Some(wrong)),
        Err(AttentionError::OutputShape { tensor: "lse", .. })
    ));
    assert_eq!(into(&request, Q, Elem::F32, Some(lse)), Ok(()));
}

#[test]
fn no_queries_and_no_batch_give_empty_outputs() {
    for (q, k) in [([2, 4, 0, 8], [2, 2, 5, 8]), ([0, 4, 3, 8], [0, 2, 5, 8])] {
        let (tq, tk) = (zeros(Elem::F32, &q), zeros(Elem::F32, &k));
        let device = Device::interp();
        let out = Attention::new(tq.view(), tk.view(), tk.view()).lse().run(&device).unwrap();
        assert_eq!(out.o.shape(), q);
        assert_eq!(out.lse.unwrap().shape(), &q[..3]);
        assert_eq!(device.cached_pipelines(), 0, "nothing was compiled for it");
    }
}

#[test]
fn a_plan_serves_other_strides_and_lengths_and_refuses_other_shapes() {
    let (q, k) = (zeros(Elem::F32, Q), zeros(Elem::F32, K));
    let device = Device::interp();
    let request = Attention::new(q.view(), k.view(), k.view());
    let plan = request.plan(&device).unwrap();
    let mut o = zeros(Elem::F32, Q);
    let other = k.view().with_strides(K, &[80, 8, 16, 1]).unwrap();
    let seen_otherwise = Attention::new(q.view(), other, other).kv_len(&[3, 0]).q_start(-2).scale(2.0);
    assert_eq!(plan.run(&seen_otherwise, o.view_mut(), None), Ok(()));
    assert!(matches!(plan.run(&request.clone().causal(), o.view_mut(), None), Err(AttentionError::Replan { .. })));
    let longer = zeros(Elem::F32, &[2, 2, 6, 8]);
    let longer = Attention::new(q.view(), longer.view(), longer.view());
    assert!(matches!(plan.run(&longer, o.view_mut(), None), Err(AttentionError::Replan { .. })));
    assert_eq!(device.cached_pipelines(), 1);
}

#[test]
fn a_plan_says_what_it_will_do() {
    let (q, k) = (zeros(Elem::F32, Q), zeros(Elem::F32, K));
    let plan = Attention::new(q.view(), k.view(), k.view()).causal().plan(&Device::interp()).unwrap();
    let text = plan.explain();
    for part in [
        "attention_forward",
        "interp",
        "causal",
        "heads=2 queries=4 keys=256",
        "1 query tiles x 2 tiles of heads x 2 batch entries",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}
