//! The modules of a crate, and the resolution of paths to the files that define their names.

use std::collections::BTreeMap;

use super::graph::Edge;
use super::syntax::{Syntax, Use, parse};

/// Limit of re-exports that are followed for one name, against circular ones.
const MAX_REEXPORTS: usize = 16;

/// A module. Inline modules share the file of their parent.
#[derive(Debug)]
struct Module<'a> {
    file: &'a str,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// Imports and re-exports, which child modules can name through this one.
    uses: Vec<Use>,
    items: Vec<String>,
}

/// The target of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target<'a> {
    Module(usize),
    /// An item that this file defines.
    Item(&'a str),
}

/// Finds the uses between the files of a crate; the first one for each pair of files. Paths are relative to `src`.
pub(super) fn edges(sources: &BTreeMap<&str, &str>) -> Vec<Edge> {
    let parsed: BTreeMap<&str, Syntax> = sources.iter().map(|(path, text)| (*path, parse(text))).collect();
    let is_root = |path: &&str| {
        matches!(*path, "lib.rs" | "main.rs")
            || path.strip_prefix("bin/").is_some_and(|name| !name.contains('/'))
    };
    let mut edges: BTreeMap<(&str, &str), Edge> = BTreeMap::new();
    for root in parsed.keys().copied().filter(is_root) {
        let tree = Tree::build(root, &parsed);
        for (from, to, example, line) in tree.uses(&parsed) {
            let edge = || Edge { from: from.to_owned(), to: to.to_owned(), example, line };
            edges.entry((from, to)).or_insert_with(edge);
        }
    }
    edges.into_values().collect()
}

#[derive(Debug)]
struct Tree<'a> {
    /// The first one is the root.
    modules: Vec<Module<'a>>,
    /// The module of a file and of a path of inline modules in it.
    by_scope: BTreeMap<(&'a str, Vec<String>), usize>,
}

impl<'a> Tree<'a> {
    fn build(root: &'a str, parsed: &BTreeMap<&'a str, Syntax>) -> Self {
        let mut tree = Self { modules: Vec::new(), by_scope: BTreeMap::new() };
        tree.add(root, &[], None, parsed);
        tree
    }

    /// Adds a module, and all modules that it declares.
    fn add(
        &mut self,
        file: &'a str,
        scope: &[String],
        parent: Option<usize>,
        parsed: &BTreeMap<&'a str, Syntax>,
    ) -> usize {
        let index = self.modules.len();
        let Some(syntax) = parsed.get(file) else { return index };
        let uses = syntax.uses.iter().filter(|found| found.scope == scope).cloned().collect();
        let items =
            syntax.items.iter().filter(|(found, _)| *found == scope).map(|(_, name)| name.clone()).collect();
        self.modules.push(Module { file, parent, children: BTreeMap::new(), uses, items });
        self.by_scope.insert((file, scope.to_vec()), index);
        for declaration in syntax.modules.iter().filter(|declaration| declaration.scope == scope) {
            let mut inner = scope.to_vec();
            inner.push(declaration.name.clone());
            let child = if declaration.is_inline {
                self.add(file, &inner, Some(index), parsed)
            } else {
                let Some(child) = file_of(file, &inner, parsed) else { continue };
                self.add(child, &[], Some(index), parsed)
            };
            if let Some(module) = self.modules.get_mut(index) {
                module.children.insert(declaration.name.clone(), child);
            }
        }
        index
    }

    /// Lists the uses of other files: from, to, example and line.
    fn uses(&self, parsed: &BTreeMap<&'a str, Syntax>) -> Vec<(&'a str, &'a str, String, usize)> {
        let mut found = Vec::new();
        for ((file, scope), module) in &self.by_scope {
            let Some(syntax) = parsed.get(file) else { continue };
            let uses = syntax.uses.iter().filter(|one| !one.is_reexport && one.scope == *scope);
            let uses = uses.map(|one| (&one.path, one.line));
            let paths =
                syntax.paths.iter().filter(|one| one.scope == *scope).map(|one| (&one.path, one.line));
            for (path, line) in uses.chain(paths) {
                let target = match self.resolve(*module, path, 0) {
                    Some(Target::Module(module)) => self.modules.get(module).map(|module| module.file),
                    Some(Target::Item(file)) => Some(file),
                    None => None,
                };
                if let Some(target) = target.filter(|target| target != file) {
                    found.push((*file, target, path.join("::"), line));
                }
            }
        }
        found
    }

    /// Resolves a path of a module. Returns `None` for names of other crates.
    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<Target<'a>> {
        let (first, mut rest) = path.split_first()?;
        let mut module = match &**first {
            "crate" => 0,
            "self" => from,
            "super" => self.modules.get(from)?.parent?,
            name => *self.modules.get(from)?.children.get(name)?,
        };
        while let Some(("super", after)) = rest.split_first().map(|(first, after)| (&**first, after)) {
            module = self.modules.get(module)?.parent?;
            rest = after;
        }
        self.descend(module, rest, depth)
    }

    /// Resolves the rest of a path inside a module.
    fn descend(&self, at: usize, path: &[String], depth: usize) -> Option<Target<'a>> {
        let Some((name, rest)) = path.split_first() else { return Some(Target::Module(at)) };
        let module = self.modules.get(at)?;
        if let Some(child) = module.children.get(name) {
            return self.descend(*child, rest, depth);
        }
        if depth < MAX_REEXPORTS {
            if let Some(found) = module.uses.iter().find(|found| found.name == *name) {
                return match self.resolve(at, &found.path, depth + 1)? {
                    Target::Module(module) => self.descend(module, rest, depth + 1),
                    item @ Target::Item(_) => Some(item),
                };
            }
            for glob in module.uses.iter().filter(|found| found.name == "*") {
                if let Some(Target::Module(inner)) = self.resolve(at, &glob.path, depth + 1)
                    && inner != at
                    && self.defines(inner, name)
                {
                    return self.descend(inner, path, depth + 1);
                }
            }
        }
        Some(Target::Item(module.file))
    }

    fn defines(&self, module: usize, name: &String) -> bool {
        self.modules.get(module).is_some_and(|module| {
            module.children.contains_key(name)
                || module.items.contains(name)
                || module.uses.iter().any(|found| found.name == *name)
        })
    }
}

/// Finds the file of a module that a file declares, by the path of inline modules and its name.
fn file_of<'a>(declared_in: &str, path: &[String], parsed: &BTreeMap<&'a str, Syntax>) -> Option<&'a str> {
    let (folder, name) =
        declared_in.rsplit_once('/').map_or(("", declared_in), |(folder, name)| (folder, name));
    let stem = match name {
        "lib.rs" | "main.rs" | "mod.rs" => None,
        _ => name.strip_suffix(".rs"),
    };
    let parts = [folder].into_iter().filter(|folder| !folder.is_empty()).chain(stem);
    let base = parts.chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join("/");
    [format!("{base}.rs"), format!("{base}/mod.rs")]
        .iter()
        .find_map(|path| parsed.get_key_value(&**path).map(|(path, _)| *path))
}
