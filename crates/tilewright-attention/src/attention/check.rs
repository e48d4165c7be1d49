//! The request held against the contract, before anything is compiled.

use super::{Attention, Extents, Splits};
use crate::cache::{Format, Layout, Place, axes, contiguous, float};
use crate::error::{AttentionError, MAX_HEAD_DIM, MAX_LENGTH, MAX_SPLITS};
use crate::kernels::{ATTENTION_FORWARD, ATTENTION_MERGE, ATTENTION_SPLIT};
use std::f64::consts::LOG2_E;
use tilewright_ir::Elem;
use tilewright_runtime::TensorViewMut;

/// A request that keeps the contract.
pub(crate) struct Checked {
    pub shape: Extents,
    /// One per batch entry.
    pub kv_len: Vec<i32>,
    /// Position of the first query, one per batch entry.
    pub q_start: Vec<i32>,
    pub scale: f64,
}

impl Attention<'_> {
    /// Holds the request against the contract.
    pub(crate) fn check(&self) -> Result<Checked, AttentionError> {
        let shape = self.extents()?;
        let scale = self.scale.unwrap_or(1.0 / (shape.head_dim as f64).sqrt());
        // The kernel works in units of log2: what it multiplies scores by must be finite.
        if !((scale * LOG2_E) as f32).is_finite() {
            return Err(AttentionError::Scale { scale });
        }
        let kv_len = match self.kv_len.or(self.cache.kv_len) {
            None => vec![shape.capacity as i32; shape.batch], // at most MAX_LENGTH
            Some(kv_len) if kv_len.len() != shape.batch => {
                return Err(AttentionError::EntryCount { what: "kv_len", got: kv_len.len(), batch: shape.batch });
            }
            Some(kv_len) => kv_len.to_vec(),
        };
        let fits = |n: i32| usize::try_from(n).is_ok_and(|n| n <= shape.capacity);
        if let Some((entry, &got)) = kv_len.iter().enumerate().find(|&(_, &n)| !fits(n)) {
            return Err(AttentionError::KvLen { entry, got, capacity: shape.capacity });
        }
        let q_start = match self.q_start {
            None => kv_len.iter().map(|&n| n - shape.q_len as i32).collect(),
            Some(start) if start.unsigned_abs() > MAX_LENGTH as u64 => {
                return Err(AttentionError::Position { got: start });
            }
            Some(start) => vec![start as i32; shape.batch],
        };
        self.check_inputs()?;
        self.cache.check_entries(&kv_len)?;
        self.check_ring(&shape, &kv_len)?;
        if let Err((feature, reason)) = self.features.check(&shape, &kv_len) {
            return Err(AttentionError::Feature { feature, reason });
        }
        match self.splits {
            Splits::Count(got) | Splits::Keys(got) if got == 0 || got > MAX_LENGTH => {
                return Err(AttentionError::Splits { got });
            }
            Splits::Count(got) if got > MAX_SPLITS => return Err(AttentionError::Splits { got }),
            Splits::Auto | Splits::Count(_) | Splits::Keys(_) => {}
        }
        Ok(Checked { shape, kv_len, q_start, scale })
    }

    /// The extents of the tensors, held against each other.
    pub(super) fn extents(&self) -> Result<Extents, AttentionError> {
        let [batch, q_heads, q_len, head_dim] = axes("q", &self.q)?;
        let q = float("q", &self.q)?;
        let Layout { batch: k_batch, kv_heads, capacity, head_dim: k_dim, value_dim, elem } =
            self.cache.layout(batch)?;
        if q != elem && q != Elem::F32 {
            return Err(AttentionError::ElementMix { q, kv: elem });
        }
        for (tensor, axis, got, other, wanted) in
            [("k", "batch", k_batch, "q", batch), ("k", "head dim", k_dim, "q", head_dim)]
        {
            if got != wanted {
                return Err(AttentionError::Extent { tensor, axis, got, other, wanted });
            }
        }
        for (tensor, axis, got) in [
            ("q", "heads", q_heads),
            ("k", "heads", kv_heads),
            ("q", "head dim", head_dim),
            ("v", "value dim", value_dim),
        ] {
            if got == 0 {
                return Err(AttentionError::Zero { tensor, axis });
            }
        }
        if !q_heads.is_multiple_of(kv_heads) {
            return Err(AttentionError::Heads { q_heads, kv_heads });
        }
        for (axis, got) in [("head_dim", head_dim), ("value_dim", value_dim)] {
            if got > MAX_HEAD_DIM {
                return Err(AttentionError::HeadDim { axis, got });
            }
        }
        for (tensor, got) in [("q", q_len), ("k", capacity)] {
            if got > MAX_LENGTH {
                return Err(AttentionError::Length { tensor, got });
            }
        }
        Ok(Extents { batch, q_heads, kv_heads, q_len, capacity, head_dim, value_dim })
    }

    /// A ring keeps the last tokens only: positions count from the oldest of them, and each window must still be there.
    fn check_ring(&self, shape: &Extents, kv_len: &[i32]) -> Result<(), AttentionError> {
        let Place::Ring(_) = self.cache.place else { return Ok(()) };
        if self.q_start.is_some() {
            let nearest = "the last query at the last key, which is the default";
            return Err(AttentionError::combination("`q_start` with a ring", nearest));
        }
        let (capacity, q_len) = (shape.capacity, shape.q_len);
        let Some(reach) = self.features.reach() else { return Ok(()) };
        let (window, needed) = (reach.saturating_add(1), reach.saturating_add(q_len).max(1));
        match kv_len.iter().position(|&len| len as usize == capacity && needed > capacity) {
            Some(entry) => Err(AttentionError::RingCapacity { entry, capacity, q_len, window, needed }),
            None => Ok(()),
        }
    }

    /// Two inputs of one name would silently share a parameter.
    fn check_inputs(&self) -> Result<(), AttentionError> {
        let kernels = [&ATTENTION_FORWARD, &ATTENTION_SPLIT, &ATTENTION_MERGE];
        let own = |name: &str| {
            Format::PARAMETERS.contains(&name)
                || kernels.iter().any(|kernel| kernel.launch.iter().any(|(own, _)| *own == name))
        };
        let names: Vec<&str> = self.features.inputs().map(|input| input.name).collect();
        match names.iter().enumerate().find(|(at, name)| own(name) || names[..*at].contains(name)) {
            Some((_, name)) => Err(AttentionError::InputName { name: name.to_string() }),
            None => Ok(()),
        }
    }

    pub(crate) fn check_outputs(
        &self,
        shape: &Extents,
        o: &TensorViewMut<'_>,
        lse: Option<&TensorViewMut<'_>>,
    ) -> Result<(), AttentionError> {
        output("o", o, &shape.o(), self.q.elem())?;
        contiguous("o", o.shape(), o.strides())?;
        match lse {
            Some(lse) if self.lse => output("lse", lse, &shape.lse(), Elem::F32),
            None if !self.lse => Ok(()),
            _ => Err(AttentionError::Lse { requested: self.lse }),
        }
    }
}

fn output(tensor: &'static str, view: &TensorViewMut<'_>, wanted: &[usize], elem: Elem) -> Result<(), AttentionError> {
    if view.shape() != wanted {
        return Err(AttentionError::OutputShape { tensor, got: view.shape().to_vec(), wanted: wanted.to_vec() });
    }
    if view.elem() != elem {
        return Err(AttentionError::OutputElement { tensor, got: view.elem(), wanted: elem });
    }
    Ok(())
}
