//! What an append writes: the bytes of its tokens where they belong, and no other byte of the cache.

mod support;

use support::{number, tensor_of};
use tilewright_attention::cache::{CodeTensors, Destination, Slots, append, quantise_append};
use tilewright_attention::reference::affine::encode;
use tilewright_attention::{Affine, Rounding};
use tilewright_ir::Elem;
use tilewright_lang::f16;
use tilewright_runtime::{Device, Tensor, TensorView};

const HEADS: usize = 2;
const DIM: usize = 64;

/// A tensor in which every element has bits of its own, none of them NaN's, whose bits the interpreter does not keep; `salt`
/// tells tensors apart.
fn sentinels(elem: Elem, shape: &[usize], salt: usize) -> Tensor {
    let bits = (0..shape.iter().product::<usize>()).map(|i| ((i + salt * 7717) as u32).wrapping_mul(0x9e37_79b9) | 1);
    match elem {
        Elem::U32 => Tensor::from_slice(&bits.collect::<Vec<_>>(), shape),
        _ => Tensor::from_slice(&bits.map(|b| f16::from_bits((b >> 16) as u16 & 0xbfff)).collect::<Vec<_>>(), shape),
    }
    .unwrap()
}

/// Tokens of two batch entries, and the bytes that each row of them is stored as: `[parts][batch, heads, n]`.
struct New {
    x: Tensor,
    n: usize,
    parts: Vec<Vec<Vec<u8>>>,
}

impl New {
    fn of(n: usize, format: Option<Affine>) -> New {
        let numbers: Vec<f64> = (0..2 * HEADS * n * DIM).map(number).collect();
        let x = tensor_of(Elem::F16, &numbers, &[2, HEADS, n, DIM]);
        let parts = match format {
            None => vec![x.as_bytes().chunks(2 * DIM).map(<[u8]>::to_vec).collect()],
            Some(format) => {
                let stored: Vec<f32> = x.to_f64().iter().map(|&x| x as f32).collect();
                let rows = stored.chunks(DIM).map(|row| encode(row, Elem::F16, format, Rounding::Away).unwrap());
                let rows: Vec<_> = rows.collect();
                let floats = |all: &[f64]| {
                    all.iter().flat_map(|&x| (Elem::F16.to_bits(x) as u16).to_ne_bytes()).collect::<Vec<u8>>()
                };
                vec![
                    rows.iter().map(|row| row.words.iter().flat_map(|w| w.to_ne_bytes()).collect()).collect(),
                    rows.iter().map(|row| floats(&row.scales)).collect(),
                    rows.iter().map(|row| floats(&row.biases)).collect(),
                ]
            }
        };
        New { x, n, parts }
    }
}

/// Where position `p` of a batch entry is: the outer index and the slot.
fn place(slots: Slots<'_>, per_outer: usize, entry: usize, p: usize) -> (usize, usize) {
    match slots {
        Slots::Contiguous => (entry, p),
        Slots::Ring => (entry, p % per_outer),
        Slots::Paged(table) => (table[entry * (table.len() / 2) + p / per_outer] as usize, p % per_outer),
    }
}

/// Appends to a cache of sentinels, and holds every byte of it against what it should be; how many differ from before.
fn check(
    device: &Device,
    new: &New,
    format: Option<Affine>,
    outer: usize,
    per_outer: usize,
    at: &Destination<'_>,
) -> usize {
    let shape = |last| [outer, HEADS, per_outer, last];
    let mut tensors = match format {
        None => vec![sentinels(Elem::F16, &shape(DIM), 0)],
        Some(format) => {
            let groups = shape(format.groups(DIM).unwrap());
            vec![
                sentinels(Elem::U32, &shape(format.words(DIM).unwrap()), 1),
                sentinels(Elem::F16, &groups, 2),
                sentinels(Elem::F16, &groups, 3),
            ]
        }
    };
    let mut wanted: Vec<Vec<u8>> = tensors.iter().map(|tensor| tensor.as_bytes().to_vec()).collect();
    let before = wanted.clone();
    for (bytes, rows) in wanted.iter_mut().zip(&new.parts) {
        for entry in 0..2 {
            for head in 0..HEADS {
                for i in 0..at.counts[entry] {
                    let row = &rows[(entry * HEADS + head) * new.n + i];
                    let (outer, slot) = place(at.slots, per_outer, entry, at.positions[entry] + i);
                    let to = ((outer * HEADS + head) * per_outer + slot) * row.len();
                    bytes[to..to + row.len()].copy_from_slice(row);
                }
            }
        }
    }
    match format {
        None => append(device, new.x.view(), tensors[0].view_mut(), at).unwrap(),
        Some(format) => {
            let [w, scales, biases] = <[Tensor; 3]>::try_from(tensors).unwrap();
            let mut codes = CodeTensors { w, scales, biases, format };
            quantise_append(device, new.x.view(), codes.view_mut(), at, Rounding::Away).unwrap();
            tensors = vec![codes.w, codes.scales, codes.biases];
        }
    }
    let mut changed = 0;
    for ((tensor, wanted), before) in tensors.iter().zip(&wanted).zip(&before) {
        if let Some(byte) = tensor.as_bytes().iter().zip(wanted).position(|(got, wanted)| got != wanted) {
            panic!("byte {byte} of a {tensor:?} after {at:?}, {format:?}");
        }
        changed += wanted.iter().zip(before).filter(|(a, b)| a != b).count();
    }
    changed
}

/// Every position and count of one batch entry, each `step`th; the other entry has others.
fn check_all(
    device: &Device,
    slots: Slots<'_>,
    outer: usize,
    per_outer: usize,
    positions: usize,
    most: usize,
    step: usize,
) {
    let bounded = !matches!(slots, Slots::Ring);
    let mut changed = 0;
    for format in [None, Some("q4g32".parse().unwrap()), Some("q8g64".parse().unwrap())] {
        for n in (0..=most).step_by(step) {
            let new = New::of(n, format);
            for first in (0..=positions).step_by(step) {
                let second = (first * 5 + n + 3) % (positions + 1);
                let fits = |position: usize, n: usize| if bounded { n.min(positions - position) } else { n };
                let at = Destination {
                    slots,
                    positions: &[first, second],
                    counts: &[fits(first, n), fits(second, (n * 3 + first) % (n + 1))],
                };
                changed += check(device, &new, format, outer, per_outer, &at);
            }
        }
    }
    assert!(changed > 500, "only {changed} bytes changed");
}

#[test]
fn an_append_changes_exactly_the_bytes_of_its_tokens() {
    let device = Device::cpu();
    for capacity in [1, 16, 17, 35] {
        check_all(&device, Slots::Contiguous, 2, capacity, capacity, capacity, 1);
    }
}

#[test]
fn an_append_to_a_ring_wraps_at_every_slot() {
    let device = Device::cpu();
    for capacity in [1, 2, 15, 16, 17, 33] {
        check_all(&device, Slots::Ring, 2, capacity, 2 * capacity, capacity + 18, 1);
    }
}

#[test]
fn an_append_to_pages_follows_the_table() {
    let device = Device::cpu();
    for page_size in [16, 17, 24] {
        check_all(&device, Slots::Paged(&[5, 1, 0, 6]), 8, page_size, 2 * page_size, 2 * page_size, 1);
    }
}

#[test]
fn the_interpreter_appends_the_same() {
    let device = Device::interp();
    check_all(&device, Slots::Contiguous, 2, 35, 35, 35, 7);
    check_all(&device, Slots::Ring, 2, 17, 34, 21, 5);
    check_all(&device, Slots::Paged(&[5, 1, 0, 6]), 8, 17, 34, 34, 7);
}

#[test]
fn tokens_may_lie_in_any_order_in_memory() {
    let n = 20;
    let numbers: Vec<f64> = (0..2 * n * HEADS * DIM).map(number).collect();
    let sequence_major = tensor_of(Elem::F16, &numbers, &[2, n, HEADS, DIM]);
    let strides = [n * HEADS * DIM, DIM, HEADS * DIM, 1];
    let x: TensorView<'_> = sequence_major.view().with_strides(&[2, HEADS, n, DIM], &strides).unwrap();
    let mut to = Tensor::zeros(Elem::F16, &[2, HEADS, n, DIM]).unwrap();
    let at = Destination { slots: Slots::Contiguous, positions: &[0, 0], counts: &[n, n] };
    append(&Device::cpu(), x, to.view_mut(), &at).unwrap();
    assert_eq!(to.to_f64(), x.to_f64().unwrap());
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let device = Device::cpu();
    let x = tensor_of(Elem::F16, &(0..2 * HEADS * 4 * DIM).map(number).collect::<Vec<_>>(), &[2, HEADS, 4, DIM]);
    let refused = |shape: &[usize], at: Destination<'_>| {
        let mut to = sentinels(Elem::F16, shape, 0);
        let before = to.as_bytes().to_vec();
        let error = append(&device, x.view(), to.view_mut(), &at).unwrap_err();
        assert!(to.as_bytes() == before, "{error}");
        error.to_string()
    };
    let plain = |positions, counts| Destination { slots: Slots::Contiguous, positions, counts };
    let paged = |table, positions| Destination { slots: Slots::Paged(table), positions, counts: &[4, 4] };
    let cache = [2, HEADS, 9, DIM];
    for (got, wanted) in [
        (
            refused(&cache, plain(&[5, 6], &[4, 4])),
            "batch entry 1 holds 6 tokens of 9; 4 more do not fit, truncate it or make the cache larger",
        ),
        (
            refused(&cache, plain(&[0, usize::MAX], &[4, 4])),
            "batch entry 1 holds 18446744073709551615 tokens of 9; 4 more do not fit, truncate it or make the cache larger",
        ),
        (
            refused(&cache, plain(&[0, 0], &[4, 5])),
            "5 tokens of batch entry 1 and x has 4; at most that many can be asked for",
        ),
        (
            refused(&cache, plain(&[0], &[4, 4])),
            "positions has 1 entries and the batch 2; give one for each batch entry",
        ),
        (
            refused(&[3, HEADS, 9, DIM], plain(&[0, 0], &[4, 4])),
            "the cache has 3 as its batch and x has 2; they must be equal",
        ),
        (
            refused(&[2, 3, 9, DIM], plain(&[0, 0], &[4, 4])),
            "the cache has 3 as its number of heads and x has 2; they must be equal",
        ),
        (
            refused(&[2, HEADS, 9, 65], plain(&[0, 0], &[4, 4])),
            "the cache has 65 as its last axis for this head dim and x has 64; they must be equal",
        ),
        (
            refused(&[8, HEADS, 16, DIM], paged(&[0, 1, 2, 8], &[0, 14])),
            "page 1 of batch entry 1 is 8; there are pages 0 to 8 less one",
        ),
        (
            refused(&[8, HEADS, 16, DIM], paged(&[0, 1, 2, 1], &[14, 14])),
            "page 1 would be written for two batch entries; give each its own page where it appends",
        ),
        (refused(&[8, HEADS, 15, DIM], paged(&[0, 1, 2, 3], &[0, 0])), "pages of 15 tokens; 16 to 256 are served"),
        (
            refused(&[8, HEADS, 16, DIM], paged(&[0, 1, 2], &[0, 0])),
            "the page table has 3 entries, which 2 batch entries cannot share; give each the same number of pages",
        ),
    ] {
        assert_eq!(got, wanted);
    }
}

#[test]
fn the_kernels_of_caches_are_in_the_library_and_trace_with_what_is_left_out() {
    let library = tilewright_attention::library();
    for (name, params) in [("cache_append", 5), ("cache_quantise", 7), ("cache_dequantise", 5)] {
        let entry = library.find(name).unwrap();
        let kernel = entry.spec.trace(&(entry.complete)(Default::default()).unwrap()).unwrap();
        assert_eq!(kernel.params.len(), params, "{kernel}");
        let text = [("placement", "paged(32)"), ("cache", "paged(32)+k-q4g32")].into_iter();
        let text = text.filter(|(value, _)| entry.spec.spec.iter().any(|(known, _)| known == value));
        let text = text.map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let kernel = entry.spec.trace(&(entry.complete)(text).unwrap()).unwrap();
        assert_eq!(kernel.params.len(), params + 1, "{kernel}");
    }
}
