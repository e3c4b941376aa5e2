//! Texts of the operating system in JSON, for `#[serde(with = …)]`. They are bytes: what is UTF-8 is a string, all else
//! `{"base64": …}`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One text in its JSON form.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Encoded<'a> {
    Text(Cow<'a, str>),
    Bytes { base64: Cow<'a, str> },
}

impl<'a> Encoded<'a> {
    fn of(text: &'a OsStr) -> Self {
        match text.to_str() {
            Some(text) => Self::Text(Cow::Borrowed(text)),
            None => Self::Bytes { base64: Cow::Owned(STANDARD.encode(text.as_bytes())) },
        }
    }

    fn decode<E: serde::de::Error>(self) -> Result<OsString, E> {
        let bytes = match self {
            Self::Text(text) => return Ok(text.into_owned().into()),
            Self::Bytes { base64 } => STANDARD.decode(&*base64).map_err(E::custom)?,
        };
        // One text has one form.
        if std::str::from_utf8(&bytes).is_ok() {
            return Err(E::custom("a text that is UTF-8 is not written in base64"));
        }
        Ok(OsString::from_vec(bytes))
    }
}

/// A list of texts.
pub mod list {
    use super::{Deserialize, Deserializer, Encoded, OsString, Serializer};

    /// Serializes.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(texts: &[OsString], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(texts.iter().map(|text| Encoded::of(text)))
    }

    /// Deserializes.
    ///
    /// # Errors
    /// Those of the deserializer; a text that is UTF-8 in base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OsString>, D::Error> {
        let texts = Vec::<Encoded<'_>>::deserialize(deserializer)?;
        texts.into_iter().map(Encoded::decode).collect()
    }
}

/// Bytes.
pub mod bytes {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

    use super::{Deserialize, Deserializer, Encoded, OsStr, Serialize as _, Serializer};

    /// Serializes.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        Encoded::of(OsStr::from_bytes(bytes)).serialize(serializer)
    }

    /// Deserializes.
    ///
    /// # Errors
    /// Those of the deserializer; a text that is UTF-8 in base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Ok(Encoded::deserialize(deserializer)?.decode()?.into_vec())
    }
}

/// A map whose values are such texts.
pub(crate) mod map {
    use super::{BTreeMap, Deserialize, Deserializer, Encoded, OsString, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        texts: &BTreeMap<String, OsString>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(texts.iter().map(|(name, text)| (name, Encoded::of(text))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, OsString>, D::Error> {
        let texts = BTreeMap::<String, Encoded<'_>>::deserialize(deserializer)?;
        texts.into_iter().map(|(name, text)| Ok((name, text.decode()?))).collect()
    }
}

/// A path.
pub mod path {
    use super::{Deserialize, Deserializer, Encoded, Path, PathBuf, Serialize as _, Serializer};

    /// Serializes.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        Encoded::of(path.as_os_str()).serialize(serializer)
    }

    /// Deserializes.
    ///
    /// # Errors
    /// Those of the deserializer; a text that is UTF-8 in base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Encoded::deserialize(deserializer)?.decode().map(PathBuf::from)
    }
}

/// A path that may be missing.
pub(crate) mod optional_path {
    use super::{Deserialize, Deserializer, Encoded, PathBuf, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "serde passes the field")]
    pub(crate) fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_ref().map(|path| Encoded::of(path.as_os_str())).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let path = Option::<Encoded<'_>>::deserialize(deserializer)?;
        path.map(|path| path.decode().map(PathBuf::from)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        #[serde(with = "list")]
        list: Vec<OsString>,
        #[serde(with = "map")]
        map: BTreeMap<String, OsString>,
        #[serde(with = "path")]
        path: PathBuf,
        #[serde(with = "optional_path")]
        missing: Option<PathBuf>,
    }

    #[test]
    fn bytes_that_are_not_utf8_come_back_from_base64() {
        let odd = OsString::from_vec(b"a\xff".to_vec());
        let sample = Sample {
            list: vec!["ä".into(), odd.clone()],
            map: BTreeMap::from([("K".to_owned(), odd.clone())]),
            path: odd.into(),
            missing: None,
        };
        let json = serde_json::to_string(&sample).unwrap();
        let odd = r#"{"base64":"Yf8="}"#;
        assert_eq!(
            json,
            format!(r#"{{"list":["ä",{odd}],"map":{{"K":{odd}}},"path":{odd},"missing":null}}"#)
        );
        assert_eq!(serde_json::from_str::<Sample>(&json).unwrap(), sample);
    }

    #[test]
    fn a_second_form_of_a_text_is_refused() {
        for path in [r#"{"base64":"YQ=="}"#, r#"{"base64":"Yf9="}"#, r#"{"base64":"?"}"#, "1", "{}"] {
            let json = format!(r#"{{"list":[],"map":{{}},"path":{path},"missing":null}}"#);
            assert!(serde_json::from_str::<Sample>(&json).is_err(), "{path}");
        }
    }
}
