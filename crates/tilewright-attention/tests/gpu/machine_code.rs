//! NVRTC compiles every kernel at every tuned schedule, for an architecture of each generation. Needs no GPU.

use super::{source, tuned};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tilewright_attention::Tuned;
use tilewright_compile::gpu::{Dialect, Target};
use tilewright_ir::testing::tools;
use tilewright_runtime::cuda::{arch, compile_cubin, nvrtc_version, shared_bytes};

/// Compute capabilities: Ampere, Hopper, and a Blackwell with little shared memory.
const ARCHITECTURES: [u32; 3] = [80, 90, 120];

/// Head dim and value dim of models that there are, one or two for each row of the table.
const DIMS: [(usize, usize); 6] = [(64, 64), (128, 128), (192, 128), (256, 256), (512, 512), (576, 512)];

/// Element types of q, and of k and v.
const TYPES: [(&str, &str); 4] = [("f16", "f16"), ("bf16", "bf16"), ("f32", "f32"), ("f32", "bf16")];

/// A kernel, with the values that are not left to the planner.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    kernel: &'static str,
    values: Vec<(&'static str, String)>,
    compute: u32,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<String> = self.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(f, "{} {} on {}", self.kernel, values.join(" "), arch(self.compute).unwrap_or("unknown"))
    }
}

/// Attention at its tuned schedules: prefill, decode of one query, verify of 16.
fn attention() -> Vec<Job> {
    let mut jobs = Vec::new();
    for compute in ARCHITECTURES {
        for (kernel, queries) in [("attention_forward", None), ("attention_split", None), ("attention_split", Some(16))]
        {
            for (q, kv) in TYPES {
                for (head_dim, value_dim) in DIMS {
                    // In 99 KiB, f32 of 512 fits with spills and of 576 not at all.
                    if (q, kv, compute) == ("f32", "f32", 120) && head_dim >= 512 {
                        continue;
                    }
                    let mut values = vec![
                        ("E", q.to_string()),
                        ("C", kv.to_string()),
                        ("head_dim", head_dim.to_string()),
                        ("value_dim", value_dim.to_string()),
                        ("features", "causal".to_string()),
                    ];
                    values.extend(queries.map(|queries: u32| ("queries", queries.to_string())));
                    jobs.push(Job { kernel, values, compute });
                }
            }
        }
    }
    jobs
}

/// What else there is: other features and caches at one schedule, and the kernels that have none.
fn others() -> Vec<Job> {
    let mut jobs = Vec::new();
    for compute in ARCHITECTURES {
        let mut add = |kernel, values: &[(&'static str, &str)]| {
            let values = values.iter().map(|(name, value)| (*name, value.to_string())).collect();
            jobs.push(Job { kernel, values, compute });
        };
        let half = [("E", "bf16"), ("C", "bf16")];
        for features in [
            "none",
            "causal+mask(bf16,heads,q)",
            "causal+alibi",
            "causal+softcap",
            "window(left,sinks)",
            "causal+sinks",
            "tree",
        ] {
            add("attention_forward", &[&half[..], &[("features", features)]].concat());
        }
        for cache in ["paged(16)", "paged(64)", "ring", "dense+k-q8g64+v-q8g64", "paged(16)+k-q4g64+v-q4g64"] {
            add("attention_forward", &[&half[..], &[("features", "causal"), ("cache", cache)]].concat());
            add("attention_split", &[&half[..], &[("features", "causal"), ("cache", cache)]].concat());
        }
        for codes in ["dense+k-q4g128+v-q4g128", "dense+k-q8g64+v-q4g64"] {
            add(
                "attention_split",
                &[&half[..], &[("features", "causal"), ("cache", codes), ("queries", "16")]].concat(),
            );
        }
        for elem in ["f32", "f16", "bf16"] {
            add("attention_merge", &[("E", elem), ("at_once", "32")]);
            add("cache_append", &[("E", elem)]);
            add("cache_quantise", &[("E", elem)]);
            add("cache_dequantise", &[("E", elem)]);
        }
        add("attention_classify", &[]);
    }
    jobs
}

/// What a job found wrong; `Ok` says what the kernel takes.
fn run(job: &Job, seen: &Mutex<BTreeSet<String>>, spills: u32) -> Result<String, String> {
    let shared_bytes = shared_bytes(job.compute).map_err(|error| error.to_string())?;
    let target = Target { dialect: Dialect::Cuda, compute: job.compute, shared_bytes };
    let values: Vec<(&str, &str)> = job.values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let tuned = tuned(job.kernel, &values, &target)?;
    let Tuned { work, .. } = &tuned;
    let source = source(job.kernel, &tuned, &target)?;
    let cubin = compile_cubin(&source, job.compute).map_err(|error| error.to_string())?;
    let (threads, shared, found) = (source.threads, source.shared_bytes, cubin.resources);
    let of = |name: &str| tuned.text.get(name).map_or("-", String::as_str);
    let tile = format!("heads {} queries {} keys {}", of("heads"), of("queries"), of("keys"));
    let work = work.map_or(String::new(), |work| work.to_string());
    let takes = format!("{tile} {work}, {threads} threads, {shared} bytes shared, {found:?}");
    seen.lock().map_err(|e| e.to_string())?.insert(source.text);
    if found.registers == 0 {
        return Err(format!("the assembler does not say what it takes: {takes}"));
    }
    if found.spill_stores > spills {
        return Err(format!("spills: {takes}"));
    }
    if shared + found.static_shared > shared_bytes {
        return Err(format!("more shared memory than there is: {takes}"));
    }
    Ok(takes)
}

/// Runs all jobs on all cores and fails with all findings; of a thread's registers, `spills` bytes may go to local memory.
fn run_all(jobs: &[Job], spills: u32) {
    if tools::present(nvrtc_version()).is_none() {
        return;
    }
    let (next, seen) = (AtomicUsize::new(0), Mutex::default());
    let findings = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match run(job, &seen, spills) {
                        Ok(takes) => println!("{job}: {takes}"),
                        Err(finding) => findings.lock().expect("no panic holds it").push(format!("{job}: {finding}")),
                    }
                }
            });
        }
    });
    let findings = findings.into_inner().expect("no panic held it");
    assert!(findings.is_empty(), "{} of {} kernels:\n{}", findings.len(), jobs.len(), findings.join("\n"));
    let compiled = seen.into_inner().expect("no panic held it").len();
    assert!(compiled > 20, "{compiled} different sources were compiled");
}

#[test]
fn attention_at_every_tuned_schedule_compiles_without_spills() {
    run_all(&attention(), 0);
}

#[test]
fn other_features_caches_and_kernels_compile_and_spill_little() {
    run_all(&others(), 128);
}
