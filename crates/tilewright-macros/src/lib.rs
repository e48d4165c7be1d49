//! `#[kernel]`, `#[tile]` and `#[derive(Carried)]`: Rust functions that trace themselves into kernels.
//!
//! The macros rewrite control flow, comparisons and jumps to calls that rustc resolves by type; everything else stays
//! as it is, so that names, types, generics and moves are checked by rustc. What cannot be given Rust's meaning is
//! refused at its span.

mod derive;
mod errors;
mod kernel;
mod rewrite;
mod root;

use errors::Errors;
use proc_macro::TokenStream;
use quote::quote;
use syn::{ImplItem, Item, TraitItem};

/// A kernel: launch parameters, specialisation values, and a tile program.
///
/// Parameters written `View<…>`, `ViewMut<…>`, `Scalar<…>`, or `Option` of these, come at launch. All others are fixed
/// when the kernel is specialised. For `fn scale<E: Float>(x: View<E, 1>, y: ViewMut<E, 1>, rows: usize)` this makes
///
/// - `struct Scale { rows: usize }` with `trace::<E>() -> Result<Kernel, Diagnostics>` and `key::<E>() -> String`; an
///   optional launch parameter is a `bool` field here;
/// - `struct ScaleArgs<T, M> { x: T, y: M }` with `bind() -> Vec<(&'static str, HostValue<T, M>)>`, where `T` is the
///   host's handle of an input tensor and `M` that of an output; scalars are `f64`;
/// - with `#[kernel(entry(E in [f32, f16], F = Features))]`, `static SCALE: SpecEntry`: every listed element type can
///   be chosen by text, several lists give their product, and `=` fixes a type parameter.
#[proc_macro_attribute]
pub fn kernel(attribute: TokenStream, item: TokenStream) -> TokenStream {
    finish(kernel::expand(attribute.into(), item.into()))
}

/// A tile function, or an `impl` or `trait` of them: may use `for`, `if`, comparisons, `&&` and `||` on device values.
#[proc_macro_attribute]
pub fn tile(_: TokenStream, item: TokenStream) -> TokenStream {
    finish(syn::parse::<Item>(item).and_then(|mut item| {
        let mut errors = Errors::default();
        match &mut item {
            Item::Fn(f) => rewrite::function(&mut f.attrs, &f.sig, &mut f.block, true, &mut errors),
            Item::Impl(block) => {
                for method in &mut block.items {
                    if let ImplItem::Fn(f) = method {
                        rewrite::function(&mut f.attrs, &f.sig, &mut f.block, true, &mut errors);
                    }
                }
            }
            Item::Trait(block) => {
                for method in &mut block.items {
                    if let TraitItem::Fn(f) = method
                        && let Some(body) = &mut f.default
                    {
                        rewrite::function(&mut f.attrs, &f.sig, body, true, &mut errors);
                    }
                }
            }
            other => errors.push(other, "`#[tile]` goes on a function, an `impl` or a `trait`"),
        }
        errors.into_result()?;
        Ok(quote!(#item))
    }))
}

/// Lets a struct of tiles, scalars and compile-time values live across run-time `for` and `if`.
#[proc_macro_derive(Carried)]
pub fn carried(item: TokenStream) -> TokenStream {
    finish(syn::parse(item).and_then(derive::carried))
}

fn finish(result: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    result.unwrap_or_else(syn::Error::into_compile_error).into()
}
