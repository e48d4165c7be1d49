//! candle as a peer of `tile bench`: the protocol of `../protocol.py` over candle-core and candle-nn.
//!
//! Ways: `flash`, candle-nn's own attention for CPUs, and `matmul`, the two products and a softmax as candle's models write
//! them, with the group's heads folded into query rows, so that keys and values are not repeated.

use candle_core::{DType, Device, Result, Tensor, WithDType};
use candle_nn::attention::{AttnMask, flash_attn};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::Instant;

/// The version in Cargo.lock; `cargo update` needs a look at it.
const CANDLE: &str = "0.11.1";

/// How many times as long as the fastest way another one may take before it is left out of the rounds.
const KEPT: f64 = 1.5;

/// Seconds. A way that takes longer gains nothing from a run that is not counted.
const SLOW: f64 = 1.0;

/// The case, as `tile bench` describes it.
#[derive(Deserialize)]
struct Case {
    batch: usize,
    q_heads: usize,
    kv_heads: usize,
    q_len: usize,
    kv_len: usize,
    head_dim: usize,
    value_dim: usize,
    dtype: String,
    kv_dtype: String,
    mask: String,
    format: String,
    threads: usize,
}

/// A way to compute the case; the result is thrown away.
type Way = Box<dyn Fn() -> Result<Tensor>>;

fn main() -> std::io::Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let Some(description) = lines.next() else { return Ok(()) };
    let mut out = std::io::stdout().lock();
    let ways = match serde_json::from_str(&description?).map_err(|error| error.to_string()).and_then(prepare) {
        Ok(ways) => ways,
        Err(reason) => return writeln!(out, "cannot {}", reason.replace('\n', " ")),
    };
    let tried: BTreeMap<&str, f64> = ways.iter().map(|(name, _, seconds)| (*name, *seconds)).collect();
    let threads = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse::<usize>().ok());
    writeln!(
        out,
        "ready {}",
        serde_json::json!({"version": format!("candle {CANDLE}"), "threads": threads, "tried": tried})
    )?;
    out.flush()?;
    let best = tried.values().copied().fold(f64::INFINITY, f64::min);
    let kept: Vec<_> = ways.iter().filter(|(_, _, seconds)| *seconds <= KEPT * best).collect();
    for line in lines {
        let line = line?;
        let Some(seconds) = line.strip_prefix("round ").and_then(|text| text.parse::<f64>().ok()) else {
            return writeln!(out, "cannot read `{line}`");
        };
        let mut times = BTreeMap::new();
        for (name, way, tried) in &kept {
            match run(way, seconds / kept.len() as f64, *tried <= SLOW) {
                Ok(measured) => times.insert(*name, measured),
                Err(error) => return writeln!(out, "cannot {}", error.to_string().replace('\n', " ")),
            };
        }
        writeln!(out, "{}", serde_json::to_string(&times)?)?;
        out.flush()?;
    }
    Ok(())
}

/// Seconds of each run, at least one, repeated for about so long; after one that is not counted where `warm`.
fn run(way: &Way, long: f64, warm: bool) -> Result<Vec<f64>> {
    if warm {
        way()?;
    }
    let (mut times, began) = (Vec::new(), Instant::now());
    while times.is_empty() || began.elapsed().as_secs_f64() < long {
        let started = Instant::now();
        std::hint::black_box(way()?);
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(times)
}

/// The ways that work, each with the seconds of its fastest run.
fn prepare(case: Case) -> std::result::Result<Vec<(&'static str, Way, f64)>, String> {
    if case.format != "dense" || case.dtype != case.kv_dtype {
        return Err(format!("no cache of format {} and type {}", case.format, case.kv_dtype));
    }
    if !["none", "causal", "additive"].contains(&case.mask.as_str()) {
        return Err(format!("no attention with {}", case.mask));
    }
    if rayon_threads() != Some(case.threads) {
        return Err("RAYON_NUM_THREADS is not the case's threads".to_string());
    }
    let made = match case.dtype.as_str() {
        "f32" => ways::<f32>(&case, DType::F32),
        "f16" => ways::<half::f16>(&case, DType::F16),
        "bf16" => ways::<half::bf16>(&case, DType::BF16),
        other => return Err(format!("no type {other}")),
    };
    let (mut working, mut refused) = (Vec::new(), Vec::new());
    for (name, way) in made.map_err(|error| error.to_string())? {
        match run(&way, 0.3, false) {
            Ok(times) => working.push((name, way, times.into_iter().fold(f64::INFINITY, f64::min))),
            Err(error) => refused.push(format!("{name}: {error}")),
        }
    }
    if working.is_empty() { Err(refused.join("; ")) } else { Ok(working) }
}

fn rayon_threads() -> Option<usize> {
    std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok()
}

fn ways<T: WithDType + num_traits::Float + 'static>(case: &Case, dtype: DType) -> Result<Vec<(&'static str, Way)>> {
    let Case { batch, q_heads, kv_heads, q_len, kv_len, head_dim, value_dim, .. } = *case;
    let tensor = |heads, len, dim| -> Result<Tensor> {
        Tensor::randn(0f32, 1.0, (batch, heads, len, dim), &Device::Cpu)?.to_dtype(dtype)
    };
    let q = tensor(q_heads, q_len, head_dim)?;
    let (k, v) = (tensor(kv_heads, kv_len, head_dim)?, tensor(kv_heads, kv_len, value_dim)?);
    let scale = 1.0 / (head_dim as f64).sqrt();
    let group = q_heads / kv_heads;

    // What is added to the scores of each head: [q_len, kv_len].
    let added = match case.mask.as_str() {
        "additive" => Some(Tensor::randn(0f32, 1.0, (q_len, kv_len), &Device::Cpu)?.to_dtype(dtype)?),
        "causal" if q_len > 1 => {
            let seen = |at: usize| if at % kv_len <= at / kv_len + kv_len - q_len { 0f32 } else { f32::NEG_INFINITY };
            let cells: Vec<f32> = (0..q_len * kv_len).map(seen).collect();
            Some(Tensor::from_vec(cells, (q_len, kv_len), &Device::Cpu)?.to_dtype(dtype)?)
        }
        _ => None,
    };
    let flash_mask = match (case.mask.as_str(), &added) {
        ("causal", _) => AttnMask::causal_with_offset(kv_len - q_len),
        (_, Some(mask)) => AttnMask::Mask(mask.reshape((1, 1, q_len, kv_len))?),
        (_, None) => AttnMask::None,
    };
    // Flash attention takes [batch, length, heads, dim].
    let [fq, fk, fv] = [&q, &k, &v].map(|x| x.transpose(1, 2).and_then(|x| x.contiguous()));
    let (fq, fk, fv) = (fq?, fk?, fv?);
    let flash = move || flash_attn::<T>(&fq, &fk, &fv, scale as f32, flash_mask.clone(), None, None);

    let folded = q.reshape((batch, kv_heads, group * q_len, head_dim))?;
    let added = added.map(|mask| mask.repeat((group, 1))).transpose()?;
    let keys = k.t()?;
    let matmul = move || {
        let scores = (folded.matmul(&keys)? * scale)?;
        let scores = match &added {
            Some(mask) => scores.broadcast_add(mask)?,
            None => scores,
        };
        candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)
    };

    Ok(vec![("flash", Box::new(flash)), ("matmul", Box::new(matmul))])
}
