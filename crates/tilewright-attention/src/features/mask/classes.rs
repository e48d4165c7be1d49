//! Which tiles of a mask need not be looked at.

use super::{Cells, Mask};
use crate::attention::Extents;
use crate::cache::Format;
use crate::error::AttentionError;
use crate::feature::{Class, Feature, Input, InputValue, Keys, MaskHook, Pair, Pairs, Queries};
use crate::formula::{self, Numbers};
use crate::kernels::{AttentionClassify, AttentionClassifyArgs};
use crate::{arguments, grids, tuning};
use std::sync::Arc;
use tilewright_ir::{Diagnostics, Elem, Kernel, Schedule};
use tilewright_lang::prelude::*;
use tilewright_runtime::{Device, Tensor, TensorError};

/// For each plane of a mask and each of its tiles: 0 where nothing is attended, 2 where everything is with bias 0, else 1.
///
/// Tiles at the edges are what their real cells are. A NaN cell makes its tile mixed.
#[derive(Clone, Debug)]
pub struct ClassMap {
    /// u8 `[batch or 1, heads or 1, query tiles, key tiles]`.
    classes: Arc<Tensor>,
    /// i32 `[batch or 1, heads or 1, query tiles, 2]`: from which key tile on, and up to which, something is attended.
    spans: Arc<Tensor>,
    schedule: Schedule,
}

/// A [`Mask`] with the [`ClassMap`] that was made of it: tiles of which nothing is attended are skipped, and where everything
/// is the mask is not read. The result is that of the mask, bit for bit. It serves the tile shape that it was made for.
#[derive(Clone, Debug)]
pub struct ClassifiedMask {
    mask: Mask,
    map: ClassMap,
}

/// The names of the classes and of their spans among the kernel's parameters.
const CLASSES: &str = "mask_classes";
const SPANS: &str = "mask_spans";

impl Mask {
    /// The mask with the classes of its tiles of `schedule`.
    ///
    /// # Errors
    /// [`AttentionError::Schedule`] outside the limits, or of several heads where the heads of the mask differ; what goes
    /// wrong on the device.
    pub fn classify(&self, device: &Device, schedule: Schedule) -> Result<ClassifiedMask, AttentionError> {
        tuning::check(schedule, 1, 1, &Format::DENSE)?;
        if schedule.heads != 1 && self.each.head {
            let reason = "the heads of the mask differ, so a tile has one class with `heads=1` only".to_string();
            return Err(AttentionError::Schedule { schedule, reason });
        }
        let queries = if self.each.query { schedule.queries as usize } else { 1 };
        let keys = schedule.keys as usize;
        let [batch, heads, rows, columns] = self.shape;
        let shape = [batch, heads, rows.div_ceil(queries), columns.div_ceil(keys)];
        let mut classes = Tensor::zeros(Elem::U8, &shape)?;
        let numbers = Numbers { shapes: &[("mask", &self.shape)], values: &[("queries", queries), ("keys", keys)] };
        let grid = formula::grid(&grids::CLASSIFY, &numbers)?;
        if let Some(mask) = self.view()
            && shape.iter().all(|&extent| extent > 0)
        {
            let spec = AttentionClassify { queries, keys };
            let compile = |key: String, trace: &dyn Fn() -> Result<Kernel, Diagnostics>| {
                device.compile_keyed(&key, || trace().map_err(AttentionError::from))
            };
            let pipeline = match self.cells {
                Cells::Bool => compile(spec.key::<bool>(), &|| spec.trace::<bool>()),
                Cells::F32 => compile(spec.key::<f32>(), &|| spec.trace::<f32>()),
                Cells::F16 => compile(spec.key::<f16>(), &|| spec.trace::<f16>()),
                Cells::Bf16 => compile(spec.key::<bf16>(), &|| spec.trace::<bf16>()),
            }?;
            let own = AttentionClassifyArgs { mask, classes: classes.view_mut() };
            let mut args = arguments::in_order(pipeline.kernel(), own.bind(), Vec::new(), Vec::new())?;
            device.launch(&pipeline, grid, &mut args)?;
        }
        let spans = Arc::new(spans(&classes)?);
        Ok(ClassifiedMask { mask: self.clone(), map: ClassMap { classes: Arc::new(classes), spans, schedule } })
    }

    /// Whether heads differ, so that a tile of several heads has no one class.
    pub(crate) fn is_of_each_head(&self) -> bool {
        self.each.head
    }
}

/// The spans of these classes: an empty one, from 0 to 0, where nothing is attended.
fn spans(classes: &Tensor) -> Result<Tensor, TensorError> {
    let [batch, heads, rows, keys] = classes.shape() else { return Tensor::zeros(Elem::I32, &[0, 0, 0, 2]) };
    let of_row = |classes: &[u8]| {
        let first = classes.iter().position(|&class| class != 0).unwrap_or(0);
        let end = classes.iter().rposition(|&class| class != 0).map_or(0, |last| last + 1);
        [first as i32, end as i32]
    };
    let all = classes.as_bytes();
    let spans: Vec<i32> = (0..batch * heads * rows).flat_map(|row| of_row(&all[row * keys..][..*keys])).collect();
    Tensor::from_slice(&spans, &[*batch, *heads, *rows, 2])
}

impl ClassMap {
    /// The classes, u8 `[batch or 1, heads or 1, query tiles, key tiles]`.
    pub fn classes(&self) -> &Tensor {
        &self.classes
    }

    /// The tile shape.
    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// The share of the tiles that is of class 0, 1 and 2; all 0 where the mask has no cells.
    pub fn shares(&self) -> [f64; 3] {
        let classes = self.classes.as_bytes();
        let share = |class| classes.iter().filter(|&&c| c == class).count() as f64 / classes.len().max(1) as f64;
        [0, 1, 2].map(share)
    }
}

impl ClassifiedMask {
    /// Whether the classes are those of tiles of such queries.
    fn has_classes_of(&self, at: &Queries) -> bool {
        let Schedule { heads, queries, .. } = self.map.schedule;
        (at.heads, at.queries) == (heads as usize, queries as usize)
    }

    /// What a tensor of the map holds for the tile of these queries.
    #[track_caller]
    fn of_row<E: Element>(&self, of_map: View<E, 4>, at: &Queries) -> View<E, 1> {
        let each = self.mask.each;
        let head = if each.head { at.first_head } else { scalar(0) };
        let row = if each.query { at.first_row / at.queries } else { scalar(0) };
        of_map.at(self.mask.batch(at)).at(head).at(row)
    }

    /// The mask.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// The classes.
    pub fn map(&self) -> &ClassMap {
        &self.map
    }
}

impl SpecValue for ClassifiedMask {
    /// `classified mask(bool,q) of heads=1 queries=128 keys=128`.
    fn key(&self, key: &mut String) {
        key.push_str("classified ");
        self.mask.key(key);
        key.push_str(&format!(" of {}", self.map.schedule));
    }
}

impl Feature for ClassifiedMask {
    fn check(&self, shape: &Extents, kv_len: &[i32]) -> Result<(), String> {
        self.mask.check(shape, kv_len)
    }

    fn schedule(&self) -> Option<Schedule> {
        Some(self.map.schedule)
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let classes = Input { name: CLASSES, value: InputValue::Tensor(self.map.classes.view()) };
        let spans = Input { name: SPANS, value: InputValue::Tensor(self.map.spans.view()) };
        self.mask.inputs().into_iter().chain([classes, spans]).collect()
    }

    fn mask(&self) -> Option<&dyn MaskHook> {
        Some(self)
    }
}

#[tile]
impl MaskHook for ClassifiedMask {
    fn attended(&self, at: &Pairs) -> Tile<bool> {
        self.mask.attended(at)
    }

    fn reference(&self, at: &Pair) -> bool {
        self.mask.reference(at)
    }

    fn may(&self, at: &Queries, all: Keys) -> Keys {
        self.mask.may(at, all)
    }

    fn walked(&self, at: &Queries, all: Keys) -> Keys {
        if !self.has_classes_of(at) {
            return all;
        }
        let span = self.of_row(launch_view::<i32, 4>(SPANS), at);
        let keys = self.map.schedule.keys as usize;
        all.intersect(Keys { first: span.get(0) * keys, end: span.get(1) * keys })
    }

    fn bias(&self, at: &Pairs) -> Option<Tile<f32>> {
        self.mask.bias(at)
    }

    fn reference_bias(&self, at: &Pair) -> f64 {
        self.mask.reference_bias(at)
    }

    fn class(&self, at: &Pairs) -> Option<Class> {
        if !self.has_classes_of(at) || at.keys != self.map.schedule.keys as usize {
            return None; // tiles of another shape have no classes
        }
        let of_row = self.of_row(launch_view::<u8, 4>(CLASSES), at);
        let class = of_row.get(at.first_key / at.keys).cast::<i32>();
        Some(Class { none: Some(class == 0), all: class == 2 })
    }

    fn differs_by_head(&self) -> bool {
        self.mask.differs_by_head()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_goes_from_the_first_tile_that_counts_to_the_last() {
        let classes = [[0u8, 1, 0, 2], [0, 0, 0, 0], [2, 0, 0, 0], [1, 1, 1, 1]];
        let classes = Tensor::from_slice(classes.as_flattened(), &[2, 1, 2, 4]).unwrap();
        let spans = spans(&classes).unwrap();
        assert_eq!(spans.shape(), [2, 1, 2, 2]);
        assert_eq!(spans.to_f64(), [1.0, 4.0, 0.0, 0.0, 0.0, 1.0, 0.0, 4.0]);
        let none = Tensor::zeros(Elem::U8, &[1, 1, 2, 0]).unwrap();
        assert_eq!(super::spans(&none).unwrap().shape(), [1, 1, 2, 2]);
    }
}
