//! Text output for people: tables, durations, sessions, events. Functions here return text without control characters.

mod carriage_return;
mod event;
mod output;
mod sequence;
mod session;
mod table;
mod timeline;

pub(crate) use self::carriage_return::{CarriageReturns, Rewrites};
pub(crate) use self::event::event;
pub(crate) use self::output::{Styles, Visible};
pub(crate) use self::session::{history, page, session, waits, worktree};
pub(crate) use self::table::Table;
pub(crate) use self::timeline::{TimelineItem, timeline_item};

use std::time::Duration;

use bytesize::ByteSize;
use sessionkit::SessionId;
use sessionkit::chrono::Local;
use sessionkit::log::Timestamp;

/// Returns the first 8 characters of an id; `show` has all of it.
pub(crate) fn short(id: SessionId) -> String {
    id.to_string().chars().take(8).collect()
}

/// Formats an instant in the time zone of this process: `2026-03-01 13:00:00`.
pub(crate) fn local_time(at: Timestamp) -> String {
    at.to_utc().with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Formats a number of bytes: `28.1 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// Formats a duration in its two largest units: `3d 4h`, `5m 10s`, `460ms`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    match units.iter().position(|(size, _)| seconds >= *size) {
        None => format!("{}ms", duration.subsec_millis()),
        Some(at) => {
            let mut rest = seconds;
            let parts = units.iter().skip(at).take(2).filter_map(|(size, unit)| {
                let count = rest / size;
                rest %= size;
                (count > 0).then(|| format!("{count}{unit}"))
            });
            parts.collect::<Vec<_>>().join(" ")
        }
    }
}

/// Formats a duration in its largest unit: `3d`.
pub(crate) fn age(age: Duration) -> String {
    let text = duration(age);
    match text.split_once(' ') {
        Some((first, _)) => first.to_owned(),
        None if age.as_secs() == 0 => "0s".to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_use_one_or_two_units() {
        for (millis, long, brief) in [
            (0, "0ms", "0s"),
            (460, "460ms", "0s"),
            (1_999, "1s", "1s"),
            (61_000, "1m 1s", "1m"),
            (120_000, "2m", "2m"),
            (3_605_000, "1h", "1h"),
            (273_600_000, "3d 4h", "3d"),
        ] {
            let given = Duration::from_millis(millis);
            assert_eq!((duration(given).as_str(), age(given).as_str()), (long, brief));
        }
    }
}
