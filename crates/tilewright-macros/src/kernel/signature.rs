//! A kernel's parameters: which come at launch, and which are fixed when it is specialised.

use crate::errors::Errors;
use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    FnArg, GenericArgument, GenericParam, Generics, ItemFn, Pat, PathArguments, PathSegment, ReturnType, Type,
    TypeParam, Visibility, WherePredicate,
};

/// What a launch parameter is on the host's side.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    In,
    Out,
    Number,
}

impl Kind {
    /// The type of its field among the arguments.
    pub fn handle(self) -> TokenStream {
        match self {
            Kind::In => quote!(T),
            Kind::Out => quote!(M),
            Kind::Number => quote!(f64),
        }
    }

    /// Its `HostValue`.
    pub fn variant(self) -> TokenStream {
        match self {
            Kind::In => quote!(In),
            Kind::Out => quote!(Out),
            Kind::Number => quote!(Scalar),
        }
    }
}

pub struct Parameter {
    pub name: Ident,
    pub ty: Type,
    /// `None` for a specialisation value.
    pub kind: Option<Kind>,
    /// An `Option` of a launch parameter.
    pub optional: bool,
}

impl Parameter {
    /// The type as a person writes it.
    pub fn type_text(&self) -> String {
        let text = self.ty.to_token_stream().to_string();
        [(" < ", "<"), (" <", "<"), ("< ", "<"), (" >", ">"), (" ,", ","), (" :: ", "::")]
            .iter()
            .fold(text, |text, (from, to)| text.replace(from, to))
    }
}

pub struct Signature {
    pub vis: Visibility,
    pub name: Ident,
    /// The struct of specialisation values: the name in camel case.
    pub spec_name: Ident,
    pub types: Vec<TypeParam>,
    pub parameters: Vec<Parameter>,
}

/// Names that a generated struct would hide from the kernel's own file.
const TAKEN: [&str; 34] = [
    "Option", "Some", "None", "Result", "Ok", "Err", "Vec", "String", "Box", "Clone", "Copy", "Debug", "Default",
    "Drop", "Eq", "Fn", "FnMut", "FnOnce", "From", "Into", "Iterator", "Ord", "Send", "Sync", "Sized", "Tile",
    "Scalar", "View", "ViewMut", "Element", "Float", "Int", "Number", "Carried",
];

impl Signature {
    pub fn read(f: &ItemFn, errors: &mut Errors) -> Signature {
        let sig = &f.sig;
        if !matches!(sig.output, ReturnType::Default) {
            errors.push(&sig.output, "a kernel returns nothing: store its result to a `ViewMut` parameter");
        }
        let mut types = Vec::new();
        for parameter in &sig.generics.params {
            match parameter {
                GenericParam::Type(t) => types.push(t.clone()),
                GenericParam::Lifetime(l) => {
                    errors.push(l, "a kernel has no lifetime parameters: its parameters are values")
                }
                GenericParam::Const(c) => {
                    errors.push(c, "a kernel has no const parameters: write `name: usize` among its parameters")
                }
            }
        }
        let mut parameters = Vec::new();
        for input in &sig.inputs {
            let named = match input {
                FnArg::Typed(typed) => match &*typed.pat {
                    Pat::Ident(p) if p.by_ref.is_none() && p.subpat.is_none() => Some((p, &*typed.ty)),
                    _ => None,
                },
                FnArg::Receiver(_) => None,
            };
            let Some((pat, ty)) = named else {
                errors.push(input, "a kernel parameter is written `name: Type`");
                continue;
            };
            if let Type::Reference(r) = ty {
                errors.push(r, "a kernel takes its parameters by value: remove the `&`");
            }
            if let Type::ImplTrait(i) = ty {
                errors.push(i, "a kernel's type parameters have names: write `F: Feature` and `features: F`");
            }
            let (kind, optional) = classify(ty);
            parameters.push(Parameter { name: pat.ident.clone(), ty: ty.clone(), kind, optional });
        }
        let name = sig.ident.clone();
        let camel = camel_case(&name.to_string());
        if TAKEN.contains(&camel.as_str()) {
            let message = format!(
                "the specialisation struct of this kernel would be called `{camel}` and hide a type of that name: call the \
                 kernel something longer, such as `{name}_kernel`"
            );
            errors.push(&name, message);
        }
        let spec_name = Ident::new(&camel, name.span());
        Signature { vis: f.vis.clone(), name, spec_name, types, parameters }
    }

    pub fn launch(&self) -> impl Iterator<Item = (&Parameter, Kind)> {
        self.parameters.iter().filter_map(|p| Some((p, p.kind?)))
    }

    pub fn spec(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(|p| p.kind.is_none())
    }

    pub fn optional(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(|p| p.optional)
    }

    /// Whether a specialisation value's type mentions this type parameter.
    pub fn in_spec(&self, ty: &Ident) -> bool {
        self.spec().any(|p| mentions(p.ty.to_token_stream(), ty))
    }
}

/// Bounds of a `where` clause, moved to the type parameters: the generated structs need them there.
pub fn merge_where(generics: &mut Generics, errors: &mut Errors) {
    let Some(clause) = generics.where_clause.take() else { return };
    for predicate in clause.predicates {
        let target = match &predicate {
            WherePredicate::Type(p) => match &p.bounded_ty {
                Type::Path(path) if p.lifetimes.is_none() => path.path.get_ident().cloned(),
                _ => None,
            },
            _ => None,
        };
        let parameter = generics.type_params_mut().find(|t| Some(&t.ident) == target.as_ref());
        match (parameter, predicate) {
            (Some(parameter), WherePredicate::Type(p)) => parameter.bounds.extend(p.bounds),
            (_, other) => errors.push(other, "a kernel's bounds are on its type parameters: write `E: Float`"),
        }
    }
}

fn camel_case(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let mut chars = word.chars();
            chars.next().map(|c| c.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
        })
        .collect()
}

fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(i) => i == *name,
        TokenTree::Group(g) => mentions(g.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(p) => p.path.segments.last(),
        _ => None,
    }
}

fn classify(ty: &Type) -> (Option<Kind>, bool) {
    let Some(segment) = last_segment(ty) else { return (None, false) };
    let kind = |name: &str| match name {
        "View" => Some(Kind::In),
        "ViewMut" => Some(Kind::Out),
        "Scalar" => Some(Kind::Number),
        _ => None,
    };
    let name = segment.ident.to_string();
    if name != "Option" {
        return (kind(&name), false);
    }
    let inner = match &segment.arguments {
        PathArguments::AngleBracketed(a) => match a.args.first() {
            Some(GenericArgument::Type(t)) => last_segment(t).and_then(|s| kind(&s.ident.to_string())),
            _ => None,
        },
        _ => None,
    };
    (inner, inner.is_some())
}
