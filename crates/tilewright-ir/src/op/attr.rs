//! Compile-time attributes of ops, as text and back.

use crate::kernel::RegionId;
use crate::types::{Elem, Shape};

/// A number written in a kernel. Two literals are equal when their bits are, so that NaN equals itself.
#[derive(Clone, Copy, Debug)]
pub struct Literal(pub f64);

impl PartialEq for Literal {
    fn eq(&self, other: &Literal) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

/// A type that can stand among an op's attributes.
pub trait Attr: Sized {
    /// Its text; `None` for a region, which is printed as a block.
    fn print(&self) -> Option<String>;

    /// From its text.
    fn parse(text: &str) -> Option<Self>;

    /// What to use when the text form does not name it: only regions, which the parser fills in.
    fn absent() -> Option<Self> {
        None
    }

    /// The region, if it is one.
    fn region(&self) -> Option<RegionId> {
        None
    }

    /// The region, if it is one, to be renamed.
    fn region_mut(&mut self) -> Option<&mut RegionId> {
        None
    }
}

impl Attr for u8 {
    fn print(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn parse(text: &str) -> Option<u8> {
        text.parse().ok()
    }
}

impl Attr for Literal {
    fn print(&self) -> Option<String> {
        Some(format!("{:?}", self.0))
    }

    fn parse(text: &str) -> Option<Literal> {
        text.parse().ok().map(Literal)
    }
}

impl Attr for Elem {
    fn print(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn parse(text: &str) -> Option<Elem> {
        Elem::from_name(text)
    }
}

impl Attr for Shape {
    fn print(&self) -> Option<String> {
        Some(self.to_string())
    }

    fn parse(text: &str) -> Option<Shape> {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?.trim();
        if inner.is_empty() {
            return Some(Shape::SCALAR);
        }
        let extents: Option<Vec<usize>> = inner.split(',').map(|e| e.trim().parse().ok()).collect();
        Shape::new(&extents?)
    }
}

impl Attr for RegionId {
    fn print(&self) -> Option<String> {
        None
    }

    fn parse(_: &str) -> Option<RegionId> {
        None
    }

    fn absent() -> Option<RegionId> {
        Some(RegionId(u32::MAX))
    }

    fn region(&self) -> Option<RegionId> {
        Some(*self)
    }

    fn region_mut(&mut self) -> Option<&mut RegionId> {
        Some(self)
    }
}

/// The attributes that the text of one instruction gives.
#[derive(Clone, Debug, Default)]
pub struct Attrs(pub Vec<(String, String)>);

impl Attrs {
    /// Takes the attribute of this name out.
    ///
    /// # Errors
    /// It is not there, or its text does not parse.
    pub(super) fn take<T: Attr>(&mut self, name: &str) -> Result<T, String> {
        match self.0.iter().position(|(n, _)| n == name) {
            Some(i) => {
                let (_, text) = self.0.remove(i);
                T::parse(&text).ok_or_else(|| format!("`{text}` is no value for `{name}`"))
            }
            None => T::absent().ok_or_else(|| format!("attribute `{name}` is missing")),
        }
    }
}
