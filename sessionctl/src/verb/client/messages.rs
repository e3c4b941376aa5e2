//! Texts about a step, each, question or sleep, and what they name.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;

use sessionkit::SessionId;
use sessionkit::text::{escape_bytes, visible};
use sessionkit::workflow::protocol::Asked;

use crate::args::{Each, Step};
use crate::quoting::quoted;
use crate::render::short;

/// The exit code for failures of the command itself.
pub(crate) const TROUBLE: u8 = 125;

/// Characters of an item in a message.
const ITEM_CHARS: usize = 80;

/// The variable that makes steps run their commands plainly.
pub(super) const STEPS_VARIABLE: &str = "SESSIONCTL_STEPS";

/// The answers to a question about something that may have happened.
pub(in crate::verb) const DECISIONS: &str = "rerun|fail|skip";

/// Returns `true` if nothing is to be recorded.
pub(in crate::verb) fn is_off() -> bool {
    std::env::var_os(STEPS_VARIABLE).as_deref() == Some(OsStr::new("off"))
}

/// A verb with the name and key of what it does.
#[derive(Debug, Clone, Copy)]
pub(in crate::verb) struct Named<'a> {
    pub(in crate::verb) verb: &'static str,
    pub(in crate::verb) name: &'a str,
    pub(in crate::verb) key: Option<&'a str>,
}

impl<'a> From<&'a Each> for Named<'a> {
    fn from(args: &'a Each) -> Self {
        Self { verb: "each", name: &args.name, key: args.key.as_deref() }
    }
}

impl<'a> From<&'a Step> for Named<'a> {
    fn from(args: &'a Step) -> Self {
        Self { verb: "step", name: &args.name, key: args.key.as_deref() }
    }
}

impl Named<'_> {
    /// Prints a line about it.
    pub(in crate::verb) fn note(&self, text: &str) {
        let Self { verb, name, key } = self;
        let key = key.map_or_else(String::new, |key| format!("[{key}]"));
        let line = format!("{verb} {}{}: {}\n", visible(name), visible(&key), visible(text));
        // In one call, so that output of others does not come in between. Standard error may be closed.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.verb, self.name)
    }
}

/// Returns the line that answers a question, to be typed elsewhere.
pub(in crate::verb) fn answer_line(asked: &Asked, value: &str) -> String {
    let session = asked.session.parse::<SessionId>().map_or_else(|_| asked.session.clone(), short);
    format!("sessionctl answer {session} {} {value}", quoted(&asked.name))
}

/// Returns a command as a person would type it, for messages.
pub(in crate::verb) fn shown(words: &[OsString]) -> String {
    words.iter().map(|word| escape_bytes(word)).collect::<Vec<_>>().join(" ")
}

/// Returns an item of an each as people read it, cut if it is long.
pub(crate) fn item_name(item: &[u8]) -> String {
    // Escapes have up to four characters for a byte.
    let beginning = item.get(..ITEM_CHARS * 4).unwrap_or(item);
    let text = visible(&escape_bytes(OsStr::from_bytes(beginning))).into_owned();
    let cut: String = text.chars().take(ITEM_CHARS).collect();
    if cut.len() < text.len() || beginning.len() < item.len() { format!("{cut}…") } else { cut }
}
