//! One request against f64 loops.

use crate::memory::{Memory, Rng, Side, tensor_of};
use crate::spec::{Kind, Spec};
use std::fmt::Write as _;
use tilewright_attention::{Alibi, Attention, AttentionError, Cache, Mask, Plan, Sinks, Softcap, Tree, Window};
use tilewright_ir::Elem;
use tilewright_runtime::{Device, Tensor};

/// Plans and runs the request, or runs it by `plan`, which is to be refused where `replan` says so; how many numbers were
/// compared.
pub fn run(seed: u64, device: &Device, s: &Spec, plan: &mut Option<Plan>, replan: bool) -> Result<usize, String> {
    let mut rng = Rng(seed ^ 0xabcd);
    let rng = &mut rng;
    let Spec { b, kvh, group, ql, cap, d, dv, .. } = *s;
    let qh = kvh * group;
    let lens: Vec<usize> = s.kv_len.iter().map(|&n| n as usize).collect();
    // Where tokens lie.
    let (mut starts, mut table, mut prefix) = (vec![], vec![], vec![]);
    let (mut outer, mut slots, mut room) = (b, cap, 0);
    match s.kind {
        Kind::Dense => {}
        Kind::Ring => {
            starts =
                (0..b).map(|_| if rng.one_in(3) { cap.saturating_sub(1) } else { rng.below(cap) } as i32).collect();
        }
        Kind::Paged(size) => {
            let each = cap / size;
            (outer, slots) = (b * each + 2, size);
            let mut pages: Vec<i32> = (0..outer as i32).collect();
            for at in (1..pages.len()).rev() {
                pages.swap(at, rng.below(at + 1));
            }
            for (e, &len) in lens.iter().enumerate() {
                for place in 0..each {
                    let used = place < len.div_ceil(size);
                    let shared = rng.one_in(3);
                    table.push(match (used, shared) {
                        (false, _) => rng.pick(&[-1, i32::MAX, i32::MIN, 1 << 30, 0]),
                        (true, true) => pages[rng.below(pages.len())],
                        (true, false) => pages[e * each + place],
                    });
                }
            }
        }
        Kind::Tail => {
            room = rng.pick(&[0, 1, 16, cap / 2, cap]).min(cap);
            slots = cap - room;
            for &len in &lens {
                let (low, high) = (len.saturating_sub(room), len.min(slots));
                prefix.push(match rng.below(3) {
                    0 => low,
                    1 => high,
                    _ => low + rng.below(high - low + 1),
                } as i32);
            }
        }
    }
    // (in the tail, outer, slot)
    let place = |e: usize, j: usize| match s.kind {
        Kind::Dense => (false, e, j),
        Kind::Ring => (false, e, (starts[e] as usize + j) % cap),
        Kind::Paged(size) => (false, table[e * (cap / size) + j / size] as usize, j % size),
        Kind::Tail => match j.checked_sub(prefix[e] as usize) {
            Some(at) => (true, e, at),
            None => (false, e, j),
        },
    };
    let q: Vec<f64> = (0..b * qh * ql * d).map(|_| s.q.nearest(rng.number() * s.size)).collect();
    let mut k = Side::new(rng, s.kv, s.ka, [outer, kvh, slots, d], s.size);
    let mut v = Side::new(rng, s.kv, s.va, [outer, kvh, slots, dv], 1.0);
    let mut kt = Side::new(rng, s.kv, None, [b, kvh, room, d], s.size);
    let mut vt = Side::new(rng, s.kv, None, [b, kvh, room, dv], 1.0);

    // The reference.
    let scale = s.scale.unwrap_or(1.0 / (d as f64).sqrt());
    let refused = s.refusal();
    let mut used = vec![false; outer * kvh * slots];
    let mut used_tail = vec![false; b * kvh * room];
    let mut pairs = 0;
    let (mut o_ref, mut lse_ref, mut largest, mut most) = (vec![], vec![], 0f64, 0f64);
    let (mut textbook, mut textbook_lse) = (0f64, 0f64);
    if refused.is_none() {
        for e in 0..b {
            for h in 0..qh {
                let kv_h = h / group;
                let rows: Vec<(Vec<f64>, Vec<f64>)> = (0..lens[e])
                    .map(|j| match place(e, j) {
                        (false, o, slot) => (k.row(o, kv_h, slot), v.row(o, kv_h, slot)),
                        (true, o, slot) => (kt.row(o, kv_h, slot), vt.row(o, kv_h, slot)),
                    })
                    .collect();
                // What the textbook computation of 16-bit types reads: a dequantised cache.
                let rounded: Vec<(Vec<f64>, Vec<f64>)> = (0..lens[e])
                    .map(|j| match place(e, j) {
                        (false, o, slot) => (k.dequantised_row(o, kv_h, slot), v.dequantised_row(o, kv_h, slot)),
                        (true, o, slot) => (kt.row(o, kv_h, slot), vt.row(o, kv_h, slot)),
                    })
                    .collect();
                for i in 0..ql {
                    let qr = &q[((e * qh + h) * ql + i) * d..][..d];
                    let (mut scores, mut simple_scores) = (vec![], vec![]);
                    for (j, (kr, vr)) in rows.iter().enumerate() {
                        let Some(bias) = s.bias(e, h, i, j) else { continue };
                        let (mut dot, mut size) = (0.0, 0.0);
                        for (x, y) in qr.iter().zip(kr) {
                            dot += x * y;
                            size += (x * y).abs();
                        }
                        // Scores are f32: a large bias takes digits of them like large products.
                        largest = largest.max(scale.abs() * size + bias.abs());
                        most = vr.iter().fold(most, |m, x| m.max(x.abs()));
                        let capped = |score: f64| s.softcap.map_or(score, |cap| cap * (score / cap).tanh());
                        scores.push((j, capped(scale * dot) + bias));
                        let dot = qr.iter().zip(&rounded[j].0).map(|(x, y)| x * y).sum::<f64>();
                        simple_scores.push(capped(scale * dot) + bias);
                        match place(e, j) {
                            (false, o, slot) => used[(o * kvh + kv_h) * slots + slot] = true,
                            (true, o, slot) => used_tail[(o * kvh + kv_h) * room + slot] = true,
                        }
                    }
                    pairs += scores.len() as u64;
                    let sink = s.sinks.as_ref().map_or(f64::NEG_INFINITY, |sinks| sinks[h]);
                    let max = scores.iter().fold(sink, |m, (_, x)| m.max(*x));
                    if max == f64::NEG_INFINITY {
                        o_ref.extend(vec![0.0; dv]);
                        lse_ref.push(max);
                        continue;
                    }
                    let sum: f64 = (sink - max).exp() + scores.iter().map(|(_, x)| (x - max).exp()).sum::<f64>();
                    let mut o = vec![0.0; dv];
                    let mut simple = vec![0.0; dv];
                    let simple_max = simple_scores.iter().fold(sink, |m, x| m.max(*x));
                    let simple_sum =
                        (sink - simple_max).exp() + simple_scores.iter().map(|x| (x - simple_max).exp()).sum::<f64>();
                    for ((j, x), y) in scores.iter().zip(&simple_scores) {
                        let p = (x - max).exp() / sum;
                        let simple_p = s.q.nearest((y - simple_max).exp() / simple_sum);
                        for c in 0..dv {
                            o[c] += p * rows[*j].1[c];
                            simple[c] += simple_p * rounded[*j].1[c];
                        }
                    }
                    textbook_lse = textbook_lse.max((simple_max + simple_sum.ln() - max - sum.ln()).abs());
                    for (x, y) in o.iter().zip(&simple) {
                        textbook = textbook.max((x - s.q.nearest(*y)).abs());
                    }
                    o_ref.extend(o);
                    lse_ref.push(max + sum.ln());
                }
            }
        }
    }
    for (at, _) in used.iter().enumerate().filter(|(_, used)| !**used) {
        k.poison(at / (kvh * slots), at / slots % kvh, at % slots, rng);
        v.poison(at / (kvh * slots), at / slots % kvh, at % slots, rng);
    }
    for (at, _) in used_tail.iter().enumerate().filter(|(_, used)| !**used) {
        kt.poison(at / (kvh * room), at / room % kvh, at % room, rng);
        vt.poison(at / (kvh * room), at / room % kvh, at % room, rng);
    }

    // The request.
    let q_memory = Memory::floats(s.q, &q, [b, qh, ql, d], rng.one_in(3));
    let (ks, vs, kts, vts) = (k.store(rng), v.store(rng), kt.store(rng), vt.store(rng));
    let cache = Cache::new(ks.tokens(), vs.tokens());
    let cache = match s.kind {
        Kind::Dense => cache,
        Kind::Ring => cache.ring(&starts),
        Kind::Paged(_) => cache.paged(&table),
        Kind::Tail => cache.tail(kts.parts[0].view(), vts.parts[0].view(), &prefix),
    };
    let mut request = Attention::over(q_memory.view(), cache).kv_len(&s.kv_len).lse().splits(s.splits);
    if let Some(scale) = s.scale {
        request = request.scale(scale);
    }
    if let Some(start) = s.q_start {
        request = request.q_start(start);
    }
    if s.causal {
        request = request.causal();
    }
    if let Some((left, right, sinks)) = s.window {
        request = request.window(Window::new(left, right).sinks(sinks));
    }
    if let Some(cap) = s.softcap {
        request = request.feature(Softcap(cap));
    }
    if let Some(logits) = &s.sinks {
        request = request.feature(Sinks::new(tensor_of(Elem::F32, logits, &[qh])));
    }
    if let Some(slopes) = &s.alibi {
        request = request.feature(Alibi::new(tensor_of(Elem::F32, slopes, &[qh])));
    }
    if let Some(tree) = &s.tree {
        request = request.tree(Tree::new(Tensor::from_slice(tree, &[ql, ql]).unwrap()).unwrap());
    }
    let mut combination = false;
    if let Some(schedule) = s.schedule {
        request = request.schedule(schedule);
    }
    if let Some(mask) = &s.mask {
        let tensor = tensor_of(mask.elem, &mask.cells, &mask.shape);
        let m = Mask::new(tensor).map_err(|e| e.to_string())?;
        let of_heads = m.shape()[1] != 1;
        if s.classes && !(of_heads && s.schedule.is_some_and(|schedule| schedule.heads > 1)) {
            request = request.classified_mask(&m, device).map_err(|e| format!("classify: {e}"))?;
            combination = matches!(s.kind, Kind::Ring | Kind::Tail);
        } else {
            request = request.mask(m);
        }
    }
    // Outputs with gaps, sequence-major or not.
    let (gap, swap) = (rng.pick(&[0, 3]), rng.one_in(2));
    let width = dv + gap;
    let o_strides =
        if swap { [ql * qh * width, width, qh * width, 1] } else { [qh * ql * width, ql * width, width, 1] };
    let sentinel = 77.0;
    let mut o = tensor_of(s.q, &vec![sentinel; b * qh * ql * width + 1], &[b * qh * ql * width + 1]);
    let l_strides = if swap { [qh * ql * 2, 2, qh * 2] } else { [qh * ql * 2, ql * 2, 2] };
    let mut lse = tensor_of(Elem::F32, &vec![sentinel; b * qh * ql * 2 + 1], &[b * qh * ql * 2 + 1]);
    if refused.is_none() {
        let counted = request.attended_pairs().map_err(|e| format!("pairs: {e}"))?;
        if counted != pairs {
            return Err(format!("{counted} pairs counted, {pairs} attended"));
        }
    }
    let o_view = o.view_mut().with_strides(&[b, qh, ql, dv], &o_strides).map_err(|e| e.to_string())?;
    let lse_view = Some(lse.view_mut().with_strides(&[b, qh, ql], &l_strides).map_err(|e| e.to_string())?);
    let result = match &*plan {
        Some(plan) => plan.run(&request, o_view, lse_view),
        None => request.plan(device).and_then(|made| {
            let result = made.run(&request, o_view, lse_view);
            *plan = Some(made);
            result
        }),
    };
    if replan && refused.is_none() && !combination {
        return match result {
            Err(AttentionError::Replan { .. }) => Ok(0),
            other => Err(format!("wanted Replan, got {other:?}")),
        };
    }
    match (refused, result) {
        (Some("Feature"), Err(AttentionError::Feature { .. })) => return Ok(0),
        (Some("RingCapacity"), Err(AttentionError::RingCapacity { .. })) => return Ok(0),
        (_, Err(AttentionError::Combination { .. })) if combination => return Ok(0),
        (_, Err(AttentionError::Replan { .. })) if combination && replan => return Ok(0),
        (None, Ok(())) if combination => return Err("a map over a ring was not refused".into()),
        (None, Ok(())) => {}
        (refused, result) => return Err(format!("wanted {refused:?}, got {result:?}")),
    }
    let (o, lse) = (o.to_f64(), lse.to_f64());
    let mut problems = String::new();
    let mut compared = 0;
    let mut touched = vec![false; o.len()];
    let f32_bound = 2e-6 * most * (largest / 16.0).max(1.0);
    let unit = match s.q {
        Elem::F16 => 2f64.powi(-11),
        Elem::Bf16 => 2f64.powi(-8),
        _ => 0.0,
    };
    for row in 0..b * qh * ql {
        let (e, h, i) = (row / (qh * ql), row / ql % qh, row % ql);
        let at = |strides: &[usize]| e * strides[0] + h * strides[1] + i * strides[2];
        let (got, want) = (lse[at(&l_strides)], lse_ref[row]);
        // 0 where no codes are rounded.
        let rounding = if unit == 0.0 { 0.0 } else { 2.0 * textbook_lse };
        let bound = rounding.max(1e-6 * largest.max(1.0) + 2e-7 * want.abs());
        if !(got == want || (got - want).abs() <= bound) {
            let _ = writeln!(problems, "lse[{e},{h},{i}] {got} not {want}, bound {bound}");
        }
        for c in 0..dv {
            let place = at(&o_strides) + c;
            touched[place] = true;
            let (got, want) = (o[place], o_ref[row * dv + c]);
            let bound = if unit == 0.0 {
                f32_bound
            } else {
                (2.0 * textbook).max(f32_bound + (want.abs() * unit).max(2f64.powi(-25)))
            };
            let close = (got - want).abs() <= bound;
            if !close && problems.lines().count() < 8 {
                let _ = writeln!(problems, "o[{e},{h},{i},{c}] {got} not {want}, bound {bound}");
            }
            compared += 1;
        }
    }
    if touched.iter().zip(&o).any(|(touched, x)| !touched && *x != sentinel) {
        problems.push_str("a gap of o was written\n");
    }
    if problems.is_empty() { Ok(compared) } else { Err(problems.lines().take(8).collect::<Vec<_>>().join("\n")) }
}
