//! `#[derive(Tree)]`: the leaves of a struct or enum are those of its fields, named by them.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Field, Fields, parse_macro_input, parse_quote, spanned::Spanned};

/// Implements `Tree` for a struct or enum.
///
/// Every field must be a `Tree`, but for those marked `#[tree(skip)]`, which are cloned. `#[tree(state)]` marks
/// what is carried and not differentiated.
#[proc_macro_derive(Tree, attributes(tree))]
pub fn derive_tree(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(input).unwrap_or_else(|error| error.into_compile_error()).into()
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Parameter,
    State,
    Skip,
}

fn kind(field: &Field) -> syn::Result<Kind> {
    let mut kind = Kind::Parameter;
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("tree")) {
        attribute.parse_nested_meta(|meta| {
            kind = match meta.path.get_ident().map(|ident| ident.to_string()).as_deref() {
                Some("state") => Kind::State,
                Some("skip") => Kind::Skip,
                _ => return Err(meta.error("unknown; it is #[tree(state)] or #[tree(skip)]")),
            };
            Ok(())
        })?;
    }
    Ok(kind)
}

fn expand(mut input: DeriveInput) -> syn::Result<Tokens> {
    let variants: Vec<(Tokens, Fields)> = match &input.data {
        Data::Struct(data) => vec![(quote!(Self), data.fields.clone())],
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| {
                let name = &variant.ident;
                (quote!(Self::#name), variant.fields.clone())
            })
            .collect(),
        Data::Union(data) => return Err(syn::Error::new(data.union_token.span(), "a union cannot be a Tree")),
    };
    for parameter in input.generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(::chainrule::tree::Tree));
    }
    let mut visits = Vec::new();
    let mut maps = Vec::new();
    for (name, fields) in &variants {
        let (visit, map) = arms(name, fields)?;
        visits.push(visit);
        maps.push(map);
    }
    let name = &input.ident;
    let (generics, types, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics ::chainrule::tree::Tree for #name #types #bounds {
            fn visit(
                &self,
                path: &mut ::chainrule::tree::Path,
                function: &mut dyn FnMut(&::chainrule::tree::Path, &::chainrule::tensor::Tensor),
            ) {
                let _ = (&path, &function);
                match self { #(#visits)* }
            }
            fn map(
                &self,
                path: &mut ::chainrule::tree::Path,
                function: &mut dyn FnMut(
                    &::chainrule::tree::Path,
                    &::chainrule::tensor::Tensor,
                ) -> ::chainrule::tensor::Tensor,
            ) -> Self {
                let _ = (&path, &function);
                match self { #(#maps)* }
            }
        }
    })
}

/// The `visit` and `map` arms of one struct or variant.
fn arms(name: &Tokens, fields: &Fields) -> syn::Result<(Tokens, Tokens)> {
    let mut patterns = Vec::new();
    let mut visits = Vec::new();
    let mut maps = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let binding = format_ident!("field_{index}");
        let member = match &field.ident {
            Some(ident) => quote!(#ident),
            None => {
                let index = syn::Index::from(index);
                quote!(#index)
            }
        };
        let segment = field.ident.as_ref().map_or(index.to_string(), |ident| ident.to_string());
        let segment = segment.trim_start_matches("r#").to_owned();
        patterns.push(quote!(#member: #binding));
        let enter = match kind(field)? {
            Kind::Parameter => quote!(enter),
            Kind::State => quote!(enter_state),
            Kind::Skip => {
                visits.push(quote!(let _ = #binding;));
                maps.push(quote!(#member: ::core::clone::Clone::clone(#binding)));
                continue;
            }
        };
        visits.push(quote! {
            path.#enter(#segment, |path| ::chainrule::tree::Tree::visit(#binding, path, function));
        });
        maps.push(quote! {
            #member: path.#enter(#segment, |path| ::chainrule::tree::Tree::map(#binding, path, function))
        });
    }
    Ok((quote!(#name { #(#patterns),* } => { #(#visits)* }), quote!(#name { #(#patterns),* } => #name { #(#maps),* },)))
}
