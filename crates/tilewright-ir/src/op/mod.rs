//! The operations, in six families.
//!
//! A family is one file. Its table declares each op once: the name of the text form and of the builder method, the
//! enum variant with its compile-time attributes, the operands and the effect. Below the table stand the typing rule and
//! the meaning. Renderers and devices match on the enums exhaustively.

mod attr;
mod builder;
mod control;
mod elementwise;
mod family;
mod matmul;
mod memory;
mod reduce;
mod shape;

pub use attr::{Attr, Attrs, Literal};
pub use builder::Builder;
pub use control::Control;
pub(crate) use control::Place;
pub use elementwise::Elementwise;
pub use family::{Effect, RegionTypes, Signature, TypeError};
pub use matmul::Matmul;
pub use memory::Memory;
pub(crate) use memory::View;
pub use reduce::Reduce;
pub use shape::ShapeOp;

use crate::interp::Tile;
use crate::kernel::RegionId;
use crate::types::{MAX_TILE_ELEMENTS, Type};

/// Gathers the families into [`Op`].
macro_rules! ops {
    ($($(#[$doc:meta])* $family:ident),*) => {
        /// One operation of any family.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Op { $($(#[$doc])* $family($family)),* }

        $(impl From<$family> for Op {
            fn from(op: $family) -> Op {
                Op::$family(op)
            }
        })*

        impl Op {
            /// The names of all ops, family by family.
            pub fn names() -> impl Iterator<Item = &'static str> {
                [$($family::NAMES),*].into_iter().flatten().copied()
            }

            /// The name in the text form.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$family(op) => op.name()),* }
            }

            /// The operands that it takes.
            pub fn signature(&self) -> Signature {
                match self { $(Op::$family(op) => op.signature()),* }
            }

            /// What it does besides computing its result. A loop or a branch is [`Effect::Nested`]: whether it writes is
            /// told by [`Kernel::writes`](crate::Kernel::writes).
            pub fn effect(&self) -> Effect {
                match self { $(Op::$family(op) => op.effect()),* }
            }

            /// The compile-time attributes as text, in declaration order; regions are not among them.
            pub fn attrs(&self) -> Vec<(&'static str, String)> {
                match self { $(Op::$family(op) => op.attrs()),* }
            }

            /// The regions that it runs, in declaration order.
            pub fn regions(&self) -> Vec<RegionId> {
                match self { $(Op::$family(op) => op.regions()),* }
            }

            /// The same regions, to be renamed.
            pub fn regions_mut(&mut self) -> Vec<&mut RegionId> {
                match self { $(Op::$family(op) => op.regions_mut()),* }
            }

            /// The op of this name with these attributes; `None` when no family has it.
            pub fn parse(name: &str, attrs: &mut Attrs) -> Option<Result<Op, String>> {
                $(if let Some(op) = $family::parse(name, attrs) {
                    return Some(op.map(Op::$family));
                })*
                None
            }

            /// The types of its results.
            ///
            /// # Errors
            /// The number of operands, or the family's typing rule.
            pub fn infer(&self, operands: &[Type], regions: &[RegionTypes]) -> Result<Vec<Type>, TypeError> {
                self.signature().check(self.name(), operands.len())?;
                match self { $(Op::$family(op) => op.infer(operands, regions)),* }
            }
        }
    };
}

ops! {
    /// One result element from one element of each operand.
    Elementwise,
    /// One axis folded to extent 1.
    Reduce,
    /// Elements made, moved or taken apart.
    ShapeOp,
    /// Products of matrices.
    Matmul,
    /// Views, loads and stores.
    Memory,
    /// The grid, loops and branches.
    Control
}

impl Op {
    /// The value of a pure op on known tiles: what the interpreter computes.
    ///
    /// # Errors
    /// The typing rule; or the op has no value outside a launch, because it works on views, the grid or regions.
    pub fn eval(&self, operands: &[&Tile]) -> Result<Tile, TypeError> {
        let types: Vec<Type> = operands.iter().map(|t| t.ty()).collect();
        let no_value = || {
            TypeError::new(format!("`{}` has no value outside a launch", self.name()))
                .help("only elementwise, reduce, shape and matmul ops have one")
        };
        if matches!(self, Op::Memory(_) | Op::Control(_)) {
            return Err(no_value());
        }
        let result = self.infer(&types, &[])?;
        let shape = result.first().and_then(|t| t.shape()).ok_or_else(no_value)?;
        if shape.count() > MAX_TILE_ELEMENTS {
            return Err(TypeError::new(format!("`{}` makes a tile of shape {shape}", self.name()))
                .help(format!("a tile holds at most {MAX_TILE_ELEMENTS} elements")));
        }
        match self {
            Op::Elementwise(op) => Ok(op.eval(operands, shape)),
            Op::Reduce(op) => Ok(op.eval(operands, shape)),
            Op::ShapeOp(op) => Ok(op.eval(operands, shape)),
            Op::Matmul(op) => Ok(op.eval(operands, shape)),
            Op::Memory(_) | Op::Control(_) => Err(no_value()),
        }
    }
}
