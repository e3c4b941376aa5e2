//! A record of a log as a line for people. Event kinds of newer versions are shown like all others.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sessionkit::log::{Evidence, Origin, StoredRecord};
use sessionkit::text::{escape_bytes, visible};

use super::table::cut;
use crate::quoting::quoted_os;

/// Limit of columns for a value, which is complete in the log.
const VALUE: usize = 120;

/// The members that the records of all versions have.
#[derive(Deserialize)]
struct Line<'a> {
    at: String,
    attempt: u64,
    #[serde(borrow)]
    event: BTreeMap<String, &'a RawValue>,
}

/// Formats a record: revision, time, attempt, kind and payload.
pub(crate) fn event(record: &StoredRecord) -> String {
    let line = match serde_json::from_str::<Line<'_>>(record.line()) {
        Ok(Line { at, attempt, event }) => {
            let event = event.first_key_value();
            let (kind, payload) = event.map_or(("?", ""), |(kind, payload)| (kind, payload.get()));
            format!("{at}  #{attempt}  {kind:<19}  {}", text(payload))
        }
        Err(_) => cut(record.line(), VALUE),
    };
    let line = format!("{:>6}  {line}", record.revision());
    format!("{}\n", visible(line.trim_end()))
}

/// Formats the payload of an event, each member with its name.
fn text(payload: &str) -> String {
    match serde_json::from_str(payload) {
        Ok(Value::Object(fields)) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}={}", show(name, value)));
            fields.collect::<Vec<_>>().join(" ")
        }
        Ok(value) => compact(&value),
        // A JSON number may exceed the range of `Value`.
        Err(_) => cut(payload, VALUE),
    }
}

fn show(name: &str, value: &Value) -> String {
    let process = |value: &Value| {
        let host = value.get("host")?.as_str()?;
        Some(format!("\"pid {} on {host}\"", value.get("pid")?.as_u64()?))
    };
    let known = match name {
        "owner" | "creator" => process(value),
        // Without the names of inherited variables, which are many.
        "origin" => command(value),
        "summary" => value.as_object().map(|fields| compact(&nonzero(fields))),
        "evidence" => {
            serde_json::from_value::<Evidence>(value.clone()).ok().map(|evidence| format!("\"{evidence}\""))
        }
        _ => None,
    };
    known.unwrap_or_else(|| compact(value))
}

fn command(origin: &Value) -> Option<String> {
    let Origin { argv, cwd, .. } = serde_json::from_value(origin.clone()).ok()?;
    let words: Vec<String> = argv.iter().map(|word| quoted_os(word)).collect();
    let line = format!("{} (in {})", words.join(" "), escape_bytes(cwd.as_os_str()));
    Some(compact(&Value::String(line)))
}

/// Returns the counters that are not zero.
fn nonzero(fields: &Map<String, Value>) -> Value {
    let counted = fields.iter().filter(|(_, value)| value.as_u64() != Some(0));
    Value::Object(counted.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn compact(value: &Value) -> String {
    cut(&value.to_string(), VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(event: &str) -> String {
        let line = format!(
            r#"{{"seq":7,"at":"2026-11-21T09:30:00.000Z","attempt":2,"flushed":6,"event":{event},"sum":"0123456789abcdef"}}"#
        );
        event_of(&line)
    }

    fn event_of(line: &str) -> String {
        event(&StoredRecord::from_storage(7, line).unwrap())
    }

    #[test]
    fn fields_are_shown_by_name() {
        assert_eq!(
            shown(r#"{"noted":{"kind":"x.y","data":[1,2]}}"#),
            "     7  2026-11-21T09:30:00.000Z  #2  noted                data=[1,2] kind=\"x.y\"\n"
        );
    }

    /// A number beyond the range of a double in an unknown member used to leave the line without its payload.
    #[test]
    fn unparsable_payloads_are_shown_verbatim() {
        let line = shown(r#"{"paused":{"reason":"requested","new":1e999}}"#);
        assert!(line.contains("paused") && line.contains(r#"{"reason":"requested","new":1e999}"#), "{line}");
        let line = event_of(r#"{"seq":"seven","sum":"0123456789abcdef"}"#);
        assert!(line.contains(r#""seq":"seven""#), "{line}");
    }
}
