//! A kernel: parameters, values, and a tree of regions of instructions.

use crate::op::{Effect, Op, RegionTypes, TypeError};
use crate::schedule::Work;
use crate::site::{SiteId, Sites};
use crate::types::Type;
use std::borrow::Cow;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub u32);

        impl $name {
            /// As an index into the kernel's table.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    )* };
}

ids! {
    /// Names a [`Value`] of a kernel.
    ValueId,
    /// Names a [`Region`] of a kernel; 0 is the body.
    RegionId,
    /// Names a [`Param`] of a kernel by its position.
    ParamId
}

/// Whether a kernel reads or writes a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// The kernel only reads it.
    Read,
    /// The kernel only writes it.
    Write,
}

/// What the kernel is given at launch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Param {
    /// Unique among the kernel's parameters.
    pub name: Cow<'static, str>,
    /// Whether it is an input or an output.
    pub access: Access,
    /// The value that stands for it, defined in the body.
    pub value: ValueId,
}

/// What a value is and where it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value {
    /// Its type.
    pub ty: Type,
    /// The region in which it is defined; it may be used there, later, and in the regions nested in it.
    pub region: RegionId,
    /// Where it was made.
    pub site: SiteId,
}

/// One operation on values.
#[derive(Clone, PartialEq, Debug)]
pub struct Inst {
    /// What is done.
    pub op: Op,
    /// To which values.
    pub operands: Vec<ValueId>,
    /// What comes of it; only control flow has several.
    pub results: Vec<ValueId>,
    /// Where it was written.
    pub site: SiteId,
}

/// A straight line of instructions.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Region {
    /// The region that holds the `for` or `if` of this one; `None` for the body.
    pub parent: Option<RegionId>,
    /// Values given at each entry: a loop's counter and carried values.
    pub args: Vec<ValueId>,
    /// In execution order.
    pub insts: Vec<Inst>,
    /// Values handed back at the end.
    pub yields: Vec<ValueId>,
}

/// One tile program.
#[derive(Clone, PartialEq, Debug)]
pub struct Kernel {
    /// What the kernel function was called.
    pub name: Cow<'static, str>,
    /// In launch order.
    pub params: Vec<Param>,
    /// Indexed by [`ValueId`].
    pub values: Vec<Value>,
    /// Indexed by [`RegionId`]; never empty, the first is the body.
    pub regions: Vec<Region>,
    /// Indexed by [`SiteId`].
    pub sites: Sites,
    /// How the threads of a GPU share the work; `None` leaves it to the compiler.
    pub work: Option<Work>,
}

impl Kernel {
    /// The region that the program starts in.
    pub const BODY: RegionId = RegionId(0);

    /// A kernel that does nothing.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Kernel {
        Kernel {
            name: name.into(),
            params: Vec::new(),
            values: Vec::new(),
            regions: vec![Region::default()],
            sites: Sites::default(),
            work: None,
        }
    }

    /// Adds a parameter and returns the value that stands for it.
    pub fn add_param(&mut self, name: impl Into<Cow<'static, str>>, ty: Type, access: Access, site: SiteId) -> ValueId {
        let value = self.add_value(ty, Kernel::BODY, site);
        self.params.push(Param { name: name.into(), access, value });
        value
    }

    /// Adds a value that some instruction, region or parameter is about to define.
    pub fn add_value(&mut self, ty: Type, region: RegionId, site: SiteId) -> ValueId {
        self.values.push(Value { ty, region, site });
        ValueId(self.values.len() as u32 - 1)
    }

    /// Adds an empty region inside `parent`.
    pub fn add_region(&mut self, parent: RegionId) -> RegionId {
        self.regions.push(Region { parent: Some(parent), ..Region::default() });
        RegionId(self.regions.len() as u32 - 1)
    }

    /// Appends an instruction to `region` and returns its results.
    ///
    /// # Errors
    /// An id that this kernel does not have, or the op's own typing rule when the operands do not fit it; nothing is
    /// appended then.
    pub fn push(
        &mut self,
        region: RegionId,
        op: Op,
        operands: &[ValueId],
        site: SiteId,
    ) -> Result<Vec<ValueId>, TypeError> {
        let foreign = |what: &str| TypeError {
            message: format!("`{}` {what} that kernel `{}` does not have", op.name(), self.name),
            help: Some("ids belong to the kernel that gave them".to_string()),
        };
        let types = self.types(operands).ok_or_else(|| foreign("of a value"))?;
        let regions = op.regions().into_iter().map(|r| self.region_types(r)).collect::<Option<Vec<_>>>();
        let regions = regions.ok_or_else(|| foreign("with a region"))?;
        if region.index() >= self.regions.len() {
            return Err(foreign("in a region"));
        }
        let results = op.infer(&types, &regions)?;
        let results: Vec<ValueId> = results.into_iter().map(|ty| self.add_value(ty, region, site)).collect();
        // The region was found above.
        self.regions[region.index()].insts.push(Inst {
            op,
            operands: operands.to_vec(),
            results: results.clone(),
            site,
        });
        Ok(results)
    }

    /// The type of a value.
    ///
    /// # Panics
    /// The id is of another kernel. [`verify`](crate::verify::verify) tells whether a kernel holds such ids.
    pub fn ty(&self, value: ValueId) -> Type {
        self.values[value.index()].ty
    }

    /// The instructions of a region.
    ///
    /// # Panics
    /// The id is of another kernel, as for [`ty`](Kernel::ty).
    pub fn insts(&self, region: RegionId) -> &[Inst] {
        &self.regions[region.index()].insts
    }

    /// The types that a region takes and yields; `None` when it, or a value that it names, is of another kernel.
    pub fn region_types(&self, region: RegionId) -> Option<RegionTypes> {
        let region = self.regions.get(region.index())?;
        Some(RegionTypes { args: self.types(&region.args)?, yields: self.types(&region.yields)? })
    }

    fn types(&self, values: &[ValueId]) -> Option<Vec<Type>> {
        values.iter().map(|v| Some(self.values.get(v.index())?.ty)).collect()
    }

    /// Whether an instruction, or one nested in it, writes memory. Regions that the kernel does not have write nothing.
    pub fn writes(&self, inst: &Inst) -> bool {
        match inst.op.effect() {
            Effect::Pure | Effect::Read => false,
            Effect::Write => true,
            Effect::Nested => {
                let nested = self.reached(inst.op.regions());
                nested.iter().flat_map(|r| &r.insts).any(|i| i.op.effect() == Effect::Write)
            }
        }
    }

    /// These regions and all that are nested in them, each once: also a broken kernel, whose regions hold each other, has an
    /// end.
    fn reached(&self, mut open: Vec<RegionId>) -> Vec<&Region> {
        let mut seen = vec![false; self.regions.len()];
        let mut reached = Vec::new();
        while let Some(id) = open.pop() {
            let (Some(seen), Some(region)) = (seen.get_mut(id.index()), self.regions.get(id.index())) else { continue };
            if !std::mem::replace(seen, true) {
                reached.push(region);
                open.extend(region.insts.iter().flat_map(|i| i.op.regions()));
            }
        }
        reached
    }

    /// Drops the regions that are not reached from the body and the values that nothing names, and renumbers the rest,
    /// keeping their order. A pass that removes instructions ends with it.
    pub fn compact(&mut self) {
        let mut reached = vec![false; self.regions.len()];
        let mut named = vec![false; self.values.len()];
        let mut open = vec![Kernel::BODY];
        while let Some(id) = open.pop() {
            let Some(seen) = reached.get_mut(id.index()) else { continue };
            if std::mem::replace(seen, true) {
                continue;
            }
            let region = &self.regions[id.index()]; // as many as `reached`
            let of_insts = region.insts.iter().flat_map(|i| i.operands.iter().chain(&i.results));
            for value in region.args.iter().chain(&region.yields).chain(of_insts) {
                if let Some(named) = named.get_mut(value.index()) {
                    *named = true;
                }
            }
            open.extend(region.insts.iter().flat_map(|i| i.op.regions()));
        }
        for param in &self.params {
            if let Some(named) = named.get_mut(param.value.index()) {
                *named = true;
            }
        }
        let regions = renumber(&reached);
        let values = renumber(&named);
        let region = |id: &mut RegionId| *id = regions.get(id.index()).map_or(*id, |&n| RegionId(n));
        let value = |id: &mut ValueId| *id = values.get(id.index()).map_or(*id, |&n| ValueId(n));
        retain(&mut self.regions, &reached);
        retain(&mut self.values, &named);
        self.params.iter_mut().for_each(|p| value(&mut p.value));
        self.values.iter_mut().for_each(|v| region(&mut v.region));
        for held in &mut self.regions {
            held.parent.iter_mut().for_each(region);
            held.args.iter_mut().chain(&mut held.yields).for_each(value);
            for inst in &mut held.insts {
                inst.operands.iter_mut().chain(&mut inst.results).for_each(value);
                inst.op.regions_mut().into_iter().for_each(region);
            }
        }
    }

    /// How many instructions there are, in all regions that are reached from the body.
    pub fn count(&self) -> usize {
        self.reached(vec![Kernel::BODY]).iter().map(|r| r.insts.len()).sum()
    }
}

/// The new number of each entry that is kept.
fn renumber(kept: &[bool]) -> Vec<u32> {
    let mut next = 0;
    kept.iter()
        .map(|&kept| {
            next += u32::from(kept);
            next.saturating_sub(1)
        })
        .collect()
}

fn retain<T>(entries: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    entries.retain(|_| kept.next().copied().unwrap_or(true));
}

#[cfg(test)]
mod tests;
