//! What the CPU device executes for each point of the grid.

use tilewright_ir::Elem;
use tilewright_ir::op::{Elementwise, Reduce};

/// The index of a 32-bit lane in the arena of a thread.
pub type LaneIndex = u32;
/// The index of a view in the view table of a thread.
pub type ViewIndex = u32;

/// What the lowering has to know of the processor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// Columns of a packed panel: the width of the microkernel's register block, in lanes.
    pub panel: u32,
    /// Lanes of one block register of a fused loop; a few of them should fit the first-level cache.
    pub block: u32,
    /// Lanes of a vector register.
    pub lanes: u32,
    /// Whether products of bf16 numbers multiply two pairs in each lane.
    pub pairs: bool,
    /// Whether there are products of bytes, four in each lane.
    pub bytes: bool,
}

/// The most rows of a left operand whose product reads the right one row by row where it lies: packing it first costs as much
/// as so few rows.
pub const MAX_STREAMED: u32 = 8;
/// Rows of a right operand that are read at a time.
pub const ROWS_AT_ONCE: u32 = 16;
/// Rows of a right operand that its codes, multiplied as bytes, and the other operand's digits have room of.
pub const ROWS_IN_DIGITS: u32 = 48;

/// How the bits of a lane are to be understood.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// f32; also f16 and bf16 values, which it holds exactly.
    Float,
    /// i32, and i8 sign-extended.
    Signed,
    /// u32, and u8 zero-extended.
    Unsigned,
    /// All ones or all zeros.
    Mask,
}

impl From<Elem> for Lane {
    fn from(elem: Elem) -> Lane {
        match elem {
            Elem::F32 | Elem::F16 | Elem::Bf16 => Lane::Float,
            Elem::I32 | Elem::I8 => Lane::Signed,
            Elem::U32 | Elem::U8 => Lane::Unsigned,
            Elem::Bool => Lane::Mask,
        }
    }
}

/// One tile program.
#[derive(Clone, PartialEq, Debug)]
pub struct Program {
    /// In execution order.
    pub steps: Vec<Step>,
    /// Size of the arena.
    pub lanes: u32,
    /// Lanes that hold compile-time scalars, and their bits.
    pub constants: Vec<(LaneIndex, u32)>,
    /// What each launch argument fills.
    pub params: Vec<ParamSlot>,
    /// Size of the view table.
    pub views: u32,
    /// How much of the tile arithmetic runs in fused loops.
    pub stats: Stats,
}

/// Where a launch argument goes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ParamSlot {
    /// A scalar, rounded to its element type.
    Scalar(LaneIndex, Elem),
    /// A view.
    View(ViewIndex),
}

/// How the tile ops of a kernel run; scalars and views do not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Elementwise ops and reductions that run in fused loops.
    pub fused: u32,
    /// Fused loops over tiles.
    pub loops: u32,
    /// Elementwise ops, reductions and layout changes that pass over memory on their own.
    pub unfused: u32,
    /// Products, each a call of the microkernel.
    pub dots: u32,
}

/// One step of a program.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "fields are named after what they are: lanes, views, extents")]
pub enum Step {
    /// The place in the grid.
    ProgramId { axis: u8, dst: LaneIndex },
    /// The size of the grid.
    ProgramCount { axis: u8, dst: LaneIndex },
    /// The length of an axis.
    ViewLen { view: ViewIndex, axis: u8, dst: LaneIndex },
    /// One entry of an axis.
    ViewAt { view: ViewIndex, axis: u8, index: LaneIndex, dst: ViewIndex },
    /// Narrower bounds of an axis.
    Limit { view: ViewIndex, axis: u8, first: LaneIndex, last: LaneIndex, dst: ViewIndex },
    /// A tile from memory.
    Load { window: Window, dst: LaneIndex },
    /// A tile from memory, one axis taken at indices.
    Gather { window: Window, axis: u8, indices: LaneIndex, dst: LaneIndex },
    /// A tile to memory.
    Store { window: Window, src: LaneIndex },
    /// Fused elementwise ops and row reductions.
    Vector(VectorLoop),
    /// A matrix into panels for the microkernel.
    Pack(Pack),
    /// Rows of f32 numbers rounded to bf16, two neighbours a lane, zero past the last.
    Pair { src: LaneIndex, dst: LaneIndex, rows: u32, columns: u32 },
    /// A product.
    Dot(Dot),
    /// A product whose right operand is read row by row where it lies.
    DotRows(DotRows),
    /// Numbers that codes stand for, `[rows, columns]`.
    Decode { rows: Rows, count: u32, columns: u32, dst: LaneIndex },
    /// `[outer, rows, cols]` to `[outer, cols, rows]`.
    Transpose { src: LaneIndex, dst: LaneIndex, outer: u32, rows: u32, cols: u32 },
    /// `[outer, extent, inner]` to `[outer, 1, inner]`.
    Reduce { op: Reduce, lane: Lane, elem: Elem, src: LaneIndex, dst: LaneIndex, outer: u32, extent: u32, inner: u32 },
    /// A tile repeated along its axes of extent 1; both shapes padded to rank 3.
    Broadcast { src: LaneIndex, dst: LaneIndex, from: [u32; 3], to: [u32; 3] },
    /// Each word to its codes of `bits` bits, lowest first, one a lane.
    Unpack { src: LaneIndex, dst: LaneIndex, words: u32, bits: u8 },
    /// Lanes moved, where control flow or a product needs a tile in another place.
    Copy { src: LaneIndex, dst: LaneIndex, lanes: u32 },
    /// A counted loop over `first, first + step, …` below `last`.
    For { first: LaneIndex, last: LaneIndex, step: LaneIndex, counter: LaneIndex, body: Vec<Step> },
    /// A branch.
    If { cond: LaneIndex, then: Vec<Step>, otherwise: Vec<Step> },
}

/// A tile-shaped place in a view.
#[derive(Clone, PartialEq, Debug)]
pub struct Window {
    /// The view.
    pub view: ViewIndex,
    /// One i32 lane an axis (without the gathered axis for a gather).
    pub origins: Vec<LaneIndex>,
    /// One extent an axis.
    pub extents: Vec<u32>,
}

/// What a packed matrix is made from.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "fields as in `Step::Gather`")]
pub enum PackSource {
    /// Straight from memory. The rows of a window of rank 3 are those of its planes, one plane after the other.
    Window(Window),
    /// Straight from memory, planes or rows taken at indices; an index outside the bounds gives zeros.
    Gather { window: Window, axis: u8, indices: LaneIndex },
    /// From lanes, row-major.
    Lanes(LaneIndex),
}

/// Rows of a matrix that are read one after the other.
#[derive(Clone, PartialEq, Debug)]
pub enum Rows {
    /// Numbers as they are stored, not from lanes.
    Stored(PackSource),
    /// Codes.
    Codes(Codes),
}

/// Where codes of a matrix lie, none of it in lanes. A code stands for `T(T(scale * code) + bias)`, where T is f32 or the type of scale
/// and bias.
#[derive(Clone, PartialEq, Debug)]
pub struct Codes {
    /// Rows of words, the first code of a word in its lowest bits.
    pub words: PackSource,
    /// Rows of scales.
    pub scales: PackSource,
    /// Rows of biases.
    pub biases: PackSource,
    /// Bits of a code: 4 or 8.
    pub bits: u8,
    /// Neighbours in a row that share a scale, a multiple of [`ROWS_AT_ONCE`].
    pub group: u32,
    /// The type T.
    pub rounds: Elem,
}

/// What is multiplied in a product of few rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arithmetic {
    /// f32 numbers.
    Numbers,
    /// bf16 numbers in pairs along k, as they stand in the lanes of `a`; rows of `b`, which are whole vectors of such numbers, are
    /// paired where they are read.
    Pairs,
    /// Codes of `b`, whose numbers are not rounded, in groups of 32, 64 or 128, with digits of `a`.
    Bytes,
}

/// `c = a b` or `c += a b`, f32, for few rows of `a`.
#[derive(Clone, PartialEq, Debug)]
pub struct DotRows {
    /// `[m, k]`, row-major.
    pub a: LaneIndex,
    /// `[k, n]`, or `[n, k]` when transposed.
    pub b: Rows,
    /// Whether `b` holds the transpose.
    pub transposed: bool,
    /// `[m, n]`, row-major.
    pub c: LaneIndex,
    /// Rows of the result, at most [`MAX_STREAMED`].
    pub m: u32,
    /// Columns of the result.
    pub n: u32,
    /// The contracted extent.
    pub k: u32,
    /// Whether `c` is added to.
    pub accumulate: bool,
    /// What is multiplied.
    pub by: Arithmetic,
    /// Room for [`ROWS_AT_ONCE`] rows of `b`, or for [`ROWS_IN_DIGITS`] where bytes are multiplied.
    pub scratch: LaneIndex,
}

/// A `[k, n]` matrix into panels of [`Target::panel`] columns, each `[k, panel]`, zero past `n`. In pairs, a lane has the bf16
/// numbers of two neighbouring rows, zero past the last, and a panel half as many rows.
#[derive(Clone, PartialEq, Debug)]
pub struct Pack {
    /// The matrix: `[k, n]`, or `[n, k]` when transposed.
    pub source: PackSource,
    /// Whether the source holds the transpose.
    pub transposed: bool,
    /// Whether lanes hold pairs.
    pub pairs: bool,
    /// Rows.
    pub k: u32,
    /// Columns.
    pub n: u32,
    /// A mask lane for each row of the source: rows where it is not set are zero, and not read. Of none, all are.
    pub keep: Option<LaneIndex>,
    /// Where the panels go.
    pub dst: LaneIndex,
}

/// `c = a b` or `c += a b`, f32.
#[derive(Clone, PartialEq, Debug)]
pub struct Dot {
    /// `[m, k]`, row-major.
    pub a: LaneIndex,
    /// Panels of `[k, n]`.
    pub b: LaneIndex,
    /// `[m, n]`, row-major.
    pub c: LaneIndex,
    /// Rows of the result.
    pub m: u32,
    /// Columns of the result.
    pub n: u32,
    /// The contracted extent; of pairs, if lanes of `a` and `b` hold pairs.
    pub k: u32,
    /// Whether `c` is added to.
    pub accumulate: bool,
    /// Whether they do.
    pub pairs: bool,
}

/// Micro-ops over the rows of one tile domain `[rows, cols]`, a block of rows at a time.
#[derive(Clone, PartialEq, Debug)]
pub struct VectorLoop {
    /// Rows of the domain.
    pub rows: u32,
    /// Columns of the domain.
    pub cols: u32,
    /// Rows of one block.
    pub block_rows: u32,
    /// In order; run for each block.
    pub ops: Vec<MicroOp>,
}

/// One op on a block.
#[derive(Clone, PartialEq, Debug)]
pub struct MicroOp {
    /// What is done.
    pub kind: MicroKind,
    /// Which part of the domain the result covers.
    pub extent: Extent,
    /// Where the result goes.
    pub dst: Place,
    /// The operands; unused ones repeat the first.
    pub src: [Operand; 3],
}

/// What a micro-op does.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "fields are named after the op's attributes")]
pub enum MicroKind {
    /// An elementwise op on lanes of this kind. `wrap` is the 8-bit type that the result wraps to, if any.
    Map { op: Elementwise, lane: Lane, wrap: Option<Elem> },
    /// A value of another element type.
    Cast { from: Elem, to: Elem },
    /// Bits of another element type.
    Bitcast { from: Elem, to: Elem },
    /// The lane itself, repeated as its reach says.
    Copy,
    /// Rows of a tile from memory, which has all columns of the domain, and all rows or as many as repeat.
    Load(Window),
    /// The coordinate along the rows (`divide`, then modulo `modulo`) of the domain.
    IotaRow { divide: u32, modulo: u32 },
    /// The coordinate along the columns.
    IotaCol,
    /// `exp2(src0 * src1 - src2)`, the product rounded, of a full operand, one lane and a lane a row; and
    /// the sum of each row, where it is wanted: the weights of a softmax. `pairs`: not as numbers but rounded, two neighbours a
    /// lane, as [`Step::Pair`] has them; the sum is of those that are not rounded.
    Weights { sum: Option<Place>, pairs: bool },
    /// The largest `src0 * src1` of each row, of a full operand and one lane.
    ScaledMax,
    /// The scores of a softmax: scaled, with a bias, and another number where a pair is not attended.
    Masked(Box<Masked>),
    /// All rows folded to one with the largest integers, block after block.
    FoldRows(Lane),
    /// A whole row folded to one lane; `wrap` as for `Map`.
    Reduce { op: Reduce, lane: Lane, wrap: Option<Elem> },
}

/// `attended ? x * scale + bias * factor : otherwise`. A pair is attended where every bound, the bias and the cell say so.
#[derive(Clone, PartialEq, Debug)]
pub struct Masked {
    /// Full.
    pub x: Place,
    /// One lane; 1 if there is none.
    pub scale: Option<Place>,
    /// What is added.
    pub bias: Option<Bias>,
    /// What bounds the columns that a row attends.
    pub bounds: Option<Bounds>,
    /// Mask lanes, full.
    pub cells: Option<Place>,
    /// One lane.
    pub otherwise: Place,
    /// The largest result of each row, where it is wanted.
    pub max: Option<Place>,
    /// Whether any row attends a column, where it is wanted.
    pub any: Option<Any>,
}

/// A bias of a score.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bias {
    /// Full.
    pub cells: Place,
    /// One lane.
    pub factor: Place,
    /// One lane: cells that are equal to it block.
    pub blocks: Option<Place>,
}

/// Bounds of an i32 number that each column has.
#[derive(Clone, PartialEq, Debug)]
pub struct Bounds {
    /// The numbers: a lane a column.
    pub of: Place,
    /// Relations of the number to a lane a row, or to one lane; all have to hold.
    pub relations: Vec<(Relation, Operand)>,
}

/// Which columns some row attends, as 1 and 0, a lane a column.
#[derive(Clone, PartialEq, Debug)]
pub struct Any {
    /// The result.
    pub dst: Place,
    /// Only rows for which this relation of two lanes, one a row or one, holds count.
    pub of: Option<(Operand, Relation, Operand)>,
}

/// Relations of i32 numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "as their names say")]
pub enum Relation {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Relation {
    /// The relation of `b` to `a` where this is that of `a` to `b`.
    pub fn mirrored(self) -> Relation {
        match self {
            Relation::Less => Relation::Greater,
            Relation::LessOrEqual => Relation::GreaterOrEqual,
            Relation::Greater => Relation::Less,
            Relation::GreaterOrEqual => Relation::LessOrEqual,
        }
    }
}

/// Which part of a `[rows, cols]` domain a value covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// `[rows, cols]`.
    Full,
    /// `[rows, 1]`.
    Row,
    /// `[1, cols]`; computed with the first block and kept.
    Col,
    /// `[1, 1]`; computed with the first block and kept.
    One,
}

/// Lanes of a value: at block row `r0` they start at `offset + r0 * row_stride`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The first lane.
    pub offset: LaneIndex,
    /// Lanes between rows of the domain; 0 for block registers and for what every block shares.
    pub row_stride: u32,
}

/// An operand and the part of the domain that it covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operand {
    /// Where it is.
    pub place: Place,
    /// What it covers.
    pub extent: Extent,
}
