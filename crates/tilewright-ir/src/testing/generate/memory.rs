//! Statements on tensors.

use super::{Entry, FLOATS, Generator, Window};
use crate::interp::Tensor;
use crate::kernel::{Access, ValueId};
use crate::op::{Elementwise, Matmul, Memory, ShapeOp};
use crate::testing::fact::Fact;
use crate::types::{Elem, Shape, Type};

/// The most outputs of one program.
const MOST_OUTPUTS: usize = 10;

impl Generator<'_> {
    /// A place in a tensor, often outside it.
    fn index(&mut self) -> Option<ValueId> {
        match self.pick(3) {
            0 => {
                let place = self.pick(8) as f64 - 2.0;
                self.constant(place, Elem::I32)
            }
            1 => self.find(Entry::is_index).map(|e| e.value),
            _ => {
                let any = self.find(|e| e.ty == Type::scalar(Elem::I32))?;
                let mask = self.constant(7.0, Elem::I32)?;
                let low = self.emit(Elementwise::And, &[any.value, mask])?;
                let two = self.constant(2.0, Elem::I32)?;
                self.emit(Elementwise::Sub, &[low, two])
            }
        }
    }

    fn indices(&mut self, count: usize) -> Option<Vec<ValueId>> {
        (0..count).map(|_| self.index()).collect()
    }

    /// A view of an input of rank 0 to 3.
    fn window(&mut self) -> Option<Window> {
        let fitting: Vec<Window> = self.windows.clone();
        let mut window = if fitting.is_empty() || self.pick(3) == 0 { self.input()? } else { self.one_of(&fitting)? };
        while window.rank > 3 || (window.rank > 0 && self.pick(4) == 0) {
            let axis = self.pick(window.rank as usize) as u8;
            let index = self.index()?;
            window.value = self.emit(Memory::At { axis }, &[window.value, index])?;
            window.rank -= 1;
        }
        if window.rank > 0 && self.pick(3) == 0 {
            let axis = self.pick(window.rank as usize) as u8;
            let bounds = self.indices(2)?;
            window.value = self.emit(Memory::Limit { axis }, &[window.value, bounds[0], bounds[1]])?;
        }
        self.windows.push(window);
        Some(window)
    }

    fn input(&mut self) -> Option<Window> {
        let elem = self.one_of(&Elem::ALL)?;
        let rank = self.pick(5);
        let shape: Vec<usize> = (0..rank).map(|_| 1 + self.pick(6)).collect();
        self.input_of(elem, &shape)
    }

    fn input_of(&mut self, elem: Elem, shape: &[usize]) -> Option<Window> {
        let rank = shape.len();
        let count: usize = shape.iter().product();
        let (numbers, fact) = self.numbers(elem, count);
        let mut tensor = Tensor::new(elem, shape, numbers).ok()?;
        if rank >= 2 && self.pick(3) == 0 {
            tensor.shape.swap(0, rank - 1);
            tensor.strides.swap(0, rank - 1);
        }
        if rank > 0 && self.pick(3) == 0 {
            // A wider row: what lies between the rows is never read.
            let unread = if elem.is_float() { f64::NAN } else { elem.greatest() };
            tensor.data = tensor.data.iter().flat_map(|&x| [unread, x]).collect();
            tensor.strides.iter_mut().for_each(|s| *s *= 2);
            tensor.offset = 1;
        }
        let value = self.tensor_param(format!("in{}", self.args.len()), Access::Read, tensor, 0.0);
        let window = Window { value, rank: rank as u8, fact };
        self.windows.push(window);
        Some(window)
    }

    pub(super) fn load(&mut self) -> Option<Entry> {
        let window = self.window()?;
        let shape = self.shape_of_rank(window.rank as usize);
        let origins = self.indices(window.rank as usize)?;
        let operands = [vec![window.value], origins].concat();
        let value = self.emit(Memory::Load { shape }, &operands)?;
        self.keep(value, window.fact)
    }

    pub(super) fn gather(&mut self) -> Option<Entry> {
        let window = self.window().filter(|w| w.rank > 0)?;
        let shape = self.shape_of_rank(window.rank as usize);
        let axis = self.pick(window.rank as usize);
        let indices = self.indices_along(shape, axis)?;
        let origins = self.indices(window.rank as usize - 1)?;
        let operands = [vec![window.value, indices], origins].concat();
        let value = self.emit(Memory::Gather { axis: axis as u8, shape }, &operands)?;
        self.keep(value, window.fact)
    }

    /// A tile of places in a tensor for each entry of an axis, often outside it.
    fn indices_along(&mut self, shape: Shape, axis: usize) -> Option<ValueId> {
        let count = Shape::new(&[shape.extent(axis)?])?;
        let wanted = Type::tile(Elem::I32, count);
        match self.find(|e| e.ty == wanted && e.fact.bound <= Fact::INDEX) {
            Some(entry) if self.pick(2) == 0 => Some(entry.value),
            _ => {
                let iota = self.emit(ShapeOp::Iota { axis: 0, shape: count }, &[])?;
                let step = self.index()?;
                let steps = self.emit(Elementwise::Mul, &[iota, step])?;
                let first = self.index()?;
                self.emit(Elementwise::Sub, &[first, steps])
            }
        }
    }

    /// A product with rows of pages: `[pages, rows, columns]` from memory, consecutive or at indices, as the rows of one
    /// matrix. Large enough for the blocks in which a device moves data.
    pub(super) fn rows_dot(&mut self) -> Option<Entry> {
        let [pages, rows, columns] = [1 + self.pick(4), 1 + self.pick(9), 1 + self.pick(20)];
        let transposed = self.pick(2) == 0;
        let elem = self.one_of(&FLOATS)?;
        let input = [1 + self.pick(6), 1 + self.pick(12), columns.saturating_sub(self.pick(3)).max(1)];
        let mut window = self.input_of(elem, &input)?;
        if self.pick(3) == 0 {
            let axis = self.pick(3) as u8;
            let bounds = self.indices(2)?;
            window.value = self.emit(Memory::Limit { axis }, &[window.value, bounds[0], bounds[1]])?;
        }
        let shape = Shape::new(&[pages, rows, columns])?;
        let axis = self.pick(3);
        let paged = if axis == 2 {
            let origins = self.indices(3)?;
            self.emit(Memory::Load { shape }, &[vec![window.value], origins].concat())?
        } else {
            let indices = self.indices_along(shape, axis)?;
            let origins = self.indices(2)?;
            self.emit(Memory::Gather { axis: axis as u8, shape }, &[vec![window.value, indices], origins].concat())?
        };
        if self.pick(4) == 0 {
            self.keep(paged, window.fact)?;
        }
        let matrix = Shape::new(&[pages * rows, columns])?;
        let mut right = self.emit(ShapeOp::Reshape { shape: matrix }, &[paged])?;
        let mut inner = pages * rows;
        if transposed {
            right = self.emit(ShapeOp::Transpose, &[right])?;
            inner = columns;
        }
        let left = Shape::new(&[1 + self.pick(3), inner])?;
        let left_window = self.input_of(elem, &[left.extent(0)?, inner])?;
        let zero = self.constant(0.0, Elem::I32)?;
        let left = self.emit(Memory::Load { shape: left }, &[left_window.value, zero, zero])?;
        let fact = left_window.fact.product(window.fact).sum_of(inner, Elem::F32)?;
        let value = self.emit(Matmul::Dot, &[left, right])?;
        self.keep(value, fact)
    }

    pub(super) fn length(&mut self) -> Option<Entry> {
        let window = self.window().filter(|w| w.rank > 0)?;
        let axis = self.pick(window.rank as usize) as u8;
        let value = self.emit(Memory::Len { axis }, &[window.value])?;
        self.keep(value, Fact::exact(8.0, 1.0))
    }

    pub(super) fn store(&mut self) -> Option<Entry> {
        let entry = self.find(|_| true)?;
        self.store_of(entry)
    }

    /// Stores a tile to an output of its own: each program of the grid has a slice, so that none sees another's order.
    pub(super) fn store_of(&mut self, entry: Entry) -> Option<Entry> {
        if self.outputs == MOST_OUTPUTS {
            return None;
        }
        self.outputs += 1;
        let programs: u32 = self.grid.iter().product();
        let mut shape = vec![programs as usize];
        shape.extend(entry.shape().extents().map(|e| e + self.outputs % 2));
        let ones = vec![1.0; shape.iter().product()];
        let stored = entry.fact.rounded(entry.elem()).unwrap_or(entry.fact);
        let output = Tensor::new(entry.elem(), &shape, ones).ok()?;
        let view = self.tensor_param(format!("out{}", self.args.len()), Access::Write, output, stored.error);
        let mut slice = self.emit(Memory::At { axis: 0 }, &[view, self.program])?;
        let rank = entry.shape().rank();
        if rank > 0 && self.pick(4) == 1 {
            let axis = self.pick(rank) as u8;
            let bounds = self.indices(2)?;
            slice = self.emit(Memory::Limit { axis }, &[slice, bounds[0], bounds[1]])?;
        }
        let zero = self.constant(0.0, Elem::I32)?;
        let mut origins = vec![zero; rank];
        if self.pick(3) == 1 {
            origins = self.indices(rank)?;
        }
        let operands = [vec![slice, entry.value], origins].concat();
        self.push(Memory::Store, &operands)?;
        Some(entry)
    }
}
