//! `entry(E in [f32, f16], F = Features)`: a kernel without its generics, for the command line.

use super::signature::Signature;
use crate::root::root;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Result, Token, Type, bracketed};

pub struct Entry {
    /// Type parameters that text chooses, and the choices.
    choices: Vec<(Ident, Vec<Type>)>,
    fixed: Vec<(Ident, Type)>,
}

impl Parse for Entry {
    fn parse(input: ParseStream) -> Result<Self> {
        let mut entry = Entry { choices: Vec::new(), fixed: Vec::new() };
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            if input.peek(Token![in]) {
                input.parse::<Token![in]>()?;
                let list;
                bracketed!(list in input);
                let types: Vec<Type> = Punctuated::<Type, Token![,]>::parse_terminated(&list)?.into_iter().collect();
                if types.is_empty() {
                    return Err(Error::new_spanned(&name, "an entry needs a type to choose: write `E in [f32]`"));
                }
                entry.choices.push((name, types));
            } else {
                input.parse::<Token![=]>()?;
                entry.fixed.push((name, input.parse()?));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(entry)
    }
}

impl Entry {
    pub fn expand(&self, s: &Signature) -> Result<TokenStream> {
        self.check(s)?;
        let lang = root(Span::call_site());
        let (vis, text) = (&s.vis, s.name.to_string());
        let name = format_ident!("{}", text.to_uppercase(), span = s.name.span());
        let types = self.choices.iter().map(|(name, types)| {
            let (name, types) = (name.to_string(), types.iter().map(type_name));
            quote!((#name, &[#(#types),*]))
        });
        let launch = s.launch().map(|(p, _)| {
            let (name, ty) = (p.name.to_string(), p.type_text());
            quote!((#name, #ty))
        });
        let spec = s.spec().map(|p| (p.name.to_string(), p.type_text()));
        let flags = s.optional().map(|p| (p.name.to_string(), "bool".to_string()));
        let spec = spec.chain(flags).map(|(name, ty)| quote!((#name, #ty)));
        let trace = self.choose(s, &mut Vec::new());
        Ok(quote! {
            #[doc = concat!("`", #text, "` for the command line.")]
            #vis static #name: #lang::rt::SpecEntry = #lang::rt::SpecEntry {
                name: #text,
                file: ::core::file!(),
                line: ::core::line!(),
                types: &[#(#types),*],
                launch: &[#(#launch),*],
                spec: &[#(#spec),*],
                trace: |text| { let _ = &text; #trace },
            };
        })
    }

    fn check(&self, s: &Signature) -> Result<()> {
        let named = || self.choices.iter().map(|c| &c.0).chain(self.fixed.iter().map(|f| &f.0));
        if let Some(other) = named().find(|n| !s.types.iter().any(|t| t.ident == **n)) {
            return Err(Error::new_spanned(other, format!("the kernel has no type parameter `{other}`")));
        }
        if let Some(missing) = s.types.iter().find(|t| !named().any(|n| t.ident == *n)) {
            let name = &missing.ident;
            let message = format!("the entry does not say `{name}`: add `{name} in [f32, …]` or `{name} = Type`");
            return Err(Error::new_spanned(missing, message));
        }
        Ok(())
    }

    /// Nested matches over the choices, innermost the trace itself.
    fn choose(&self, s: &Signature, chosen: &mut Vec<Type>) -> TokenStream {
        let lang = root(Span::call_site());
        let Some((name, types)) = self.choices.get(chosen.len()) else { return self.trace(s, chosen) };
        let text = name.to_string();
        let known = types.iter().map(type_name).collect::<Vec<_>>().join(", ");
        let arms: Vec<TokenStream> = types
            .iter()
            .map(|ty| {
                chosen.push(ty.clone());
                let inner = self.choose(s, chosen);
                chosen.pop();
                let text = type_name(ty);
                quote!(::core::option::Option::Some(#text) => { #inner })
            })
            .collect();
        quote! {
            match text.get(#text).map(|s| s.as_str()) {
                #(#arms)*
                ::core::option::Option::Some(other) => ::core::result::Result::Err(#lang::rt::EntryError::NoVariant {
                    name: #text,
                    got: ::std::string::String::from(other),
                    known: ::std::string::String::from(#known),
                }),
                ::core::option::Option::None => ::core::result::Result::Err(#lang::rt::EntryError::Missing(#text)),
            }
        }
    }

    fn trace(&self, s: &Signature, chosen: &[Type]) -> TokenStream {
        let lang = root(Span::call_site());
        let pick = |name: &Ident| {
            let choice = self.choices.iter().zip(chosen).find(|((n, _), _)| n == name).map(|(_, ty)| ty);
            let fixed = self.fixed.iter().find(|(n, _)| n == name).map(|(_, ty)| ty);
            choice.or(fixed).map_or_else(|| quote!(_), |ty| ty.to_token_stream())
        };
        let spec_name = &s.spec_name;
        let (of_spec, of_trace): (Vec<_>, Vec<_>) = s.types.iter().partition(|p| s.in_spec(&p.ident));
        let of_spec = of_spec.iter().map(|p| pick(&p.ident));
        let of_trace = of_trace.iter().map(|p| pick(&p.ident));
        let fields = s.spec().chain(s.optional()).map(|p| {
            let (name, text) = (&p.name, p.name.to_string());
            quote!(#name: #lang::rt::spec_field(text, #text)?)
        });
        quote! {
            #spec_name::<#(#of_spec),*> { #(#fields),* }
                .trace::<#(#of_trace),*>()
                .map_err(#lang::rt::EntryError::Trace)
        }
    }
}

/// The last word of a type, by which text chooses it.
fn type_name(ty: &Type) -> String {
    match ty {
        Type::Path(p) => p.path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default(),
        other => other.to_token_stream().to_string(),
    }
}
