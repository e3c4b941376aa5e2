//! Rules about words: a list of refused ones, and a list of ones to review, which `cargo xtask tidy --words` counts.
//!
//! Comments, texts, literals and names are searched. Phrases are found across a line break, and across the parts of a
//! name. The glossary, licences, lock files and fixtures are exempt.

mod blocks;

use std::fmt::Write as _;
use std::path::Path;

use self::blocks::{Word, blocks};
use super::finding::Finding;
use crate::workspace::File;

/// A word or phrase.
struct Term {
    /// For each word of the phrase its accepted forms. (Single words are concatenated so that this file is not a match.)
    words: &'static [&'static [&'static str]],
    /// Words that permit the term if they follow it.
    unless_followed_by: &'static [&'static str],
    /// The usual words.
    usual: &'static str,
}

const fn term(words: &'static [&'static [&'static str]], usual: &'static str) -> Term {
    Term { words, unless_followed_by: &[], usual }
}

const REFUSED: &[Term] = &[
    term(&[&[concat!("who", "ever")]], "anyone who, a caller that"),
    term(&[&[concat!("an", "ew")]], "again"),
    term(&[&[concat!("be", "side")]], "next to, alongside"),
    term(&[&["in"], &["the"], &["midst"]], "in the middle of"),
    term(&[&["let", "lets", "letting"], &["go"]], "releases"),
    term(&[&["put", "puts", "putting"], &["away"]], "quarantines, removes"),
    term(
        &[&[concat!("me", "nd"), concat!("me", "nds"), concat!("me", "nded"), concat!("me", "nding")]],
        "repairs",
    ),
    term(&[&["take", "takes", "taking", "took", "taken"], &["back"]], "undoes, removes"),
    term(&[&["count", "counts", "counting", "counted"], &["as"]], "is treated as"),
    term(&[&["a"], &["work"]], "the work, a job"),
    Term { words: &[&[concat!("to", "ld")]], unless_followed_by: &["apart"], usual: "reported, notified" },
    term(&[&["stand", "stands", "standing", "stood"], &["still"]], "pauses"),
];

const REVIEWED: &[Term] = &[
    term(&[&["makes"]], "creates, builds"),
    term(&[&["tell", "tells", "telling"]], "report, distinguish"),
    term(&[&["at"], &["once"]], "immediately; concurrently"),
    term(&[&["stands"]], "is"),
    term(&[&["look", "looks", "looking", "looked"], &["at"]], "reads, checks"),
    term(&[&["go", "goes", "going", "went"], &["on"]], "continues, resumes"),
    term(&[&["nobody"]], "no process, no caller, no user"),
    term(&[&["somebody"]], "a process, a caller, a user"),
    term(&[&["anybody"]], "any process, any caller, any user"),
    term(&[&["whatever"]], "any, all"),
    term(&[&["one"], &["that"]], "the noun"),
    term(&[&["that"], &["one"]], "the noun"),
];

impl Term {
    /// Returns the base form, which names the term.
    fn name(&self) -> String {
        let first: Vec<&str> = self.words.iter().filter_map(|forms| forms.first().copied()).collect();
        first.join(" ")
    }

    /// Returns each place in a block: the line, and the text as it is there.
    fn places(&self, words: &[Word]) -> Vec<(usize, String)> {
        let matches = |window: &&[Word]| {
            let same = |(forms, word): (&&[&str], &Word)| forms.contains(&&*word.text);
            self.words.iter().zip(window.iter()).all(same) && window.iter().skip(1).all(|word| word.follows)
        };
        let place = |(at, window): (usize, &[Word])| {
            let next = words.get(at + window.len()).filter(|word| word.follows);
            let permitted = next.is_some_and(|word| self.unless_followed_by.contains(&&*word.text));
            let text = window.iter().map(|word| &*word.text).collect::<Vec<_>>().join(" ");
            let line = window.first().map_or(0, |word| word.line);
            (!permitted).then_some((line, text))
        };
        let windows = words.windows(self.words.len()).enumerate();
        windows.filter(|(_, window)| matches(window)).filter_map(place).collect()
    }
}

/// Finds refused words in the text and in the path of a file.
pub(super) fn check(file: &File) -> Vec<Finding> {
    if is_exempt(&file.path) {
        return Vec::new();
    }
    let blocks = blocks(file);
    let mut findings = Vec::new();
    for term in REFUSED {
        for (line, text) in blocks.iter().flat_map(|block| term.places(block)) {
            let message = format!("`{text}` is refused: write {}", term.usual);
            findings.push(Finding::new(&file.path, line, message));
        }
    }
    findings.sort_by_key(|finding| finding.line);
    findings
}

/// Formats the counts of the words to review, or the places of one of them.
///
/// # Errors
/// A word that is not in the list.
pub(super) fn review(files: &[File], word: Option<&str>) -> Result<String, String> {
    let files: Vec<(&File, Vec<Vec<Word>>)> =
        files.iter().filter(|file| !is_exempt(&file.path)).map(|file| (file, blocks(file))).collect();
    let places = |term: &Term| -> Vec<(String, usize, String)> {
        let in_file = |(file, blocks): &(&File, Vec<Vec<Word>>)| {
            let places = blocks.iter().flat_map(|block| term.places(block));
            places.map(|(line, text)| (file.path.clone(), line, text)).collect::<Vec<_>>()
        };
        files.iter().flat_map(in_file).collect()
    };
    let mut text = String::new();
    let Some(word) = word else {
        for term in REVIEWED {
            let _ = writeln!(text, "{:>5}  {:10}  {}", places(term).len(), term.name(), term.usual);
        }
        return Ok(text);
    };
    let term = REVIEWED.iter().find(|term| {
        let mut parts = word.split_whitespace();
        term.words.iter().all(|forms| parts.next().is_some_and(|part| forms.contains(&part)))
            && parts.next().is_none()
    });
    let Some(term) = term else {
        let names: Vec<_> = REVIEWED.iter().map(Term::name).collect();
        return Err(format!("`{word}` is not reviewed: the words are {}", names.join(", ")));
    };
    for (path, line, found) in places(term) {
        let _ = writeln!(text, "{path}:{line}: {found}");
    }
    Ok(text)
}

fn is_exempt(path: &str) -> bool {
    let name = Path::new(path).file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    path == "docs/glossary.md"
        || path.split('/').any(|part| part == "fixtures")
        || name.starts_with("LICENSE")
        || name.ends_with(".lock")
}

#[cfg(test)]
mod tests;
