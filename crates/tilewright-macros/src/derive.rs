//! `#[derive(Carried)]`.

use crate::root::root;
use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Index, Result, parse_quote};

pub fn carried(mut input: DeriveInput) -> Result<TokenStream> {
    let lang = root(Span::call_site());
    let Data::Struct(data) = &input.data else {
        let message = "`Carried` is for structs: which variant an enum holds is a compile-time choice";
        return Err(Error::new_spanned(&input.ident, message));
    };
    let visits = data.fields.iter().enumerate().map(|(i, field)| {
        let ty = &field.ty;
        let lang = root(ty.span());
        let name = match &field.ident {
            Some(name) => quote!(#name),
            None => {
                let index = Index::from(i);
                quote!(#index)
            }
        };
        quote!(<#ty as #lang::rt::Carried>::visit(&mut self.#name, __visitor);)
    });
    let visits: Vec<TokenStream> = visits.collect();
    for parameter in input.generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(#lang::rt::Carried));
    }
    let name = &input.ident;
    let visitor = format_ident!("__visitor");
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics #lang::rt::Carried for #name #arguments #bounds {
            fn visit(&mut self, #visitor: &mut dyn #lang::rt::Visitor) {
                #(#visits)*
            }
        }

        impl #generics #lang::rt::Assignable for #name #arguments #bounds {}
    })
}
