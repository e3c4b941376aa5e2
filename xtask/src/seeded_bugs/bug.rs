//! A seeded bug: a patch whose header describes the bug, the damage to a user, and the suite that has to detect it.

use std::error::Error;
use std::fmt;
use std::path::Path;

use crate::workspace::File;

/// The folder of the patches, relative to the root.
pub(crate) const FOLDER: &str = "session-testkit/seeded-bugs/";

/// A seeded bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bug {
    /// The name of the patch file without its extension.
    pub(crate) name: String,
    /// One line.
    pub(crate) description: String,
    pub(crate) suite: Suite,
    /// The files that it changes, relative to the root; at least one.
    pub(crate) files: Vec<String>,
}

/// A call of `cargo test` that has to detect a bug.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Suite {
    /// The arguments of `cargo`, without those of the harness.
    pub(crate) cargo: Vec<String>,
    /// The arguments of the test harness.
    pub(crate) harness: Vec<String>,
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo {}", self.cargo.join(" "))?;
        if self.harness.is_empty() { Ok(()) } else { write!(f, " -- {}", self.harness.join(" ")) }
    }
}

impl Suite {
    /// Parses a part of `cargo xtask test`: tests of one crate, with all its features.
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace().map(str::to_owned);
        let cargo: Vec<String> = words.by_ref().take_while(|word| word != "--").collect();
        let parts: Vec<&str> = cargo.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["cargo", "test", "-p", _, "--all-features", ..] => {
                Ok(Self { cargo: cargo.into_iter().skip(1).collect(), harness: words.collect() })
            }
            _ => Err(format!("`{text}` does not begin with `cargo test -p CRATE --all-features`")),
        }
    }

    /// Returns the crate under test.
    pub(crate) fn package(&self) -> &str {
        self.cargo.get(2).map_or("", String::as_str)
    }
}

impl Bug {
    /// Parses a patch file.
    ///
    /// # Errors
    /// The part that is missing or wrong.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let (header, _) = text.split_once("\n--- ").ok_or("the patch has no diff")?;
        let field = |field: &str| {
            let line = header.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
            let line = line.map(str::trim).filter(|line| !line.is_empty());
            line.ok_or_else(|| format!("the header has no line `{field}: …`"))
        };
        field("Lost")?;
        let changed = text.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        let files: Vec<String> = changed.map(|path| path.trim_end().to_owned()).collect();
        if files.is_empty() {
            return Err("the patch changes no file: its paths must begin with `a/` and `b/`".to_owned());
        }
        let (description, suite) = (field("Bug")?.to_owned(), Suite::parse(field("Caught by")?)?);
        Ok(Self { name: name.to_owned(), description, suite, files })
    }

    /// Returns the folder of the crate that it changes; the first, if there are several.
    pub(crate) fn package(&self) -> String {
        self.files.first().and_then(|file| file.split('/').next()).unwrap_or_default().to_owned()
    }

    /// Returns the path of the patch, relative to the root.
    pub(crate) fn path(&self) -> String {
        format!("{FOLDER}{}.patch", self.name)
    }
}

/// Returns the patches among the files.
pub(crate) fn patches(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.path.starts_with(FOLDER) && file.is("patch"))
}

/// Parses all patches.
///
/// # Errors
/// The first patch with an invalid header.
pub(crate) fn read_all(files: &[File]) -> Result<Vec<Bug>, Box<dyn Error>> {
    patches(files)
        .map(|file| {
            let bug = Bug::parse(&name_of(file), &file.text);
            bug.map_err(|error| format!("{}: {error}", file.path).into())
        })
        .collect()
}

/// Returns the name of the bug in a file.
pub(crate) fn name_of(file: &File) -> String {
    Path::new(&file.path).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "Bug: it forgets.\nLost: what was kept.\n\
        Caught by: cargo test -p a --all-features --test x -- one\n\n\
        --- a/a/src/lib.rs\n+++ b/a/src/lib.rs\n@@ -1 +1 @@\n-a\n+b\n";

    #[test]
    fn the_header_has_description_and_suite() {
        let bug = Bug::parse("forgets", PATCH).unwrap();
        assert_eq!((&*bug.description, &*bug.package(), bug.suite.package()), ("it forgets.", "a", "a"));
        assert_eq!(bug.suite.cargo, ["test", "-p", "a", "--all-features", "--test", "x"]);
        assert_eq!(bug.suite.harness, ["one"]);
        assert_eq!(bug.suite.to_string(), "cargo test -p a --all-features --test x -- one");
        assert_eq!(bug.path(), "session-testkit/seeded-bugs/forgets.patch");
    }

    #[test]
    fn a_missing_part_is_named() {
        for (part, replacement, expected) in [
            ("Bug: it forgets.", "", "`Bug: …`"),
            ("Lost: what was kept.", "Lost: ", "`Lost: …`"),
            ("Caught by: ", "By: ", "`Caught by: …`"),
            ("cargo test -p a --all-features", "cargo test", "does not begin"),
            ("--- a", "+++ a", "no diff"),
            ("+++ b", "+++ c", "no file"),
        ] {
            let error = Bug::parse("forgets", &PATCH.replace(part, replacement)).unwrap_err();
            assert!(error.contains(expected), "{part}: {error}");
        }
    }
}
