//! What the kernels of a plan are specialised by.

use crate::attention::{Attention, Extents};
use crate::cache::{Format, Placement};
use crate::error::AttentionError;
use crate::feature::Features;
use crate::kernels::{AttentionForward, AttentionMerge, AttentionSplit};
use crate::tuning;
use std::fmt;
use tilewright_ir::{Diagnostics, Elem, Kernel, Schedule};
use tilewright_lang::{bf16, f16};

/// Everything that the kernels of a plan are specialised by.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Element type of q and o.
    pub q: Elem,
    /// Element type of k and v, or of their scales.
    pub kv: Elem,
    /// The tile shape.
    pub schedule: Schedule,
    /// Last axis of q and k.
    pub head_dim: usize,
    /// Last axis of v and o.
    pub value_dim: usize,
    /// Features.
    pub features: Features,
    /// How keys and values lie.
    pub cache: Format,
    /// Whether lse is written.
    pub lse: bool,
}

/// A kernel with its values: the key under which its pipeline is kept, and what traces it.
pub type Traced = (String, Box<dyn Fn() -> Result<Kernel, Diagnostics>>);

/// A [`Traced`] of `$spec` with the element types `$q` and `$kv` as Rust types.
macro_rules! traced {
    ($spec:expr, $q:expr, $kv:expr) => {{
        let spec = $spec;
        macro_rules! of {
            ($e:ty, $c:ty) => {
                Ok((spec.key::<$e, $c>(), Box::new(move || spec.trace::<$e, $c>())))
            };
        }
        match ($q, $kv) {
            (Elem::F32, Elem::F32) => of!(f32, f32),
            (Elem::F32, Elem::F16) => of!(f32, f16),
            (Elem::F32, Elem::Bf16) => of!(f32, bf16),
            (Elem::F16, Elem::F16) => of!(f16, f16),
            (Elem::Bf16, Elem::Bf16) => of!(bf16, bf16),
            (q, kv) => Err(AttentionError::ElementMix { q, kv }),
        }
    }};
}

impl Variant {
    /// The variant for a request, and why it has its schedule.
    pub(crate) fn of(request: &Attention<'_>, shape: &Extents) -> Result<(Variant, String), AttentionError> {
        let cache = request.cache().format();
        let (schedule, reason) = match (request.requested_schedule(), request.features().schedule()) {
            (Some(asked), Some(made)) if asked != made => {
                let reason = format!("a feature was made for {made}; leave the schedule to it");
                return Err(AttentionError::Schedule { schedule: asked, reason });
            }
            (_, Some(made)) => (made, "as a feature was made for".to_string()),
            (Some(asked), None) => (asked, "as requested".to_string()),
            (None, None) => tuning::choose(shape, &cache),
        };
        let variant = Variant {
            q: request.q().elem(),
            kv: request.cache().elem(),
            schedule,
            head_dim: shape.head_dim,
            value_dim: shape.value_dim,
            features: request.features().clone(),
            cache,
            lse: request.wants_lse(),
        };
        Ok((variant, reason))
    }

    /// Holds schedule, features and format against each other.
    pub(crate) fn check(&self, shape: &Extents) -> Result<(), AttentionError> {
        tuning::check(self.schedule, self.head_dim, self.value_dim, &self.cache)?;
        let group = shape.q_heads / shape.kv_heads;
        if !group.is_multiple_of(self.schedule.heads as usize) {
            let reason = format!("its heads must divide the group of {group} query heads");
            return Err(AttentionError::Schedule { schedule: self.schedule, reason });
        }
        // A feature made for one tile shape, such as a class map, knows tiles that start at multiples of their size from key 0.
        let aligned = self.cache.placement != Placement::Ring && !self.cache.tail;
        if self.features.schedule().is_some() && !aligned {
            let what = format!("a feature made for one tile shape, such as a class map, over a {} cache", self.cache);
            return Err(AttentionError::combination(what, "the same without it, a mask without its map"));
        }
        Ok(())
    }

    /// What tells it from others.
    ///
    /// # Errors
    /// [`AttentionError::ElementMix`] for types that do not go together.
    pub fn key(&self) -> Result<String, AttentionError> {
        Ok(self.forward()?.0)
    }

    /// The forward kernel.
    ///
    /// # Errors
    /// [`AttentionError::ElementMix`] for types that do not go together.
    pub fn forward(&self) -> Result<Traced, AttentionError> {
        let (heads, queries, keys) = self.tile();
        let Variant { head_dim, value_dim, cache, lse, .. } = *self;
        let features = self.features.clone();
        let spec = AttentionForward { heads, queries, keys, head_dim, value_dim, features, cache, lse };
        traced!(spec, self.q, self.kv)
    }

    /// The split kernel.
    ///
    /// # Errors
    /// [`AttentionError::ElementMix`] for types that do not go together.
    pub fn split(&self) -> Result<Traced, AttentionError> {
        let (heads, queries, keys) = self.tile();
        let Variant { head_dim, value_dim, cache, .. } = *self;
        let features = self.features.clone();
        let spec = AttentionSplit { heads, queries, keys, head_dim, value_dim, features, cache };
        traced!(spec, self.q, self.kv)
    }

    /// The merge kernel.
    ///
    /// # Errors
    /// [`AttentionError::ElementMix`] for a type that is no float.
    pub fn merge(&self) -> Result<Traced, AttentionError> {
        let spec = AttentionMerge {
            at_once: tuning::MERGED_AT_ONCE,
            value_dim: self.value_dim,
            features: self.features.clone(),
            lse: self.lse,
        };
        match self.q {
            Elem::F32 => Ok((spec.key::<f32>(), Box::new(move || spec.trace::<f32>()))),
            Elem::F16 => Ok((spec.key::<f16>(), Box::new(move || spec.trace::<f16>()))),
            Elem::Bf16 => Ok((spec.key::<bf16>(), Box::new(move || spec.trace::<bf16>()))),
            q => Err(AttentionError::ElementMix { q, kv: self.kv }),
        }
    }

    fn tile(&self) -> (usize, usize, usize) {
        let Schedule { heads, queries, keys } = self.schedule;
        (heads as usize, queries as usize, keys as usize)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Variant { q, kv, schedule, head_dim, value_dim, features, cache, lse } = self;
        write!(f, "q {q}, k and v {kv}, head dim {head_dim}, value dim {value_dim}, cache {cache}, ")?;
        write!(f, "features {features}, lse {lse}, {schedule}")
    }
}
