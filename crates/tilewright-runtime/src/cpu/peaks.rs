//! Ceilings that are measured: how fast memory is read and copied, and how fast the processor's own bf16 products are.
//!
//! A pass is timed for all threads together: a thread that had memory to itself for a while must not count as if it always had.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Words of eight bytes; what all accumulators of a pass take at once.
const BLOCK: usize = 64;
/// How long a way of reading is measured, at least three passes.
const LONG: Duration = Duration::from_millis(80);

/// How fast this many threads read `bytes` of memory again and again, in GB/s: the best of several ways to walk through it.
///
/// What fits a cache is read from it. For memory itself, give several times the last cache's size.
pub fn read_peak(threads: usize, bytes: usize) -> f64 {
    let words = vec![1u64; (bytes / 8).max(BLOCK * threads.max(1))];
    let parts: Vec<&[u64]> = words.chunks(words.len().div_ceil(threads.max(1))).collect();
    let ways = [1, 2, 4, 8].map(|streams| passes(&parts, |part| read(part, streams)));
    rate(words.len() * 8, ways.into_iter().fold(f64::INFINITY, f64::min))
}

/// How fast this many threads copy `bytes` of memory to as many others, in GB/s of both together.
pub fn copy_peak(threads: usize, bytes: usize) -> f64 {
    let from = vec![1u8; bytes.max(1)];
    let mut to = vec![0u8; from.len()];
    let each = from.len().div_ceil(threads.max(1));
    let parts: Vec<_> = from.chunks(each).zip(to.chunks_mut(each)).map(|(from, to)| (from, Lent::new(to))).collect();
    let best = passes(&parts, |(from, to)| to.with(|to| to.copy_from_slice(from)));
    rate(2 * from.len(), best)
}

/// A part of a buffer that one thread writes, pass after pass.
struct Lent<'a>(std::sync::Mutex<&'a mut [u8]>);

impl<'a> Lent<'a> {
    fn new(part: &'a mut [u8]) -> Lent<'a> {
        Lent(std::sync::Mutex::new(part))
    }

    fn with(&self, write: impl FnOnce(&mut [u8])) {
        write(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

fn rate(bytes: usize, seconds: f64) -> f64 {
    bytes as f64 / seconds / 1e9
}

/// Seconds of the fastest pass, in which each thread does its part. The caller is one of the threads.
fn passes<P: Sync>(parts: &[P], work: impl Fn(&P) + Sync) -> f64 {
    let (turn, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (turn, done, work) = (&turn, &done, &work);
    let Some((own, others)) = parts.split_first() else { return f64::INFINITY };
    std::thread::scope(|scope| {
        for part in others {
            scope.spawn(move || {
                for pass in 1.. {
                    wait(|| turn.load(Ordering::Acquire) >= pass);
                    if turn.load(Ordering::Acquire) == usize::MAX {
                        break;
                    }
                    work(part);
                    done.fetch_add(1, Ordering::Release);
                }
            });
        }
        let (began, mut best, mut pass) = (Instant::now(), f64::INFINITY, 0);
        while pass < 3 || began.elapsed() < LONG {
            pass += 1;
            let started = Instant::now();
            turn.store(pass, Ordering::Release);
            work(own);
            wait(|| done.load(Ordering::Acquire) == pass * others.len());
            best = f64::min(best, started.elapsed().as_secs_f64());
        }
        turn.store(usize::MAX, Ordering::Release);
        best
    })
}

/// Waits awake: a sleeping thread takes longer to wake than a small pass takes. With more threads than cores it gives way.
fn wait(reached: impl Fn() -> bool) {
    for turns in 0u32.. {
        if reached() {
            return;
        }
        if turns % 1024 == 1023 { std::thread::yield_now() } else { std::hint::spin_loop() }
    }
}

fn read(words: &[u64], streams: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has it.
            return unsafe { read_avx512(words, streams) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has it.
            return unsafe { read_avx2(words, streams) };
        }
    }
    read_in_streams(words, streams);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn read_avx512(words: &[u64], streams: usize) {
    read_in_streams(words, streams);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn read_avx2(words: &[u64], streams: usize) {
    read_in_streams(words, streams);
}

/// Reads all words, in so many streams side by side.
#[inline(always)]
fn read_in_streams(words: &[u64], streams: usize) {
    let mut sums = [0u64; BLOCK];
    let add = |sums: &mut [u64; BLOCK], block: &[u64]| {
        sums.iter_mut().zip(block).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
    };
    let blocks = words.len() / BLOCK / streams;
    for at in 0..blocks {
        for stream in 0..streams {
            let from = (stream * blocks + at) * BLOCK;
            add(&mut sums, &words[from..from + BLOCK]);
        }
    }
    words[blocks * streams * BLOCK..].chunks(BLOCK).for_each(|block| add(&mut sums, block));
    std::hint::black_box(sums);
}

/// The measured ceiling of the processor's own bf16 products with f32 sums on this many threads, in GFLOP/s; `None` where it
/// has none. Not every processor is faster with them than with f32.
pub fn bf16_peak(threads: usize) -> Option<f64> {
    let chain = bf16_chain()?;
    let best = || {
        let (began, mut best) = (Instant::now(), 0.0f64);
        while began.elapsed() < 2 * LONG {
            let started = Instant::now();
            let flops = chain(100_000);
            best = best.max(flops as f64 / started.elapsed().as_secs_f64() / 1e9);
        }
        best
    };
    Some(std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(best)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0.0)).sum()
    }))
}

/// A chain of bf16 products in registers: operations done in so many rounds.
fn bf16_chain() -> Option<fn(u64) -> u64> {
    #[cfg(target_arch = "x86_64")]
    if super::amx::detected() {
        // SAFETY: the processor has tiles.
        return Some(|rounds| unsafe { super::amx::chain(rounds) });
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has both.
        return Some(|rounds| unsafe { avx512_bf16(rounds) });
    }
    None
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn avx512_bf16(rounds: u64) -> u64 {
    use std::arch::x86_64::{__m512bh, _mm512_dpbf16_ps, _mm512_set1_epi32, _mm512_set1_ps};
    const SUMS: usize = 16;
    // SAFETY: both types are 512 bits of any value.
    let ones: __m512bh = unsafe { std::mem::transmute(_mm512_set1_epi32(0x3f80_3f80)) };
    let mut sums = [_mm512_set1_ps(0.0); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, ones, ones);
        }
    }
    std::hint::black_box(sums);
    rounds * SUMS as u64 * 64 // 16 sums of two products each
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peaks_are_positive_numbers_for_any_number_of_threads() {
        for threads in [1, 2, 3] {
            for bytes in [0, 1000, 1 << 20] {
                for peak in [read_peak(threads, bytes), copy_peak(threads, bytes)] {
                    assert!(peak.is_finite() && peak > 0.0, "{threads} threads, {bytes} bytes: {peak}");
                }
            }
            assert!(bf16_peak(threads).is_none_or(|peak| peak > 1.0), "{threads}");
        }
    }

    #[test]
    fn every_pass_has_every_part_done_once() {
        let parts: Vec<AtomicUsize> = (0..3).map(|_| AtomicUsize::new(0)).collect();
        let best = passes(&parts, |part| _ = part.fetch_add(1, Ordering::Relaxed));
        let done: Vec<usize> = parts.into_iter().map(AtomicUsize::into_inner).collect();
        assert!(best.is_finite() && done[0] >= 3 && done.iter().all(|&n| n == done[0]), "{best} {done:?}");
    }
}
