//! Which names the function declared, and how each can change.

use std::collections::BTreeMap;
use syn::visit::{self, Visit};
use syn::{Pat, PatIdent};

/// How a name can change.
#[derive(Clone, Copy, PartialEq)]
pub enum Place {
    /// `let mut x`.
    Owned,
    /// A `&mut` reference.
    Reference,
    /// Not by itself; its type may still be a `&mut` reference.
    Fixed,
}

/// The names in scope, innermost scope last.
pub struct Scopes(Vec<BTreeMap<String, Place>>);

impl Default for Scopes {
    fn default() -> Scopes {
        Scopes(vec![BTreeMap::new()])
    }
}

impl Scopes {
    pub fn push(&mut self) {
        self.0.push(BTreeMap::new());
    }

    pub fn pop(&mut self) {
        self.0.pop();
    }

    pub fn declare(&mut self, name: &str, place: Place) {
        if let Some(scope) = self.0.last_mut() {
            scope.insert(name.into(), place);
        }
    }

    /// Declares every name that a pattern binds, `mut` or not: a later `let x` hides an earlier `let mut x`.
    pub fn bind(&mut self, pat: &Pat) {
        struct Names<'s>(&'s mut Scopes);
        impl<'a> Visit<'a> for Names<'_> {
            fn visit_pat_ident(&mut self, pat: &'a PatIdent) {
                let owned = pat.mutability.is_some() && pat.by_ref.is_none();
                self.0.declare(&pat.ident.to_string(), if owned { Place::Owned } else { Place::Fixed });
                visit::visit_pat_ident(self, pat);
            }
        }
        Names(self).visit_pat(pat);
    }

    /// `None` for what the function did not declare: constants, functions, `self` behind `&`.
    pub fn place(&self, name: &str) -> Option<Place> {
        self.0.iter().rev().find_map(|scope| scope.get(name).copied())
    }
}
