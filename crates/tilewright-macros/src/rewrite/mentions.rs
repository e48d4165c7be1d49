//! Which places a block mentions, and which it assigns to by name.

use proc_macro2::{Span, TokenStream, TokenTree};
use std::collections::BTreeMap;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, ExprAssign, ExprBinary, ExprUnary, Macro, Member, UnOp};

/// Places as paths of fields: `a.b.0`. More than needed is harmless.
#[derive(Default)]
pub struct Mentions {
    /// Where each is first mentioned, and whether it is assigned.
    pub places: BTreeMap<Vec<String>, (Span, bool)>,
    /// Those that are assigned through: `*a.b = …`.
    pub derefs: BTreeMap<Vec<String>, Span>,
}

impl Mentions {
    fn add(&mut self, path: Vec<String>, span: Span, assigned: bool) {
        let entry = self.places.entry(path).or_insert((span, false));
        if assigned && !entry.1 {
            *entry = (span, true);
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Ident(i) => self.add(vec![i.to_string()], i.span(), false),
                TokenTree::Group(g) => self.tokens(g.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// What stands left of `=` or `+=`.
    fn target(&mut self, e: &Expr) {
        match e {
            Expr::Path(_) | Expr::Field(_) => {
                if let Some((path, span)) = path(e) {
                    self.add(path, span, true);
                }
            }
            Expr::Unary(ExprUnary { op: UnOp::Deref(_), expr, .. }) => {
                if let Some((path, span)) = path(expr) {
                    self.derefs.insert(path, span);
                }
            }
            Expr::Tuple(tuple) => tuple.elems.iter().for_each(|e| self.target(e)),
            Expr::Array(array) => array.elems.iter().for_each(|e| self.target(e)),
            Expr::Paren(inner) => self.target(&inner.expr),
            _ => {}
        }
    }
}

/// `a.b.0` as a path, when nothing but fields stands between.
fn path(e: &Expr) -> Option<(Vec<String>, Span)> {
    match e {
        Expr::Path(p) => p.path.get_ident().map(|i| (vec![i.to_string()], i.span())),
        Expr::Field(f) => {
            let (mut base, span) = path(&f.base)?;
            base.push(match &f.member {
                Member::Named(name) => name.to_string(),
                Member::Unnamed(index) => index.index.to_string(),
            });
            Some((base, span))
        }
        _ => None,
    }
}

impl<'a> Visit<'a> for Mentions {
    fn visit_expr(&mut self, e: &'a Expr) {
        match path(e) {
            Some((path, span)) => self.add(path, span, false),
            None => visit::visit_expr(self, e),
        }
    }

    fn visit_expr_assign(&mut self, e: &'a ExprAssign) {
        self.target(&e.left);
        visit::visit_expr_assign(self, e);
    }

    fn visit_expr_binary(&mut self, e: &'a ExprBinary) {
        use BinOp::*;
        if matches!(
            e.op,
            AddAssign(_)
                | SubAssign(_)
                | MulAssign(_)
                | DivAssign(_)
                | RemAssign(_)
                | BitAndAssign(_)
                | BitOrAssign(_)
                | BitXorAssign(_)
                | ShlAssign(_)
                | ShrAssign(_)
        ) {
            self.target(&e.left);
        }
        visit::visit_expr_binary(self, e);
    }

    fn visit_macro(&mut self, call: &'a Macro) {
        self.tokens(call.tokens.clone());
    }
}
