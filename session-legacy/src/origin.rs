//! Where an imported session came from, as its first record says it: its id, its placeholder of an owner, and texts that
//! fit the limits of the format.

use serde_json::{Value, json};
use session_core::text::is_unsafe_char;
use session_core::{Owner, SessionConfig, SessionId};
use uuid::Uuid;

use crate::Format;
use crate::fields::Notes;

/// Namespace of the ids that are made here. It never changes: the same old session gets the same id for ever.
const NAMESPACE: Uuid = Uuid::from_u128(0x3f0e_7a41_95c2_4d8b_8a6d_1b7e_c054_92f3);

/// Characters of an old id that are kept where it is told; the old record has it whole.
const ID_CHARS: usize = 256;
/// Characters of a label's value, so that a few of them fit whatever they are made of.
const LABEL_CHARS: usize = 64;
/// Characters of a name and of what names a kind of work.
const NAME_CHARS: usize = 128;

/// An old session's identity.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) format: Format,
    pub(crate) id: SessionId,
    /// The old id, cut.
    pub(crate) legacy_id: String,
    /// Where it was found.
    pub(crate) source: String,
}

impl Origin {
    /// `prefix` is what the tool put before the UUIDs that it made ids of.
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
                "its id is no UUID: a new one is made from it, and the label `imported-id` has the old one"
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

    /// Whoever ran the work. That somebody did is known, and nothing else: no machine has this name, so nobody can be
    /// mistaken for it, and nothing about it can be proven.
    pub(crate) fn owner(&self) -> Owner {
        let mut owner =
            Owner::new("unknown".to_owned(), format!("imported:{}", self.format), String::new(), 0, 0);
        let instance = Uuid::new_v5(&NAMESPACE, format!("owner\n{}\n{}", self.format, self.id).as_bytes());
        owner.instance =
            instance.hyphenated().to_string().parse().expect("a UUID with hyphens is an instance");
        owner
    }

    /// What every imported session is made with. It is queued: its creator is nobody whose death could be waited for.
    pub(crate) fn config(
        &self,
        name: Option<&str>,
        operation: Option<&str>,
        notes: &mut Notes,
    ) -> SessionConfig {
        let operation = operation.and_then(|text| plain(text, NAME_CHARS, "the operation", notes));
        let operation = operation.unwrap_or_else(|| {
            notes.push(format!("it names no kind of work: the operation is `{}`", self.format));
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

    /// What the metadata says of the origin; with the old record, if it is given.
    pub(crate) fn metadata(&self, record: Option<&Value>) -> Value {
        let mut imported = json!({ "format": self.format.name(), "id": self.legacy_id });
        if let (Some(members), Some(record)) = (imported.as_object_mut(), record) {
            members.insert("record".to_owned(), record.clone());
        }
        json!({ "imported": imported })
    }
}

/// A name that a session or a worktree can have.
pub(crate) fn name_of(text: &str, what: &str, notes: &mut Notes) -> Option<String> {
    let name = plain(text, NAME_CHARS, what, notes)?;
    if !name.starts_with(['-', '@']) {
        return Some(name);
    }
    notes.push(format!("{what} began with `-` or `@`, and has `_` before that now"));
    Some(std::iter::once('_').chain(name.chars()).take(NAME_CHARS).collect())
}

/// A UUID in either case. Its other spellings (braces, no hyphens) are no ids that a tool made.
fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string().eq_ignore_ascii_case(text))
}

pub(crate) fn is_uuid(text: &str) -> bool {
    uuid(text).is_some()
}

/// One more label, if there is anything to write on it.
pub(crate) fn with_label(config: SessionConfig, key: &str, value: &str, notes: &mut Notes) -> SessionConfig {
    match plain(value, LABEL_CHARS, &format!("the label `{key}`"), notes) {
        Some(value) => config.label(key, value),
        None => config,
    }
}

/// A text on one line without dangerous characters, at most so many characters of it; `None` where nothing is left.
pub(crate) fn plain(text: &str, limit: usize, what: &str, notes: &mut Notes) -> Option<String> {
    let text = text.trim_matches(' ');
    if text.chars().any(is_unsafe_char) {
        notes.push(format!("{what} held control or bidirectional characters, which are `\u{fffd}` now"));
    }
    let text: String = text.chars().map(|c| if is_unsafe_char(c) { '\u{fffd}' } else { c }).collect();
    let cut: String = text.chars().take(limit).collect();
    if cut.len() < text.len() {
        notes.push(format!("{what} was longer than {limit} characters and is cut"));
    }
    (!cut.is_empty()).then_some(cut)
}

/// The longest start of a text that takes at most `limit` bytes.
pub(crate) fn cut_bytes<'a>(text: &'a str, limit: usize, what: &str, notes: &mut Notes) -> &'a str {
    if text.len() <= limit {
        return text;
    }
    notes.push(format!("{what} was longer than {limit} bytes and is cut"));
    text.get(..boundary(text, limit)).unwrap_or_default()
}

/// The last place at or before `limit` bytes where a text can be cut.
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
        // Fixed for ever: a change here would import everything a second time.
        assert_eq!(id("nightly", "session-"), ("dc9eb41e-03b4-5bdb-83fb-fc2fe6f4dcf3".to_owned(), false));
        assert!(!id(&uuid.replace('-', ""), "").1);
        assert!(!id(&format!("{{{uuid}}}"), "").1);
    }
}
