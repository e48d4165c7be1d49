//! The kernels of the library as a list: what the command line inspects, tests and measures.

mod benches;
mod cases;
mod complete;

use crate::cases::{Case, TestCase};
use crate::error::AttentionError;
use crate::kernels::{ATTENTION_CLASSIFY, ATTENTION_FORWARD, ATTENTION_MERGE, ATTENTION_SPLIT};
use crate::kernels::{CACHE_APPEND, CACHE_DEQUANTISE, CACHE_QUANTISE};
use crate::tuning::Machine;
use tilewright_ir::{Elem, Schedule, Work};
use tilewright_lang::{SpecEntry, SpecText};

/// A list of kernels. A user's own binary passes its own.
#[derive(Clone, Debug)]
pub struct Library {
    /// In the order in which they are listed.
    pub entries: Vec<KernelEntry>,
}

/// One kernel: what it serves, its cases, its formulas.
///
/// ```
/// use tilewright_attention::KernelEntry;
/// use tilewright_lang::prelude::*;
///
/// /// Doubles `width` elements a program.
/// #[kernel(entry(E in [f32, f16]))]
/// fn double<E: Float>(x: View<E, 1>, y: ViewMut<E, 1>, width: usize) {
///     let [block] = program_id();
///     y.store(block * width, x.load(block * width, [width]) * 2.0);
/// }
///
/// let entry = KernelEntry::new(&DOUBLE, "doubles what it reads");
/// let text = [("E", "f16"), ("width", "8")].map(|(name, value)| (name.to_string(), value.to_string()));
/// assert_eq!(entry.spec.trace(&text.into())?.params.len(), 2);
/// # Ok::<(), tilewright_lang::EntryError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct KernelEntry {
    /// What `#[kernel(entry(…))]` made: the kernel's name, its specialisation values, and its IR for any of them.
    pub spec: &'static SpecEntry,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The whole specialisation where only some values are given: the others as the planner would choose them.
    pub complete: fn(SpecText) -> Result<SpecText, AttentionError>,
    /// The same for this machine.
    pub tuned: fn(SpecText, Machine) -> Result<Tuned, AttentionError>,
    /// Element types: of q and o, and of k and v.
    pub types: &'static [(Elem, Elem)],
    /// Head dim and value dim that are tuned; every value from 1 to 576 computes.
    pub head_dims: &'static [(usize, usize)],
    /// Schedules worth measuring.
    pub schedules: &'static [Schedule],
    /// Test cases, in all types: each runs this kernel.
    pub cases: fn() -> Vec<TestCase>,
    /// Benchmark cases.
    pub benches: fn() -> Vec<Case>,
}

impl KernelEntry {
    /// A kernel that can be inspected: no cases, and every specialisation value must be given.
    pub const fn new(spec: &'static SpecEntry, summary: &'static str) -> KernelEntry {
        KernelEntry {
            spec,
            summary,
            complete: Ok,
            tuned: |text, _| Ok(Tuned { text, work: None }),
            types: &[],
            head_dims: &[],
            schedules: &[],
            cases: Vec::new,
            benches: Vec::new,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.spec.name
    }
}

/// A whole specialisation for a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tuned {
    /// The values.
    pub text: SpecText,
    /// How the threads of a GPU share the work; `None` leaves it to the compiler.
    pub work: Option<Work>,
}

impl Library {
    /// The entry of this name.
    pub fn find(&self, name: &str) -> Option<&KernelEntry> {
        self.entries.iter().find(|entry| entry.name() == name)
    }
}

/// The kernels of this library.
pub fn library() -> Library {
    Library { entries: vec![FORWARD, SPLIT, MERGE, CLASSIFY, APPEND, QUANTISE, DEQUANTISE] }
}

/// Attention in one pass over the keys.
const FORWARD: KernelEntry = KernelEntry {
    complete: complete::forward,
    tuned: complete::forward_tuned,
    types: &TYPES,
    head_dims: &HEAD_DIMS,
    schedules: &[
        Schedule { heads: 1, queries: 16, keys: 64 },
        Schedule { heads: 1, queries: 32, keys: 64 },
        Schedule { heads: 1, queries: 32, keys: 128 },
        Schedule { heads: 1, queries: 64, keys: 64 },
        Schedule { heads: 1, queries: 64, keys: 128 },
        Schedule { heads: 1, queries: 128, keys: 64 },
        Schedule { heads: 1, queries: 128, keys: 128 },
        Schedule { heads: 1, queries: 128, keys: 256 },
    ],
    cases: cases::forward,
    benches: benches::forward,
    ..KernelEntry::new(&ATTENTION_FORWARD, "attention in one pass over the keys, any features and cache format")
};

/// One share of the keys.
const SPLIT: KernelEntry = KernelEntry {
    summary: "one share of the keys for decode and verify: the heads of a group and the queries as rows",
    complete: complete::split,
    tuned: complete::split_tuned,
    types: &TYPES,
    head_dims: &HEAD_DIMS,
    cases: cases::split,
    benches: benches::split,
    ..KernelEntry::new(&ATTENTION_SPLIT, "")
};

/// The shares of the keys combined.
const MERGE: KernelEntry = KernelEntry {
    complete: complete::merge,
    tuned: |text, _| Ok(Tuned { text: complete::merge(text)?, work: None }),
    types: &TYPES,
    head_dims: &HEAD_DIMS,
    cases: cases::merge,
    ..KernelEntry::new(&ATTENTION_MERGE, "combines the shares of the keys")
};

/// The classes of a mask's tiles.
const CLASSIFY: KernelEntry = KernelEntry {
    complete: complete::classify,
    tuned: |text, _| Ok(Tuned { text: complete::classify(text)?, work: None }),
    cases: cases::classify,
    ..KernelEntry::new(&ATTENTION_CLASSIFY, "the classes of a mask's tiles: nothing, some or all of each attended")
};

/// New tokens into a cache.
const APPEND: KernelEntry = KernelEntry {
    complete: complete::append,
    tuned: |text, _| Ok(Tuned { text: complete::append(text)?, work: None }),
    cases: cases::append,
    ..KernelEntry::new(&CACHE_APPEND, "writes new tokens into a cache: dense, a ring or pages")
};

/// New tokens into a quantised cache.
const QUANTISE: KernelEntry = KernelEntry {
    complete: complete::quantise,
    tuned: |text, _| Ok(Tuned { text: complete::quantise(text)?, work: None }),
    cases: cases::quantise,
    ..KernelEntry::new(&CACHE_QUANTISE, "encodes new tokens as codes of 4 or 8 bits, into a cache or a tensor")
};

/// A cache back to a tensor.
const DEQUANTISE: KernelEntry = KernelEntry {
    complete: complete::dequantise,
    tuned: |text, _| Ok(Tuned { text: complete::dequantise(text)?, work: None }),
    cases: cases::dequantise,
    ..KernelEntry::new(&CACHE_DEQUANTISE, "the tokens of a cache in order, decoded where they are codes")
};

/// Element types of q and o, and of k and v.
const TYPES: [(Elem, Elem); 5] = [
    (Elem::F32, Elem::F32),
    (Elem::F16, Elem::F16),
    (Elem::Bf16, Elem::Bf16),
    (Elem::F32, Elem::F16),
    (Elem::F32, Elem::Bf16),
];

/// Head dims and value dims that are tuned.
const HEAD_DIMS: [(usize, usize); 12] = [
    (32, 32),
    (64, 64),
    (72, 72),
    (80, 80),
    (96, 96),
    (112, 112),
    (128, 128),
    (192, 128),
    (192, 192),
    (256, 256),
    (512, 512),
    (576, 512),
];
