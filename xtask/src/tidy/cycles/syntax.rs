//! Declarations and paths of one source file: `mod`, `use`, and names behind `::`. Tests are left out.

use crate::tidy::code::only_code;

/// The parts of a file that decide which other files it uses. `scope` is the path of inline modules around each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Syntax {
    pub(super) modules: Vec<ModuleDeclaration>,
    pub(super) uses: Vec<Use>,
    pub(super) paths: Vec<PathUse>,
    /// Items that the file defines, as scope and name.
    pub(super) items: Vec<(Vec<String>, String)>,
}

/// `mod name;` or `mod name { … }`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ModuleDeclaration {
    pub(super) scope: Vec<String>,
    pub(super) name: String,
    pub(super) is_inline: bool,
}

/// One name of a `use` declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) scope: Vec<String>,
    pub(super) path: Vec<String>,
    /// The name that it introduces; `*` for all names of a module.
    pub(super) name: String,
    pub(super) is_reexport: bool,
    pub(super) line: usize,
}

/// A path in code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathUse {
    pub(super) scope: Vec<String>,
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// Keywords that begin an item, behind its attributes.
const ITEMS: &[&str] = &[
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "macro_rules",
    "mod",
    "pub",
    "static",
    "struct",
    "trait",
    "type",
    "union",
    "unsafe",
    "use",
];

/// Keywords whose next word is the name of an item.
const NAMED: &[&str] = &["const", "enum", "fn", "macro_rules", "static", "struct", "trait", "type", "union"];

/// Parses a file.
pub(super) fn parse(source: &str) -> Syntax {
    let code = only_code(source);
    let mut parser =
        Parser { tokens: tokens(&code), at: 0, depth: 0, scopes: Vec::new(), syntax: Syntax::default() };
    parser.file();
    parser.syntax
}

fn tokens(code: &str) -> Vec<Token<'_>> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    for (line, text) in (1..).zip(code.lines()) {
        let mut rest = text.trim_start();
        while let Some(c) = rest.chars().next() {
            let length = if is_name(c) {
                rest.find(|c| !is_name(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                c.len_utf8()
            };
            let (token, after) = rest.split_at(length);
            tokens.push(Token { text: token, line });
            rest = after.trim_start();
        }
    }
    tokens
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    /// Open braces.
    depth: usize,
    /// Inline modules around the current token, with the depth inside each.
    scopes: Vec<(String, usize)>,
    syntax: Syntax,
}

impl<'a> Parser<'a> {
    /// Returns the text of a token by its distance; empty beyond the end.
    fn peek(&self, distance: usize) -> &'a str {
        self.tokens.get(self.at + distance).map_or("", |token| token.text)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |token| token.line)
    }

    fn scope(&self) -> Vec<String> {
        self.scopes.iter().map(|(name, _)| name.clone()).collect()
    }

    fn file(&mut self) {
        let mut is_public = false;
        while self.at < self.tokens.len() {
            let was_public = std::mem::take(&mut is_public);
            match self.peek(0) {
                "#" => {
                    let is_inner = self.peek(1) == "!";
                    if self.attribute() {
                        if is_inner {
                            return;
                        }
                        self.skip_item();
                    }
                }
                "pub" => {
                    self.at += 1;
                    if self.peek(0) == "(" {
                        self.skip_group();
                    }
                    is_public = true;
                }
                "mod" if matches!(self.peek(2), ";" | "{") => self.module(),
                "use" if self.peek(1) != "<" => {
                    self.at += 1;
                    self.use_tree(&[], was_public);
                }
                "{" => {
                    self.depth += 1;
                    self.at += 1;
                }
                "}" => {
                    self.depth = self.depth.saturating_sub(1);
                    self.scopes.retain(|(_, depth)| *depth <= self.depth);
                    self.at += 1;
                }
                _ => self.item_or_path(),
            }
        }
    }

    fn item_or_path(&mut self) {
        let inside = self.scopes.last().map_or(0, |(_, depth)| *depth);
        if NAMED.contains(&self.peek(0)) && self.depth == inside {
            let name = if self.peek(1) == "!" { self.peek(2) } else { self.peek(1) };
            self.syntax.items.push((self.scope(), name.to_owned()));
        }
        if !is_identifier(self.peek(0)) || self.peek(1) != "::" {
            self.at += 1;
            return;
        }
        let (scope, line) = (self.scope(), self.line());
        let is_tail = self.at > 0 && self.tokens.get(self.at - 1).is_some_and(|token| token.text == "::");
        let mut path = vec![self.peek(0).to_owned()];
        self.at += 1;
        while self.peek(0) == "::" && is_identifier(self.peek(1)) {
            path.push(self.peek(1).to_owned());
            self.at += 2;
        }
        if !is_tail && path.len() > 1 {
            self.syntax.paths.push(PathUse { scope, path, line });
        }
    }

    fn module(&mut self) {
        let (scope, name) = (self.scope(), self.peek(1).to_owned());
        let is_inline = self.peek(2) == "{";
        self.at += 3;
        if is_inline {
            self.depth += 1;
            self.scopes.push((name.clone(), self.depth));
        }
        self.syntax.modules.push(ModuleDeclaration { scope, name, is_inline });
    }

    /// Reads one tree of a `use` declaration, up to the `,`, `}` or `;` that follows it.
    fn use_tree(&mut self, prefix: &[String], is_reexport: bool) {
        let line = self.line();
        let mut path = prefix.to_vec();
        let push = |parser: &mut Self, path: Vec<String>, name: String| {
            let scope = parser.scope();
            parser.syntax.uses.push(Use { scope, path, name, is_reexport, line });
        };
        while self.at < self.tokens.len() {
            match self.peek(0) {
                "::" => self.at += 1,
                "*" => {
                    self.at += 1;
                    push(self, path, "*".to_owned());
                    return;
                }
                "{" => {
                    self.at += 1;
                    while !matches!(self.peek(0), "}" | "") {
                        self.use_tree(&path, is_reexport);
                        self.at += usize::from(self.peek(0) == ",");
                    }
                    self.at += 1;
                    return;
                }
                "as" => {
                    let name = self.peek(1).to_owned();
                    self.at += 2;
                    push(self, path, name);
                    return;
                }
                text if is_identifier(text) => {
                    // `a::{self}` is `a`.
                    if text != "self" || path.is_empty() {
                        path.push(text.to_owned());
                    }
                    self.at += 1;
                }
                _ => break,
            }
        }
        if let Some(name) = path.last().cloned() {
            push(self, path, name);
        } else {
            self.at += 1;
        }
    }

    /// Skips an attribute. Returns `true` if it limits an item, or the file, to tests.
    fn attribute(&mut self) -> bool {
        self.at += 1;
        self.at += usize::from(self.peek(0) == "!");
        if self.peek(0) != "[" {
            return false;
        }
        let inside: Vec<&str> = (1..=5).map(|distance| self.peek(distance)).collect();
        self.skip_group();
        matches!(*inside, ["cfg", "(", "test", ")", _] | ["cfg", "(", "all", "(", "test"])
    }

    /// Skips brackets of any kind, from the opening one to the one that closes it.
    fn skip_group(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.tokens.len() {
            match self.peek(0) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    /// Skips an item, a field, a variant, an arm or a statement behind an attribute.
    fn skip_item(&mut self) {
        while self.peek(0) == "#" {
            self.attribute();
        }
        let is_item = ITEMS.contains(&self.peek(0));
        while self.at < self.tokens.len() {
            match self.peek(0) {
                "{" => {
                    self.skip_group();
                    if is_item {
                        self.at += usize::from(self.peek(0) == ";");
                        return;
                    }
                }
                "(" | "[" => self.skip_group(),
                ")" | "]" | "}" => return,
                text => {
                    self.at += 1;
                    if text == ";" || text == "," && !is_item {
                        return;
                    }
                }
            }
        }
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_') && text != "as"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        let syntax = parse(source);
        let uses = syntax.uses.iter().map(|found| {
            let kind = if found.is_reexport { "pub use" } else { "use" };
            format!("{kind} {} as {}", found.path.join("::"), found.name)
        });
        let paths = syntax.paths.iter().map(|found| found.path.join("::"));
        uses.chain(paths).collect()
    }

    #[test]
    fn uses_are_expanded() {
        assert_eq!(
            paths("use crate::a::{self, b::C, d::{E as F, *}};\npub(crate) use self::g::H;\nuse super::*;"),
            [
                "use crate::a as a",
                "use crate::a::b::C as C",
                "use crate::a::d::E as F",
                "use crate::a::d as *",
                "pub use self::g::H as H",
                "use super as *",
            ]
        );
    }

    #[test]
    fn paths_in_code_are_found() {
        let source = "fn f(x: crate::a::B<super::c::D>) -> u8 { g::h::<T>(); self.i; I::J; x.k::<L>() }";
        assert_eq!(paths(source), ["crate::a::B", "super::c::D", "g::h", "I::J"]);
        assert_eq!(
            paths("pub(in crate::a) fn f() {}\n#[derive(crate::B)]\nstruct C; // crate::d::E\n"),
            [""; 0]
        );
    }

    #[test]
    fn tests_are_left_out() {
        for test in [
            "#[cfg(test)]\nmod tests { use crate::a::B; }\n",
            "#[cfg(test)]\nmod tests;\n",
            "#[cfg(all(test, feature = \"x\"))]\n#[expect(x)]\nuse crate::a::{B, C};\n",
            "#[cfg(test)]\nfn f(x: [u8; 3]) { crate::a::b(); }\n",
            "struct S { #[cfg(test)] x: crate::a::B }\n",
        ] {
            let source = format!("{test}use crate::z::Z;\n");
            assert_eq!(paths(&source), ["use crate::z::Z as Z"], "{test}");
            assert_eq!(parse(&source).modules, [], "{test}");
        }
        assert_eq!(paths("#![cfg(test)]\nuse crate::a::B;"), [""; 0]);
        assert_eq!(paths("#[cfg(any(test, unix))]\nuse crate::a::B;"), ["use crate::a::B as B"]);
    }

    #[test]
    fn modules_and_items_have_their_scope() {
        let syntax = parse(
            "mod a;\npub mod b {\n    mod c;\n    pub fn f() { g(); }\n}\nstruct S;\nimpl S { fn m() {} }\n",
        );
        let modules: Vec<_> = syntax
            .modules
            .iter()
            .map(|found| (found.scope.join("::"), &*found.name, found.is_inline))
            .collect();
        assert_eq!(
            modules,
            [(String::new(), "a", false), (String::new(), "b", true), ("b".to_owned(), "c", false)]
        );
        let items: Vec<_> = syntax.items.iter().map(|(scope, name)| (scope.join("::"), &**name)).collect();
        assert_eq!(items, [("b".to_owned(), "f"), (String::new(), "S")]);
    }
}
