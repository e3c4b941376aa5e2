//! Decoding a line whose position in the log has been verified: the envelope, then the event.

use std::fmt;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

use super::{CheckedLine, Envelope, Record, StoredRecord, Sum};
use crate::event::{EventKind, FORMAT, SessionEvent};
use crate::limits;
use crate::time::Timestamp;

/// The reason why a line with a valid sum cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The line is not a record of any version.
    #[error("not a record: {0}")]
    Malformed(serde_json::Error),
    /// The event has a kind that this version does not know.
    #[error("unknown event kind `{kind}`")]
    UnknownKind {
        /// The kind.
        kind: String,
    },
    /// The log has a newer format.
    #[error("format {format} is newer than {FORMAT}, the latest that this version reads")]
    NewerFormat {
        /// The format.
        format: u32,
    },
}

impl StoredRecord {
    /// Decodes the envelope.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] if the line is not a record.
    pub fn envelope(&self) -> Result<Envelope, DecodeError> {
        RawRecord::<&RawValue>::parse(&self.line).map(|raw| raw.envelope())
    }

    /// Decodes the whole record.
    ///
    /// # Errors
    /// [`DecodeError::UnknownKind`] and [`DecodeError::NewerFormat`] if a newer version wrote the record;
    /// [`DecodeError::Malformed`] if it is not a record of any version, or exceeds a limit of its format.
    pub fn decode(&self) -> Result<Record, DecodeError> {
        decode(&self.line, self.tip.sum)
    }
}

impl CheckedLine<'_> {
    /// Decodes the envelope.
    pub(super) fn envelope(self) -> Result<Envelope, DecodeError> {
        RawRecord::<&RawValue>::parse(self.line).map(|raw| raw.envelope())
    }

    /// Decodes the whole record.
    ///
    /// # Errors
    /// Those of [`StoredRecord::decode`].
    pub fn decode(self) -> Result<Record, DecodeError> {
        decode(self.line, self.tip.sum)
    }
}

/// Decodes a line whose sum is valid.
fn decode(line: &str, sum: Sum) -> Result<Record, DecodeError> {
    let (envelope, event) = match RawRecord::<SessionEvent>::parse(line) {
        Ok(raw) if !matches!(raw.event, SessionEvent::Created { format, .. } if format != FORMAT) => {
            // Readers reject what writers reject: heads rely on these limits.
            raw.event.check().map_err(malformed)?;
            (raw.envelope(), raw.event)
        }
        // Decode again in steps, to find the reason.
        _ => {
            let raw = RawRecord::<&RawValue>::parse(line)?;
            (raw.envelope(), raw.event()?)
        }
    };
    // Unknown members are ignored here, but other readers of the line may parse them.
    limits::at_most("record (nesting)", levels(line), limits::NESTING).map_err(malformed)?;
    Ok(Record { envelope, event, sum })
}

#[derive(Deserialize)]
struct RawRecord<E> {
    seq: u64,
    at: Timestamp,
    attempt: u32,
    flushed: u64,
    event: E,
}

impl<'a, E: Deserialize<'a>> RawRecord<E> {
    fn parse(line: &'a str) -> Result<Self, DecodeError> {
        serde_json::from_str(line).map_err(DecodeError::Malformed)
    }

    const fn envelope(&self) -> Envelope {
        Envelope { seq: self.seq, at: self.at, attempt: self.attempt, flushed: self.flushed }
    }
}

impl RawRecord<&RawValue> {
    fn event(&self) -> Result<SessionEvent, DecodeError> {
        // Decode the kind first: the payload of a newer version must not be taken for one of ours.
        let tag: Tag<'_> = serde_json::from_str(self.event.get()).map_err(DecodeError::Malformed)?;
        match EventKind::parse(&tag.kind) {
            None => return Err(DecodeError::UnknownKind { kind: tag.kind }),
            Some(EventKind::Created) => {
                let created: CreatedFormat =
                    serde_json::from_str(tag.payload.get()).map_err(DecodeError::Malformed)?;
                match created.format {
                    1..=FORMAT => {}
                    0 => return Err(malformed("format 0 does not exist")),
                    format => return Err(DecodeError::NewerFormat { format }),
                }
            }
            Some(_) => {}
        }
        let event: SessionEvent = serde_json::from_str(self.event.get()).map_err(DecodeError::Malformed)?;
        // Readers reject what writers reject: heads rely on these limits.
        event.check().map_err(malformed)?;
        Ok(event)
    }
}

/// Returns the nesting depth of arrays and objects in a JSON text.
fn levels(json: &str) -> usize {
    // Nearly every record has fewer brackets in total than the allowed depth. They are counted in chunks, each in a
    // byte, so that the compiler vectorises the loop.
    let opens = |byte: &u8| u8::from(matches!(byte, b'[' | b'{'));
    let part = |bytes: &[u8]| usize::from(bytes.iter().map(opens).sum::<u8>());
    let all: usize = json.as_bytes().chunks(128).map(part).sum();
    if all <= limits::NESTING {
        return all;
    }
    let (mut depth, mut deepest, mut text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => text = !text,
            _ if text => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn malformed(problem: impl fmt::Display) -> DecodeError {
    DecodeError::Malformed(serde_json::Error::custom(problem))
}

#[derive(Deserialize)]
struct CreatedFormat {
    format: u32,
}

/// An event as an object with one member, the kind.
struct Tag<'a> {
    kind: String,
    payload: &'a RawValue,
}

impl<'de: 'a, 'a> Deserialize<'de> for Tag<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Tag<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event: an object with one member")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Tag<'de>, A::Error> {
                let Some((kind, payload)) = map.next_entry::<String, &'de RawValue>()? else {
                    return Err(A::Error::custom("an event without a kind"));
                };
                match map.next_key::<serde::de::IgnoredAny>()? {
                    None => Ok(Tag { kind, payload }),
                    Some(_) => Err(A::Error::custom("an event with two kinds")),
                }
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
