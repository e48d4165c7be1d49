//! What the kernels of a plan are specialised by.

use crate::attention::{Attention, Checked, Extents};
use crate::cache::{Decoding, Format, Placement};
use crate::error::AttentionError;
use crate::feature::Features;
use crate::kernels::{AttentionForward, AttentionMerge, AttentionSplit, Factor, Rescaling};
use crate::tuning::{self, Choice, Coding, Machine};
use std::fmt;
use tilewright_ir::{Diagnostics, Elem, Kernel, Schedule, Work};
use tilewright_lang::{bf16, f16};
use tilewright_runtime::{DeviceInfo, DeviceKind};

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
    /// What codes are taken for.
    pub decoding: Decoding,
    /// Whether lse is written.
    pub lse: bool,
    /// What is known of the scale.
    pub factor: Factor,
    /// When sums are rescaled.
    pub rescaling: Rescaling,
    /// How a GPU's threads share the work of a tile; `None` on other devices, and leaves it to the compiler.
    pub work: Option<Work>,
}

/// A kernel with its values: the key under which its pipeline is kept, and what traces it.
pub type Traced = (String, Trace);

/// Traces a kernel.
pub type Trace = Box<dyn Fn() -> Result<Kernel, Diagnostics>>;

/// The same kernel with this sharing of the work, which its key names.
fn shared((key, trace): Traced, work: Option<Work>) -> Traced {
    let Some(work) = work else { return (key, trace) };
    (format!("{key} {work}"), Box::new(move || Ok(Kernel { work: Some(work), ..trace()? })))
}

/// A [`Traced`] of `$spec` with the element types `$q` and `$kv` as Rust types.
macro_rules! traced {
    ($spec:expr, $q:expr, $kv:expr) => {{
        let spec = $spec;
        macro_rules! of {
            ($e:ty, $c:ty) => {
                (spec.key::<$e, $c>(), Box::new(move || spec.trace::<$e, $c>()) as Trace)
            };
        }
        match ($q, $kv) {
            (Elem::F32, Elem::F32) => of!(f32, f32),
            (Elem::F32, Elem::F16) => of!(f32, f16),
            (Elem::F32, Elem::Bf16) => of!(f32, bf16),
            (Elem::F16, Elem::F16) => of!(f16, f16),
            (Elem::Bf16, Elem::Bf16) => of!(bf16, bf16),
            (q, kv) => return Err(AttentionError::ElementMix { q, kv }),
        }
    }};
}

impl Variant {
    /// The variant for a request, and why it has its schedule.
    pub(crate) fn of(
        request: &Attention<'_>,
        checked: &Checked,
        device: &DeviceInfo,
    ) -> Result<(Variant, String), AttentionError> {
        let shape = &checked.shape;
        let cache = request.cache().format();
        let types = [request.q().elem(), request.cache().elem()];
        let planned = tuning::choose(shape, types, (&cache, request.features().leave_holes()), Machine::of(device));
        let own = |schedule: Schedule, reason: &str| {
            let work = planned.work.filter(|_| schedule == planned.schedule); // else the compiler's own
            Choice { schedule, work, reason: reason.to_string() }
        };
        let choice = match (request.requested_schedule(), request.features().schedule()) {
            (Some(asked), Some(made)) if asked != made => {
                let reason = format!("a feature was made for {made}; leave the schedule to it");
                return Err(AttentionError::Schedule { schedule: asked, reason });
            }
            (_, Some(made)) => own(made, "as a feature was made for"),
            (Some(asked), None) => own(asked, "as requested"),
            (None, None) => planned,
        };
        let Choice { schedule, work, reason } = choice;
        let on_gpu = matches!(device.kind, DeviceKind::Cuda | DeviceKind::Metal);
        let work = request.requested_work().filter(|_| on_gpu).or(work);
        let (value_dim, holes) = (shape.value_dim, request.features().leave_holes());
        let coding = Coding { cache: &cache, types, holes, value_dim, schedule, work };
        let variant = Variant {
            q: request.q().elem(),
            kv: request.cache().elem(),
            schedule,
            head_dim: shape.head_dim,
            value_dim,
            features: request.features().clone(),
            cache,
            decoding: tuning::decoding(&coding, Machine::of(device)),
            lse: request.wants_lse(),
            factor: match device.kind {
                // Little or nothing is won there, and kernels would be two for the sign of the scale.
                DeviceKind::Cpu | DeviceKind::Interp => Factor::Any,
                DeviceKind::Cuda | DeviceKind::Metal => Factor::of(checked.scale),
            },
            rescaling: tuning::rescaling(Machine::of(device)),
            work,
        };
        Ok((variant, reason))
    }

    /// Whether its kernels serve a request, which may leave the schedule to them.
    pub(crate) fn serves(&self, request: &Attention<'_>, checked: &Checked) -> bool {
        let Extents { head_dim, value_dim, .. } = checked.shape;
        let cache = request.cache();
        (self.q, self.kv, self.head_dim, self.value_dim, self.lse, self.cache)
            == (request.q().elem(), cache.elem(), head_dim, value_dim, request.wants_lse(), cache.format())
            && (self.factor == Factor::Any || self.factor == Factor::of(checked.scale))
            && request.requested_schedule().is_none_or(|asked| asked == self.schedule)
            && request.requested_work().is_none_or(|asked| self.work.is_none_or(|work| asked == work))
            && self.features.have_kernels_of(request.features())
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
        let Variant { head_dim, value_dim, cache, decoding, lse, factor, rescaling, .. } = *self;
        let features = self.features.clone();
        let spec = AttentionForward {
            heads,
            queries,
            keys,
            head_dim,
            value_dim,
            features,
            cache,
            decoding,
            lse,
            factor,
            rescaling,
        };
        Ok(shared(traced!(spec, self.q, self.kv), self.work))
    }

    /// The split kernel.
    ///
    /// # Errors
    /// [`AttentionError::ElementMix`] for types that do not go together.
    pub fn split(&self) -> Result<Traced, AttentionError> {
        let (heads, queries, keys) = self.tile();
        let Variant { head_dim, value_dim, cache, decoding, factor, rescaling, .. } = *self;
        let features = self.features.clone();
        let spec =
            AttentionSplit { heads, queries, keys, head_dim, value_dim, features, cache, decoding, factor, rescaling };
        Ok(shared(traced!(spec, self.q, self.kv), self.work))
    }

    /// The merge kernel, for so many splits at once.
    ///
    /// # Errors
    /// [`AttentionError::ElementMix`] for a type that is no float.
    pub fn merge(&self, at_once: usize) -> Result<Traced, AttentionError> {
        let spec =
            AttentionMerge { at_once, value_dim: self.value_dim, features: self.features.clone(), lse: self.lse };
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
        let Variant { q, kv, schedule, head_dim, value_dim, features, cache, decoding, lse, factor, rescaling, work } =
            self;
        write!(f, "q {q}, k and v {kv}, head dim {head_dim}, value dim {value_dim}, cache {cache}, ")?;
        if cache.has_codes() {
            write!(f, "decoding {decoding}, ")?;
        }
        write!(f, "features {features}, factor {factor}, rescaling {rescaling}, lse {lse}, {schedule}")?;
        work.map_or(Ok(()), |work| write!(f, " {work}"))
    }
}
