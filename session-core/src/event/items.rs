//! Items of an `each`: the payloads of their records.

use serde::{Deserialize, Serialize};

use crate::limits::{self, LimitError};

const fn first() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_first(n: &u64) -> bool {
    *n == 1
}

/// The start of an item. Within its `each`, items have numbers from 1; the first start of an item says what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StartMembers")]
pub struct ItemStart {
    /// The number of the item.
    pub item: u64,
    /// The item itself; absent if it has the number already.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub identity: Option<ItemIdentity>,
}

/// The members of a start in a record. A flattened `Option` would read an invalid identity as none.
#[derive(Deserialize)]
struct StartMembers {
    item: u64,
    #[serde(default)]
    arg: Option<Arg>,
    #[serde(default)]
    n: Option<u64>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Arg(#[serde(with = "crate::os_text::bytes")] Vec<u8>);

impl TryFrom<StartMembers> for ItemStart {
    type Error = &'static str;

    fn try_from(StartMembers { item, arg, n }: StartMembers) -> Result<Self, Self::Error> {
        let identity = match (arg, n) {
            (Some(Arg(arg)), n) => Some(ItemIdentity { arg, n: n.unwrap_or(first()) }),
            (None, None) => None,
            (None, Some(_)) => return Err("an item has an occurrence, but no bytes"),
        };
        Ok(Self { item, identity })
    }
}

/// The identity of an item within its `each`: equal in every attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ItemIdentity {
    /// The bytes: a line of the input.
    #[serde(with = "crate::os_text::bytes")]
    pub arg: Vec<u8>,
    /// The occurrence of the same bytes in the input, from 1.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub n: u64,
}

impl ItemIdentity {
    /// Checks the limit of its bytes.
    ///
    /// # Errors
    /// More than 128 KiB, or the occurrence 0.
    pub fn check(&self) -> Result<(), LimitError> {
        if self.n == 0 {
            return Err(LimitError::invalid("occurrence of an item", "is 0: the first one is 1"));
        }
        limits::at_most("item (bytes)", self.arg.len(), limits::VALUE_PART_BYTES)
    }
}

/// The end of an item that is run again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ItemFailure {
    /// The number of the item.
    pub item: u64,
    /// The exit code, unless a signal ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// `true` if its outcome is unknown: a signal or a stop ended it, or the process that ran it has gone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// The error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Items that ended, and items that begin: one batch, so that a slot is free only when the end is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ItemMoves {
    /// The revision at which the `each` was started.
    pub each: u64,
    /// The number of items in its input, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The numbers of items that are done: they are not run again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<u64>,
    /// The items that failed, or ended in an unknown way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<ItemFailure>,
    /// The numbers of items whose end was unknown, and which are recorded as done without running them again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<u64>,
    /// `true` once the values of all items together are longer than they may be: those that follow are not recorded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub too_long: bool,
    /// The items that begin: they run only after this record is flushed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub begun: Vec<ItemStart>,
}

impl ItemMoves {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        for failure in &self.failed {
            let error = failure.error.as_ref().map_or(0, String::len);
            limits::at_most("error of an item (bytes)", error, limits::STEP_TEXT_BYTES)?;
        }
        self.begun.iter().filter_map(|start| start.identity.as_ref()).try_for_each(ItemIdentity::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_of_items_have_one_form_in_json() {
        let named = |arg: &[u8], n| Some(ItemIdentity { arg: arg.to_vec(), n });
        for (item, identity, json) in [
            (1, None, r#"{"item":1}"#),
            (2, named(b"a b", 1), r#"{"item":2,"arg":"a b"}"#),
            (3, named(b"", 2), r#"{"item":3,"arg":"","n":2}"#),
            (4, named(b"\xff", 1), r#"{"item":4,"arg":{"base64":"/w=="}}"#),
        ] {
            let start = ItemStart { item, identity };
            assert_eq!(serde_json::to_string(&start).unwrap(), json);
            assert_eq!(serde_json::from_str::<ItemStart>(json).unwrap(), start);
        }
    }

    /// Another program would take the item for one that has its number already.
    #[test]
    fn a_start_with_an_invalid_identity_is_refused() {
        for json in [
            r#"{"arg":"a"}"#,
            r#"{"item":1,"arg":5}"#,
            r#"{"item":1,"arg":{"base64":"YQ=="}}"#,
            r#"{"item":1,"arg":"a","n":"x"}"#,
            r#"{"item":1,"n":2}"#,
        ] {
            assert!(serde_json::from_str::<ItemStart>(json).is_err(), "{json}");
        }
    }
}
