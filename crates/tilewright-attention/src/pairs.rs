//! How many pairs are attended, without visiting each where a mask is an interval.

use crate::attention::Extents;
use crate::feature::{Features, Pair};

/// The attended (query row, key) pairs over all heads. `kv_len` and `q_start` have one number per batch entry.
pub(crate) fn attended(shape: &Extents, kv_len: &[i64], q_start: &[i64], features: &Features) -> u64 {
    // Heads that do not differ are counted once.
    let differ = features.masks().any(|mask| mask.differs_by_head());
    let (heads, times) = if differ { (shape.q_heads, 1) } else { (1, shape.q_heads as u64) };
    let mut pairs = 0;
    for (batch, (&keys, &start)) in kv_len.iter().zip(q_start).enumerate() {
        for head in 0..heads {
            let row = |row: usize| {
                let query = start.saturating_add(row as i64);
                let at = Pair { batch, head, row, query, key: 0, q_len: shape.q_len, kv_len: keys.max(0) as usize };
                of_row(at, keys, features)
            };
            pairs += (0..shape.q_len).map(row).sum::<u64>();
        }
    }
    pairs * times
}

/// The attended keys of one row among the first `keys`.
fn of_row(at: Pair, keys: i64, features: &Features) -> u64 {
    let intervals: Option<Vec<_>> = features.masks().map(|mask| mask.interval(&at)).collect();
    match intervals {
        Some(all) => {
            let first = all.iter().map(|keys| keys.start).fold(0, i64::max);
            let end = all.iter().map(|keys| keys.end).fold(keys, i64::min);
            (end - first).max(0) as u64
        }
        None => {
            let attends = |key| features.masks().all(|mask| mask.reference(&Pair { key, ..at }));
            (0..keys).filter(|&key| attends(key)).count() as u64
        }
    }
}
