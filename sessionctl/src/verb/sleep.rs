//! `sleep`: waits in a script for a wake-up time that is recorded once. A client of the session's owner.

use std::time::Duration;

use sessionkit::log::Timestamp;
use sessionkit::workflow::protocol::{ClientMessage, ServerMessage, SleepMessage, Sleeping, VERSION};

use super::client::{Connection, Named, TROUBLE, is_off, socket, unexpected};
use super::now;
use crate::args::{Sleep, SleepEnd};
use crate::error::{Failure, Result};
use crate::render::local_time;

/// Longest wait before the clock is read again: one that was set, or a suspended machine, is noticed after that time.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// Sleeps. Every failure exits with 125.
pub(crate) fn run(args: &Sleep) -> Result<u8> {
    let (name, end) = args.parse().map_err(|text| Failure::invalid(text).with_exit_code(TROUBLE))?;
    sleep(args, name, end).map(|()| 0).map_err(|failure| failure.or_exit_code(TROUBLE))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other message breaks the protocol")]
fn sleep(args: &Sleep, name: &str, end: SleepEnd) -> Result<()> {
    let named = Named { verb: "sleep", name, key: args.key.as_deref() };
    if is_off() {
        sleep_plainly(end);
        return Ok(());
    }
    let socket = socket(named, std::env::args_os().collect(), "sleep without a record")?;
    let mut connection = Connection::open(&socket, name)?;
    let (after_ms, until) = match end {
        SleepEnd::After(after) => (Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)), None),
        SleepEnd::Until(until) => (None, Some(until)),
    };
    let (name, key) = (name.to_owned(), args.key.clone());
    let message = SleepMessage { version: VERSION, name, key, after_ms, until };
    connection.send(&ClientMessage::Sleep(Box::new(message)))?;
    loop {
        match connection.receive()? {
            ServerMessage::Sleeping(Sleeping { until }) => {
                // One of no time ends with the next millisecond.
                if until.since(now()) > Duration::from_millis(1) {
                    named.note(&format!("sleeps until {}", local_time(until)));
                }
            }
            ServerMessage::Slept(slept) => {
                if slept.recorded {
                    named.note("has passed, as recorded before");
                }
                return Ok(());
            }
            _ => return Err(unexpected()),
        }
    }
}

fn sleep_plainly(end: SleepEnd) {
    let left = |until: Timestamp| until.since(now());
    match end {
        SleepEnd::After(after) => std::thread::sleep(after),
        SleepEnd::Until(until) => {
            while left(until) > Duration::ZERO {
                std::thread::sleep(left(until).min(CLOCK_INTERVAL));
            }
        }
    }
}
