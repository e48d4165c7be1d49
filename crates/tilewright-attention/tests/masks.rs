//! Masks given as tensors and as trees: refusals, classes of tiles, and that classes change no bit.

use tilewright_attention::cases::Case;
use tilewright_attention::{Attention, AttentionError, Mask, Schedule, Splits, Tree};
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor};

const NONE: f64 = f64::NEG_INFINITY;

/// A mask whose cells are made from `[batch, head, query, key]`.
fn mask(elem: Elem, shape: [usize; 4], cell: impl Fn([usize; 4]) -> f64) -> Mask {
    let place = |mut n: usize| {
        let mut at = [0; 4];
        for axis in (0..4).rev() {
            at[axis] = n % shape[axis];
            n /= shape[axis];
        }
        at
    };
    let cells: Vec<f64> = (0..shape.iter().product()).map(|n| cell(place(n))).collect();
    Mask::new(Tensor::from_f64(elem, &cells, &shape).unwrap()).unwrap()
}

fn boolean(shape: [usize; 4], attended: impl Fn([usize; 4]) -> bool) -> Mask {
    mask(Elem::Bool, shape, |at| attended(at).into())
}

fn zeros(elem: Elem, shape: &[usize]) -> Tensor {
    Tensor::zeros(elem, shape).unwrap()
}

fn tile(queries: u32, keys: u32) -> Schedule {
    Schedule { heads: 1, queries, keys }
}

/// What a request of 2 batch entries, 4 heads, 3 queries and 5 keys says to a feature.
fn refusal(change: impl for<'a> FnOnce(Attention<'a>) -> Attention<'a>) -> (String, String) {
    let (q, k) = (zeros(Elem::F32, &[2, 4, 3, 8]), zeros(Elem::F32, &[2, 2, 5, 8]));
    match change(Attention::new(q.view(), k.view(), k.view())).plan(&Device::interp()) {
        Err(AttentionError::Feature { feature, reason }) => (feature, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_mask_that_does_not_fit_the_problem_is_refused() {
    let of = |shape| boolean(shape, |_| true);
    for (shape, words) in [
        ([3, 4, 3, 5], "its axis `batch` has 3 places and the problem 2"),
        ([2, 2, 3, 5], "its axis `heads` has 2 places and the problem 4"),
        ([1, 1, 2, 5], "its axis `q` has 2 places and the problem 3"),
        ([1, 1, 0, 5], "its axis `q` has 0 places"),
        ([1, 1, 3, 6], "it has 6 keys and the key axis 5"),
    ] {
        let (feature, reason) = refusal(|r| r.mask(of(shape)));
        assert!(reason.contains(words) && feature.starts_with("mask(bool"), "{feature}: {reason}");
        let classified = of(shape).classify(&Device::interp(), tile(4, 4)).unwrap();
        assert!(refusal(|r| r.feature(classified)).1.contains(words));
    }
}

#[test]
fn tensors_that_are_no_masks_are_refused() {
    for (tensor, words) in [
        (zeros(Elem::Bool, &[]), "rank 0"),
        (zeros(Elem::I32, &[3]), "it holds i32"),
        (zeros(Elem::I8, &[3, 3]), "it holds i8"),
    ] {
        let error = Mask::new(tensor).unwrap_err().to_string();
        assert!(error.starts_with("mask: ") && error.contains(words), "{error}");
    }
    for tensor in [zeros(Elem::Bool, &[3, 4]), zeros(Elem::Bool, &[9]), zeros(Elem::F32, &[3, 3])] {
        assert!(matches!(Tree::new(tensor), Err(AttentionError::Feature { .. })));
    }
    assert!(matches!(Tree::of_parents(&[None, Some(1)]), Err(AttentionError::Feature { .. })));
}

#[test]
fn a_tree_of_another_size_or_of_more_queries_than_keys_is_refused() {
    let chain = |n: usize| Tree::of_parents(&(0..n).map(|i| i.checked_sub(1)).collect::<Vec<_>>()).unwrap();
    assert!(refusal(|r| r.tree(chain(4))).1.contains("it is 4 x 4 and there are 3 queries"));
    assert!(refusal(|r| r.kv_len(&[3, 2]).tree(chain(3))).1.contains("kv_len[1] is 2"));
}

#[test]
fn two_masks_are_refused_by_name() {
    let (q, k) = (zeros(Elem::F32, &[1, 1, 3, 8]), zeros(Elem::F32, &[1, 1, 5, 8]));
    let of = || boolean([1, 1, 3, 5], |_| true);
    let error = Attention::new(q.view(), k.view(), k.view()).mask(of()).mask(of()).plan(&Device::interp()).unwrap_err();
    assert_eq!(error, AttentionError::InputName { name: "mask".into() });
}

/// o and lse of a case, and of the same case with the classes of the mask, must be the same bits; they must also be right.
fn same_bits(name: &str, mask: &Mask, case: Case, schedule: Schedule) -> [f64; 3] {
    let device = Device::cpu();
    let classified = mask.classify(&device, schedule).unwrap();
    let inputs = case.clone().feature(mask.clone()).inputs().unwrap();
    let run = |case: Case, splits| {
        let out = case.request(&inputs).unwrap().schedule(schedule).splits(splits).run(&device).unwrap();
        (out.o.as_bytes().to_vec(), out.lse.unwrap().as_bytes().to_vec())
    };
    let mut compared = 0;
    for splits in [Splits::Count(1), Splits::Count(3), Splits::Keys(32)] {
        let plain = run(case.clone().feature(mask.clone()), splits);
        compared += plain.0.len() + plain.1.len();
        assert!(plain == run(case.clone().feature(classified.clone()), splits), "{name} {schedule} {splits:?}");
    }
    assert!(compared > 0, "{name}");
    let shares = classified.map().shares();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{name}: {shares:?}");
    let report = case.feature(classified).run(&device).unwrap();
    assert!(report.compared > 0, "{name}");
    shares
}

/// -10 to 5.
fn scattered(at: [usize; 4]) -> i64 {
    let mixed = at.into_iter().fold(3u64, |x, n| (x ^ n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31));
    (mixed >> 60) as i64 - 10
}

#[test]
fn classes_change_no_bit() {
    let lengths = [1, 7, 8, 9, 16, 17, 31, 33, 48, 70];
    let mut seen = [0.0; 3];
    let mut all = 0;
    for (n, &q_len) in lengths.iter().enumerate() {
        for kv in [1, 15, 16, 17, 32, 50, 81] {
            let case = |heads| Case::new(format!("classes_{q_len}_{kv}")).heads(heads, 1).lengths(q_len, kv).dims(8, 8);
            let before = |at: [usize; 4]| at[3] + q_len <= at[2] + kv;
            let masks = [
                ("causal", boolean([1, 1, q_len, kv], before)),
                ("window", boolean([1, 1, q_len, kv], |at| before(at) && at[3] + q_len + 20 > at[2] + kv)),
                ("random tiles", boolean([1, 1, q_len, kv], |[_, _, i, j]| scattered([0, 0, i / 8, j / 16]) < -3)),
                ("of each head", boolean([1, 2, q_len, kv], |[_, h, i, j]| scattered([0, h, i / 8, j / 16]) < -3)),
                ("keys", boolean([1, 1, 1, kv], |[_, _, _, j]| scattered([0, 0, 0, j / 16]) < -3)),
                ("nothing", boolean([1, 1, q_len, kv], |_| false)),
                ("everything", boolean([1, 1, q_len, kv], |_| true)),
                ("short", boolean([1, 1, q_len, kv - kv / 3], |_| true)),
                (
                    "added",
                    mask(Elem::F32, [1, 1, q_len, kv], |[_, _, i, j]| match scattered([0, 0, i / 8, j / 16]) {
                        -10..=-6 => NONE,
                        -5..=-1 => [0.0, -0.0][j % 2],
                        n => n as f64,
                    }),
                ),
                (
                    "added in f16",
                    mask(Elem::F16, [1, 2, q_len, kv], |[_, h, i, j]| [NONE, 0.0][(i / 8 + j / 16 + h) % 2]),
                ),
            ];
            // Each mask with some of the lengths: the shapes of all kernels are compiled once.
            for (m, (name, mask)) in masks.into_iter().enumerate().filter(|(m, _)| (m + n) % 2 == 0) {
                let heads = if m == 9 || m == 3 { 2 } else { 3 };
                let shares = same_bits(name, &mask, case(heads), tile(8, 16));
                (0..3).for_each(|class| seen[class] += shares[class]);
                all += 1;
            }
        }
    }
    assert!(all > 300 && seen.iter().all(|&class| class > 30.0), "{all} {seen:?}");
}

#[test]
fn classes_of_each_entry_and_lengths_of_each_change_no_bit() {
    for kv_len in [[70, 70], [33, 70], [0, 16], [1, 17]] {
        for (elem, shape) in [(Elem::Bool, [2, 1, 33, 70]), (Elem::U8, [2, 2, 33, 70]), (Elem::Bf16, [2, 1, 1, 70])] {
            let mask = mask(elem, shape, |[b, h, i, j]| match scattered([b, h, i / 8, j / 16]) {
                -10..=-5 if elem == Elem::Bf16 => NONE,
                -10..=-5 => 0.0,
                _ if elem == Elem::Bf16 => 0.0,
                _ => 4.0,
            });
            let case = Case::new("classes_of_entries").batch(2).lengths(33, 70).dims(8, 8).kv_len(&kv_len);
            same_bits("entries", &mask, case.clone(), tile(8, 16));
            same_bits("entries", &mask, case.clone().feature(tilewright_attention::Causal), tile(8, 16));
            same_bits("entries", &mask, case, tile(32, 64));
        }
    }
}

#[test]
fn packed_heads_have_the_class_of_a_mask_that_serves_them_all() {
    let mask = boolean([1, 1, 5, 200], |[_, _, i, j]| (j / 16 + i / 5) % 3 == 1);
    let schedule = Schedule { heads: 4, queries: 8, keys: 16 };
    let shares = same_bits("packed", &mask, Case::new("packed").heads(8, 2).lengths(5, 200).dims(8, 8), schedule);
    assert!(shares[0] > 0.5, "{shares:?}");
    let of_heads = boolean([1, 8, 5, 200], |_| true);
    assert!(matches!(of_heads.classify(&Device::interp(), schedule), Err(AttentionError::Schedule { .. })));
}

fn classes(mask: &Mask, schedule: Schedule) -> Vec<u8> {
    let [cpu, interp] = [Device::cpu(), Device::interp()]
        .map(|device| mask.classify(&device, schedule).unwrap().map().classes().as_bytes().to_vec());
    assert_eq!(cpu, interp);
    cpu
}

#[test]
fn tiles_at_the_edges_are_what_their_real_cells_are() {
    // 5 x 7 in tiles of 4 x 4: the last row and the last three columns are tiles of their own.
    let of = |attended: fn([usize; 4]) -> bool| classes(&boolean([1, 1, 5, 7], attended), tile(4, 4));
    assert_eq!(of(|_| true), [2, 2, 2, 2]);
    assert_eq!(of(|_| false), [0, 0, 0, 0]);
    assert_eq!(of(|at| at[2] == 4), [0, 0, 2, 2]);
    assert_eq!(of(|at| at[3] >= 4), [0, 2, 0, 2]);
    assert_eq!(of(|at| at != [0, 0, 4, 6]), [2, 2, 2, 1]);
    assert_eq!(of(|at| at == [0, 0, 3, 4]), [0, 1, 0, 0]);
}

#[test]
fn classes_of_what_is_added_know_nan_zero_and_infinity() {
    for elem in [Elem::F32, Elem::F16, Elem::Bf16] {
        let cells = [0.0, -0.0, NONE, f64::NAN, f64::INFINITY, 1.0, -1e4, 6e-5];
        let one = |cell: f64| classes(&mask(elem, [1, 1, 3, 3], |_| cell), tile(2, 2));
        let found: Vec<u8> = cells.iter().map(|&cell| one(cell)[0]).collect();
        assert_eq!(found, [2, 2, 0, 1, 1, 1, 1, 1], "{elem}");
        let among = |cell: f64, others: f64| {
            classes(&mask(elem, [1, 1, 3, 3], |at| if at[3] == 2 { cell } else { others }), tile(4, 4))
        };
        assert_eq!([among(f64::NAN, NONE), among(f64::NAN, 0.0), among(NONE, 0.0)], [[1], [1], [1]]);
        assert_eq!([among(-0.0, 0.0), among(NONE, NONE)], [[2], [0]]);
    }
}

#[test]
fn planes_have_classes_of_their_own() {
    let mask = boolean([2, 3, 4, 4], |[b, h, _, _]| (b + h) % 2 == 1);
    let map = mask.classify(&Device::cpu(), tile(4, 2)).unwrap();
    assert_eq!(map.map().classes().shape(), [2, 3, 1, 2]);
    assert_eq!(map.map().classes().as_bytes(), [0, 0, 2, 2, 0, 0, 2, 2, 0, 0, 2, 2]);
    assert_eq!(map.map().shares(), [0.5, 0.0, 0.5]);
}

#[test]
fn a_cell_of_nan_makes_its_row_nan_with_and_without_classes() {
    let device = Device::cpu();
    let mask = mask(Elem::F32, [1, 1, 20, 40], |at| if at[2] == 9 && at[3] == 33 { f64::NAN } else { 0.0 });
    let case = |feature: bool| {
        let case = Case::new("nan").lengths(20, 40).dims(8, 8).schedule(8, 16);
        let classified = mask.classify(&device, tile(8, 16)).unwrap();
        let case = if feature { case.feature(classified) } else { case.feature(mask.clone()) };
        let inputs = case.clean_inputs().unwrap();
        case.request(&inputs).unwrap().run(&device).unwrap().o.to_f64()
    };
    let (plain, classified) = (case(false), case(true));
    for (row, (a, b)) in plain.chunks(8).zip(classified.chunks(8)).enumerate() {
        assert_eq!(a.iter().all(|x| x.is_nan()), row % 20 == 9, "{row}");
        assert_eq!(a.iter().any(|x| x.is_nan()), row % 20 == 9, "{row}");
        assert!(a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits()), "{row}");
    }
}

#[test]
fn values_and_keys_of_skipped_tiles_may_be_nan() {
    // `Case::inputs` fills what no row attends with NaN.
    let mask = boolean([1, 1, 17, 100], |at| (at[3] / 16) % 2 == 1);
    same_bits("stripes", &mask, Case::new("stripes").lengths(17, 100).dims(8, 8), tile(8, 16));
}

#[test]
fn a_map_of_another_tile_shape_is_refused() {
    let (q, k) = (zeros(Elem::F32, &[1, 2, 20, 8]), zeros(Elem::F32, &[1, 2, 50, 8]));
    let request = Attention::new(q.view(), k.view(), k.view());
    let classified = boolean([1, 1, 20, 50], |_| true).classify(&Device::interp(), tile(8, 16)).unwrap();
    let error = request.clone().feature(classified.clone()).schedule(tile(16, 16)).plan(&Device::interp()).unwrap_err();
    assert!(matches!(error, AttentionError::Schedule { .. }), "{error}");
    let plan = request.feature(classified).plan(&Device::interp()).unwrap();
    assert_eq!(plan.schedule(), tile(8, 16));
}

#[test]
fn the_request_makes_the_map_for_the_schedule_that_it_will_have() {
    let device = Device::cpu();
    let (q, k) = (zeros(Elem::F32, &[1, 4, 200, 8]), zeros(Elem::F32, &[1, 2, 300, 8]));
    let request = Attention::new(q.view(), k.view(), k.view());
    // What serves heads that share no tile.
    let each = zeros(Elem::F32, &[1, 4, 300, 8]);
    let apart = Attention::new(q.view(), each.view(), each.view());
    for (heads, alike) in [(1, &request), (4, &apart)] {
        let mask = boolean([1, heads, 200, 300], |at| at[3] <= at[2] + 100);
        let classified = request.clone().classified_mask(&mask, &device).unwrap();
        assert_eq!(classified.plan(&device).unwrap().schedule(), alike.plan(&device).unwrap().schedule());
        assert!(classified.run(&device).is_ok());
        let asked = request.clone().schedule(tile(16, 32)).classified_mask(&mask, &device).unwrap();
        assert_eq!(asked.plan(&device).unwrap().schedule(), tile(16, 32));
    }
}

#[test]
fn masks_of_the_same_axes_share_one_kernel() {
    let device = Device::interp();
    let run = |rows: usize, keys: usize| {
        let case = Case::new("shared").lengths(rows, 40).schedule(8, 16);
        case.feature(boolean([1, 1, rows, keys], |at| at[3] % 3 > 0)).run(&device).unwrap()
    };
    assert!(run(9, 40).compared > 0 && run(17, 23).compared > 0);
    assert_eq!(device.cached_pipelines(), 1);
}
