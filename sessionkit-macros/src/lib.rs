//! The attributes `#[sessionkit::main]` and `#[sessionkit::test]`. Use them through `sessionkit`, which documents them
//! with examples.
//!
//! Both leave the function as it is, and put it inside another one of the same name and signature:
//!
//! ```text
//! fn main() -> R {
//!     async fn main() -> R { … }
//!     ::sessionkit::runner::supervise_main();
//!     ::sessionkit::__private::block_on(Flavor::MultiThread, main())
//! }
//! ```
//!
//! They only move tokens, so they need no parser: this crate has no dependencies.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// Starts a Tokio runtime for an `async fn main`, like `#[tokio::main]`, in a program that may run other programs as
/// sessions. See `sessionkit::main`.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(&arguments, item, Kind::Main)
}

/// Declares an `async fn` as a test that may run programs as sessions, like `#[tokio::test]`. See `sessionkit::test`.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(&arguments, item, Kind::Test)
}

#[derive(Clone, Copy)]
enum Kind {
    Main,
    Test,
}

fn expand(arguments: &TokenStream, item: TokenStream, kind: Kind) -> TokenStream {
    let flavor = match flavor(&arguments.to_string(), kind) {
        Ok(flavor) => flavor,
        Err(message) => return error(&message),
    };
    match Function::parse(item) {
        Some(function) => function.wrapped(flavor, kind),
        None => error("expected a function with a body"),
    }
}

/// Returns the runtime's flavor: the argument, or the default of Tokio's attribute.
fn flavor(arguments: &str, kind: Kind) -> Result<&'static str, String> {
    match (arguments.replace(' ', "").as_str(), kind) {
        ("flavor=\"multi_thread\"", _) | ("", Kind::Main) => Ok("MultiThread"),
        ("flavor=\"current_thread\"", _) | ("", Kind::Test) => Ok("CurrentThread"),
        _ => Err(format!(
            "unknown argument `{arguments}`: use `flavor = \"multi_thread\"` or `flavor = \"current_thread\"`"
        )),
    }
}

/// A function, in parts.
struct Function {
    /// Attributes and visibility.
    before: Vec<TokenTree>,
    is_async: bool,
    name: Ident,
    /// The arguments and the result type.
    signature: Vec<TokenTree>,
    body: TokenTree,
}

impl Function {
    fn parse(item: TokenStream) -> Option<Self> {
        let mut tokens: Vec<_> = item.into_iter().collect();
        let body = tokens.pop().filter(
            |token| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace),
        )?;
        let is_word =
            |token: &TokenTree, word| matches!(token, TokenTree::Ident(ident) if ident.to_string() == word);
        let function = tokens.iter().position(|token| is_word(token, "fn"))?;
        let mut after = tokens.split_off(function).into_iter().skip(1);
        let Some(TokenTree::Ident(name)) = after.next() else { return None };
        let is_async = tokens.last().is_some_and(|token| is_word(token, "async"));
        tokens.truncate(tokens.len() - usize::from(is_async));
        Some(Self { before: tokens, is_async, name, signature: after.collect(), body })
    }

    /// Returns the function inside another one, which prepares supervision and runs it.
    fn wrapped(self, flavor: &str, kind: Kind) -> TokenStream {
        let Self { before, is_async, name, signature, body } = self;
        let prepare = match kind {
            Kind::Main => "::sessionkit::runner::supervise_main();".to_owned(),
            Kind::Test => {
                format!(
                    "::sessionkit::runner::supervise_test(::core::module_path!(), {:?});",
                    name.to_string()
                )
            }
        };
        let call = if is_async {
            format!("::sessionkit::__private::block_on(::sessionkit::__private::Flavor::{flavor}, {name}())")
        } else {
            format!("{name}()")
        };
        let word = |text| TokenTree::Ident(Ident::new(text, Span::call_site()));
        let mut inside: Vec<TokenTree> = Vec::new();
        inside.extend(is_async.then(|| word("async")));
        inside.extend([word("fn"), TokenTree::Ident(name.clone())]);
        inside.extend(signature.iter().cloned());
        inside.push(body);
        inside.extend(tokens(&prepare));
        inside.extend(tokens(&call));
        let mut function: Vec<TokenTree> = Vec::new();
        if let Kind::Test = kind {
            function.extend(tokens("#[::core::prelude::v1::test]"));
        }
        function.extend(before);
        function.extend([word("fn"), TokenTree::Ident(name)]);
        function.extend(signature);
        function.push(TokenTree::Group(Group::new(Delimiter::Brace, inside.into_iter().collect())));
        function.into_iter().collect()
    }
}

fn tokens(text: &str) -> TokenStream {
    text.parse().expect("it is Rust")
}

fn error(message: &str) -> TokenStream {
    tokens(&format!("::core::compile_error!({message:?});"))
}
