//! The host side of a kernel: a struct of specialisation values, a struct of launch arguments, an entry for the command
//! line.

mod entry;
mod signature;

use crate::root::root;
use crate::{errors::Errors, rewrite};
use entry::Entry;
use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use signature::{Kind, Parameter, Signature};
use syn::spanned::Spanned;
use syn::{Error, ItemFn, MetaList, Result, TypeParam, parse_quote, parse2};

pub fn expand(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let mut f: ItemFn = parse2(item)?;
    let entry = parse_entry(attribute)?;
    let mut errors = Errors::default();
    signature::merge_where(&mut f.sig.generics, &mut errors);
    let signature = Signature::read(&f, &mut errors);
    rewrite::function(&mut f.attrs, &f.sig, &mut f.block, false, &mut errors);
    // Nobody passes a kernel's parameters by position: they are fields of the generated structs.
    f.attrs.push(parse_quote!(#[allow(clippy::too_many_arguments)]));
    errors.into_result()?;

    let arguments = arguments(&signature);
    let specialisation = specialisation(&signature);
    let entry = entry.map(|entry| entry.expand(&signature)).transpose()?;
    Ok(quote! {
        #f
        #specialisation
        #arguments
        #entry
    })
}

fn parse_entry(attribute: TokenStream) -> Result<Option<Entry>> {
    if attribute.is_empty() {
        return Ok(None);
    }
    const EXPECTED: &str = "expected `entry(E in [f32, f16], F = Features)`: the element types that text can choose, and the \
                            types of all other type parameters";
    let call: MetaList = parse2(attribute.clone()).map_err(|_| Error::new_spanned(&attribute, EXPECTED))?;
    if !call.path.is_ident("entry") {
        return Err(Error::new_spanned(call, EXPECTED));
    }
    call.parse_args().map(Some)
}

/// `struct NameArgs<T, M>` and its `bind`.
fn arguments(s: &Signature) -> TokenStream {
    let lang = root(Span::call_site());
    let (vis, name) = (&s.vis, format_ident!("{}Args", s.spec_name, span = s.name.span()));
    let text = s.name.to_string();
    let launch: Vec<(&Parameter, Kind)> = s.launch().collect();
    // A struct has no unused parameters: a kernel without inputs or outputs gets them at `bind`.
    let (inputs, outputs) = (format_ident!("T"), format_ident!("M"));
    let (mut of_struct, mut of_bind) = (Vec::new(), Vec::new());
    for (parameter, kind) in [(inputs, Kind::In), (outputs, Kind::Out)] {
        let used = launch.iter().any(|(_, k)| *k == kind);
        if used {
            of_struct.push(parameter)
        } else {
            of_bind.push(parameter)
        };
    }
    let fields = launch.iter().map(|(p, kind)| {
        let (name, doc) = (&p.name, format!("`{}`", p.type_text()));
        let handle = kind.handle();
        let ty = if p.optional { quote!(::core::option::Option<#handle>) } else { handle };
        quote! {
            #[doc = #doc]
            pub #name: #ty,
        }
    });
    let pushes = launch.iter().map(|(p, kind)| {
        let (name, text, variant) = (&p.name, p.name.to_string(), kind.variant());
        if p.optional {
            quote! {
                if let ::core::option::Option::Some(value) = self.#name {
                    all.push((#text, #lang::rt::HostValue::#variant(value)));
                }
            }
        } else {
            quote!(all.push((#text, #lang::rt::HostValue::#variant(self.#name)));)
        }
    });
    let doc = format!("What `{text}` is given at launch: tensors to read (`T`), tensors to write (`M`), and numbers.");
    quote! {
        #[doc = #doc]
        #[derive(Clone, Debug)]
        #vis struct #name<#(#of_struct),*> { #(#fields)* }

        impl<#(#of_struct),*> #name<#(#of_struct),*> {
            /// The arguments that are there, by the name of their parameter.
            #[allow(unused_mut)]
            pub fn bind<#(#of_bind),*>(self) -> ::std::vec::Vec<(&'static str, #lang::rt::HostValue<T, M>)> {
                let mut all = ::std::vec::Vec::new();
                #(#pushes)*
                all
            }
        }
    }
}

/// `struct Name` with `trace` and `key`.
fn specialisation(s: &Signature) -> TokenStream {
    let lang = root(Span::call_site());
    let (vis, function, name) = (&s.vis, &s.name, &s.spec_name);
    let text = function.to_string();
    let (of_spec, of_trace): (Vec<&TypeParam>, Vec<&TypeParam>) = s.types.iter().partition(|p| s.in_spec(&p.ident));
    let spec_ids: Vec<_> = of_spec.iter().map(|p| &p.ident).collect();
    let all_ids: Vec<_> = s.types.iter().map(|p| &p.ident).collect();
    let fields = s.spec().map(|p| {
        let (name, ty, doc) = (&p.name, &p.ty, format!("Fixed when the kernel is specialised: `{}`.", p.type_text()));
        quote! {
            #[doc = #doc]
            pub #name: #ty,
        }
    });
    let flags = s.optional().map(|p| {
        let (name, doc) = (&p.name, format!("Whether the launch parameter `{}` is there.", p.name));
        quote! {
            #[doc = #doc]
            pub #name: bool,
        }
    });
    // Each parameter's type is checked at the parameter.
    let declares = s.launch().map(|(p, _)| {
        let (name, ty, text) = (&p.name, &p.ty, p.name.to_string());
        let lang = root(ty.span());
        let presence = if p.optional { quote!(self.#name) } else { quote!(()) };
        quote_spanned!(ty.span()=> let #name: #ty = #lang::rt::LaunchParam::declare(#text, &#presence);)
    });
    let keys = s.spec().map(|p| {
        let (name, text) = (&p.name, p.name.to_string());
        let lang = root(p.ty.span());
        quote_spanned!(p.ty.span()=> #lang::rt::push_key_field(&mut key, #text, &self.#name);)
    });
    let flag_keys = s.optional().map(|p| {
        let (name, text) = (&p.name, p.name.to_string());
        quote!(#lang::rt::push_key_field(&mut key, #text, &self.#name);)
    });
    let call = s.parameters.iter().map(|p| {
        let name = &p.name;
        if p.kind.is_some() { quote!(#name) } else { quote!(::core::clone::Clone::clone(&self.#name)) }
    });
    let doc = format!("What is fixed when `{text}` is specialised; an optional launch parameter is there or not.");
    quote! {
        #[doc = #doc]
        #[derive(Clone, Debug)]
        #vis struct #name<#(#of_spec),*> { #(#fields)* #(#flags)* }

        impl<#(#of_spec),*> #name<#(#spec_ids),*> {
            /// The kernel for these values.
            ///
            /// # Errors
            /// Every shape and control-flow mistake of the body, at its line.
            #[track_caller]
            pub fn trace<#(#of_trace),*>(&self) -> ::core::result::Result<#lang::rt::Kernel, #lang::rt::Diagnostics> {
                let at = ::core::panic::Location::caller();
                #lang::rt::trace(#text, at, || {
                    #(#declares)*
                    #function::<#(#all_ids),*>(#(#call),*)
                })
            }

            /// What tells this kernel from others: its name, its types, and every value that is fixed.
            #[allow(unused_mut)]
            pub fn key<#(#of_trace),*>(&self) -> ::std::string::String {
                let mut key = ::std::string::String::from(#text);
                key.push('<');
                #(
                    key.push_str(::core::any::type_name::<#all_ids>());
                    key.push(',');
                )*
                key.push_str(">:");
                #(#keys)*
                #(#flag_keys)*
                key
            }
        }
    }
}
