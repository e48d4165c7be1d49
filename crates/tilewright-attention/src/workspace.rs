//! What a launch needs in memory of the device beside the caller's tensors.

use crate::attention::{Attention, Checked};
use crate::error::AttentionError;
use crate::feature::{Features, Input, InputValue};
use std::fmt;
use tilewright_ir::Elem;
use tilewright_runtime::Stream;
use tilewright_runtime::{Device, DeviceKind, DeviceTensor, TensorError, TensorView, TensorViewMut};

/// Memory of a device for the runs of plans: what the passes hand on, the lengths and positions of the batch entries, ring
/// starts and page tables, and, on a GPU, what features bring in memory of the host (a mask, sinks, slopes).
///
/// Made by [`Plan::workspace`](crate::Plan::workspace), for plans that need no more scratch than that one. What it holds is
/// compared with each request and copied only where it differs, so a run with the same lengths and features copies nothing.
///
/// One stream at a time uses it: order two with events. A recorded graph reads its memory, so
/// [`Plan::prepare_on`](crate::Plan::prepare_on) with other lengths changes what the graph computes next. Numbers that are no
/// tensors (the scale, a soft cap) are recorded as they were.
pub struct Workspace {
    device: Device,
    scratch: Scratch,
    tables: Tables,
    inputs: Inputs,
}

/// What the split pass hands to the merge, each f32 `[n]`.
struct Scratch {
    /// Sums of values: `batch * splits * q_heads * q_len * value_dim`.
    acc: DeviceTensor,
    /// The largest score, in log2: `batch * splits * q_heads * q_len`.
    max: DeviceTensor,
    /// Denominators, as many.
    sum: DeviceTensor,
}

/// Tables of i32 in one tensor, so that one copy renews them.
struct Tables {
    /// What the device has, or will have after what is on the stream.
    numbers: Vec<i32>,
    memory: DeviceTensor,
    /// Kept for its memory.
    next: Vec<i32>,
}

/// Tensors that features bring, where the device does not reach memory of the host.
struct Inputs {
    /// Whether they are copied at all.
    copied: bool,
    /// The features that brought them.
    of: Features,
    /// One for each input, in order; `None` for what is no tensor or is on the device already.
    memory: Vec<Option<DeviceTensor>>,
}

/// How launches and copies are put on the device.
#[derive(Clone, Copy)]
pub(crate) enum Order<'s> {
    /// One after the other, waiting for each.
    Waiting,
    /// On a stream, without waiting.
    On(&'s Stream),
}

/// A workspace that holds what a request says, as the kernels take it.
pub(crate) struct Ready<'w> {
    pub q_start: TensorView<'w>,
    pub kv_len: TensorView<'w>,
    /// The tensors of the cache, by name.
    pub cache: Vec<(&'static str, TensorView<'w>)>,
    pub inputs: Vec<Input<'w>>,
    pub partial: Partial<'w>,
}

/// Room for what the split pass hands on.
pub(crate) struct Partial<'w>(&'w mut Scratch);

impl Workspace {
    /// For passes that hand on so many rows of `value_dim` numbers.
    pub(crate) fn new(device: &Device, rows: usize, value_dim: usize) -> Result<Workspace, AttentionError> {
        let f32s = |n: usize| device.zeros(Elem::F32, &[n]);
        let copied = match device.info().kind {
            DeviceKind::Cpu | DeviceKind::Interp => false,
            DeviceKind::Cuda | DeviceKind::Metal => true,
        };
        Ok(Workspace {
            scratch: Scratch { acc: f32s(rows * value_dim)?, max: f32s(rows)?, sum: f32s(rows)? },
            tables: Tables { numbers: Vec::new(), memory: device.zeros(Elem::I32, &[0])?, next: Vec::new() },
            inputs: Inputs { copied, of: Features::none(), memory: Vec::new() },
            device: device.clone(),
        })
    }

    /// Bytes of f32 scratch.
    pub fn scratch_bytes(&self) -> usize {
        let Scratch { acc, max, sum } = &self.scratch;
        [acc, max, sum].iter().map(|part| part.shape()[0] * size_of::<f32>()).sum()
    }

    /// Refuses to serve passes that hand on more.
    pub(crate) fn check(&self, rows: usize, value_dim: usize) -> Result<(), AttentionError> {
        let needed = rows * (value_dim + 2) * size_of::<f32>();
        let fits = rows * value_dim <= self.scratch.acc.shape()[0] && rows <= self.scratch.max.shape()[0];
        if fits { Ok(()) } else { Err(AttentionError::Scratch { got: self.scratch_bytes(), needed }) }
    }

    /// Copies what the device does not have yet.
    pub(crate) fn ready<'w>(
        &'w mut self,
        request: &'w Attention<'_>,
        checked: &Checked,
        order: Order<'_>,
    ) -> Result<Ready<'w>, AttentionError> {
        let Workspace { device, scratch, tables, inputs } = self;
        let batch = checked.shape.batch;
        tables.hold(device, request, checked, order)?;
        inputs.hold(device, request.features())?;
        let mut first = 0;
        let mut table = |shape: &[usize]| {
            let count = shape.iter().product::<usize>();
            let view = contiguous(tables.memory.view(), first, shape);
            first += count;
            view
        };
        let (q_start, kv_len) = (table(&[batch])?, table(&[batch])?);
        let mut cache = request.cache().tokens();
        for each in request.cache().tables(batch) {
            cache.push((each.name, table(each.shape())?));
        }
        Ok(Ready { q_start, kv_len, cache, inputs: inputs.list(request.features()), partial: Partial(scratch) })
    }
}

impl Tables {
    fn hold(
        &mut self,
        device: &Device,
        request: &Attention<'_>,
        checked: &Checked,
        order: Order<'_>,
    ) -> Result<(), TensorError> {
        self.next.clear();
        self.next.extend_from_slice(&checked.q_start);
        self.next.extend_from_slice(&checked.kv_len);
        for table in request.cache().tables(checked.shape.batch) {
            self.next.extend_from_slice(table.numbers);
        }
        if self.next == self.numbers {
            return Ok(());
        }
        let view = TensorView::from_slice(&self.next, &[self.next.len()])?;
        // Until the copy has succeeded nothing is known of what the device has.
        self.numbers.clear();
        match self.memory.shape() == [self.next.len()] {
            true => order.copy(&mut self.memory, view)?,
            false => self.memory = device.upload(view)?,
        }
        std::mem::swap(&mut self.numbers, &mut self.next);
        Ok(())
    }
}

impl Inputs {
    fn hold(&mut self, device: &Device, features: &Features) -> Result<(), TensorError> {
        if !self.copied || self.of.are(features) {
            return Ok(());
        }
        let same = self.memory.len() == features.inputs().count()
            && self.of.inputs().zip(features.inputs()).all(|(old, new)| same_tensor(&old, &new));
        if !same {
            self.of = Features::none();
            self.memory.clear();
            let upload = |input: Input<'_>| match input.value {
                InputValue::Tensor(view) if view.host_bytes().is_some() => device.upload(view).map(Some),
                InputValue::Tensor(_) | InputValue::Scalar(_) => Ok(None),
            };
            self.memory = features.inputs().map(upload).collect::<Result<_, _>>()?;
        }
        self.of = features.clone();
        Ok(())
    }

    fn list<'w>(&'w self, features: &'w Features) -> Vec<Input<'w>> {
        let held = self.memory.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        let on_device = |(input, memory): (Input<'w>, Option<&'w DeviceTensor>)| Input {
            value: memory.map_or(input.value, |memory| InputValue::Tensor(memory.view())),
            ..input
        };
        features.inputs().zip(held).map(on_device).collect()
    }
}

/// Whether two inputs are the same, but for a number, which is none of a workspace's business.
fn same_tensor(old: &Input<'_>, new: &Input<'_>) -> bool {
    match (old.value, new.value) {
        (InputValue::Scalar(_), InputValue::Scalar(_)) => true,
        (InputValue::Tensor(old), InputValue::Tensor(new)) => {
            let shape = |view: &TensorView<'_>| (view.elem(), view.shape().to_vec(), view.strides().to_vec());
            // Where only one is in memory of the host they differ; where neither is, there is nothing to copy.
            shape(&old) == shape(&new) && old.host_bytes() == new.host_bytes()
        }
        (InputValue::Scalar(_), InputValue::Tensor(_)) | (InputValue::Tensor(_), InputValue::Scalar(_)) => false,
    }
}

impl Order<'_> {
    fn copy(self, to: &mut DeviceTensor, from: TensorView<'_>) -> Result<(), TensorError> {
        match self {
            Order::Waiting => to.copy_from(from),
            Order::On(stream) => to.copy_from_on(stream, from),
        }
    }
}

impl Partial<'_> {
    /// To be written: sums of values `[n, q_heads, q_len, value_dim]`, and two of `[n, q_heads, q_len]`.
    pub fn write(&mut self, acc: &[usize; 4]) -> Result<[TensorViewMut<'_>; 3], TensorError> {
        let Scratch { acc: values, max, sum } = &mut *self.0;
        let (wide, narrow) = (strides(acc), strides(&acc[..3]));
        Ok([
            values.view_mut().with_strides(acc, &wide)?,
            max.view_mut().with_strides(&acc[..3], &narrow[..3])?,
            sum.view_mut().with_strides(&acc[..3], &narrow[..3])?,
        ])
    }

    /// To be read, the same.
    pub fn read(&self, acc: &[usize; 4]) -> Result<[TensorView<'_>; 3], TensorError> {
        let Scratch { acc: values, max, sum } = &*self.0;
        Ok([
            contiguous(values.view(), 0, acc)?,
            contiguous(max.view(), 0, &acc[..3])?,
            contiguous(sum.view(), 0, &acc[..3])?,
        ])
    }
}

/// A contiguous part of a tensor, from element `first` on.
fn contiguous<'a>(tensor: TensorView<'a>, first: usize, shape: &[usize]) -> Result<TensorView<'a>, TensorError> {
    tensor.window(first, shape, &strides(shape)[..shape.len()])
}

/// Row-major strides of up to 4 axes.
fn strides(shape: &[usize]) -> [usize; 4] {
    let mut strides = [1; 4];
    for axis in (1..shape.len().min(4)).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}

impl fmt::Debug for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a workspace on {} with {} bytes of scratch", self.device.info().name, self.scratch_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{Alibi, Sinks, Softcap};
    use tilewright_runtime::Tensor;

    fn sinks(numbers: [f32; 2]) -> Sinks {
        Sinks::new(Tensor::from_slice(&numbers, &[2]).unwrap())
    }

    fn held() -> Inputs {
        Inputs { copied: true, of: Features::none(), memory: Vec::new() }
    }

    /// What kernels would be given, with the address of each tensor.
    fn given(inputs: &Inputs, features: &Features) -> Vec<(String, Vec<f64>, usize)> {
        let each = |input: Input<'_>| match input.value {
            InputValue::Scalar(x) => (input.name.to_string(), vec![x], 0),
            InputValue::Tensor(view) => {
                let address = view.host_bytes().unwrap().as_ptr() as usize;
                (input.name.to_string(), view.to_f64().unwrap(), address)
            }
        };
        inputs.list(features).into_iter().map(each).collect()
    }

    #[test]
    fn what_features_bring_is_copied_once_and_again_when_it_differs() {
        let device = Device::cpu_with_threads(1);
        let mut inputs = held();
        let features = |cap, numbers| Features::none().with(Softcap(cap)).with(sinks(numbers));
        let first = features(2.0, [1.0, 3.0]);
        inputs.hold(&device, &first).unwrap();
        let one = given(&inputs, &first);
        assert_eq!(one.iter().map(|(_, numbers, _)| numbers.len()).sum::<usize>(), 3);
        let host = first.inputs().find_map(|input| match input.value {
            InputValue::Tensor(view) => view.host_bytes(),
            InputValue::Scalar(_) => None,
        });
        let tensor = |all: &[(String, Vec<f64>, usize)]| all.iter().find(|(_, _, at)| *at != 0).unwrap().clone();
        assert_ne!(tensor(&one).2, host.unwrap().as_ptr() as usize, "it is a copy");

        // The same numbers in another tensor, and another soft cap, which is no tensor.
        let same = features(5.0, [1.0, 3.0]);
        inputs.hold(&device, &same).unwrap();
        let two = given(&inputs, &same);
        assert_eq!(tensor(&one), tensor(&two), "nothing is copied again");
        assert!(two.iter().any(|(_, numbers, _)| numbers == &[5.0]), "{two:?}");

        let other = features(5.0, [1.0, 4.0]);
        inputs.hold(&device, &other).unwrap();
        assert_eq!(tensor(&given(&inputs, &other)).1, [1.0, 4.0]);
        let alibi = Features::none().with(Alibi::new(Tensor::from_slice(&[1.0f32, 4.0], &[2]).unwrap()));
        inputs.hold(&device, &alibi).unwrap();
        assert_eq!(given(&inputs, &alibi).len(), 1);
        let none = Features::none();
        inputs.hold(&device, &none).unwrap();
        assert!(given(&inputs, &none).is_empty() && inputs.memory.is_empty());
    }

    #[test]
    fn strides_are_row_major() {
        assert_eq!(strides(&[2, 3, 4, 5]), [60, 20, 5, 1]);
        assert_eq!(strides(&[7, 3])[..2], [3, 1]);
        assert_eq!(strides(&[0, 0, 4])[..3], [4, 4, 1]);
    }
}
