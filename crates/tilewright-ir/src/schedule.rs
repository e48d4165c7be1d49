//! How a kernel is cut into tiles: data beside the kernel, checked before anything is compiled.

use std::fmt;

/// The tile shape of an attention-like kernel: how many query rows and keys one step works on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Query rows of one tile program.
    pub rows: u32,
    /// Keys of one step of its loop.
    pub keys: u32,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows={} keys={}", self.rows, self.keys)
    }
}
