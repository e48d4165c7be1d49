//! `for`, `if`, `while`, `match`, closures and jumps.

use super::mentions::Mentions;
use super::refuse::has_let;
use super::scopes::Place;
use super::{Crossing, Rewriter};
use crate::root::root;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::visit_mut::{self, VisitMut};
use syn::{
    BinOp, Block, Expr, ExprBinary, ExprClosure, ExprForLoop, ExprIf, ExprIndex, ExprLet, ExprLit, ExprMatch,
    ExprRange, ExprUnary, ExprWhile, Index, Label, Lifetime, Lit, Pat, RangeLimits, UnOp, parse_quote_spanned,
};

impl Rewriter<'_> {
    /// `for pat in iter { … }` as `while let Some(item) = next(&mut driver, slots) { let pat = item; … }`: no closure, so
    /// that borrows, moves and labels stay rustc's.
    pub(super) fn for_loop(&mut self, l: &mut ExprForLoop) -> Expr {
        self.visit_expr_mut(&mut l.expr);
        LoopHead.visit_expr_mut(&mut l.expr);
        let span = l.for_token.span;
        let driver = format_ident!("__loop_{}", self.depth, span = span);
        let mut mentions = Mentions::default();
        mentions.visit_block(&l.body);
        let slots = self.slots(&driver, mentions);
        self.depth += 1;
        self.in_loop(Some(driver.clone()), l.label.as_ref(), |r| {
            r.scoped(|r| {
                r.scopes.bind(&l.pat);
                r.visit_block_mut(&mut l.body);
            });
        });
        self.depth -= 1;
        let (attrs, label, pat, iter, body) = (&l.attrs, &l.label, &l.pat, &l.expr, &l.body);
        let (lang, head) = (root(span), l.expr.span());
        let into_loop = {
            let lang = root(head);
            quote_spanned!(head=> #lang::rt::IntoLoop::into_loop(#iter))
        };
        Expr::Verbatim(quote_spanned!(span=> #(#attrs)* {
            let mut #driver = #into_loop;
            #label while let ::core::option::Option::Some(__item) = {
                let __slots: &mut [#lang::rt::Slot<'_>] = #slots;
                #lang::rt::Loop::next(&mut #driver, __slots)
            } {
                let #pat = __item;
                #body
            }
        }))
    }

    /// `if` on a value of either kind: which it is, and what becomes of the branches, is the driver's type.
    pub(super) fn if_else(&mut self, i: &mut ExprIf) -> Expr {
        self.visit_expr_mut(&mut i.cond);
        let span = i.if_token.span;
        let driver = format_ident!("__if_{}", self.depth, span = span);
        let mut otherwise = match &i.else_branch {
            Some((_, e)) => (**e).clone(),
            None => parse_quote_spanned!(span=> {}),
        };
        let mut mentions = Mentions::default();
        mentions.visit_block(&i.then_branch);
        mentions.visit_expr(&otherwise);
        let slots = self.slots(&driver, mentions);
        self.depth += 1;
        self.crossings.push(Crossing::If { driver: driver.clone() });
        self.visit_block_mut(&mut i.then_branch);
        self.visit_expr_mut(&mut otherwise);
        self.crossings.pop();
        self.depth -= 1;
        let (attrs, then) = (&i.attrs, &i.then_branch);
        let [first, second] = ["then", "else"].map(|n| format_ident!("__{n}_{}", self.depth, span = span));
        let lang = root(span);
        let into_if = {
            let (cond, span) = (&i.cond, i.cond.span());
            let lang = root(span);
            quote_spanned!(span=> #lang::rt::IntoIf::into_if(#cond))
        };
        // The finishing call makes its slots before it takes the driver.
        Expr::Verbatim(quote_spanned!(span=> #(#attrs)* {
            let mut #driver = #into_if;
            let #first = if {
                let __slots: &mut [#lang::rt::Slot<'_>] = #slots;
                #lang::rt::If::enter_then(&mut #driver, __slots)
            } { ::core::option::Option::Some(#then) } else { ::core::option::Option::None };
            let #second = if {
                let __slots: &mut [#lang::rt::Slot<'_>] = #slots;
                #lang::rt::If::enter_else(&mut #driver, __slots)
            } { ::core::option::Option::Some(#otherwise) } else { ::core::option::Option::None };
            {
                let __slots: &mut [#lang::rt::Slot<'_>] = #slots;
                #lang::rt::Finish::finish(#driver, __slots, #first, #second)
            }
        }))
    }

    /// `if let` chooses by a Rust value, which is known while specialising: it stays.
    pub(super) fn if_let(&mut self, i: &mut ExprIf) {
        self.scoped(|r| {
            r.visit_expr_mut(&mut i.cond);
            beside_let(&mut i.cond);
            struct Lets<'r, 'e>(&'r mut Rewriter<'e>);
            impl<'a> Visit<'a> for Lets<'_, '_> {
                fn visit_expr_let(&mut self, l: &'a ExprLet) {
                    self.0.scopes.bind(&l.pat);
                }
            }
            Lets(r).visit_expr(&i.cond);
            r.visit_block_mut(&mut i.then_branch);
        });
        if let Some((_, otherwise)) = &mut i.else_branch {
            self.visit_expr_mut(otherwise);
        }
    }

    pub(super) fn while_loop(&mut self, w: &mut ExprWhile) {
        self.scoped(|r| {
            r.visit_expr_mut(&mut w.cond);
            if has_let(&w.cond) {
                beside_let(&mut w.cond);
                struct Lets<'r, 'e>(&'r mut Rewriter<'e>);
                impl<'a> Visit<'a> for Lets<'_, '_> {
                    fn visit_expr_let(&mut self, l: &'a ExprLet) {
                        self.0.scopes.bind(&l.pat);
                    }
                }
                Lets(r).visit_expr(&w.cond);
            } else {
                let (cond, span) = (&w.cond, w.cond.span());
                let lang = root(span);
                *w.cond = Expr::Verbatim(quote_spanned!(span=> #lang::rt::compile_time(#cond)));
            }
            r.in_loop(None, w.label.as_ref(), |r| r.visit_block_mut(&mut w.body));
        });
    }

    pub(super) fn in_loop(&mut self, driver: Option<Ident>, label: Option<&Label>, f: impl FnOnce(&mut Self)) {
        self.crossings.push(Crossing::Loop { driver, label: label.map(|l| l.name.ident.to_string()) });
        f(self);
        self.crossings.pop();
    }

    /// A `match` whose arms are literals looks at a Rust value.
    pub(super) fn match_arms(&mut self, m: &mut ExprMatch) {
        visit_mut::visit_expr_match_mut(self, m);
        if m.arms.iter().any(|arm| has_literal(&arm.pat)) {
            let (value, span) = (&m.expr, m.expr.span());
            let lang = root(span);
            *m.expr = Expr::Verbatim(quote_spanned!(span=> #lang::rt::matched(#value)));
        }
    }

    /// Jumps inside a closure do not leave it.
    pub(super) fn closure(&mut self, c: &mut ExprClosure) {
        let outer = std::mem::take(&mut self.crossings);
        self.scoped(|r| {
            c.inputs.iter().for_each(|input| r.scopes.bind(input));
            r.visit_expr_mut(&mut c.body);
        });
        self.crossings = outer;
    }

    /// A jump is preceded by a check of each block that it leaves.
    pub(super) fn jump(&mut self, e: &mut Expr) {
        let leaves = match e {
            Expr::Break(b) => {
                if let Some(value) = &mut b.expr {
                    self.visit_expr_mut(value);
                }
                self.leave(b.break_token.span, true, b.label.as_ref())
            }
            Expr::Continue(c) => self.leave(c.continue_token.span, true, c.label.as_ref()),
            Expr::Return(r) => {
                if let Some(value) = &mut r.expr {
                    self.visit_expr_mut(value);
                }
                self.leave(r.return_token.span, false, None)
            }
            Expr::Try(t) => {
                self.visit_expr_mut(&mut t.expr);
                self.leave(t.question_token.spans[0], false, None) // `?` is one character
            }
            _ => return,
        };
        if !leaves.is_empty() {
            *e = Expr::Verbatim(quote!({ #leaves #e }));
        }
    }

    fn leave(&self, span: Span, to_loop: bool, label: Option<&Lifetime>) -> TokenStream {
        let mut drivers = Vec::new();
        for crossing in self.crossings.iter().rev() {
            match crossing {
                Crossing::If { driver } => drivers.push(driver.clone()),
                Crossing::Loop { driver, label: name } => {
                    drivers.extend(driver.clone());
                    if to_loop && (label.is_none() || label.map(|l| l.ident.to_string()) == *name) {
                        break;
                    }
                }
            }
        }
        // Named at the jump, so that the error stands there.
        let drivers = drivers.iter().map(|d| Ident::new(&d.to_string(), span));
        let lang = root(span);
        quote_spanned!(span=> #(#lang::rt::leaves(&#drivers);)*)
    }

    /// The mutable variables of the surroundings that a block mentions, as slots for `driver`.
    fn slots(&self, driver: &Ident, mentions: Mentions) -> TokenStream {
        // A variable that is mentioned whole covers its fields; fields alone are carried one by one, as rustc borrows them.
        let mut paths = mentions.places.clone();
        for (path, (span, assigned)) in &mentions.places {
            // Whether a plain binding is a `&mut` reference only its type says, so it is asked whole; unless the block
            // writes `*b.x = …`, which says that the field is one.
            let base = &path[..1]; // a path has at least its variable
            let through_field = mentions.derefs.keys().any(|d| d.len() > 1 && d[..1] == *base);
            if path.len() > 1 && self.scopes.place(&path[0]) == Some(Place::Fixed) && (*assigned || !through_field) {
                paths.entry(base.to_vec()).or_insert((*span, *assigned));
            }
        }
        let fields = |path: &[String], span: Span| -> TokenStream {
            let base = match path[0].as_str() {
                "self" => quote_spanned!(span=> self),
                name => Ident::new(name, span).into_token_stream(),
            };
            let fields = path[1..].iter().map(|field| match field.parse::<u32>() {
                Ok(index) => Index { index, span }.into_token_stream(),
                Err(_) => Ident::new(field, span).into_token_stream(),
            });
            quote_spanned!(span=> #base #(.#fields)*)
        };
        let slots = paths.iter().filter_map(|(path, &(span, assigned))| {
            let covered = (1..path.len()).any(|n| paths.contains_key(&path[..n]));
            let place = self.scopes.place(&path[0]).filter(|_| !covered)?;
            let lang = root(span);
            let call = Ident::new(if assigned { "slot_assigned" } else { "slot" }, span);
            let (name, value) = (path.join("."), fields(path, span));
            match place {
                Place::Fixed if mentions.derefs.contains_key(path) && path.len() > 1 => {
                    Some(quote_spanned!(span=> #lang::rt::slot_assigned(&#driver, #name, &mut *#value)))
                }
                Place::Fixed if path.len() > 1 => None,
                Place::Fixed => Some(quote_spanned!(span=> {
                    #[allow(unused_imports)]
                    use #lang::rt::{ThroughMut as _, ThroughOther as _};
                    #lang::rt::Through::slot(#value.__through(), &#driver, #name)
                })),
                Place::Reference if path.len() == 1 => {
                    Some(quote_spanned!(span=> #lang::rt::#call(&#driver, #name, &mut *#value)))
                }
                Place::Owned | Place::Reference => {
                    Some(quote_spanned!(span=> #lang::rt::#call(&#driver, #name, &mut #value)))
                }
            }
        });
        quote!(&mut [#(#slots),*])
    }
}

/// The tests of a `let` chain that are no `let` are decided by Rust too.
fn beside_let(e: &mut Expr) {
    match e {
        Expr::Let(_) => {}
        Expr::Binary(ExprBinary { left, op: BinOp::And(_), right, .. }) if has_let(left) || has_let(right) => {
            beside_let(left);
            beside_let(right);
        }
        test => {
            let span = test.span();
            let lang = root(span);
            *test = Expr::Verbatim(quote_spanned!(span=> #lang::rt::beside_let(#test)));
        }
    }
}

fn has_literal(pat: &Pat) -> bool {
    match pat {
        Pat::Lit(_) | Pat::Range(_) => true,
        Pat::Or(or) => or.cases.iter().any(has_literal),
        Pat::Paren(inner) => has_literal(&inner.pat),
        _ => false,
    }
}

/// An integer without a type of its own.
fn is_integer(e: &Expr) -> bool {
    match e {
        Expr::Lit(ExprLit { lit: Lit::Int(n), .. }) => n.suffix().is_empty(),
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => is_integer(expr),
        Expr::Paren(inner) => is_integer(&inner.expr),
        _ => false,
    }
}

/// `a..b` in a loop head, so that `0..n` has one meaning for both kinds of `n`.
struct LoopHead;

impl VisitMut for LoopHead {
    fn visit_expr_mut(&mut self, e: &mut Expr) {
        visit_mut::visit_expr_mut(self, e);
        let Expr::Range(ExprRange { start: Some(first), limits, end: Some(end), .. }) = e else { return };
        // A literal takes the type of the other end; beside a device value that is no single Rust type, so it has calls of
        // its own. Between two literals the range is Rust's.
        let (function, span) = match (is_integer(first), limits, is_integer(end)) {
            (true, _, true) => return,
            (true, RangeLimits::HalfOpen(dots), false) => ("range_from_literal", dots.spans[0]), // `..` has two characters
            (false, RangeLimits::HalfOpen(dots), true) => ("range_to_literal", dots.spans[0]),
            (false, RangeLimits::HalfOpen(dots), false) => ("range", dots.spans[0]),
            (_, RangeLimits::Closed(dots), _) => ("range_inclusive", dots.spans[0]), // `..=` has three
        };
        let (function, lang) = (Ident::new(function, span), root(span));
        *e = Expr::Verbatim(quote_spanned!(span=> #lang::rt::#function(#first, #end)));
    }

    fn visit_expr_closure_mut(&mut self, _: &mut ExprClosure) {}

    fn visit_expr_index_mut(&mut self, _: &mut ExprIndex) {}

    fn visit_block_mut(&mut self, _: &mut Block) {}
}
