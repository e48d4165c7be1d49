//! A loop body is traced twice. The passes must be the same program: a difference means that the body depends on Rust
//! state that the first pass changed.

use super::Tracer;
use std::collections::HashMap;
use tilewright_ir::{Location, RegionId, SiteId, ValueId};

impl Tracer {
    /// The first line at which two traces of one loop body differ.
    pub fn difference(&self, first: RegionId, second: RegionId) -> Option<&Location> {
        let site = Passes { tracer: self, names: HashMap::new() }.region(first, second)?;
        self.kernel.sites.get(site).map(|s| &s.location)
    }

    /// What a value is after unchanged loop arguments are seen through.
    fn resolve(&self, mut value: ValueId) -> ValueId {
        while let Some(&next) = self.aliases.get(&value) {
            value = next;
        }
        value
    }
}

/// A walk of both regions side by side.
struct Passes<'t> {
    tracer: &'t Tracer,
    /// What a value of the first pass is called in the second.
    names: HashMap<ValueId, ValueId>,
}

impl Passes<'_> {
    fn region(&mut self, first: RegionId, second: RegionId) -> Option<SiteId> {
        let kernel = &self.tracer.kernel;
        let (a, b) = (&kernel.regions[first.index()], &kernel.regions[second.index()]); // ids of this kernel's regions
        self.names.extend(a.args.iter().copied().zip(b.args.iter().copied()));
        let end = || b.insts.last().or(a.insts.last()).map(|i| i.site);
        if a.args.len() != b.args.len() {
            return end();
        }
        for (x, y) in a.insts.iter().zip(&b.insts) {
            let (nested_x, nested_y) = (x.op.regions(), y.op.regions());
            let same_op = match (nested_x.is_empty(), nested_y.is_empty()) {
                (true, true) => x.op == y.op,
                _ => x.op.name() == y.op.name(),
            };
            if !same_op || !self.same(&x.operands, &y.operands) {
                return Some(y.site);
            }
            for (&n, &m) in nested_x.iter().zip(&nested_y) {
                if let Some(site) = self.region(n, m) {
                    return Some(site);
                }
            }
            self.names.extend(x.results.iter().copied().zip(y.results.iter().copied()));
        }
        match a.insts.len().cmp(&b.insts.len()) {
            std::cmp::Ordering::Less => b.insts.get(a.insts.len()).map(|i| i.site),
            std::cmp::Ordering::Greater => a.insts.get(b.insts.len()).map(|i| i.site),
            std::cmp::Ordering::Equal if self.same(&a.yields, &b.yields) => None,
            std::cmp::Ordering::Equal => end(),
        }
    }

    fn same(&self, first: &[ValueId], second: &[ValueId]) -> bool {
        first.len() == second.len()
            && first.iter().zip(second).all(|(&a, &b)| {
                let (a, b) = (self.tracer.resolve(a), self.tracer.resolve(b));
                self.names.get(&a).copied().unwrap_or(a) == b
            })
    }
}
