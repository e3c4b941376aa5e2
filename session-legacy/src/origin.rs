//! The origin of an imported session as its first record holds it: its id, its placeholder owner, and texts that fit
//! the limits of the format.

use serde_json::{Value, json};
use session_core::text::is_unsafe_char;
use session_core::{Owner, SessionConfig, SessionId};
use uuid::Uuid;

use crate::Format;
use crate::fields::Notes;

/// The namespace of derived ids. It never changes, so the same old session always gets the same id.
const NAMESPACE: Uuid = Uuid::from_u128(0x3f0e_7a41_95c2_4d8b_8a6d_1b7e_c054_92f3);

/// Maximum characters of an old id outside the old record.
const ID_CHARS: usize = 256;
/// Maximum characters of a label's value, so that several labels always fit.
const LABEL_CHARS: usize = 64;
/// Maximum characters of a name and of an operation.
const NAME_CHARS: usize = 128;

/// The identity of an old session.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) format: Format,
    pub(crate) id: SessionId,
    /// The old id, cut.
    pub(crate) legacy_id: String,
    /// Its location in the old store.
    pub(crate) source: String,
}

impl Origin {
    /// Derives the id of a session. `prefix` is the text that the tool puts before its UUIDs.
    pub(crate) fn new(
        format: Format,
        legacy_id: &str,
        prefix: &str,
        source: &str,
        notes: &mut Notes,
    ) -> Self {
        let found = legacy_id.strip_prefix(prefix).and_then(uuid);
        let uuid = found.unwrap_or_else(|| {
            notes.push(
                "its id is not a UUID: a new one is derived from it, and the label `imported-id` has the old one"
                    .into(),
            );
            Uuid::new_v5(&NAMESPACE, format!("{format}\n{legacy_id}").as_bytes())
        });
        Self {
            format,
            id: SessionId::from_bytes(*uuid.as_bytes()),
            legacy_id: legacy_id.chars().take(ID_CHARS).collect(),
            source: source.to_owned(),
        }
    }

    /// Returns the placeholder for the process that ran the session, of which nothing is known. No machine has this
    /// name, so no process can be mistaken for it, and nothing about it can be proven.
    pub(crate) fn owner(&self) -> Owner {
        let mut owner =
            Owner::new("unknown".to_owned(), format!("imported:{}", self.format), String::new(), 0, 0);
        let instance = Uuid::new_v5(&NAMESPACE, format!("owner\n{}\n{}", self.format, self.id).as_bytes());
        owner.instance =
            instance.hyphenated().to_string().parse().expect("a UUID with hyphens is an instance");
        owner
    }

    /// Returns the configuration of every imported session. It is queued, because it has no creator whose death could
    /// be detected.
    pub(crate) fn config(
        &self,
        name: Option<&str>,
        operation: Option<&str>,
        notes: &mut Notes,
    ) -> SessionConfig {
        let operation = operation.and_then(|text| plain(text, NAME_CHARS, "the operation", notes));
        let operation = operation.unwrap_or_else(|| {
            notes.push(format!("it has no operation: `{}` is used", self.format));
            self.format.name().to_owned()
        });
        let name = name.and_then(|text| name_of(text, "the name", notes));
        let name = name.unwrap_or_else(|| {
            let id: String = self.id.to_string().chars().take(8).collect();
            format!("{}-{id}", self.format)
        });
        let config =
            SessionConfig::new(operation).name(name).queued().label("imported-from", self.format.name());
        if self.id.to_string() == self.legacy_id {
            return config;
        }
        with_label(config, "imported-id", &self.legacy_id, notes)
    }

    /// Returns the metadata about the origin, with the old record if it is given.
    pub(crate) fn metadata(&self, record: Option<&Value>) -> Value {
        let mut imported = json!({ "format": self.format.name(), "id": self.legacy_id });
        if let (Some(members), Some(record)) = (imported.as_object_mut(), record) {
            members.insert("record".to_owned(), record.clone());
        }
        json!({ "imported": imported })
    }
}

/// Converts a text to a valid name of a session or a worktree.
pub(crate) fn name_of(text: &str, what: &str, notes: &mut Notes) -> Option<String> {
    let name = plain(text, NAME_CHARS, what, notes)?;
    if !name.starts_with(['-', '@']) {
        return Some(name);
    }
    notes.push(format!("{what} began with `-` or `@`: `_` is put before it"));
    Some(std::iter::once('_').chain(name.chars()).take(NAME_CHARS).collect())
}

/// Parses a UUID in either case. No tool writes its other spellings (braces, no hyphens).
fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string().eq_ignore_ascii_case(text))
}

pub(crate) fn is_uuid(text: &str) -> bool {
    uuid(text).is_some()
}

/// Adds a label, unless its value is empty.
pub(crate) fn with_label(config: SessionConfig, key: &str, value: &str, notes: &mut Notes) -> SessionConfig {
    match plain(value, LABEL_CHARS, &format!("the label `{key}`"), notes) {
        Some(value) => config.label(key, value),
        None => config,
    }
}

/// Converts a text to one line without unsafe characters, cut to `limit` characters; `None` if it is empty.
pub(crate) fn plain(text: &str, limit: usize, what: &str, notes: &mut Notes) -> Option<String> {
    let text = text.trim_matches(' ');
    if text.chars().any(is_unsafe_char) {
        notes.push(format!(
            "{what} had control or bidirectional characters, which are replaced by `\u{fffd}`"
        ));
    }
    let text: String = text.chars().map(|c| if is_unsafe_char(c) { '\u{fffd}' } else { c }).collect();
    let cut: String = text.chars().take(limit).collect();
    if cut.len() < text.len() {
        notes.push(format!("{what} was longer than {limit} characters and is cut"));
    }
    (!cut.is_empty()).then_some(cut)
}

/// Cuts a text to at most `limit` bytes.
pub(crate) fn cut_bytes<'a>(text: &'a str, limit: usize, what: &str, notes: &mut Notes) -> &'a str {
    if text.len() <= limit {
        return text;
    }
    notes.push(format!("{what} was longer than {limit} bytes and is cut"));
    text.get(..boundary(text, limit)).unwrap_or_default()
}

/// Returns the last character boundary at or before `limit` bytes.
pub(crate) fn boundary(text: &str, limit: usize) -> usize {
    (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_old_session_never_changes() {
        let id = |text: &str, prefix: &str| {
            let mut notes = Notes::new();
            let id = Origin::new(Format::Prodigy, text, prefix, "", &mut notes).id.to_string();
            (id, notes.is_empty())
        };
        let uuid = "8f14e45f-ceea-467f-a9b4-0a1d3b5c7e91";
        assert_eq!(id(uuid, ""), (uuid.to_owned(), true));
        assert_eq!(id(&uuid.to_uppercase(), ""), (uuid.to_owned(), true));
        assert_eq!(id(&format!("session-{uuid}"), "session-"), (uuid.to_owned(), true));
        // Must never change: otherwise everything would be imported a second time.
        assert_eq!(id("nightly", "session-"), ("dc9eb41e-03b4-5bdb-83fb-fc2fe6f4dcf3".to_owned(), false));
        assert!(!id(&uuid.replace('-', ""), "").1);
        assert!(!id(&format!("{{{uuid}}}"), "").1);
    }
}
