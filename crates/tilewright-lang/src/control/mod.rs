//! What `#[kernel]` and `#[tile]` turn `for` and `if` into. Every choice between compile time and run time is a trait
//! impl: on a Rust value the block just runs, on a device value it becomes a loop or a branch of the IR.

mod carried;
mod for_loop;
mod if_else;
mod range;
mod refuse;
mod slot;

pub use carried::{Assignable, Carried, Visitor};
pub use for_loop::{IntoLoop, Loop, RunLoop, StaticLoop};
pub use if_else::{Finish, If, IntoIf, RunIf, StaticIf};
pub use range::{
    Bounds, InclusiveBounds, LiteralBounds, RunRange, range, range_from_literal, range_inclusive, range_to_literal,
};
pub use refuse::{
    BesideLet, CompileTimeCond, CompileTimeControl, CompileTimeMatch, RustValue, RustValueOther, beside_let,
    compile_time, leaves, matched,
};
pub use slot::{
    AssignedBy, CarriedBy, Immutable, Mutable, Slot, Through, ThroughMut, ThroughOther, slot, slot_assigned,
};
