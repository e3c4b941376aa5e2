//! Ids of sessions, of owner instances and of folders of lock files: UUIDs, validated when parsed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Namespace of the ids that are derived from idempotency keys. Part of the format: it never changes.
const KEYS: Uuid = Uuid::from_u128(0x8d5f_1c52_6a0e_4b7f_9a34_52e1_0c7b_d96e);

/// The id of a session: a random UUID (v4), or one derived from an idempotency key (v5).
///
/// ```
/// use session_core::SessionId;
///
/// let id = SessionId::random();
/// assert_eq!(id.to_string().parse(), Ok(id));
/// assert_eq!(SessionId::from_key("import-2026-11-21"), SessionId::from_key("import-2026-11-21"));
/// assert_eq!(SessionId::from_bytes(*id.as_bytes()), id);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(#[serde(with = "canonical")] Uuid);

impl SessionId {
    /// Creates a random id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Derives the id from an idempotency key: the same key gives the same id on every machine.
    #[must_use]
    pub fn from_key(key: &str) -> Self {
        Self(Uuid::new_v5(&KEYS, key.as_bytes()))
    }

    /// Derives the id of the `n`-th session for a key: 1 is [`from_key`](Self::from_key) itself, each retry is one
    /// higher. Keys contain no control characters, so that no other key gives the same id.
    #[must_use]
    pub fn from_key_try(key: &str, n: u64) -> Self {
        if n <= 1 { Self::from_key(key) } else { Self::from_key(&format!("{key}\n{n}")) }
    }

    /// Creates an id from the 16 bytes of a UUID.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the 16 bytes of the UUID. The sum of record 1 covers them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

/// The error for a text that is not an id: anything but 36 lower-case characters
/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a session id: {0:?}")]
pub struct InvalidId(String);

impl FromStr for SessionId {
    type Err = InvalidId;

    /// Parses the canonical form only, so that an id has one spelling and can be a file name.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        canonical::parse(text).map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The random id of one owner: of one manager in one process, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(#[serde(with = "canonical")] Uuid);

impl InstanceId {
    /// Creates a random instance id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl FromStr for InstanceId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        canonical::parse(text).map(Self)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The id of a folder in which owners hold their kernel locks.
///
/// Derived from the random text of a file in the folder, and from the identity of that file on its disk: a copy of the
/// folder has another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LockFolderId(#[serde(with = "canonical")] Uuid);

impl LockFolderId {
    /// Creates a random id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Derives the id of a folder from a random id and the inode number and time of birth of the file that holds it.
    pub(crate) fn of_file(self, inode: u64, born: Option<Duration>) -> Self {
        let born = born.map_or_else(String::new, |born| born.as_nanos().to_string());
        Self(Uuid::new_v5(&self.0, format!("{inode}\n{born}").as_bytes()))
    }
}

impl FromStr for LockFolderId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        canonical::parse(text).map(Self)
    }
}

impl fmt::Display for LockFolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Parsing and serialization of ids, in their one spelling.
mod canonical {
    use std::borrow::Cow;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use uuid::Uuid;

    use super::InvalidId;

    pub(super) fn parse(text: &str) -> Result<Uuid, InvalidId> {
        Uuid::try_parse(text)
            .ok()
            .filter(|id| id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text)
            .ok_or_else(|| InvalidId(text.to_owned()))
    }

    pub(super) fn serialize<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&id.hyphenated())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        parse(&Cow::<'de, str>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = SessionId::random();
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
        let plain = id.to_string();
        for other in [
            plain.to_uppercase(),
            plain.replace('-', ""),
            format!("{{{plain}}}"),
            format!("urn:uuid:{plain}"),
            format!("../{plain}"),
            String::new(),
        ] {
            if other != plain {
                assert!(other.parse::<SessionId>().is_err(), "{other}");
                let json = serde_json::to_string(&other).unwrap();
                assert!(serde_json::from_str::<SessionId>(&json).is_err(), "{other}");
                assert!(serde_json::from_str::<InstanceId>(&json).is_err(), "{other}");
            }
        }
    }

    #[test]
    fn a_key_always_gives_the_same_id() {
        // Fixed by the format: after a change, sessions created with a key would not be found.
        assert_eq!(
            SessionId::from_key("import-2026-11-21").to_string(),
            "a6c8bdca-d335-598e-a5c5-6774cc51fc61"
        );
        assert_eq!(SessionId::from_key_try("k", 1), SessionId::from_key("k"));
        assert_ne!(SessionId::from_key_try("k", 2), SessionId::from_key_try("k", 3));
    }
}
