//! One record of a log as a line for people. Kinds of newer versions are shown like all others.

use serde_json::{Map, Value};
use sessionkit::{Evidence, StoredRecord, text::visible};

use super::table::cut;
use crate::context::quoted;

/// Columns that a value may take; the log has it whole.
const VALUE: usize = 120;

/// One record: revision, time, attempt, kind and what belongs to it.
pub(crate) fn event(record: &StoredRecord) -> String {
    let line: Value = serde_json::from_str(record.line()).unwrap_or_default();
    let at = line.get("at").and_then(Value::as_str).unwrap_or("?");
    let attempt = line.get("attempt").map_or_else(|| "?".to_owned(), Value::to_string);
    let (kind, payload) =
        match line.get("event").and_then(Value::as_object).and_then(|event| event.iter().next()) {
            Some((kind, payload)) => (kind.as_str(), payload),
            None => ("?", &line),
        };
    let text = match payload.as_object() {
        Some(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}={}", show(name, value)));
            fields.collect::<Vec<_>>().join(" ")
        }
        None => compact(payload),
    };
    let line = format!("{:>6}  {at}  #{attempt}  {kind:<19}  {text}", record.revision());
    format!("{}\n", visible(line.trim_end()))
}

fn show(name: &str, value: &Value) -> String {
    let person = |value: &Value| {
        let host = value.get("host")?.as_str()?;
        Some(format!("\"pid {} on {host}\"", value.get("pid")?.as_u64()?))
    };
    let known = match name {
        "owner" | "creator" => person(value),
        // The names of inherited variables would drown the rest.
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
    let words = origin.get("argv")?.as_array()?.iter().map(|word| word.as_str().map(quoted));
    let line =
        format!("{} (in {})", words.collect::<Option<Vec<_>>>()?.join(" "), origin.get("cwd")?.as_str()?);
    Some(compact(&Value::String(line)))
}

/// What was counted, without what there was nothing of.
fn nonzero(fields: &Map<String, Value>) -> Value {
    let counted = fields.iter().filter(|(_, value)| value.as_u64() != Some(0));
    Value::Object(counted.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn compact(value: &Value) -> String {
    cut(&value.to_string(), VALUE)
}
