//! A kernel without its generics, for the command line.

use crate::spec::SpecValue;
use std::collections::BTreeMap;
use tilewright_ir::{Diagnostics, Kernel};

/// Specialisation values and element types as text, by name.
pub type SpecText = BTreeMap<String, String>;

/// A kernel without its generics: text chooses its types and specialisation values. `#[kernel(entry(…))]` makes it.
///
/// It knows how to specialise a kernel, not how to test or time it; a library's own list says that.
#[derive(Clone, Copy, Debug)]
pub struct SpecEntry {
    /// The kernel function's name.
    pub name: &'static str,
    /// Where it stands.
    pub file: &'static str,
    /// Where it stands.
    pub line: u32,
    /// The type parameters that text chooses, and the choices.
    pub types: &'static [(&'static str, &'static [&'static str])],
    /// Launch parameters: name, and type as written.
    pub launch: &'static [(&'static str, &'static str)],
    /// Specialisation values: name, and type as written. An optional launch parameter is here too, as a `bool`.
    pub spec: &'static [(&'static str, &'static str)],
    /// The kernel for these values.
    pub trace: fn(&SpecText) -> Result<Kernel, EntryError>,
}

/// Why text does not say a kernel.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// A value is not given.
    #[error("`{0}` is missing: give {0}=VALUE")]
    Missing(&'static str),
    /// A value cannot be read.
    #[error("`{name}`: {reason}")]
    Bad {
        /// The specialisation value.
        name: &'static str,
        /// What is wrong with its text.
        reason: String,
    },
    /// A name that the kernel does not have.
    #[error("`{got}` is no specialisation value of this kernel; it has {known}")]
    Unknown {
        /// The name that was given.
        got: String,
        /// The names that there are.
        known: String,
    },
    /// A type that the entry does not list.
    #[error("`{name}` is one of {known}, not `{got}`")]
    NoVariant {
        /// The type parameter.
        name: &'static str,
        /// What was given.
        got: String,
        /// The choices.
        known: String,
    },
    /// The kernel cannot be traced with these values.
    #[error(transparent)]
    Trace(#[from] Diagnostics),
}

impl SpecEntry {
    /// The kernel for these values.
    ///
    /// # Errors
    /// A name that is unknown or missing, text that cannot be read, or the mistakes of the kernel itself.
    pub fn trace(&self, text: &SpecText) -> Result<Kernel, EntryError> {
        let names = || self.types.iter().map(|t| t.0).chain(self.spec.iter().map(|s| s.0));
        for (name, choices) in self.types {
            let got = text.get(*name).ok_or(EntryError::Missing(name))?;
            if !choices.contains(&got.as_str()) {
                return Err(EntryError::NoVariant { name, got: got.clone(), known: choices.join(", ") });
            }
        }
        if let Some(got) = text.keys().find(|k| !names().any(|n| n == k.as_str())) {
            let known = names().collect::<Vec<_>>().join(", ");
            return Err(EntryError::Unknown { got: got.clone(), known });
        }
        (self.trace)(text)
    }
}

/// One value of a specialisation.
///
/// # Errors
/// It is missing, or its text cannot be read.
pub fn spec_field<T: SpecValue>(text: &SpecText, name: &'static str) -> Result<T, EntryError> {
    let text = text.get(name).ok_or(EntryError::Missing(name))?;
    T::parse(text).map_err(|reason| EntryError::Bad { name, reason })
}
