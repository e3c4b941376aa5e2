//! Reads the members of an old record one by one, and notes each that has the wrong type: a wrong member does not
//! affect the others.

use chrono::DateTime;
use serde_json::{Map, Value};
use session_core::Timestamp;

/// Notes on mapped values, one sentence each.
pub(crate) type Notes = Vec<String>;

/// The members of one object. `null` is treated as missing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    members: Option<&'a Map<String, Value>>,
    /// The prefix of member names in notes: empty, or for example `progress.`.
    path: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(members: &'a Map<String, Value>) -> Self {
        Self { members: Some(members), path: "" }
    }

    /// Returns the object under this name; one without members if there is none. `path` is the name with a dot.
    pub(crate) fn object(self, name: &str, path: &'static str, notes: &mut Notes) -> Self {
        Self { members: self.read(name, "an object", notes, Value::as_object), path }
    }

    pub(crate) const fn is_there(self) -> bool {
        self.members.is_some()
    }

    pub(crate) fn value(self, name: &str) -> Option<&'a Value> {
        self.members?.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(self, name: &str, notes: &mut Notes) -> Option<&'a str> {
        self.read(name, "a text", notes, Value::as_str)
    }

    /// Reads a count: an integer that is not negative, including `3.0`, which some writers emit for 3.
    pub(crate) fn count(self, name: &str, notes: &mut Notes) -> Option<u64> {
        self.read(name, "a count", notes, |value| value.as_u64().or_else(|| to_count(value.as_f64()?)))
    }

    pub(crate) fn number(self, name: &str, notes: &mut Notes) -> Option<f64> {
        self.read(name, "a number", notes, Value::as_f64)
    }

    pub(crate) fn list(self, name: &str, notes: &mut Notes) -> Option<&'a [Value]> {
        self.read(name, "a list", notes, |value| value.as_array().map(Vec::as_slice))
    }

    /// Reads a time: RFC 3339, or milliseconds since 1970 as in JavaScript. Cut to milliseconds.
    pub(crate) fn time(self, name: &str, notes: &mut Notes) -> Option<Timestamp> {
        self.read(name, "a time in the years 0 to 9999", notes, parse_time)
    }

    fn read<T>(
        self,
        name: &str,
        expected: &str,
        notes: &mut Notes,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let found = read(self.value(name)?);
        if found.is_none() {
            notes.push(format!("`{}{name}` is not {expected} and is treated as missing", self.path));
        }
        found
    }
}

fn parse_time(value: &Value) -> Option<Timestamp> {
    if let Some(millis) = value.as_i64() {
        return Timestamp::from_millis(millis);
    }
    let at = DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
    Timestamp::from_millis(at.timestamp_millis())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
fn to_count(number: f64) -> Option<u64> {
    // 2^53: beyond it, a float cannot represent every integer.
    let exact = (0.0..=9_007_199_254_740_992.0).contains(&number) && number.fract() == 0.0;
    exact.then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_parsed_in_every_known_form() {
        for (value, text) in [
            (json!("2025-03-01T10:00:00.000Z"), "2025-03-01T10:00:00.000Z"),
            (json!("2025-03-01T12:00:00+02:00"), "2025-03-01T10:00:00.000Z"),
            (json!("2025-03-01T10:00:00.123456789Z"), "2025-03-01T10:00:00.123Z"),
            (json!(1_740_823_200_000_i64), "2025-03-01T10:00:00.000Z"),
        ] {
            assert_eq!(parse_time(&value).unwrap().to_string(), text);
        }
        for wrong in
            [json!("yesterday"), json!("2025-03-01"), json!(1.5), json!(i64::MAX), json!([]), json!("")]
        {
            assert_eq!(parse_time(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn wrong_members_are_noted_but_missing_ones_are_not() {
        let value = json!({ "a": 3.0, "b": -1, "c": null, "d": "x", "e": 1.5 });
        let (fields, mut notes) = (Fields::new(value.as_object().unwrap()), Notes::new());
        assert_eq!(fields.count("a", &mut notes), Some(3));
        assert_eq!(fields.text("c", &mut notes), None);
        assert_eq!(fields.list("z", &mut notes), None);
        assert!(notes.is_empty(), "{notes:?}");
        assert_eq!(fields.count("b", &mut notes), None);
        assert_eq!(fields.count("e", &mut notes), None);
        assert!(!fields.object("d", "d.", &mut notes).is_there());
        assert_eq!(notes.len(), 3, "{notes:?}");
    }
}
