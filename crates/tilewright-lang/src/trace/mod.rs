//! The tracer: one a thread while a kernel is traced. Handles are ids into it.

mod finish;
mod passes;

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, Location as Caller, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use tilewright_ir::site::Frame;
use tilewright_ir::{
    Access, Diagnostic, Diagnostics, Effect, FrameId, Kernel, Location, Op, RegionId, Site, SiteId, Type, ValueId,
};

/// Where the user wrote what is being traced.
pub type At = &'static Caller<'static>;

/// A value of some trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Raw {
    id: ValueId,
    trace: u32,
}

impl Raw {
    /// What an operation gives when it cannot give a value; an error has been recorded, or nothing is being traced.
    pub(crate) const POISON: Raw = Raw { id: ValueId(u32::MAX), trace: 0 };

    fn is_poison(self) -> bool {
        self == Raw::POISON
    }

    /// A number that tells values of one trace apart.
    pub(crate) fn number(self) -> u64 {
        (u64::from(self.trace) << 32) | u64::from(self.id.0)
    }
}

/// What a region is, for error messages.
#[derive(Clone, Copy)]
struct Block {
    /// `for` or `if`.
    keyword: &'static str,
    line: u32,
}

/// The kernel so far, and where the trace stands in it.
pub(crate) struct Tracer {
    pub kernel: Kernel,
    /// Where instructions go.
    pub region: RegionId,
    /// How many first passes of loop bodies surround this point.
    pub probing: u32,
    /// How many writes were traced.
    pub effects: u32,
    /// A loop's argument that turned out not to change, and the value that it stands for.
    aliases: HashMap<ValueId, ValueId>,
    /// Beside `kernel.regions`.
    blocks: Vec<Block>,
    frame: Option<FrameId>,
    errors: Vec<Diagnostic>,
    /// Parameters that features asked for, by name.
    inputs: HashMap<String, Raw>,
    id: u32,
}

thread_local! {
    static TRACER: RefCell<Option<Tracer>> = const { RefCell::new(None) };
}

static NEXT_TRACE: AtomicU32 = AtomicU32::new(1);

/// Runs `f` on this thread's tracer. Outside a trace nothing is recorded.
///
/// `f` must not run the user's code, which may come back here.
pub(crate) fn with<R>(f: impl FnOnce(&mut Tracer) -> R) -> Option<R> {
    TRACER.with_borrow_mut(|t| t.as_mut().map(f))
}

/// Appends an instruction at the current place and returns its first result.
pub(crate) fn emit(op: impl Into<Op>, operands: &[Raw], at: At) -> Raw {
    with(|t| t.push(op.into(), operands, at)).unwrap_or(Raw::POISON)
}

/// Records a mistake.
pub(crate) fn fail(at: At, mistake: Diagnostic) -> Raw {
    with(|t| t.error(at, mistake));
    Raw::POISON
}

/// The type of a value of the current trace.
pub(crate) fn type_of(raw: Raw) -> Option<Type> {
    with(|t| t.ty(raw)).flatten()
}

/// Records what `body` does as a kernel of this name.
///
/// # Errors
/// Every mistake that the body makes, each at its line.
pub fn trace(name: &'static str, at: At, body: impl FnOnce()) -> Result<Kernel, Diagnostics> {
    let tracer = Tracer {
        kernel: Kernel::new(name),
        region: Kernel::BODY,
        probing: 0,
        effects: 0,
        aliases: HashMap::new(),
        blocks: vec![Block { keyword: "kernel", line: at.line() }],
        frame: None,
        errors: Vec::new(),
        inputs: HashMap::new(),
        id: NEXT_TRACE.fetch_add(1, Ordering::Relaxed),
    };
    // A trace inside a trace would mix two kernels: the outer one is put aside and comes back.
    let outer = TRACER.replace(Some(tracer));
    let ran = catch_unwind(AssertUnwindSafe(body));
    let Some(mut tracer) = TRACER.replace(outer) else {
        return Err(Diagnostics(vec![Diagnostic::new("the trace was taken away while it ran").at(at.into())]));
    };
    if let Err(panic) = ran {
        let text = match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => text,
            (None, Some(text)) => *text,
            (None, None) => "no message",
        };
        tracer.error(at, Diagnostic::new(format!("the kernel body panicked while it was specialised: {text}")));
    }
    if !tracer.errors.is_empty() {
        return Err(Diagnostics(tracer.errors));
    }
    finish::finish(tracer.kernel, &tracer.aliases)
}

impl Tracer {
    /// Records a mistake at this line, with the calls that led there. A loop body is traced twice, so it is recorded once.
    pub fn error(&mut self, at: At, mistake: Diagnostic) {
        let site = self.site(at);
        let calls =
            self.kernel.sites.calls(site).map(|(name, called_at)| format!("in `{name}`, called at {called_at}"));
        let mistake = calls.collect::<Vec<_>>().into_iter().fold(mistake.at(at.into()), Diagnostic::note);
        if !self.errors.contains(&mistake) {
            self.errors.push(mistake);
        }
    }

    /// Whether a mistake was recorded.
    pub fn failed(&self) -> bool {
        !self.errors.is_empty()
    }

    /// This line, reached as the trace stands.
    pub fn site(&mut self, at: At) -> SiteId {
        self.kernel.sites.add(Site { location: at.into(), frame: self.frame })
    }

    /// A handle of this trace.
    pub fn raw(&self, id: ValueId) -> Raw {
        Raw { id, trace: self.id }
    }

    /// The value's id, if it is one of this trace.
    pub fn id(&self, raw: Raw) -> Option<ValueId> {
        (raw.trace == self.id).then_some(raw.id)
    }

    /// The value's type, if it is one of this trace.
    pub fn ty(&self, raw: Raw) -> Option<Type> {
        Some(self.kernel.ty(self.id(raw)?))
    }

    /// Where the value was made, if it is one of this trace.
    pub fn made_at(&self, raw: Raw) -> Option<&Location> {
        let value = self.kernel.values.get(self.id(raw)?.index())?;
        self.kernel.sites.get(value.site).map(|s| &s.location)
    }

    /// Checks that a handle belongs to this trace and to a region around this point.
    pub fn usable(&mut self, raw: Raw, at: At) -> Option<ValueId> {
        if raw.is_poison() {
            // Poison follows an error; without one the value was made where nothing is recorded.
            if !self.failed() {
                self.error(
                    at,
                    Diagnostic::new("this value was made where no kernel is being traced")
                        .help("make it in the kernel: another thread or a `static` cannot make tiles"),
                );
            }
            return None;
        }
        let Some(id) = self.id(raw) else {
            self.error(at, Diagnostic::new("this value belongs to another kernel").help("pass it as a parameter"));
            return None;
        };
        let home = self.kernel.values[id.index()].region; // a handle of this trace is an id of its table
        let mut region = Some(self.region);
        while let Some(r) = region {
            if r == home {
                return Some(id);
            }
            region = self.kernel.regions[r.index()].parent; // regions are never removed during a trace
        }
        let Block { keyword, line } = self.blocks[home.index()]; // grows with the regions
        let born = self.made_at(raw).map(Location::to_string).unwrap_or_default();
        self.error(
            at,
            Diagnostic::new(format!(
                "this value was made inside the run-time `{keyword}` at line {line} and is used outside that pass of it"
            ))
            .note(format!("made at {born}"))
            .help(
                "keep it in a `let mut` variable (or a `#[derive(Carried)]` struct) declared before the block, \
                 and assign to it by name",
            ),
        );
        None
    }

    /// Appends an instruction at the current place and returns its first result, or poison when it has none.
    pub fn push(&mut self, op: Op, operands: &[Raw], at: At) -> Raw {
        let ids: Vec<Option<ValueId>> = operands.iter().map(|&o| self.usable(o, at)).collect();
        let Some(ids) = ids.into_iter().collect::<Option<Vec<ValueId>>>() else { return Raw::POISON };
        let site = self.site(at);
        let writes = op.effect() == Effect::Write;
        let names = op.signature().operands;
        match self.kernel.push(self.region, op, &ids, site) {
            Ok(results) => {
                self.effects += u32::from(writes);
                results.first().map_or(Raw::POISON, |&id| self.raw(id))
            }
            Err(wrong) => {
                let mut mistake = Diagnostic::new(wrong.message);
                mistake.help = wrong.help;
                if names.len() > 1 {
                    for (name, &raw) in names.iter().zip(operands) {
                        if let (Some(ty), Some(made)) = (self.ty(raw), self.made_at(raw)) {
                            mistake = mistake.note(format!("`{name}` is {ty}, made at {made}"));
                        }
                    }
                }
                self.error(at, mistake);
                Raw::POISON
            }
        }
    }

    /// Opens a region inside the current one and stands in it.
    pub fn open(&mut self, keyword: &'static str, at: At) -> RegionId {
        let region = self.kernel.add_region(self.region);
        self.blocks.push(Block { keyword, line: at.line() });
        self.region = region;
        region
    }

    /// Stands in the region around this one again.
    pub fn close(&mut self, region: RegionId) {
        self.region = self.kernel.regions[region.index()].parent.unwrap_or(Kernel::BODY); // regions are never removed
    }

    /// Says that `argument` of a loop is always `value`.
    pub fn alias(&mut self, argument: ValueId, value: ValueId) {
        self.aliases.insert(argument, value);
    }

    /// Declares a parameter. It belongs to the kernel's body, wherever it is asked for.
    pub fn parameter(&mut self, name: impl Into<String>, ty: Type, access: Access, at: At) -> Raw {
        let name = name.into();
        if self.kernel.params.iter().any(|p| p.name == name) {
            self.error(
                at,
                Diagnostic::new(format!("the kernel has two parameters named `{name}`"))
                    .help("give each feature's launch inputs names of their own"),
            );
            return Raw::POISON;
        }
        let site = self.site(at);
        let id = self.kernel.add_param(name, ty, access, site);
        self.raw(id)
    }

    /// A parameter that a feature asks for: declared by the first who asks, shared by all who ask under one name.
    pub fn input(&mut self, name: &str, ty: Type, at: At) -> Raw {
        let Some(&known) = self.inputs.get(name) else {
            let raw = self.parameter(name, ty, Access::Read, at);
            self.inputs.insert(name.to_string(), raw);
            return raw;
        };
        match self.ty(known) {
            Some(first) if first != ty => {
                let mut mistake =
                    Diagnostic::new(format!("the launch input `{name}` is asked for as {first} and as {ty}"));
                if let Some(made) = self.made_at(known) {
                    mistake = mistake.note(format!("first asked for at {made}"));
                }
                self.error(at, mistake.help("use two names, or one type"));
                Raw::POISON
            }
            _ => known,
        }
    }
}

/// Names the tile function whose body is being traced, until it is dropped.
pub struct FrameGuard(Option<FrameId>);

/// Enters a tile function, so that errors can say how a line was reached.
pub fn frame(function: &'static str, called_at: At) -> FrameGuard {
    FrameGuard(
        with(|t| {
            let outer = t.frame;
            let called_at = t.site(called_at);
            t.frame = Some(t.kernel.sites.add_frame(Frame { function: function.into(), called_at }));
            outer
        })
        .flatten(),
    )
}

impl Drop for FrameGuard {
    fn drop(&mut self) {
        with(|t| t.frame = self.0);
    }
}
