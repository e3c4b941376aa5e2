//! Files as blocks of words: a block is a run of text in which a phrase may continue on the next line.

use crate::tidy::code::{Kind, Segment, segments};
use crate::workspace::File;

/// A run of text.
#[derive(Debug)]
struct Block {
    /// Without markers of comments, with its line breaks.
    text: String,
    /// The first line, from 1.
    line: usize,
    /// `true` for source code: there words follow each other within a name only.
    is_code: bool,
}

/// A word in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) line: usize,
    /// `true` if a phrase may continue from the previous word to this one.
    pub(super) follows: bool,
}

/// Ends a paragraph: no phrase continues across it.
const BREAK: &str = ".";

/// Splits a file into blocks of words. Its path is one of them.
pub(super) fn blocks(file: &File) -> Vec<Vec<Word>> {
    let path = Block { text: file.path.replace('/', BREAK), line: 1, is_code: false };
    let text = if file.is("rs") {
        source_blocks(&file.text)
    } else if file.is("md") {
        vec![prose(&file.text, markdown_line)]
    } else if file.is("patch") {
        // The code is checked in the files that the patch changes.
        let (header, _) = file.text.split_once("\n--- ").unwrap_or((&file.text, ""));
        vec![prose(header, |line| (false, line))]
    } else {
        vec![prose(&file.text, comment_line)]
    };
    std::iter::once(path).chain(text).map(|block| block.words()).collect()
}

/// Creates a block of all lines. `line` returns `true` for a line that begins a paragraph, and the line without markers.
fn prose(text: &str, line: impl Fn(&str) -> (bool, &str)) -> Block {
    let mut out = String::with_capacity(text.len());
    for source in text.lines() {
        let (begins, content) = line(source);
        if begins || content.trim().is_empty() {
            out.push_str(BREAK);
        }
        out.push_str(content);
        out.push('\n');
    }
    Block { text: out, line: 1, is_code: false }
}

fn markdown_line(line: &str) -> (bool, &str) {
    let trimmed = line.trim_start_matches([' ', '>']);
    let begins =
        trimmed.starts_with(['-', '*', '#', '|', '`']) || trimmed.starts_with(|c: char| c.is_ascii_digit());
    (begins, trimmed)
}

/// In TOML and shell files only comments continue on the next line.
fn comment_line(line: &str) -> (bool, &str) {
    match line.trim_start().strip_prefix('#') {
        Some(comment) => (false, comment),
        None => (true, line),
    }
}

fn source_blocks(source: &str) -> Vec<Block> {
    let segments = segments(source);
    let mut blocks: Vec<Block> = Vec::new();
    // `true` while only spaces and one line break have followed the last comment.
    let mut continues = false;
    for (at, Segment { kind, text, line }) in segments.iter().enumerate() {
        match kind {
            Kind::Code => {
                continues &= text.trim().is_empty() && text.matches('\n').count() == 1;
                let between_comments =
                    continues && segments.get(at + 1).is_some_and(|next| next.kind == Kind::Comment);
                match blocks.last_mut() {
                    Some(block) if between_comments => block.text.push_str(text),
                    _ => blocks.push(Block { text: (*text).to_owned(), line: *line, is_code: true }),
                }
            }
            Kind::Comment => {
                let content = comment(text);
                match blocks.last_mut() {
                    Some(block) if continues => block.text.push_str(&content),
                    _ => blocks.push(Block { text: content, line: *line, is_code: false }),
                }
                continues = true;
            }
            Kind::Literal => {
                blocks.push(Block { text: literal(text), line: *line, is_code: false });
                continues = false;
            }
        }
    }
    blocks
}

/// Removes the markers of a comment. An empty line of it ends a paragraph.
fn comment(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let line = line.trim_start().trim_start_matches(['/', '!', '*']).trim_end_matches("*/");
        if line.trim().is_empty() { BREAK } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Replaces escapes by spaces; an escaped line break stays one.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next() == Some('\n') => out.push('\n'),
            '\\' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

impl Block {
    /// Splits the block into words, at everything that is not a letter and at the humps of camel case.
    fn words(&self) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::new();
        let (mut line, mut follows, mut inside) = (self.line, false, false);
        let mut previous = ' ';
        let mut rest = self.text.chars().peekable();
        while let Some(c) = rest.next() {
            if c.is_alphabetic() {
                let next_is_lower = rest.peek().is_some_and(|next| next.is_lowercase());
                let hump =
                    c.is_uppercase() && (previous.is_lowercase() || previous.is_uppercase() && next_is_lower);
                match words.last_mut() {
                    Some(word) if inside && !hump => word.text.extend(c.to_lowercase()),
                    _ => {
                        words.push(Word {
                            text: c.to_lowercase().collect(),
                            line,
                            follows: follows || inside,
                        });
                        follows = true;
                    }
                }
                inside = true;
            } else {
                follows &= c == '_' || !self.is_code && (c.is_whitespace() || c == '-');
                inside = false;
                line += usize::from(c == '\n');
            }
            previous = c;
        }
        words
    }
}
