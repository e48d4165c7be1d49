//! Where in the source an instruction was written, and through which tile functions it was reached.

use std::borrow::Cow;
use std::fmt;

/// A line of source text.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Location {
    /// The file as rustc names it.
    pub file: Cow<'static, str>,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl From<&'static std::panic::Location<'static>> for Location {
    fn from(at: &'static std::panic::Location<'static>) -> Location {
        Location { file: Cow::Borrowed(at.file()), line: at.line(), column: at.column() }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Names a [`Site`] of a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SiteId(pub u32);

/// Names a [`Frame`] of a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct FrameId(pub u32);

/// Where an instruction was written.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Site {
    /// The line.
    pub location: Location,
    /// The tile function around that line; `None` in the kernel function itself.
    pub frame: Option<FrameId>,
}

/// One inlined call of a tile function.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Frame {
    /// The function that was called.
    pub function: Cow<'static, str>,
    /// Where it was called; that site's own frame is the caller.
    pub called_at: SiteId,
}

/// The source locations of a kernel: a table, so that an instruction carries four bytes.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Sites {
    sites: Vec<Site>,
    frames: Vec<Frame>,
}

impl Sites {
    /// Adds a site. Equal neighbours share an id.
    pub fn add(&mut self, site: Site) -> SiteId {
        if self.sites.last() != Some(&site) {
            self.sites.push(site);
        }
        SiteId(self.sites.len() as u32 - 1)
    }

    /// Adds a call.
    pub fn add_frame(&mut self, frame: Frame) -> FrameId {
        self.frames.push(frame);
        FrameId(self.frames.len() as u32 - 1)
    }

    /// The site of this id, if the table has it.
    pub fn get(&self, id: SiteId) -> Option<&Site> {
        self.sites.get(id.0 as usize)
    }

    /// The call of this id, if the table has it.
    pub fn frame(&self, id: FrameId) -> Option<&Frame> {
        self.frames.get(id.0 as usize)
    }

    /// The calls around a site, innermost first: the function's name and where it was called.
    pub fn calls(&self, id: SiteId) -> impl Iterator<Item = (&str, &Location)> {
        let mut frame = self.get(id).and_then(|s| s.frame);
        std::iter::from_fn(move || {
            let current = self.frame(frame?)?;
            let site = self.get(current.called_at)?;
            frame = site.frame;
            Some((current.function.as_ref(), &site.location))
        })
        .take(self.frames.len()) // a frame that is its own caller must not make an endless list
    }
}

impl SiteId {
    /// A site of no table: the instruction was not written in source, or where is not known.
    pub const UNKNOWN: SiteId = SiteId(u32::MAX);
}
