//! Tiles as plain arrays.

use crate::op::View;
use crate::types::{Elem, MAX_TILE_RANK, Shape, Type};
use std::rc::Rc;

/// The elements of one tile, row-major. Floats are not rounded to their type before a cast or a store.
#[derive(Clone, PartialEq, Debug)]
pub struct Tile {
    elem: Elem,
    shape: Shape,
    data: Vec<f64>,
}

impl Tile {
    /// A tile of these elements; `None` when their number is not that of the shape.
    pub fn new(elem: Elem, shape: Shape, data: Vec<f64>) -> Option<Tile> {
        (data.len() == shape.count()).then_some(Tile { elem, shape, data })
    }

    /// A uniform scalar.
    pub fn scalar(elem: Elem, value: f64) -> Tile {
        Tile { elem, shape: Shape::SCALAR, data: vec![value] }
    }

    /// A tile that an op made: the op's loops run over the shape, so the count is right.
    pub(crate) fn made(elem: Elem, shape: Shape, data: Vec<f64>) -> Tile {
        debug_assert_eq!(data.len(), shape.count());
        Tile { elem, shape, data }
    }

    /// The type of each element.
    pub fn elem(&self) -> Elem {
        self.elem
    }

    /// The extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The elements, row-major.
    pub fn data(&self) -> &[f64] {
        &self.data
    }

    /// The type of the tile as a value.
    pub fn ty(&self) -> Type {
        Type::tile(self.elem, self.shape)
    }

    /// How far apart neighbours along each of the three padded axes lie; 0 where this tile repeats.
    fn steps(&self) -> [usize; MAX_TILE_RANK] {
        let [_, rows, columns] = padded(self.shape);
        let [depth_step, row_step] = [rows * columns, columns];
        let extents = padded(self.shape);
        [(0, depth_step), (1, row_step), (2, 1)].map(|(axis, step)| if extents[axis] == 1 { 0 } else { step })
    }
}

/// The extents of a shape, with ones before them up to the largest rank.
pub(crate) fn padded(shape: Shape) -> [usize; MAX_TILE_RANK] {
    let mut extents = [1; MAX_TILE_RANK];
    for (to, from) in extents.iter_mut().rev().zip(shape.extents().rev()) {
        *to = from;
    }
    extents
}

/// Applies `f` to the elements of tiles that broadcast to `shape`, row-major.
pub(crate) fn zip<const N: usize>(tiles: [&Tile; N], shape: Shape, f: impl Fn([f64; N]) -> f64) -> Vec<f64> {
    let [depth, rows, columns] = padded(shape);
    let steps = tiles.map(Tile::steps);
    let data = tiles.map(Tile::data);
    let mut out = Vec::with_capacity(shape.count());
    for i in 0..depth {
        for j in 0..rows {
            let start = steps.map(|s| i * s[0] + j * s[1]);
            // Each axis of a tile has the extent of the shape or a step of 0, so the index stays inside.
            out.extend((0..columns).map(|k| f(std::array::from_fn(|n| data[n][start[n] + k * steps[n][2]]))));
        }
    }
    out
}

/// What a value stands for while a program runs.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    /// Elements, shared between the values that carry them.
    Tile(Rc<Tile>),
    /// A window into an argument.
    View(View),
}

impl Slot {
    pub(crate) fn index(i: i64) -> Slot {
        Slot::from(Tile::scalar(Elem::I32, i as f64))
    }

    /// The tile; verified kernels ask only for values of tile type.
    pub(crate) fn tile(&self) -> &Tile {
        match self {
            Slot::Tile(tile) => tile,
            Slot::View(_) => unreachable!("the verifier checked the types of the operands"),
        }
    }

    /// The view; verified kernels ask only for values of view type.
    pub(crate) fn view(&self) -> &View {
        match self {
            Slot::View(view) => view,
            Slot::Tile(_) => unreachable!("the verifier checked the types of the operands"),
        }
    }

    /// The value of a scalar, as an integer.
    pub(crate) fn int(&self) -> i64 {
        self.tile().data[0] as i64 // a scalar has one element
    }
}

impl From<Tile> for Slot {
    fn from(tile: Tile) -> Slot {
        Slot::Tile(Rc::new(tile))
    }
}
