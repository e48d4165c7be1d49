//! Views of tensors, loads and stores.
//!
//! A view has, for each axis, a length and a stride known at run time, and bounds `[first, last)` outside which nothing is
//! read or written: a load gives zero there, a store leaves memory alone. A parameter's bounds are its whole length.

use super::family::family;
use super::{RegionTypes, TypeError};
use crate::interp::{Arg, Slot, Tensor, Tile};
use crate::kernel::ValueId;
use crate::types::{Elem, MAX_TILE_RANK, MAX_VIEW_RANK, Shape, Type};

family! {
    /// Ops on views.
    Memory:
    /// The length of `axis` of the tensor, as i32; [`limit`](Memory::Limit) does not change it.
    view_len => Len { axis: u8 } (view) -> ValueId, Pure;
    /// The view at `index` of `axis`, which goes away. An index outside the bounds makes a view of nothing.
    view_at => At { axis: u8 } (view, index) -> ValueId, Pure;
    /// The same view with the bounds of `axis` narrowed to `[first, last)`.
    limit => Limit { axis: u8 } (view, first, last) -> ValueId, Pure;
    /// The tile of this shape at the `origins`, one an axis; zero outside the bounds.
    load => Load { shape: Shape } (view; origins) -> ValueId, Read;
    /// Like a load, but `axis` is taken at `indices` (i32, rank 1) instead of consecutive places; `origins` are those of the
    /// other axes, in order.
    gather => Gather { axis: u8, shape: Shape } (view, indices; origins) -> ValueId, Read;
    /// Writes the tile at the `origins`, one an axis, inside the bounds.
    store => Store (view, tile; origins) -> (), Write;
}

impl Memory {
    pub(super) fn infer(&self, operands: &[Type], _: &[RegionTypes]) -> Result<Vec<Type>, TypeError> {
        let name = self.name();
        let Type::View { elem, rank } = operands[0] else {
            return Err(TypeError::new(format!("`{name}` of {}", operands[0])).help("it works on a view of a tensor"));
        };
        let scalars = |from: usize, what: &str| match operands[from..].iter().find(|&&t| t != Type::scalar(Elem::I32)) {
            Some(other) => Err(TypeError::new(format!("`{name}` with {other} as {what}")).help("it takes i32 scalars")),
            None => Ok(()),
        };
        let axis_exists = |axis: u8| {
            if axis < rank {
                return Ok(());
            }
            Err(TypeError::new(format!("`{name}` of axis {axis} of a view of rank {rank}"))
                .help("axes are counted from 0"))
        };
        let ranks = |shape: Shape, origins: usize, wanted: usize| {
            if shape.rank() == rank as usize && origins == wanted {
                return Ok(());
            }
            Err(TypeError::new(format!(
                "`{name}` of a tile of shape {shape} at {origins} origins in a view of rank {rank}"
            ))
            .help("tile, view and origins need one rank: take `at` of the outer axes first"))
        };
        Ok(match self {
            Memory::Len { axis } => {
                axis_exists(*axis)?;
                vec![Type::scalar(Elem::I32)]
            }
            Memory::At { axis } => {
                axis_exists(*axis)?;
                scalars(1, "index")?;
                vec![Type::View { elem, rank: rank - 1 }]
            }
            Memory::Limit { axis } => {
                axis_exists(*axis)?;
                scalars(1, "bound")?;
                vec![operands[0]]
            }
            Memory::Load { shape } => {
                scalars(1, "origin")?;
                ranks(*shape, operands.len() - 1, rank as usize)?;
                vec![Type::tile(elem, *shape)]
            }
            Memory::Gather { axis, shape } => {
                axis_exists(*axis)?;
                scalars(2, "origin")?;
                ranks(*shape, operands.len() - 2, rank as usize - 1)?;
                let wanted = shape.extent(*axis as usize).and_then(|e| Shape::new(&[e]));
                if wanted.map(|s| Type::tile(Elem::I32, s)) != Some(operands[1]) {
                    return Err(TypeError::new(format!(
                        "`gather` of a tile of shape {shape} along axis {axis} with {} as indices",
                        operands[1]
                    ))
                    .help("it takes an i32 tile of rank 1, as long as that axis of the tile"));
                }
                vec![Type::tile(elem, *shape)]
            }
            Memory::Store => {
                scalars(2, "origin")?;
                let Type::Tile { elem: stored, shape } = operands[1] else {
                    return Err(
                        TypeError::new(format!("`store` of a {}", operands[1])).help("load a tile from the view first")
                    );
                };
                ranks(shape, operands.len() - 2, rank as usize)?;
                if stored != elem {
                    return Err(TypeError::new(format!("`store` of {stored} into a {}", operands[0]))
                        .help("convert with `cast`"));
                }
                vec![]
            }
        })
    }
}

/// A window into an argument, while a program runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// The position of the argument.
    arg: usize,
    /// Where index 0 of all axes is; only places inside the bounds are ever computed from it.
    offset: i64,
    rank: usize,
    axes: [Axis; MAX_VIEW_RANK],
    /// An index outside the bounds was taken, or the tensor is empty.
    nothing: bool,
}

/// One axis of a view.
#[derive(Clone, Copy, Debug, Default)]
struct Axis {
    len: i64,
    stride: i64,
    first: i64,
    last: i64,
}

/// For each coordinate along an axis of a tile, how far into the tensor that leads; `None` outside the bounds.
type Steps = Vec<Option<i64>>;

impl View {
    /// The whole of a tensor whose layout was checked.
    pub(crate) fn of(arg: usize, tensor: &Tensor) -> View {
        let mut axes = [Axis::default(); MAX_VIEW_RANK];
        for (axis, (&len, &stride)) in axes.iter_mut().zip(tensor.shape.iter().zip(&tensor.strides)) {
            *axis = Axis { len: len as i64, stride: stride as i64, first: 0, last: len as i64 };
        }
        let nothing = tensor.shape.contains(&0);
        if nothing {
            axes.iter_mut().for_each(|axis| axis.stride = 0); // no check was made of strides that lead nowhere
        }
        View { arg, offset: tensor.offset as i64, rank: tensor.shape.len(), axes, nothing }
    }

    fn at(mut self, axis: usize, index: i64) -> View {
        match self.axes[axis].step(index) {
            Some(step) => self.offset += step,
            None => self.nothing = true,
        }
        self.axes.copy_within(axis + 1.., axis);
        self.rank -= 1;
        self
    }

    fn limit(mut self, axis: usize, first: i64, last: i64) -> View {
        let axis = &mut self.axes[axis];
        axis.first = axis.first.max(first);
        axis.last = axis.last.min(last);
        self
    }

    /// The steps of a tile of this shape at `origins`, or of `gathered.1` along the axis `gathered.0`.
    fn steps(&self, shape: Shape, origins: &[Slot], gathered: Option<(usize, &Tile)>) -> [Steps; MAX_TILE_RANK] {
        let mut steps = [const { Vec::new() }; MAX_TILE_RANK];
        let padding = MAX_TILE_RANK - shape.rank();
        steps[..padding].fill(vec![Some(0)]);
        let mut origins = origins.iter();
        for (i, extent) in shape.extents().enumerate() {
            let axis = self.axes[i];
            steps[padding + i] = match gathered {
                Some((along, indices)) if along == i => indices.data().iter().map(|&p| axis.step(p as i64)).collect(),
                _ => {
                    let origin = origins.next().map_or(0, Slot::int); // the typing rule checked that there is one
                    (0..extent as i64).map(|p| axis.step(origin + p)).collect()
                }
            };
        }
        steps
    }

    /// Calls `f` with each place in the tile and in the tensor's data that belong together and are inside the bounds.
    fn visit(&self, steps: &[Steps; MAX_TILE_RANK], mut f: impl FnMut(usize, usize)) {
        if self.nothing {
            return;
        }
        let [depth, rows, columns] = steps;
        for (i, outer) in depth.iter().enumerate() {
            for (j, middle) in rows.iter().enumerate() {
                let (Some(outer), Some(middle)) = (outer, middle) else { continue };
                let row = (i * rows.len() + j) * columns.len();
                let start = self.offset + outer + middle;
                for (k, inner) in columns.iter().enumerate() {
                    if let Some(inner) = inner {
                        f(row + k, (start + inner) as usize);
                    }
                }
            }
        }
    }
}

impl Axis {
    fn step(self, place: i64) -> Option<i64> {
        (self.first <= place && place < self.last).then(|| place * self.stride)
    }
}

impl Memory {
    /// The result for operands that passed [`infer`](Self::infer). The arguments are those that the views were made of.
    pub(crate) fn eval(&self, operands: &[Slot], args: &mut [Arg]) -> Option<Slot> {
        let view = operands[0].view(); // the signature was checked, and so are the indices below
        match self {
            Memory::Len { axis } => Some(Slot::index(view.axes[*axis as usize].len)),
            Memory::At { axis } => Some(Slot::View(view.at(*axis as usize, operands[1].int()))),
            Memory::Limit { axis } => {
                Some(Slot::View(view.limit(*axis as usize, operands[1].int(), operands[2].int())))
            }
            Memory::Load { shape } => Some(load(view, *shape, &view.steps(*shape, &operands[1..], None), args)),
            Memory::Gather { axis, shape } => {
                let along = Some((*axis as usize, operands[1].tile()));
                Some(load(view, *shape, &view.steps(*shape, &operands[2..], along), args))
            }
            Memory::Store => {
                let tile = operands[1].tile();
                let steps = view.steps(tile.shape(), &operands[2..], None);
                if let Some(Arg::Tensor(tensor)) = args.get_mut(view.arg) {
                    // The layout was checked: places inside the bounds lie inside the data.
                    view.visit(&steps, |from, to| tensor.data[to] = tile.elem().nearest(tile.data()[from]));
                }
                None
            }
        }
    }
}

fn load(view: &View, shape: Shape, steps: &[Steps; MAX_TILE_RANK], args: &[Arg]) -> Slot {
    let mut data = vec![0.0; shape.count()];
    let mut elem = Elem::F32;
    if let Some(Arg::Tensor(tensor)) = args.get(view.arg) {
        elem = tensor.elem;
        view.visit(steps, |to, from| data[to] = tensor.data[from]); // as in `store`
    }
    Tile::made(elem, shape, data).into()
}
