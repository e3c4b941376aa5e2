//! Instants in the form that logs use, and the clock that provides them. No rule of the state machine depends on time.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// 0000-01-01T00:00:00.000Z. Earlier dates, and those after [`LAST`], need more than the 24 characters of the format.
const FIRST: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z.
const LAST: i64 = 253_402_300_799_999;

/// An instant in UTC with milliseconds, in the years 0 to 9999, written `2026-11-21T09:30:00.123Z`.
///
/// ```
/// use std::time::Duration;
/// use session_core::Timestamp;
///
/// let end = Timestamp::parse("2026-11-21T09:30:00.123Z").unwrap();
/// let start = end.before(Duration::from_secs(90));
/// assert_eq!(end.since(start), Duration::from_secs(90));
/// assert_eq!(start.after(Duration::from_secs(90)), end);
/// assert_eq!(Timestamp::from_millis(end.as_millis()), Some(end));
/// assert_eq!(end.to_utc().timestamp_millis(), end.as_millis());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// Creates an instant, cut to milliseconds and clamped to the years that the format supports.
    #[must_use]
    pub fn new(at: DateTime<Utc>) -> Self {
        // By way of the number, so that a leap second is written as the following second and reads back the same.
        let millis = at.timestamp_millis().clamp(FIRST, LAST);
        Self(DateTime::from_timestamp_millis(millis).unwrap_or_default())
    }

    /// Creates an instant from milliseconds since 1970-01-01T00:00:00Z; `None` outside the years 0 to 9999.
    #[must_use]
    pub fn from_millis(millis: i64) -> Option<Self> {
        if !(FIRST..=LAST).contains(&millis) {
            return None;
        }
        DateTime::from_timestamp_millis(millis).map(Self)
    }

    /// Returns the milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// Returns the instant as a `chrono` value.
    #[must_use]
    pub fn to_utc(self) -> DateTime<Utc> {
        self.0
    }

    /// Returns the time since `earlier`; zero if the clock went backwards in between.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.as_millis() - earlier.as_millis()).unwrap_or(0))
    }

    /// Returns the instant `duration` earlier, clamped to the earliest one that the format supports.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        chrono::Duration::from_std(duration)
            .ok()
            .and_then(|duration| self.0.checked_sub_signed(duration))
            .map_or_else(|| Self::new(DateTime::<Utc>::MIN_UTC), Self::new)
    }

    /// Returns the instant `duration` later, clamped to the latest one that the format supports.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        chrono::Duration::from_std(duration)
            .ok()
            .and_then(|duration| self.0.checked_add_signed(duration))
            .map_or_else(|| Self::new(DateTime::<Utc>::MAX_UTC), Self::new)
    }

    /// Parses the form that [`Display`](fmt::Display) writes, and no other.
    ///
    /// # Errors
    /// If the text has any other form, including another precision or offset.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        Self::read(text).ok_or_else(|| InvalidTimestamp(text.to_owned()))
    }

    /// Parses by hand: chrono's patterns accept several spellings of an instant, and a log has only one.
    fn read(text: &str) -> Option<Self> {
        let bytes: &[u8; 24] = text.as_bytes().try_into().ok()?;
        let number = |at: usize, digits: usize| {
            bytes.get(at..at + digits)?.iter().try_fold(0u32, |number, byte| {
                byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0'))
            })
        };
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')];
        if marks.iter().any(|(at, mark)| bytes.get(*at) != Some(mark)) {
            return None;
        }
        let year = i32::try_from(number(0, 4)?).ok()?;
        NaiveDate::from_ymd_opt(year, number(5, 2)?, number(8, 2)?)?
            .and_hms_milli_opt(number(11, 2)?, number(14, 2)?, number(17, 2)?, number(20, 3)?)
            .map(|at| Self(at.and_utc()))
    }
}

/// The error for a text that is not an instant in the form that logs use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an instant of the form `2026-11-21T09:30:00.123Z`: {0:?}")]
pub struct InvalidTimestamp(String);

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

/// A clock. It is injected, so that tests control the time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the current time. It may jump forwards and backwards.
    fn now(&self) -> Timestamp;

    /// Returns the time since a fixed moment, usually the boot, which no change of the clock affects; `None` if it is not
    /// known, and then jumps of the clock are not recognised.
    fn since_boot(&self) -> Option<Duration> {
        None
    }
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        of_system(SystemTime::now())
    }

    fn since_boot(&self) -> Option<Duration> {
        // With the time in which the machine was suspended, which is no jump.
        #[cfg(target_os = "linux")]
        let clock = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = ClockId::Monotonic;
        let now = clock_gettime(clock);
        Some(Duration::new(u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?))
    }
}

/// Returns the instant of a system's time, which may be before 1970.
fn of_system(at: SystemTime) -> Timestamp {
    let millis = match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(LAST),
        // Rounded down, as after 1970.
        Err(before) => {
            i64::try_from(before.duration().as_micros().div_ceil(1_000)).map_or(FIRST, |millis| -millis)
        }
    };
    Timestamp::from_millis(millis.clamp(FIRST, LAST)).expect("it is within the years of the format")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_1970_is_no_panic() {
        let millis = |at| of_system(at).as_millis();
        assert_eq!(millis(UNIX_EPOCH), 0);
        assert_eq!(millis(UNIX_EPOCH + Duration::from_micros(1_999)), 1);
        assert_eq!(millis(UNIX_EPOCH - Duration::from_micros(1)), -1);
        assert_eq!(millis(UNIX_EPOCH - Duration::from_millis(1_500)), -1_500);
        assert_eq!(of_system(UNIX_EPOCH - Duration::from_secs(1)).to_string(), "1969-12-31T23:59:59.000Z");
        for years in [3_000_u64, 100_000] {
            let time = Duration::from_secs(years * 366 * 86_400);
            assert_eq!(UNIX_EPOCH.checked_sub(time).map_or(FIRST, millis), FIRST);
            assert_eq!(millis(UNIX_EPOCH + time * 4), LAST);
        }
    }

    #[test]
    fn the_time_since_the_boot_passes() {
        let first = SystemClock.since_boot().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        assert!(SystemClock.since_boot().unwrap() > first);
    }

    #[test]
    fn an_instant_reads_back_as_written() {
        for millis in [0, 1, 999, 1_795_253_400_123, -1, FIRST, LAST] {
            let at = Timestamp::from_millis(millis).unwrap();
            assert_eq!(Timestamp::parse(&at.to_string()).unwrap(), at);
            assert_eq!(at.to_string().len(), 24, "{at}");
        }
    }

    #[test]
    fn an_instant_has_one_spelling() {
        for wrong in [
            "",
            "2026-11-21",
            "2026-11-21T09:30:00.123+01:00",
            "2026-11-21T09:30:00.123Z ",
            "2026-11-21T09:30:00Z",
            "2026-11-21T09:30:00.1Z",
            "2026-11-21T09:30:00.123456Z",
            "2026-11-21T9:30:00.1234Z",
            "2026-11-21T09:30:60.000Z",
            "2026-02-30T09:30:00.000Z",
            "2026-11-21 09:30:00.123Z",
            "+026-11-21T09:30:00.123Z",
            "2026-11-21T09:30:00.12éZ",
        ] {
            assert!(Timestamp::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// Regression: a clock set to the year 10000 sealed `+10000-01-01T…`, which no reader of the format accepts.
    #[test]
    fn instants_are_clamped_to_the_years_of_the_format() {
        assert_eq!(Timestamp::from_millis(FIRST - 1), None);
        assert_eq!(Timestamp::from_millis(LAST + 1), None);
        assert_eq!(Timestamp::new(DateTime::<Utc>::MAX_UTC).as_millis(), LAST);
        assert_eq!(Timestamp::new(DateTime::<Utc>::MIN_UTC).as_millis(), FIRST);
        let early = Timestamp::from_millis(0).unwrap().before(Duration::MAX);
        assert_eq!(early.to_string(), "0000-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_clock_that_went_backwards_gives_no_negative_time() {
        let (early, late) = (Timestamp::from_millis(1_000).unwrap(), Timestamp::from_millis(3_500).unwrap());
        assert_eq!(late.since(early), Duration::from_millis(2_500));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
