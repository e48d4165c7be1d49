//! The tensors of a case in memory of a device, for benchmarks: as large as they come, and quick to make.

use super::inputs::Slots;
use super::random::Random;
use super::{Case, Order};
use crate::attention::{Attention, Extents};
use crate::cache::{Cache, Codes, Encoding, Placement, Tokens};
use crate::error::AttentionError;
use crate::feature::Features;
use crate::features::Mask;
use crate::quant::Affine;
use crate::reference::Problem;
use tilewright_ir::Elem;
use tilewright_lang::{bf16, f16};
use tilewright_runtime::{Device, DeviceTensor, HostElement, Tensor, TensorError, TensorView};

/// Numbers after which those of a tensor come again: prime, so that no two tokens are alike.
const PERIOD: usize = 1_048_573;
/// Up to so many queries are checked together; of more, single rows are.
const ROWS: usize = 64;

/// The tensors of a case in memory of a device, with the same in memory of the host. All hold numbers; they repeat after about
/// a million elements.
pub struct ResidentInputs {
    case: Case,
    /// Those of the case, with its mask classified.
    features: Features,
    slots: Slots,
    lengths: Vec<i32>,
    q: Both,
    keys: BothTokens,
    values: BothTokens,
}

/// Some rows of a case's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Batch entry.
    pub entry: usize,
    /// Key/value head; the rows are those of all its query heads.
    pub kv_head: usize,
    /// The first row.
    pub row: usize,
    /// How many.
    pub rows: usize,
}

struct Both {
    host: Tensor,
    device: DeviceTensor,
}

enum BothTokens {
    Stored(Box<Both>),
    /// Words, scales and biases.
    Affine(Box<[Both; 3]>, Affine),
}

impl ResidentInputs {
    /// One of several sets of inputs of a case with a contiguous, ring or paged cache.
    ///
    /// # Errors
    /// A shape that cannot be made or that does not fit the device; a case with a tail, or in another order in memory than
    /// head-major.
    pub fn new(case: &Case, device: &Device, set: usize) -> Result<ResidentInputs, AttentionError> {
        let Extents { batch, q_heads, kv_heads, q_len, head_dim, value_dim, .. } = case.shape;
        if case.format.tail || case.order != Order::HeadMajor {
            let what = "a benchmark in memory of the device with a tail or another order".to_string();
            return Err(AttentionError::combination(what, "a head-major cache without a tail"));
        }
        let mut random = Random::new(&format!("{} {set}", case.name));
        let slots = Slots::of(case, false, &mut random);
        let block: Vec<f64> = (0..PERIOD).map(|_| random.normal()).collect();
        let mut fill = Fill { device, block, next: 0 };
        let q = fill.floats(case.q_elem, [batch, q_heads, q_len, head_dim])?;
        let tokens = [slots.outer, kv_heads, slots.each];
        let keys = fill.tokens(case.kv_elem, tokens, head_dim, case.format.keys)?;
        let values = fill.tokens(case.kv_elem, tokens, value_dim, case.format.values)?;
        let (case, features, lengths) = (case.clone(), case.features.clone(), case.lengths_of_entries());
        let mut inputs = ResidentInputs { case, features, slots, lengths, q, keys, values };
        if let Some(mask) = &inputs.case.classified {
            inputs.features = inputs.request()?.classified_mask(mask, device)?.features().clone();
        }
        Ok(inputs)
    }

    /// The request of the case over the device's tensors.
    ///
    /// # Errors
    /// None.
    pub fn request(&self) -> Result<Attention<'_>, AttentionError> {
        let cache = Cache::new(self.keys.with(Both::on_device)?, self.values.with(Both::on_device)?);
        let cache = match self.slots.placement {
            Placement::Contiguous => cache,
            Placement::Ring => cache.ring(&self.slots.ring_start),
            Placement::Paged { .. } => cache.paged(&self.slots.pages),
        };
        Ok(self.case.request_over(self.q.device.view(), cache).with_features(self.features.clone()))
    }

    /// Rows from the beginning, the middle and the end.
    pub fn samples(&self) -> Vec<Sample> {
        let Extents { batch, kv_heads, q_len, .. } = self.case.shape;
        let rows = if q_len <= ROWS { q_len } else { 1 };
        let at = |n: usize, part: usize| n.saturating_sub(1) * part / 2;
        let mut all: Vec<Sample> = (0..3)
            .map(|part| Sample {
                entry: at(batch, part),
                kv_head: at(kv_heads, part),
                row: at(q_len + 1 - rows, part),
                rows,
            })
            .collect();
        all.dedup();
        all
    }

    /// The problem whose output these rows are, read into f64.
    ///
    /// # Errors
    /// A sample outside of the case.
    pub fn problem(&self, at: Sample) -> Result<Problem, AttentionError> {
        let Extents { q_heads, kv_heads, q_len, head_dim, .. } = self.case.shape;
        let Sample { entry, kv_head, row, rows } = at;
        let group = q_heads / kv_heads;
        let first = ((entry * q_heads + kv_head * group) * q_len + row) * head_dim;
        let strides = [q_heads * q_len * head_dim, q_len * head_dim, head_dim, 1];
        let q = self.q.host.view().window(first, &[1, group, rows, head_dim], &strides)?;

        let Slots { placement, outer, .. } = self.slots;
        let (first, outer) = match placement {
            Placement::Contiguous | Placement::Ring => (entry, 1),
            Placement::Paged { .. } => (0, outer),
        };
        let first = first * kv_heads + kv_head;
        let cache = Cache::new(
            self.keys.with(|both| both.part(first, outer, kv_heads))?,
            self.values.with(|both| both.part(first, outer, kv_heads))?,
        );
        let of_entry = self.slots.pages.len() / self.lengths.len().max(1);
        let cache = match placement {
            Placement::Contiguous => cache,
            Placement::Ring => cache.ring(&self.slots.ring_start[entry..=entry]),
            Placement::Paged { .. } => cache.paged(&self.slots.pages[entry * of_entry..][..of_entry]),
        };
        let mut request = Attention::over(q, cache).with_features(self.case.features.clone());
        request = request.kv_len(&self.lengths[entry..=entry]);
        if rows != q_len {
            let start = self.case.q_start.unwrap_or(i64::from(self.lengths[entry]) - q_len as i64);
            request = request.q_start(start + row as i64);
        }
        if let Some(scale) = self.case.scale {
            request = request.scale(scale);
        }
        if let Some(mask) = &self.case.classified {
            request = request.mask(mask.rows(row, rows)?);
        }
        Problem::of(&request)
    }

    /// These rows of an output `[batch, q_heads, q_len, value_dim]`.
    ///
    /// # Errors
    /// An output of another shape.
    pub fn rows_of(&self, o: &Tensor, at: Sample) -> Result<Vec<f64>, AttentionError> {
        let Extents { q_heads, kv_heads, q_len, value_dim, .. } = self.case.shape;
        let group = q_heads / kv_heads;
        let first = ((at.entry * q_heads + at.kv_head * group) * q_len + at.row) * value_dim;
        let strides = [q_heads * q_len * value_dim, q_len * value_dim, value_dim, 1];
        Ok(o.view().window(first, &[1, group, at.rows, value_dim], &strides)?.to_f64()?)
    }
}

impl Both {
    fn on_device(&self) -> Result<TensorView<'_>, TensorError> {
        Ok(self.device.view())
    }

    /// One head, the `first` of all, of as many entries or pages, each of `heads` heads.
    fn part(&self, first: usize, outer: usize, heads: usize) -> Result<TensorView<'_>, TensorError> {
        let [each, width] = [2, 3].map(|axis| self.host.shape()[axis]); // of rank 4
        let strides = [heads * each * width, each * width, width, 1];
        self.host.view().window(first * each * width, &[outer, 1, each, width], &strides)
    }
}

impl BothTokens {
    fn with<'a>(
        &'a self,
        view: impl Fn(&'a Both) -> Result<TensorView<'a>, TensorError>,
    ) -> Result<Tokens<'a>, TensorError> {
        Ok(match self {
            BothTokens::Stored(both) => view(both)?.into(),
            BothTokens::Affine(parts, format) => {
                let [w, scales, biases] = &**parts;
                Codes { w: view(w)?, scales: view(scales)?, biases: view(biases)?, format: *format }.into()
            }
        })
    }
}

/// Makes tensors, each from another place of the same numbers on.
struct Fill<'d> {
    device: &'d Device,
    /// [`PERIOD`] of them, about normal.
    block: Vec<f64>,
    next: usize,
}

impl Fill<'_> {
    fn floats(&mut self, elem: Elem, shape: [usize; 4]) -> Result<Both, TensorError> {
        self.scaled(elem, shape, |x| x)
    }

    fn scaled(&mut self, elem: Elem, shape: [usize; 4], number: impl Fn(f64) -> f64) -> Result<Both, TensorError> {
        let numbers: Vec<f64> = self.block.iter().map(|&x| number(x)).collect();
        let block = Tensor::from_f64(elem, &numbers, &[PERIOD])?;
        match elem {
            Elem::F16 => self.repeated(&block.to_vec::<f16>()?, shape),
            Elem::Bf16 => self.repeated(&block.to_vec::<bf16>()?, shape),
            Elem::F32 => self.repeated(&block.to_vec::<f32>()?, shape),
            got @ (Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8 | Elem::Bool) => {
                Err(TensorError::Element { wanted: Elem::F32, got })
            }
        }
    }

    fn tokens(
        &mut self,
        elem: Elem,
        [outer, heads, slots]: [usize; 3],
        dim: usize,
        encoding: Encoding,
    ) -> Result<BothTokens, TensorError> {
        let Encoding::Affine(format) = encoding else {
            return Ok(BothTokens::Stored(Box::new(self.floats(elem, [outer, heads, slots, dim])?)));
        };
        // Codes of numbers between -2 and 2: what the scale spreads over them, from the bias on.
        let scale = 4.0 / ((1u64 << format.bits.width()) - 1) as f64;
        let mut random = Random::new("codes");
        let words: Vec<u32> = (0..PERIOD).map(|_| random.next() as u32).collect();
        let groups = [outer, heads, slots, dim / format.group.size()];
        let parts = [
            self.repeated(&words, [outer, heads, slots, dim / format.bits.codes_per_word()])?,
            self.scaled(elem, groups, |x| scale * (1.0 + 0.1 * x))?,
            self.scaled(elem, groups, |x| -2.0 + 0.1 * x)?,
        ];
        Ok(BothTokens::Affine(Box::new(parts), format))
    }

    fn repeated<T: HostElement>(&mut self, block: &[T], shape: [usize; 4]) -> Result<Both, TensorError> {
        let count: usize = shape.iter().product();
        let mut all = Vec::with_capacity(count + block.len());
        all.extend_from_slice(&block[self.next..]);
        while all.len() < count {
            all.extend_from_slice(block);
        }
        self.next = (self.next + 7919 * 31) % PERIOD;
        let host = Tensor::from_slice(&all[..count], &shape)?;
        let device = self.device.upload(host.view())?;
        Ok(Both { host, device })
    }
}

impl Mask {
    /// The cells of some rows of queries, for any batch entry and head.
    fn rows(&self, first: usize, rows: usize) -> Result<Mask, AttentionError> {
        let [_, _, _, keys] = self.shape();
        let cells = self.tensor().view().window(first * keys, &[rows, keys], &[keys, 1])?;
        Mask::new(cells.to_tensor()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Format;
    use crate::features::mask::made;
    use crate::features::{Causal, Softcap};
    use crate::reference::{Bound, attention, compare_elements};
    use tilewright_lang::SpecValue;

    /// Elements compared, of all samples of a set.
    fn check(case: &Case, device: &Device) -> usize {
        let inputs = ResidentInputs::new(case, device, 1).unwrap();
        let request = inputs.request().unwrap();
        let plan = request.plan(device).unwrap();
        let mut o = device.zeros(Elem::F32, &case.extents().o()).unwrap();
        plan.run_with(&request, o.view_mut(), None, &mut plan.workspace().unwrap()).unwrap();
        let o = o.download().unwrap();
        let mut compared = 0;
        for sample in inputs.samples() {
            let problem = inputs.problem(sample).unwrap();
            let wanted = attention(&problem);
            let bound = Bound::of(&problem, &wanted);
            let got = inputs.rows_of(&o, sample).unwrap();
            let all = compare_elements(&got, &wanted.o, |x| bound.o(x));
            assert!(all.hold(), "{} {sample:?}: {all:?}", case.name());
            compared += all.compared;
        }
        compared
    }

    #[test]
    fn samples_of_every_cache_are_what_f64_says() {
        let device = Device::cpu_with_threads(2);
        let case = |name: &str| Case::new(name).without_lse().batch(3).heads(6, 2).dims(64, 64);
        for format in ["dense", "ring", "paged(16)", "dense+k-q8g64+v-q8g64", "paged(32)+k-q4g32+v-q8g64"] {
            let format = Format::parse(format).unwrap();
            let decode = case("decode").lengths(1, 96).cache(format).splits(crate::Splits::Count(2));
            assert_eq!(check(&decode, &device), 3 * 3 * 64, "the group of a key head, three times");
            let verify = case("verify").lengths(5, 96).cache(format).feature(Causal).kv_len(&[96, 20, 70]);
            assert_eq!(check(&verify, &device), 3 * 3 * 5 * 64);
        }
        let prefill = |name: &str| case(name).lengths(70, 75);
        assert_eq!(check(&prefill("plain").feature(Softcap(3.0)).feature(Causal), &device), 3 * 3 * 64);
        let triangle = made(Elem::Bool, [1, 1, 70, 75], |at| (at[3] <= at[2]).into()).unwrap();
        let masked = prefill("masked").classified(triangle);
        assert_eq!(check(&masked, &device), 3 * 3 * 64);
        assert_eq!(masked.attended_pairs(), 3 * 6 * 70 * 71 / 2);
    }

    #[test]
    fn sets_differ_and_are_the_same_each_time() {
        let device = Device::cpu_with_threads(1);
        let keys = |set| {
            let inputs = ResidentInputs::new(&Case::new("set"), &device, set).unwrap();
            let BothTokens::Stored(keys) = &inputs.keys else { panic!("not codes") };
            assert_ne!(keys.host.as_bytes(), inputs.q.host.as_bytes());
            assert_eq!(keys.host.as_bytes(), keys.device.download().unwrap().as_bytes());
            keys.host.as_bytes().to_vec()
        };
        assert_eq!(keys(0), keys(0));
        assert_ne!(keys(0), keys(1));
    }

    #[test]
    fn a_tail_and_another_order_are_refused() {
        let device = Device::cpu_with_threads(1);
        let tail = Case::new("tail").cache(Format { tail: true, ..Format::DENSE });
        for case in [tail, Case::new("order").sequence_major()] {
            assert!(matches!(ResidentInputs::new(&case, &device, 0), Err(AttentionError::Combination { .. })));
        }
    }
}
