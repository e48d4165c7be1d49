//! The body of a tile function: control flow, comparisons and jumps as calls that rustc resolves by type.

mod control;
mod mentions;
mod refuse;
mod scopes;

use crate::errors::Errors;
use crate::root::root;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use scopes::{Place, Scopes};
use syn::visit::Visit;
use syn::visit_mut::{self, VisitMut};
use syn::{
    Arm, Attribute, BinOp, Block, Expr, ExprBinary, ExprUnary, FnArg, GenericArgument, Item, Lit, Local, Macro, Pat,
    Path, ReturnType, Signature, Type, TypeArray, TypeImplTrait, UnOp, parse_quote,
};

/// Rewrites a function in place. A tile function has a frame, so that errors can say how its lines were reached; a kernel
/// is the outermost one.
pub fn function(attrs: &mut Vec<Attribute>, sig: &Signature, block: &mut Block, frame: bool, errors: &mut Errors) {
    refuse::signature(sig, errors);
    let mut rewriter = Rewriter { scopes: Scopes::default(), crossings: Vec::new(), depth: 0, errors };
    for input in &sig.inputs {
        match input {
            FnArg::Receiver(this) if this.mutability.is_some() => {
                let place = if this.reference.is_some() { Place::Reference } else { Place::Owned };
                rewriter.scopes.declare("self", place);
            }
            FnArg::Receiver(_) => {}
            FnArg::Typed(typed) => {
                rewriter.scopes.bind(&typed.pat);
                if let (Type::Reference(reference), Pat::Ident(name)) = (&*typed.ty, &*typed.pat)
                    && reference.mutability.is_some()
                {
                    rewriter.scopes.declare(&name.ident.to_string(), Place::Reference);
                }
            }
        }
    }
    rewriter.visit_block_mut(block);
    if frame {
        enter_frame(sig, block);
        attrs.push(parse_quote!(#[track_caller]));
    }
    attrs.push(parse_quote!(#[deny(unused_must_use)]));
    // What the rewriting itself leaves: a condition in braces or parentheses as an argument, code after a check of a jump.
    attrs.push(parse_quote!(#[allow(unused_braces, unused_parens, unreachable_code)]));
}

/// `#[track_caller]` gives the call site for the frame. It would also move every op of the body to that call site, so the
/// body stands in a closure, which starts afresh: ops see their own lines.
fn enter_frame(sig: &Signature, block: &mut Block) {
    let lang = root(Span::call_site());
    let name = sig.ident.to_string();
    let returns = match &sig.output {
        ReturnType::Type(_, ty) if !has_impl(ty) => quote!(-> #ty),
        _ => quote!(),
    };
    let statements = &block.stmts;
    *block = parse_quote!({
        let __frame = #lang::rt::frame(#name, ::core::panic::Location::caller());
        (move || #returns { #(#statements)* })()
    });
}

fn has_impl(ty: &Type) -> bool {
    struct Find(bool);
    impl<'a> Visit<'a> for Find {
        fn visit_type_impl_trait(&mut self, _: &'a TypeImplTrait) {
            self.0 = true;
        }
    }
    let mut find = Find(false);
    find.visit_type(ty);
    find.0
}

/// A block that a jump may leave.
enum Crossing {
    Loop {
        /// The variable that drives it; `while` and `loop` have none.
        driver: Option<Ident>,
        label: Option<String>,
    },
    If {
        driver: Ident,
    },
}

struct Rewriter<'e> {
    scopes: Scopes,
    crossings: Vec<Crossing>,
    /// How many drivers are open, to name them apart.
    depth: usize,
    errors: &'e mut Errors,
}

impl Rewriter<'_> {
    fn scoped<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        self.scopes.push();
        let result = f(self);
        self.scopes.pop();
        result
    }

    fn binary(&mut self, binary: &mut ExprBinary) -> Option<TokenStream> {
        if matches!(binary.op, BinOp::And(_) | BinOp::Or(_)) {
            refuse::jumps(&binary.right, self.errors);
        }
        visit_mut::visit_expr_binary_mut(self, binary);
        let chain = refuse::has_let(&binary.left) || refuse::has_let(&binary.right);
        let span = syn::spanned::Spanned::span(&binary.op);
        let lang = root(span);
        let (left, right) = (&binary.left, &binary.right);
        // `0 < n` as `n > 0`: a literal on the left has no type of its own yet.
        let flip = is_literal(left) && !is_literal(right);
        let compare = |method: &str, flipped: &str| {
            let (method, a, b) = if flip { (flipped, right, left) } else { (method, left, right) };
            let (name, method) = method.split_once('.').unwrap_or((method, method));
            let (name, method) = (Ident::new(name, span), Ident::new(method, span));
            Some(quote_spanned!(span=> #lang::rt::#name::#method(&(#a), &(#b))))
        };
        match binary.op {
            BinOp::Lt(_) => compare("Less.less", "Greater.greater"),
            BinOp::Le(_) => compare("LessEqual.less_equal", "GreaterEqual.greater_equal"),
            BinOp::Gt(_) => compare("Greater.greater", "Less.less"),
            BinOp::Ge(_) => compare("GreaterEqual.greater_equal", "LessEqual.less_equal"),
            BinOp::Eq(_) => compare("Equal.equal", "Equal.equal"),
            BinOp::Ne(_) => compare("NotEqual.not_equal", "NotEqual.not_equal"),
            BinOp::And(_) if !chain => Some(quote_spanned!(span=> #lang::rt::Both::and(#left, || #right))),
            BinOp::Or(_) => Some(quote_spanned!(span=> #lang::rt::Both::or(#left, || #right))),
            _ => None,
        }
    }
}

/// A number without a type of its own.
fn is_literal(e: &Expr) -> bool {
    match e {
        Expr::Lit(lit) => match &lit.lit {
            Lit::Int(n) => n.suffix().is_empty(),
            Lit::Float(n) => n.suffix().is_empty(),
            _ => false,
        },
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => is_literal(expr),
        Expr::Paren(inner) => is_literal(&inner.expr),
        _ => false,
    }
}

impl VisitMut for Rewriter<'_> {
    fn visit_block_mut(&mut self, block: &mut Block) {
        self.scoped(|r| visit_mut::visit_block_mut(r, block));
    }

    fn visit_local_mut(&mut self, local: &mut Local) {
        visit_mut::visit_local_mut(self, local);
        let Some(init) = &local.init else {
            return self.errors.push(&*local, refuse::NO_VALUE);
        };
        self.scopes.bind(&local.pat);
        let name = match &local.pat {
            Pat::Type(typed) => &typed.pat,
            other => other,
        };
        if let (Pat::Ident(name), Expr::Reference(reference)) = (name, &*init.expr)
            && reference.mutability.is_some()
        {
            self.scopes.declare(&name.ident.to_string(), Place::Reference);
        }
    }

    fn visit_arm_mut(&mut self, arm: &mut Arm) {
        self.scoped(|r| {
            r.scopes.bind(&arm.pat);
            visit_mut::visit_arm_mut(r, arm);
        });
    }

    fn visit_path_mut(&mut self, path: &mut Path) {
        refuse::path(path, self.errors);
        visit_mut::visit_path_mut(self, path);
    }

    fn visit_type_array_mut(&mut self, array: &mut TypeArray) {
        self.visit_type_mut(&mut array.elem);
    }

    fn visit_generic_argument_mut(&mut self, argument: &mut GenericArgument) {
        if let GenericArgument::Type(ty) = argument {
            self.visit_type_mut(ty);
        }
    }

    fn visit_item_mut(&mut self, item: &mut Item) {
        refuse::item(item, self.errors);
    }

    fn visit_macro_mut(&mut self, call: &mut Macro) {
        refuse::macro_call(call, self.errors);
    }

    fn visit_expr_mut(&mut self, e: &mut Expr) {
        refuse::expression(e, self.errors);
        match e {
            Expr::ForLoop(l) => *e = self.for_loop(l),
            Expr::If(i) if refuse::has_let(&i.cond) => self.if_let(i),
            Expr::If(i) => *e = self.if_else(i),
            Expr::While(w) => self.while_loop(w),
            Expr::Loop(w) => self.in_loop(None, w.label.as_ref(), |r| r.visit_block_mut(&mut w.body)),
            Expr::Closure(c) => self.closure(c),
            Expr::Match(m) => self.match_arms(m),
            Expr::Break(_) | Expr::Continue(_) | Expr::Return(_) | Expr::Try(_) => self.jump(e),
            Expr::Binary(b) => {
                if let Some(call) = self.binary(b) {
                    *e = Expr::Verbatim(call);
                }
            }
            // The length of an array and a `const` block are Rust constants.
            Expr::Repeat(r) => self.visit_expr_mut(&mut r.expr),
            Expr::Const(_) => {}
            Expr::Cast(c) => {
                visit_mut::visit_expr_cast_mut(self, c);
                if !is_literal(&c.expr) {
                    let span = c.as_token.span;
                    let lang = root(span);
                    let (operand, ty) = (&c.expr, &c.ty);
                    *e = Expr::Verbatim(quote_spanned!(span=> {
                        #[allow(unused_imports)]
                        use #lang::rt::RustValueOther as _;
                        let __operand = #operand;
                        __operand.__rust_value();
                        __operand as #ty
                    }));
                }
            }
            _ => visit_mut::visit_expr_mut(self, e),
        }
    }
}
