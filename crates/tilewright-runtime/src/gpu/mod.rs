//! What all GPUs have, whoever made them: a launch's arguments, what is known of its tensors, memory and streams.

pub(crate) mod arguments;
pub(crate) mod facts;
pub(crate) mod memory;
pub(crate) mod staging;
mod stream;

pub use stream::{Event, Graph, Stream};

pub(crate) use memory::{Buffer, Window};
pub(crate) use stream::Of;

/// Whether a launch waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// Until the results are there.
    Yes,
    /// Not at all.
    No,
}
