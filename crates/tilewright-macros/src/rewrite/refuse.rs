//! What has no meaning in a tile function, and what to write instead.

use crate::errors::Errors;
use syn::visit::{self, Visit};
use syn::{Block, Expr, ExprClosure, ExprLet, Item, Macro, Path, Signature};

pub const NO_VALUE: &str = "a variable of a tile function needs a value where it is declared, because a run-time `if` must \
                            know what it was before: write `let mut x = …;` or `let x = if … { … } else { … };`";

const MUTABLE_KEPT: &str = "a `&mut` kept in a struct, tuple, array or constructor hides assignments from run-time `for` \
                            and `if`: keep the value itself there, or pass the `&mut` to a function";

/// Types whose contents change unseen; with them all whose name begins with `Atomic`.
const HIDDEN: [&str; 9] =
    ["Cell", "RefCell", "UnsafeCell", "OnceCell", "LazyCell", "OnceLock", "LazyLock", "Mutex", "RwLock"];

/// Macros that may run while a kernel is specialised.
const MACROS: [&str; 11] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "debug_assert_eq",
    "unreachable",
    "panic",
    "vec",
    "format",
    "matches",
    "concat",
];

pub fn signature(sig: &Signature, errors: &mut Errors) {
    if let Some(a) = &sig.asyncness {
        errors.push(a, "a tile function cannot be `async`: it runs while the kernel is specialised; remove `async`");
    }
    if let Some(u) = &sig.unsafety {
        errors.push(u, "a tile function cannot be `unsafe`: remove `unsafe`");
    }
    if let Some(c) = &sig.constness {
        errors.push(c, "a tile function cannot be `const`: it records instructions; remove `const`");
    }
    if let Some(v) = &sig.variadic {
        errors.push(v, "a tile function cannot be variadic: take a slice");
    }
}

pub fn path(path: &Path, errors: &mut Errors) {
    for segment in &path.segments {
        let name = segment.ident.to_string();
        if HIDDEN.contains(&name.as_str()) || name.starts_with("Atomic") {
            let message = format!(
                "`{name}` changes while the kernel is specialised, unseen by run-time `for` and `if`: use `let mut`; a \
                 type of yours that is only called so can be imported under another name (`use … as …;`)"
            );
            errors.push(segment, message);
        }
    }
}

pub fn item(item: &Item, errors: &mut Errors) {
    match item {
        Item::Const(_) | Item::Use(_) => {}
        Item::Macro(m) => {
            errors.push(m, "a macro inside a tile function is not rewritten: write a `#[tile]` function instead")
        }
        other => {
            errors.push(other, "an item inside a tile function is not rewritten: move it out and put `#[tile]` on it")
        }
    }
}

pub fn macro_call(call: &Macro, errors: &mut Errors) {
    let name = call.path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default();
    if MACROS.contains(&name.as_str()) {
        return;
    }
    let allowed = MACROS.map(|m| format!("`{m}!`")).join(", ");
    let message = format!(
        "`{name}!` would run while the kernel is specialised, not on the device: write a `#[tile]` function; the macros \
         that may stand here are {allowed}"
    );
    errors.push(&call.path, message);
}

pub fn expression(e: &Expr, errors: &mut Errors) {
    match e {
        Expr::Struct(s) => {
            kept(s.fields.iter().map(|f| &f.expr), errors);
        }
        Expr::Tuple(t) => kept(&t.elems, errors),
        Expr::Array(a) => kept(&a.elems, errors),
        Expr::Call(c) if is_constructor(&c.func) => kept(&c.args, errors),
        Expr::Async(_) => errors.push(e, "`async` has no meaning in a tile function: write the block itself"),
        Expr::Await(_) => errors.push(e, "`.await` has no meaning in a tile function: call a `#[tile]` function"),
        Expr::Unsafe(_) => errors.push(e, "`unsafe` has no meaning in a tile function: views check every access"),
        Expr::Yield(_) => errors.push(e, "`yield` has no meaning in a tile function: return the value"),
        Expr::TryBlock(_) => errors.push(e, "`try` blocks have no meaning in a tile function: use `if let`"),
        _ => {}
    }
}

fn kept<'a>(parts: impl IntoIterator<Item = &'a Expr>, errors: &mut Errors) {
    for part in parts {
        if matches!(part, Expr::Reference(r) if r.mutability.is_some()) {
            errors.push(part, MUTABLE_KEPT);
        }
    }
}

/// `Some(…)`, `State(…)`: a path that ends in a capital, which is a tuple struct or a variant.
fn is_constructor(function: &Expr) -> bool {
    let Expr::Path(path) = function else { return false };
    let Some(last) = path.path.segments.last() else { return false };
    last.ident.to_string().chars().next().is_some_and(char::is_uppercase)
}

/// A jump on the right of `&&` or `||`, which the device evaluates whatever the left side is.
pub fn jumps(right: &Expr, errors: &mut Errors) {
    struct Find<'e>(&'e mut Errors);
    impl<'a> Visit<'a> for Find<'_> {
        fn visit_expr(&mut self, e: &'a Expr) {
            match e {
                Expr::Return(_) | Expr::Break(_) | Expr::Continue(_) | Expr::Try(_) => self.0.push(
                    e,
                    "`return`, `break`, `continue` and `?` cannot stand on the right of `&&` or `||`: write an `if`",
                ),
                Expr::Closure(_) => {}
                other => visit::visit_expr(self, other),
            }
        }
    }
    Find(errors).visit_expr(right);
}

/// Whether a condition has a `let`, which chooses by a Rust value.
pub fn has_let(e: &Expr) -> bool {
    struct Find(bool);
    impl<'a> Visit<'a> for Find {
        fn visit_expr_let(&mut self, _: &'a ExprLet) {
            self.0 = true;
        }
        fn visit_expr_closure(&mut self, _: &'a ExprClosure) {}
        fn visit_block(&mut self, _: &'a Block) {}
    }
    let mut find = Find(false);
    visit::visit_expr(&mut find, e);
    if let Expr::Let(_) = e {
        find.0 = true;
    }
    find.0
}
