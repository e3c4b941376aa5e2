//! Instants as the log writes them, and the clock that they come from. No rule of the machine looks at a clock.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, SubsecRound as _, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An instant in UTC with milliseconds, written `2026-11-21T09:30:00.123Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The instant, cut to milliseconds.
    #[must_use]
    pub fn new(at: DateTime<Utc>) -> Self {
        Self(at.trunc_subsecs(3))
    }

    /// From milliseconds since 1970-01-01T00:00:00Z; `None` beyond what a calendar date can say.
    #[must_use]
    pub fn from_millis(millis: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(millis).map(Self)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// The same instant as a `chrono` value.
    #[must_use]
    pub fn to_utc(self) -> DateTime<Utc> {
        self.0
    }

    /// How long after `earlier` this is; zero if the clock went backwards in between.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.as_millis() - earlier.as_millis()).unwrap_or(0))
    }

    /// The instant this long before; the earliest one there is if that lies beyond the calendar.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        chrono::Duration::from_std(duration)
            .ok()
            .and_then(|duration| self.0.checked_sub_signed(duration))
            .map_or(Self(DateTime::<Utc>::MIN_UTC), Self::new)
    }

    /// Reads exactly the form that [`Display`](fmt::Display) writes.
    ///
    /// # Errors
    /// Where the text is anything else, another precision or offset included.
    pub fn parse(text: &str) -> Result<Self, chrono::ParseError> {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.3fZ").map(|at| Self::new(at.and_utc()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// Where "now" comes from: injected, so that tests decide what time it is.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present instant. It may jump either way; nothing depends on its order.
    fn now(&self) -> Timestamp;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::new(Utc::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_reads_back_as_written() {
        for millis in [0, 1, 999, 1_795_253_400_123, -1] {
            let at = Timestamp::from_millis(millis).unwrap();
            assert_eq!(Timestamp::parse(&at.to_string()).unwrap(), at);
            assert_eq!(at.to_string().len(), 24, "{at}");
        }
        for wrong in ["", "2026-11-21", "2026-11-21T09:30:00.123+01:00", "2026-11-21T09:30:00.123Z "] {
            assert!(Timestamp::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_went_backwards_gives_no_negative_time() {
        let (early, late) = (Timestamp::from_millis(1_000).unwrap(), Timestamp::from_millis(3_500).unwrap());
        assert_eq!(late.since(early), Duration::from_millis(2_500));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
