//! Writing instructions into a region: one method an op, made by the tables of the families.

use super::{Op, TypeError};
use crate::kernel::{Kernel, RegionId, ValueId};
use crate::site::SiteId;

/// Appends instructions to one region of a kernel.
pub struct Builder<'k> {
    /// The kernel that grows.
    pub kernel: &'k mut Kernel,
    /// Where instructions go.
    pub region: RegionId,
    /// Where they were written.
    pub site: SiteId,
}

impl Builder<'_> {
    /// Appends an op of a family's table, with the results that the table declares. For an op that is known only at run
    /// time there is [`Kernel::push`].
    pub(super) fn emit<R: Results>(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<R, TypeError> {
        self.kernel.push(self.region, op.into(), operands, self.site).map(R::from_results)
    }
}

/// What a builder method returns.
pub(super) trait Results {
    /// Picks it from an instruction's results.
    fn from_results(results: Vec<ValueId>) -> Self;
}

impl Results for () {
    fn from_results(_: Vec<ValueId>) {}
}

impl Results for ValueId {
    fn from_results(results: Vec<ValueId>) -> ValueId {
        results[0] // the tables give `ValueId` only to ops whose typing rule returns one type
    }
}

impl Results for Vec<ValueId> {
    fn from_results(results: Vec<ValueId>) -> Vec<ValueId> {
        results
    }
}
