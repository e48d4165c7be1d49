//! Kernels as text.

use super::is_plain;
use crate::kernel::{Access, Inst, Kernel, RegionId, ValueId};
use crate::site::SiteId;
use crate::verify::MAX_NESTING;
use std::fmt::{self, Write};

/// Where the source places are aligned.
const PLACE_COLUMN: usize = 56;

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = Printer {
            kernel: self,
            names: vec![None; self.values.len()],
            next: 0,
            shown: vec![false; self.regions.len()],
            out: String::new(),
        };
        printer.kernel()?;
        f.write_str(&printer.out)
    }
}

struct Printer<'k> {
    kernel: &'k Kernel,
    /// How each value that has been defined so far is written.
    names: Vec<Option<String>>,
    next: usize,
    /// A broken kernel may run a region twice, even inside itself.
    shown: Vec<bool>,
    out: String,
}

impl Printer<'_> {
    fn kernel(&mut self) -> fmt::Result {
        let kernel = self.kernel;
        write!(self.out, "kernel {}(", quoted(&kernel.name))?;
        for (i, param) in kernel.params.iter().enumerate() {
            let name = quoted(&param.name);
            let access = match param.access {
                Access::Read => "",
                Access::Write => "out ",
            };
            let ty = kernel.values.get(param.value.index()).map_or("?".to_string(), |v| v.ty.to_string());
            write!(self.out, "{}{access}{name}: {ty}", if i == 0 { "" } else { ", " })?;
            if let Some(slot) = self.names.get_mut(param.value.index()) {
                *slot = Some(format!("%{name}"));
            }
        }
        self.out.push_str(") ");
        if let Some(work) = kernel.work {
            write!(self.out, "work {work} ")?;
        }
        self.out.push_str("{\n");
        self.region(Kernel::BODY, 1)?;
        self.out.push_str("}\n");
        Ok(())
    }

    fn region(&mut self, id: RegionId, depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        let region = match self.kernel.regions.get(id.index()) {
            Some(region) if depth <= MAX_NESTING + 1 && !self.shown[id.index()] => region,
            _ => return writeln!(self.out, "{indent}// region {} cannot be shown", id.0), // the kernel is broken
        };
        self.shown[id.index()] = true;
        if !region.args.is_empty() {
            let args: Vec<String> = region.args.iter().map(|&v| self.define(v)).collect();
            writeln!(self.out, "{indent}({})", args.join(", "))?;
        }
        for inst in &region.insts {
            self.inst(inst, depth)?;
        }
        if !region.yields.is_empty() {
            writeln!(self.out, "{indent}yield {}", self.list(&region.yields))?;
        }
        Ok(())
    }

    fn inst(&mut self, inst: &Inst, depth: usize) -> fmt::Result {
        let indent = "  ".repeat(depth);
        let mut line = indent.clone();
        let operands = self.list(&inst.operands);
        if !inst.results.is_empty() {
            let results: Vec<String> = inst.results.iter().map(|&v| self.define(v)).collect();
            write!(line, "{} = ", results.join(", "))?;
        }
        line.push_str(inst.op.name());
        if !operands.is_empty() {
            write!(line, " {operands}")?;
        }
        for (name, value) in inst.op.attrs() {
            write!(line, " {name}={value}")?;
        }
        if self.kernel.sites.get(inst.site).is_some() {
            write!(line, "{:width$} {}", "", self.place(inst.site), width = PLACE_COLUMN.saturating_sub(line.len()))?;
        }
        self.out.push_str(&line);
        for (i, region) in inst.op.regions().into_iter().enumerate() {
            self.out.push_str(if i == 0 { " {\n" } else { " else {\n" });
            self.region(region, depth + 1)?;
            write!(self.out, "{indent}}}")?;
        }
        self.out.push('\n');
        Ok(())
    }

    fn place(&self, site: SiteId) -> String {
        let sites = &self.kernel.sites;
        let mut out = String::from("@");
        if let Some(site) = sites.get(site) {
            let at = &site.location;
            out.push_str(&format!(" \"{}\":{}:{}", at.file.escape_debug(), at.line, at.column));
        }
        for (function, at) in sites.calls(site) {
            let function = quoted(function);
            out.push_str(&format!(" in {function} from \"{}\":{}:{}", at.file.escape_debug(), at.line, at.column));
        }
        out
    }

    /// Gives a value the next number and writes it with its type.
    fn define(&mut self, value: ValueId) -> String {
        let Some(found) = self.kernel.values.get(value.index()) else { return self.name(value) };
        self.names[value.index()] = Some(format!("%{}", self.next));
        self.next += 1;
        format!("{}: {}", self.name(value), found.ty)
    }

    fn name(&self, value: ValueId) -> String {
        // Verified kernels define before they use; `?` parses as no value.
        self.names.get(value.index()).cloned().flatten().unwrap_or_else(|| format!("%?{}", value.0))
    }

    fn list(&self, values: &[ValueId]) -> String {
        values.iter().map(|&v| self.name(v)).collect::<Vec<_>>().join(", ")
    }
}

fn quoted(name: &str) -> String {
    if is_plain(name) { name.to_string() } else { format!("\"{}\"", name.escape_debug()) }
}
