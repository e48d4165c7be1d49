//! Element types, shapes, and the types of values.

use std::fmt;

/// The type of one element of a tile or tensor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Elem {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// Signed 32-bit integer, wrapping.
    I32,
    /// Unsigned 32-bit integer, wrapping.
    U32,
    /// Signed 8-bit integer, wrapping.
    I8,
    /// Unsigned 8-bit integer, wrapping.
    U8,
    /// One byte in memory: zero is false, anything else true.
    Bool,
}

impl Elem {
    /// Every element type, in declaration order.
    pub const ALL: [Elem; 8] = [Elem::F32, Elem::F16, Elem::Bf16, Elem::I32, Elem::U32, Elem::I8, Elem::U8, Elem::Bool];

    /// The name that the text form and the command line use.
    pub fn name(self) -> &'static str {
        match self {
            Elem::F32 => "f32",
            Elem::F16 => "f16",
            Elem::Bf16 => "bf16",
            Elem::I32 => "i32",
            Elem::U32 => "u32",
            Elem::I8 => "i8",
            Elem::U8 => "u8",
            Elem::Bool => "bool",
        }
    }

    /// The element type of this [`name`](Elem::name).
    pub fn from_name(name: &str) -> Option<Elem> {
        Elem::ALL.into_iter().find(|e| e.name() == name)
    }

    /// Bytes of one element in memory.
    pub fn bytes(self) -> usize {
        match self {
            Elem::F32 | Elem::I32 | Elem::U32 => 4,
            Elem::F16 | Elem::Bf16 => 2,
            Elem::I8 | Elem::U8 | Elem::Bool => 1,
        }
    }

    /// f32, f16 or bf16.
    pub fn is_float(self) -> bool {
        matches!(self, Elem::F32 | Elem::F16 | Elem::Bf16)
    }

    /// A signed or unsigned integer; not bool.
    pub fn is_int(self) -> bool {
        matches!(self, Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8)
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Tiles have rank 0 (a uniform scalar) to 3.
pub const MAX_TILE_RANK: usize = 3;
/// The verifier refuses tiles with more elements than this.
pub const MAX_TILE_ELEMENTS: usize = 1 << 24;
/// Views have rank 0 (one element) to 4.
pub const MAX_VIEW_RANK: usize = 4;

/// The static shape of a tile: its extent along each of 0 to 3 axes, the last one contiguous.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shape {
    rank: u8,
    extents: [u32; MAX_TILE_RANK],
}

impl Shape {
    /// The shape of a uniform scalar.
    pub const SCALAR: Shape = Shape { rank: 0, extents: [0; MAX_TILE_RANK] };

    /// A shape of these extents; `None` above rank 3, or for an extent that does not fit 32 bits.
    pub fn new(extents: &[usize]) -> Option<Shape> {
        let mut shape = Shape { rank: extents.len() as u8, ..Shape::SCALAR };
        if extents.len() > MAX_TILE_RANK {
            return None;
        }
        for (to, &from) in shape.extents.iter_mut().zip(extents) {
            *to = u32::try_from(from).ok()?;
        }
        Some(shape)
    }

    /// How many axes there are.
    pub fn rank(self) -> usize {
        self.rank as usize
    }

    /// The extent along `axis`; axes past the rank have none.
    pub fn extent(self, axis: usize) -> Option<usize> {
        self.extents[..self.rank()].get(axis).map(|&e| e as usize)
    }

    /// All extents, outermost first.
    pub fn extents(self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator {
        self.extents.into_iter().take(self.rank()).map(|e| e as usize)
    }

    /// How many elements a tile of this shape has, or the greatest number when there are more than can be counted.
    pub fn count(self) -> usize {
        self.extents().fold(1, usize::saturating_mul)
    }

    /// The same shape with another extent along `axis`; `None` when it has no such axis.
    pub fn with_extent(mut self, axis: usize, extent: u32) -> Option<Shape> {
        let rank = self.rank();
        *self.extents.get_mut(..rank)?.get_mut(axis)? = extent;
        Some(self)
    }

    /// The shape that tiles of these two shapes broadcast to: equal ranks, and each axis equal or 1; a scalar goes with all.
    pub fn broadcast(self, other: Shape) -> Option<Shape> {
        if self.rank == 0 {
            return Some(other);
        }
        if other.rank == 0 {
            return Some(self);
        }
        if self.rank != other.rank {
            return None;
        }
        let mut out = self;
        for (to, &from) in out.extents.iter_mut().zip(&other.extents) {
            match (*to, from) {
                (a, b) if a == b => {}
                (1, b) => *to = b,
                (_, 1) => {}
                _ => return None,
            }
        }
        Some(out)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, extent) in self.extents().enumerate() {
            write!(f, "{}{extent}", if axis == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Type {
    /// A dense array of static shape; of rank 0 it is a uniform scalar.
    Tile {
        /// The type of each element.
        elem: Elem,
        /// The extents, known when the kernel is specialised.
        shape: Shape,
    },
    /// A strided window into a tensor, with run-time shape, strides and bounds.
    View {
        /// The type of each element.
        elem: Elem,
        /// How many axes it has: 0 to 4.
        rank: u8,
    },
}

impl Type {
    /// A uniform scalar.
    pub const fn scalar(elem: Elem) -> Type {
        Type::Tile { elem, shape: Shape::SCALAR }
    }

    /// A tile of this shape.
    pub const fn tile(elem: Elem, shape: Shape) -> Type {
        Type::Tile { elem, shape }
    }

    /// The element type.
    pub fn elem(self) -> Elem {
        match self {
            Type::Tile { elem, .. } | Type::View { elem, .. } => elem,
        }
    }

    /// The shape of a tile; views have none before the launch.
    pub fn shape(self) -> Option<Shape> {
        match self {
            Type::Tile { shape, .. } => Some(shape),
            Type::View { .. } => None,
        }
    }

    /// A tile of rank 0.
    pub fn is_scalar(self) -> bool {
        self.shape().is_some_and(|s| s.rank() == 0)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tile { elem, shape } if shape.rank() == 0 => write!(f, "{elem}"),
            Type::Tile { elem, shape } => write!(f, "{elem}{shape}"),
            Type::View { elem, rank } => write!(f, "view<{elem}, {rank}>"),
        }
    }
}
