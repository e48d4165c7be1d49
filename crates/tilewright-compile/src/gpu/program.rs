//! A kernel as the code of one thread of a block: data that a renderer prints line by line, deciding nothing.

use super::layout::Layout;
use super::unit::Unit;
use tilewright_ir::op::{Elementwise, Reduce};
use tilewright_ir::{Access, Elem};

/// One tile program, as each of its threads runs it.
#[derive(Clone, PartialEq, Debug)]
pub struct Program {
    /// What the kernel function is called.
    pub name: String,
    /// Warps of a block, down and across the sums of its products.
    pub warps: [u32; 2],
    /// Blocks of a multiprocessor that registers should leave room for.
    pub blocks: u32,
    /// In launch order.
    pub params: Vec<Param>,
    /// Indexed by [`LocalId`].
    pub locals: Vec<Local>,
    /// Indexed by [`FragmentId`].
    pub fragments: Vec<Fragment>,
    /// Indexed by [`BufferId`].
    pub buffers: Vec<Buffer>,
    /// Bytes of shared memory, once planned.
    pub shared_bytes: u32,
    /// In execution order.
    pub steps: Vec<Step>,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub u32);

        impl $name {
            /// As an index into the program's table.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )* };
}

ids! {
    /// Names a [`Local`].
    LocalId,
    /// Names a [`Fragment`].
    FragmentId,
    /// Names a [`Buffer`].
    BufferId
}

/// A launch parameter.
#[derive(Clone, PartialEq, Debug)]
pub struct Param {
    /// Its name in the kernel.
    pub name: String,
    /// Of each element, or of the scalar.
    pub elem: Elem,
    /// Axes of a view; `None` for a scalar.
    pub rank: Option<u8>,
    /// Whether it is written.
    pub access: Access,
}

/// A uniform number: every thread of the block holds the same.
#[derive(Clone, PartialEq, Debug)]
pub struct Local {
    /// Its type.
    pub elem: Elem,
}

/// A tile, or a slice of one, in the registers of the block's threads. Floats are held as f32 whatever their type.
#[derive(Clone, PartialEq, Debug)]
pub struct Fragment {
    /// Of each element.
    pub elem: Elem,
    /// Rows and columns of the tile as a matrix, without padding.
    pub extents: [u32; 2],
    /// Which thread holds what.
    pub layout: Layout,
}

/// A tile in shared memory, row after row, in one or more slots that take turns.
#[derive(Clone, PartialEq, Debug)]
pub struct Buffer {
    /// For people.
    pub name: String,
    /// Of each element.
    pub elem: Elem,
    /// Rows and columns, with what padding products read.
    pub extents: [u32; 2],
    /// Bytes from one row to the next: an odd number of 16-byte chunks, so that eight rows lie in different banks.
    pub pitch: u32,
    /// How many.
    pub slots: u32,
    /// Bytes from the start of shared memory, once planned.
    pub offset: u32,
}

impl Buffer {
    /// Bytes of one slot.
    pub fn slot_bytes(&self) -> u32 {
        self.pitch * self.extents[0]
    }

    /// Bytes of all slots.
    pub fn bytes(&self) -> u32 {
        self.slot_bytes() * self.slots
    }
}

/// A tile of a buffer: which slot.
#[derive(Clone, PartialEq, Debug)]
pub struct Slot {
    /// The buffer.
    pub buffer: BufferId,
    /// Which slot; `None` where there is one.
    pub at: Option<LocalId>,
    /// How many passes of the innermost loop later this slot is the current one: 0 for what is used now, more for what is
    /// copied ahead.
    pub ahead: u32,
}

/// A number: uniform, or of one element where an element loop stands around it.
#[derive(Clone, PartialEq, Debug)]
pub enum Expr {
    /// An i32.
    Int(i64),
    /// A literal of a type.
    Literal(Elem, f64),
    /// A uniform number that was computed before.
    Local(LocalId),
    /// The place in the grid along an axis.
    Program(u8),
    /// The grid's size along an axis.
    Programs(u8),
    /// The length of an axis of a parameter.
    Len(u32, u8),
    /// A scalar parameter.
    Scalar(u32),
    /// An elementwise op. The type is that of its first operand, or of a constant.
    Op(Elementwise, Elem, Vec<Expr>),
    /// An element of a tensor; zero outside its bounds.
    Element(Box<Address>),
    /// The row of the element at hand.
    Row,
    /// The column of the element at hand.
    Column,
}

/// An element of a tensor.
#[derive(Clone, PartialEq, Debug)]
pub struct Address {
    /// Which parameter.
    pub param: u32,
    /// For each of its axes, in order.
    pub axes: Vec<Place>,
}

/// Where along an axis.
#[derive(Clone, PartialEq, Debug)]
pub struct Place {
    /// The index.
    pub index: Expr,
    /// The first index that exists; at least 0.
    pub first: Expr,
    /// One past the last; at most the length.
    pub last: Expr,
}

/// One step of a thread.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Names a uniform number.
    Let(LocalId, Expr),
    /// Sets a uniform number that was named before.
    Set(LocalId, Expr),
    /// Element by element.
    Map(Map),
    /// Copies registers.
    Assign {
        /// To.
        to: FragmentId,
        /// From, of the same layout.
        from: FragmentId,
    },
    /// The same registers in another order.
    Reorder {
        /// To.
        to: FragmentId,
        /// From, of a layout with the same digits; those of registers may be in another order.
        from: FragmentId,
    },
    /// Each element times that of a slice which lines up. Where a warp's factors are all 1, as those of an online softmax
    /// mostly are, it does nothing.
    Scale {
        /// What is multiplied.
        to: FragmentId,
        /// The factors: the layout of `to` without columns.
        by: FragmentId,
    },
    /// [`Elementwise::TanhCoarse`]. Where all that a warp has is near 0, as scores under a soft cap mostly are, it takes neither
    /// exponentials nor reciprocals.
    Tanh {
        /// To.
        to: FragmentId,
        /// From, of the same layout.
        from: FragmentId,
    },
    /// Elements of a tensor into registers; zero outside its bounds.
    Load(Transfer),
    /// Registers into a tensor, inside its bounds.
    Store(Transfer),
    /// Folds rows or columns as far as each warp holds them; where warps exchange, writes that to the buffer.
    Fold(Fold),
    /// The second half of a fold that exchanges: folds what all warps wrote. A barrier stands between the two.
    Combine(Fold),
    /// Registers into shared memory; what the buffer has beyond the tile stays as it is.
    Put {
        /// To.
        to: Slot,
        /// From.
        from: FragmentId,
    },
    /// Shared memory into registers.
    Get {
        /// To.
        to: FragmentId,
        /// From.
        from: Slot,
        /// Row and column in the buffer of the element at hand.
        place: [Expr; 2],
    },
    /// Zeros all over a slot.
    Clear(Slot),
    /// A tile of a tensor into shared memory, by all threads together; asynchronously where it goes by 4 or 16 bytes.
    Copy(Copy),
    /// Closes the group of the copies since the last one.
    Commit,
    /// Waits until at most this many groups of this thread's copies are under way.
    Wait(u32),
    /// Waits for all threads of the block, and makes their shared memory visible.
    Barrier,
    /// Multiplies and adds.
    Dot(Dot),
    /// `for (counter = first; counter < last; counter += step)`; a step that is not positive runs no pass.
    For(For),
    /// Uniform: all threads take one way.
    If {
        /// When.
        cond: Expr,
        /// If so.
        then: Vec<Step>,
        /// If not.
        otherwise: Vec<Step>,
    },
}

/// Elementwise ops over the registers of one layout.
#[derive(Clone, PartialEq, Debug)]
pub struct Map {
    /// Of the results; operands are of it or slices of it.
    pub layout: Layout,
    /// In order; each makes a temporary of its number.
    pub ops: Vec<MapOp>,
    /// Which temporaries are kept, and where.
    pub results: Vec<(u32, FragmentId)>,
}

/// One op of a [`Map`].
#[derive(Clone, PartialEq, Debug)]
pub struct MapOp {
    /// What.
    pub op: Elementwise,
    /// Of the result.
    pub elem: Elem,
    /// Of the first operand.
    pub of: Elem,
    /// Operands.
    pub operands: Vec<MapOperand>,
}

/// What an op of a [`Map`] takes.
#[derive(Clone, PartialEq, Debug)]
pub enum MapOperand {
    /// The result of the op of this number.
    Temporary(u32),
    /// The element that lines up.
    Fragment(FragmentId),
    /// A uniform number, or one computed from row and column.
    Expr(Expr),
    /// A code of a word: the word that lines up, and the bits of a code.
    Code(FragmentId, u8),
}

/// Registers and a tensor.
#[derive(Clone, PartialEq, Debug)]
pub struct Transfer {
    /// The registers.
    pub fragment: FragmentId,
    /// The element for a row and column.
    pub address: Address,
    /// Neighbouring registers that are neighbours in memory, aligned: 1, 2, 4, …
    pub vector: u32,
}

/// Rows or columns folded to one.
#[derive(Clone, PartialEq, Debug)]
pub struct Fold {
    /// Sum, largest or smallest.
    pub op: Reduce,
    /// What is folded.
    pub from: FragmentId,
    /// Along which axis of the matrix.
    pub axis: super::layout::Axis,
    /// The result, of the layout without that axis.
    pub to: FragmentId,
    /// Shared memory where warps exchange what they found; `None` where one warp holds all. A row for each warp along the
    /// axis, and a column for each element of the result.
    pub exchange: Option<BufferId>,
}

/// A tile from a tensor to shared memory.
#[derive(Clone, PartialEq, Debug)]
pub struct Copy {
    /// To.
    pub to: Slot,
    /// Rows and columns of the tile; the buffer's others become zero.
    pub extents: [u32; 2],
    /// The element for a row and column.
    pub address: Address,
    /// The bytes of one access, 16 or 4, where rows go by so many; else elements go one by one.
    pub chunk: Option<u32>,
    /// Whether the copy is only started here, and done when its group was waited for.
    pub asynchronous: bool,
}

/// `sum += a · b`.
#[derive(Clone, PartialEq, Debug)]
pub struct Dot {
    /// Who computes it.
    pub unit: Unit,
    /// The element type that the unit takes.
    pub elem: Elem,
    /// The sum, in the unit's layout.
    pub sum: FragmentId,
    /// `[m, k]`.
    pub a: DotOperand,
    /// `[k, n]`, or `[n, k]` where `transposed`; with `codes`, words of 32 bits that hold so many.
    pub b: Slot,
    /// What `b` holds, where it holds codes. Then it has no padding, and a sum that is not `transposed` lies as
    /// [`Unit::lane_columns`] says.
    pub codes: Option<Codes>,
    /// Whether the buffer of `b` has a row for each column of the product.
    pub transposed: bool,
    /// How deep, a multiple of the unit's depth.
    pub depth: u32,
}

/// What a matrix unit multiplies of codes, in the element type of the product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Multiplied {
    /// Their numbers, `T(T(code * scale) + bias)`.
    Numbers,
    /// The codes themselves, which are exact: they stand for `scale * code + bias`, and scales and biases come to the sums. Weights are rounded to the
    /// type once more when they are multiplied by a scale; that is multiplied with a code less a middle one, whose size is that of values about
    /// their mean, so that both roundings together are about 1.4 times the one.
    Codes,
}

/// Codes as the right operand of a product.
#[derive(Clone, PartialEq, Debug)]
pub struct Codes {
    /// A factor for each row and group of columns.
    pub scales: Slot,
    /// A summand for each.
    pub biases: Slot,
    /// Of a code: 4 or 8.
    pub bits: u8,
    /// Columns of a group.
    pub group: u32,
    /// What the unit takes of them.
    pub multiplied: Multiplied,
    /// Columns of the sum that lie in eight lanes; none where `transposed`.
    pub spread: Option<u32>,
}

/// The left operand of a product.
#[derive(Clone, PartialEq, Debug)]
pub enum DotOperand {
    /// A sum of an earlier product, or what was computed from it: each warp holds whole rows.
    Fragment(FragmentId),
    /// In shared memory.
    Shared(Slot),
}

/// A loop.
#[derive(Clone, PartialEq, Debug)]
pub struct For {
    /// The counter.
    pub counter: LocalId,
    /// Where it starts.
    pub first: Expr,
    /// Where it ends.
    pub last: Expr,
    /// How far it goes each time.
    pub step: Expr,
    /// What runs.
    pub body: Vec<Step>,
}
