//! The path under which generated code finds the language.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote_spanned;
use std::sync::OnceLock;

/// How the crate being compiled reaches the language.
enum Root {
    /// Through the one crate that users depend on, under this name.
    Facade(String),
    /// Directly, under this name.
    Language(String),
}

/// The language's crate as a path, at this span: directly where a crate depends on it, or else through the facade.
pub fn root(span: Span) -> TokenStream {
    static ROOT: OnceLock<Root> = OnceLock::new();
    let found = ROOT.get_or_init(|| match (crate_name("tilewright-lang"), crate_name("tilewright")) {
        (Ok(FoundCrate::Name(name)), _) => Root::Language(name),
        (Err(_), Ok(FoundCrate::Name(name))) => Root::Facade(name),
        // Inside the language, which declares itself as an extern crate; and without a manifest, as when rustc is called
        // by hand.
        (Ok(FoundCrate::Itself), _) | (Err(_), Ok(FoundCrate::Itself) | Err(_)) => {
            Root::Language("tilewright_lang".into())
        }
    });
    match found {
        Root::Facade(name) => {
            let name = Ident::new(name, span);
            quote_spanned!(span=> ::#name::lang)
        }
        Root::Language(name) => {
            let name = Ident::new(name, span);
            quote_spanned!(span=> ::#name)
        }
    }
}
