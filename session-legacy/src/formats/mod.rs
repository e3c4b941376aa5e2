//! One module for each older tool: from the text of an entry to a session. Nothing here touches a disk.

pub(crate) mod container;
pub(crate) mod msw;
pub(crate) mod prodigy;

use serde_json::{Map, Value};
use session_core::{Failure, FailureCause};

use crate::fields::{Fields, Notes};
use crate::origin::cut_bytes;

/// Bytes of a text that says how something ended.
const TEXT_BYTES: usize = 64 * 1024;

/// The members of an entry that is one JSON object.
fn members(value: &Value) -> Result<&Map<String, Value>, String> {
    value.as_object().ok_or_else(|| "is no JSON object".to_owned())
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))
}

/// An id: a text that is not empty, else the name of the entry's file.
fn id<'a>(fields: Fields<'a>, file: &'a str, notes: &mut Notes) -> Result<&'a str, String> {
    let stem = file.strip_suffix(".json").unwrap_or(file);
    match fields.text("id", notes).filter(|id| !id.is_empty()) {
        Some(id) => {
            if id != stem {
                notes.push("its id is not its file's name; the id counts".to_owned());
            }
            Ok(id)
        }
        None if !stem.is_empty() => {
            notes.push("it has no id: its file's name counts".to_owned());
            Ok(stem)
        }
        None => Err("has no id".to_owned()),
    }
}

/// A failure that the old store tells of. No more is known of it than a text, if that.
fn failure(error: Option<&Value>, status: &str, notes: &mut Notes) -> Failure {
    let message = match error {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        None => {
            notes.push(format!("the old store says `{status}` and not why"));
            format!("the old store says `{status}` and not why")
        }
        Some(other) => {
            notes.push("its error is no text and is kept as JSON".to_owned());
            other.to_string()
        }
    };
    Failure::new(FailureCause::Work, cut_bytes(&message, TEXT_BYTES, "its error", notes))
}

/// A status that nobody knows.
fn unknown(status: &str, place: &str) -> String {
    format!("has the unknown status `{}`{place}", status.chars().take(32).collect::<String>())
}
