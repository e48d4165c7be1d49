//! The f64 reference against closed forms, worked out by hand from the contract.

use tilewright_attention::Attention;
use tilewright_attention::reference::{Bound, Problem, Reference, attention, textbook};
use tilewright_ir::Elem;
use tilewright_runtime::Tensor;

fn tensor(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(Elem::F32, values, shape).unwrap()
}

fn reference(request: &Attention<'_>) -> Reference {
    attention(&Problem::of(request).unwrap())
}

fn near(got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len());
    for (got, wanted) in got.iter().zip(wanted) {
        assert!(got == wanted || (got - wanted).abs() < 1e-12, "{got} is not {wanted}");
    }
}

#[test]
fn equal_scores_give_the_mean_and_the_logarithm_of_the_count() {
    let q = tensor(&[1, 1, 1, 2], &[0.0, 0.0]);
    let k = tensor(&[1, 1, 4, 2], &[1.0; 8]);
    let v = tensor(&[1, 1, 4, 1], &[1.0, 2.0, 3.0, 6.0]);
    let found = reference(&Attention::new(q.view(), k.view(), v.view()));
    near(&found.o, &[3.0]);
    near(&found.lse, &[4f64.ln()]);
    assert_eq!((found.pairs, found.largest_score, found.largest_value), (4, 0.0, 6.0));
}

#[test]
fn one_key_gives_its_value_and_its_score() {
    let q = tensor(&[1, 1, 1, 4], &[1.0, 2.0, -3.0, 0.0]);
    let k = tensor(&[1, 1, 1, 4], &[4.0, 1.0, 1.0, 9.0]);
    let v = tensor(&[1, 1, 1, 2], &[-7.0, 0.5]);
    let found = reference(&Attention::new(q.view(), k.view(), v.view()));
    near(&found.o, &[-7.0, 0.5]);
    // The default scale is 1/sqrt(4): (4 + 2 - 3) / 2, and without signs (4 + 2 + 3) / 2.
    near(&found.lse, &[1.5]);
    near(&[found.largest_score], &[4.5]);
    near(&reference(&Attention::new(q.view(), k.view(), v.view()).scale(-1.0)).lse, &[-3.0]);
}

#[test]
fn two_keys_share_by_the_logistic_function() {
    let q = tensor(&[1, 1, 1, 1], &[2.0]);
    let k = tensor(&[1, 1, 2, 1], &[0.0, 1.0]);
    let v = tensor(&[1, 1, 2, 1], &[0.0, 1.0]);
    let found = reference(&Attention::new(q.view(), k.view(), v.view()));
    near(&found.o, &[1.0 / (1.0 + (-2f64).exp())]);
    near(&found.lse, &[(1.0 + 2f64.exp()).ln()]);
}

/// Zero queries over values 1, 10, 100, 1000: the mean says which keys are attended.
fn causal_means(q_len: usize, start: Option<i64>, kv_len: Option<&[i32]>) -> Vec<f64> {
    let q = tensor(&[1, 1, q_len, 1], &vec![0.0; q_len]);
    let k = tensor(&[1, 1, 4, 1], &[0.0; 4]);
    let v = tensor(&[1, 1, 4, 1], &[1.0, 10.0, 100.0, 1000.0]);
    let mut request = Attention::new(q.view(), k.view(), v.view()).causal();
    if let Some(start) = start {
        request = request.q_start(start);
    }
    if let Some(kv_len) = kv_len {
        request = request.kv_len(kv_len);
    }
    reference(&request).o
}

#[test]
fn without_a_start_the_last_query_sees_the_last_key() {
    near(&causal_means(2, None, None), &[37.0, 1111.0 / 4.0]);
    near(&causal_means(2, None, Some(&[2])), &[1.0, 5.5]);
    near(&causal_means(3, None, Some(&[1])), &[0.0, 0.0, 1.0]);
}

#[test]
fn with_a_start_the_first_query_is_there() {
    near(&causal_means(2, Some(0), None), &[1.0, 5.5]);
    near(&causal_means(2, Some(-1), None), &[0.0, 1.0]);
    near(&causal_means(2, Some(2), Some(&[2])), &[5.5, 5.5]);
}

#[test]
fn a_row_that_attends_to_nothing_is_zero_and_minus_infinity() {
    let q = tensor(&[1, 1, 2, 1], &[1.0, 1.0]);
    let k = tensor(&[1, 1, 3, 1], &[1.0; 3]);
    let found = reference(&Attention::new(q.view(), k.view(), k.view()).kv_len(&[0]));
    assert_eq!((found.o, found.lse), (vec![0.0; 2], vec![f64::NEG_INFINITY; 2]));
}

#[test]
fn a_query_head_reads_the_key_head_of_its_group() {
    let q = tensor(&[1, 4, 1, 1], &[0.0; 4]);
    let k = tensor(&[1, 2, 1, 1], &[0.0; 2]);
    let v = tensor(&[1, 2, 1, 1], &[5.0, 7.0]);
    near(&reference(&Attention::new(q.view(), k.view(), v.view())).o, &[5.0, 5.0, 7.0, 7.0]);
}

#[test]
fn nan_where_no_row_attends_changes_nothing_and_elsewhere_reaches_its_row() {
    let q = tensor(&[1, 1, 2, 1], &[0.0; 2]);
    let k = tensor(&[1, 1, 3, 1], &[0.0, 0.0, f64::NAN]);
    let v = tensor(&[1, 1, 3, 1], &[2.0, 4.0, f64::NAN]);
    let request = Attention::new(q.view(), k.view(), v.view()).causal();
    let found = reference(&request.clone().q_start(0));
    near(&found.o, &[2.0, 3.0]);
    assert_eq!(found.largest_value, 4.0);
    let found = reference(&request.q_start(1));
    near(&found.o[..1], &[3.0]);
    assert!(found.o[1].is_nan() && found.lse[1].is_nan());
}

#[test]
fn the_textbook_rounds_the_weights_and_the_result() {
    let third = |elem: Elem| {
        let values = [1.0, 1.0, 1.0].map(|x| elem.nearest(x));
        let q = Tensor::from_f64(elem, &[0.0], &[1, 1, 1, 1]).unwrap();
        let v = Tensor::from_f64(elem, &values, &[1, 1, 3, 1]).unwrap();
        let problem = Problem::of(&Attention::new(q.view(), v.view(), v.view())).unwrap();
        let bound = Bound::of(&problem, &attention(&problem));
        (textbook(&problem, elem).o[0], bound.o(1.0))
    };
    // A third is 0x3eab in bf16, 0.333984375; three of them are 1.001953125, which rounds back to 1.
    assert_eq!(third(Elem::Bf16).0, 1.0);
    // In f16 a third is 0.333251953125; three are 0.999755859375, which is f16's neighbour of 1 rounded to even below it.
    assert_eq!(third(Elem::F16).0, Elem::F16.nearest(3.0 * Elem::F16.nearest(1.0 / 3.0)));
    assert!(third(Elem::F16).1 >= 2.0 * (1.0 - third(Elem::F16).0));
}

#[test]
fn the_f32_bound_is_the_contracts() {
    let q = tensor(&[1, 1, 1, 1], &[8.0]);
    let k = tensor(&[1, 1, 1, 1], &[10.0]);
    let v = tensor(&[1, 1, 1, 1], &[-3.0]);
    let problem = Problem::of(&Attention::new(q.view(), k.view(), v.view())).unwrap();
    let bound = Bound::of(&problem, &attention(&problem));
    near(&[bound.o(-3.0), bound.lse(80.0)], &[2e-6 * 3.0 * 80.0 / 16.0, 1e-6 * 80.0 + 2e-7 * 80.0]);
}
