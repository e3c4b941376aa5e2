//! Converters from the text of an entry to a session, one module for each older tool. No I/O.

pub(crate) mod container;
pub(crate) mod msw;
pub(crate) mod prodigy;

use serde_json::{Map, Value};
use session_core::{Failure, FailureCause};

use crate::fields::{Fields, Notes};
use crate::origin::cut_bytes;

/// Maximum bytes of an error text.
const TEXT_BYTES: usize = 64 * 1024;

/// Returns the members of an entry, which must be a JSON object.
fn members(value: &Value) -> Result<&Map<String, Value>, String> {
    value.as_object().ok_or_else(|| "is not a JSON object".to_owned())
}

fn parse(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))
}

/// Returns the id: a text that is not empty, otherwise the name of the entry's file.
fn id<'a>(fields: Fields<'a>, file: &'a str, notes: &mut Notes) -> Result<&'a str, String> {
    let stem = file.strip_suffix(".json").unwrap_or(file);
    match fields.text("id", notes).filter(|id| !id.is_empty()) {
        Some(id) => {
            if id != stem {
                notes.push("its id differs from its file's name: the id is used".to_owned());
            }
            Ok(id)
        }
        None if !stem.is_empty() => {
            notes.push("it has no id: its file's name is used".to_owned());
            Ok(stem)
        }
        None => Err("has no id".to_owned()),
    }
}

/// Returns the failure that the old store records. At most a text is known about it.
fn failure(error: Option<&Value>, status: &str, notes: &mut Notes) -> Failure {
    let message = match error {
        Some(Value::String(text)) if !text.is_empty() => text.clone(),
        None => {
            notes.push(format!("the old store has the status `{status}` without a reason"));
            format!("the old store says `{status}` and not why")
        }
        Some(other) => {
            notes.push("its error is not a text and is kept as JSON".to_owned());
            other.to_string()
        }
    };
    Failure::new(FailureCause::Work, cut_bytes(&message, TEXT_BYTES, "its error", notes))
}

/// Returns the reason for an unknown status.
fn unknown(status: &str, place: &str) -> String {
    format!("has the unknown status `{}`{place}", status.chars().take(32).collect::<String>())
}
