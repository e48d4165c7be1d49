//! What must hold of every kernel, whoever made it.
//!
//! - Ids name entries of the kernel's tables.
//! - Each value is defined once: by a parameter, as an argument of a region, or as a result.
//! - An operand is defined before it is used, in the same region or in one around it.
//! - Each region but the body belongs to one op, which stands in the region's parent. The body takes parameters only and
//!   yields nothing.
//! - The results have the types that the op's typing rule gives; tiles hold at most [`MAX_TILE_ELEMENTS`].
//! - Parameters are views and scalars with unique names; only views of inputs are loaded from, and only views of outputs
//!   stored to. Views do not pass through loops and branches (the typing rules of control flow say so).

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::kernel::{Access, Inst, Kernel, RegionId, ValueId};
use crate::op::{Memory, Op};
use crate::site::SiteId;
use crate::types::{MAX_TILE_ELEMENTS, MAX_VIEW_RANK, Type};
use std::collections::HashSet;

/// How deep regions may nest.
pub const MAX_NESTING: usize = 128;

/// Checks everything that the module's description lists.
///
/// # Errors
/// All the mistakes found, with source lines where the kernel has them.
pub fn verify(kernel: &Kernel) -> Result<(), Diagnostics> {
    if kernel.regions.is_empty() {
        return Err(Diagnostics(vec![Diagnostic::new(format!("kernel `{}` has no body", kernel.name))]));
    }
    let mut verifier = Verifier {
        kernel,
        states: vec![State::Undefined; kernel.values.len()],
        access: vec![None; kernel.values.len()],
        owned: vec![false; kernel.regions.len()],
        errors: Vec::new(),
    };
    verifier.params();
    verifier.body();
    verifier.leftovers();
    if verifier.errors.is_empty() { Ok(()) } else { Err(Diagnostics(verifier.errors)) }
}

/// How far the walk in execution order has come with a value.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Undefined,
    Visible,
    /// Its region has ended.
    Ended,
}

struct Verifier<'k> {
    kernel: &'k Kernel,
    states: Vec<State>,
    /// Of the parameter that a view was made of.
    access: Vec<Option<Access>>,
    /// Whether an op has this region.
    owned: Vec<bool>,
    errors: Vec<Diagnostic>,
}

impl Verifier<'_> {
    fn params(&mut self) {
        let mut names = HashSet::new();
        for param in &self.kernel.params {
            let name = &param.name;
            if !names.insert(name) {
                self.errors.push(Diagnostic::new(format!("two parameters are named `{name}`")));
            }
            self.define(param.value, Kernel::BODY, &format!("parameter `{name}`"), None);
            let Some(value) = self.kernel.values.get(param.value.index()) else { continue };
            let refusal = match (value.ty, param.access) {
                (Type::View { rank, .. }, _) if rank as usize > MAX_VIEW_RANK => {
                    Some(format!("views have rank 0 to {MAX_VIEW_RANK}"))
                }
                (Type::View { .. }, access) => {
                    self.access[param.value.index()] = Some(access);
                    None
                }
                (Type::Tile { .. }, Access::Write) => Some("only views can be written".to_string()),
                (Type::Tile { shape, .. }, Access::Read) if shape.rank() > 0 => {
                    Some("parameters are views and scalars; load tiles from a view".to_string())
                }
                (Type::Tile { .. }, Access::Read) => None,
            };
            if let Some(rule) = refusal {
                let error = Diagnostic::new(format!("parameter `{name}` is a {}", value.ty)).help(rule);
                self.report(error, Some(value.site));
            }
        }
    }

    fn body(&mut self) {
        let body = &self.kernel.regions[0]; // `verify` checked that there is one
        self.owned[0] = true;
        if body.parent.is_some() {
            self.errors.push(Diagnostic::new("the body of the kernel lies in another region"));
        }
        if !body.args.is_empty() {
            self.errors.push(Diagnostic::new("the body of the kernel takes region arguments").help("add parameters"));
        }
        if !body.yields.is_empty() {
            self.errors.push(Diagnostic::new("the body of the kernel yields values").help("store to an output"));
        }
        self.region(Kernel::BODY, 0);
    }

    /// Walks a region that exists and was not walked yet. Returns whether the types of its arguments and yields are known.
    fn region(&mut self, id: RegionId, depth: usize) -> bool {
        let region = &self.kernel.regions[id.index()];
        let mut known = true;
        for &arg in &region.args {
            known &= self.define(arg, id, &format!("argument of region {}", id.0), None);
        }
        for inst in &region.insts {
            self.inst(inst, id, depth);
        }
        for &value in &region.yields {
            known &= self.visible(value, || format!("region {} yields", id.0), None);
        }
        let params = self.kernel.params.iter().map(|p| p.value);
        let results = region.insts.iter().flat_map(|i| &i.results);
        for value in region.args.iter().chain(results).copied().chain(params.filter(|_| id == Kernel::BODY)) {
            if let Some(state) = self.states.get_mut(value.index()) {
                *state = State::Ended;
            }
        }
        known
    }

    fn inst(&mut self, inst: &Inst, region: RegionId, depth: usize) {
        let name = inst.op.name();
        let mut known = true;
        for &operand in &inst.operands {
            known &= self.visible(operand, || format!("`{name}` uses"), Some(inst.site));
        }
        for inner in inst.op.regions() {
            known &= self.enter(inner, inst, region, depth);
        }
        if known {
            self.types(inst);
            self.memory(inst);
        }
        for &result in &inst.results {
            self.define(result, region, &format!("result of `{name}`"), Some(inst.site));
        }
    }

    fn enter(&mut self, inner: RegionId, inst: &Inst, region: RegionId, depth: usize) -> bool {
        let name = inst.op.name();
        let refusal = match self.kernel.regions.get(inner.index()) {
            None => {
                let count = self.kernel.regions.len();
                Some(format!("`{name}` runs region {}; the kernel has {count}", inner.0))
            }
            Some(_) if self.owned[inner.index()] => {
                Some(format!("`{name}` runs region {}, which runs already", inner.0))
            }
            Some(found) if found.parent != Some(region) => {
                Some(format!("`{name}` in region {} runs region {}, which has another parent", region.0, inner.0))
            }
            Some(_) if depth + 1 > MAX_NESTING => Some(format!("regions nest more than {MAX_NESTING} deep")),
            Some(_) => None,
        };
        if let Some(owned) = self.owned.get_mut(inner.index()) {
            *owned = true;
        }
        match refusal {
            Some(message) => {
                self.report(Diagnostic::new(message), Some(inst.site));
                false
            }
            None => self.region(inner, depth + 1),
        }
    }

    fn types(&mut self, inst: &Inst) {
        // All ids were found in their tables.
        let kernel = self.kernel;
        let name = inst.op.name();
        let operands: Vec<Type> = inst.operands.iter().map(|&v| kernel.ty(v)).collect();
        let regions: Vec<_> = inst.op.regions().into_iter().filter_map(|r| kernel.region_types(r)).collect();
        let results: Vec<Type> =
            inst.results.iter().filter_map(|v| kernel.values.get(v.index())).map(|v| v.ty).collect();
        match inst.op.infer(&operands, &regions) {
            Err(error) => {
                let mut diagnostic = Diagnostic::new(error.message);
                diagnostic.help = error.help;
                self.report(diagnostic, Some(inst.site));
            }
            Ok(wanted) if wanted != results || inst.results.len() != results.len() => {
                let list = |types: &[Type]| types.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", ");
                let message = format!("`{name}` gives ({}) and is recorded as ({})", list(&wanted), list(&results));
                self.report(Diagnostic::new(message), Some(inst.site));
            }
            Ok(wanted) => {
                for shape in wanted.iter().filter_map(|t| t.shape()).filter(|s| s.count() > MAX_TILE_ELEMENTS) {
                    let error = Diagnostic::new(format!("`{name}` makes a tile of shape {shape}"))
                        .help(format!("a tile holds at most {MAX_TILE_ELEMENTS} elements"));
                    self.report(error, Some(inst.site));
                }
            }
        }
    }

    fn memory(&mut self, inst: &Inst) {
        let (Op::Memory(op), Some(view)) = (&inst.op, inst.operands.first()) else { return };
        let access = self.access[view.index()]; // the operand was found in the table
        let (wanted, refusal) = match op {
            Memory::Len { .. } => return,
            Memory::At { .. } | Memory::Limit { .. } => {
                if let Some(result) = inst.results.first().and_then(|r| self.access.get_mut(r.index())) {
                    *result = access;
                }
                return;
            }
            Memory::Load { .. } | Memory::Gather { .. } => (Access::Read, "reads from an output"),
            Memory::Store => (Access::Write, "writes to an input"),
        };
        if access.is_some_and(|a| a != wanted) {
            let help = "a parameter is read or written, never both";
            self.report(Diagnostic::new(format!("`{}` {refusal}", inst.op.name())).help(help), Some(inst.site));
        }
    }

    /// Defines a value; says whether it is in the table.
    fn define(&mut self, value: ValueId, region: RegionId, what: &str, site: Option<SiteId>) -> bool {
        let Some(found) = self.kernel.values.get(value.index()) else {
            let count = self.kernel.values.len();
            self.report(Diagnostic::new(format!("{what} is value {}; the kernel has {count}", value.0)), site);
            return false;
        };
        if self.states[value.index()] != State::Undefined {
            self.report(Diagnostic::new(format!("{what} is value {}, which is defined already", value.0)), site);
        }
        if found.region != region {
            let message = format!("{what} is defined in region {} and recorded in region {}", region.0, found.region.0);
            self.report(Diagnostic::new(message), site.or(Some(found.site)));
        }
        self.states[value.index()] = State::Visible;
        true
    }

    /// Checks a use; says whether the value is in the table.
    fn visible(&mut self, value: ValueId, user: impl Fn() -> String, site: Option<SiteId>) -> bool {
        let Some(found) = self.kernel.values.get(value.index()) else {
            let count = self.kernel.values.len();
            self.report(Diagnostic::new(format!("{} value {}; the kernel has {count}", user(), value.0)), site);
            return false;
        };
        let refusal = match self.states[value.index()] {
            State::Visible => return true,
            State::Undefined => "before it is defined",
            State::Ended => "outside the region that defines it",
        };
        let mut error = Diagnostic::new(format!("{} value {} ({}) {refusal}", user(), value.0, found.ty));
        if let Some(made) = self.kernel.sites.get(found.site) {
            error = error.note(format!("made at {}", made.location));
        }
        self.report(error, site.or(Some(found.site)));
        true
    }

    fn leftovers(&mut self) {
        for (id, _) in self.owned.iter().enumerate().filter(|(_, owned)| !**owned) {
            let error = Diagnostic::new(format!("region {id} belongs to no op"));
            self.errors.push(error.help("`Kernel::compact` drops what is not reached"));
        }
        for (id, value) in self.kernel.values.iter().enumerate() {
            let lost = self.kernel.regions.get(value.region.index()).is_none();
            let unreached = self.owned.get(value.region.index()) == Some(&false); // its region was reported
            if self.states[id] == State::Undefined && !unreached {
                let what = if lost { "lies in no region" } else { "is defined nowhere" };
                let mut error = Diagnostic::new(format!("value {id} ({}) {what}", value.ty));
                error.location = self.kernel.sites.get(value.site).map(|s| s.location.clone());
                self.errors.push(error.help("`Kernel::compact` drops what is not reached"));
            }
        }
    }

    fn report(&mut self, mut error: Diagnostic, site: Option<SiteId>) {
        if let Some((id, site)) = site.and_then(|id| Some((id, self.kernel.sites.get(id)?))) {
            error.location = Some(site.location.clone());
            for (function, called_at) in self.kernel.sites.calls(id) {
                error = error.note(format!("in `{function}`, called at {called_at}"));
            }
        }
        self.errors.push(error);
    }
}

#[cfg(test)]
mod tests;
