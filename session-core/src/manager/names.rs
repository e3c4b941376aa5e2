//! Automatic names for sessions: a prefix and a number, one more than the highest. The prefix is `feature-YYYY-MM-DD-`,
//! or a program's name if the options say so.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::storage::{SessionFilter, SessionStorage, SessionStorageExt as _};
use crate::text::cut;
use crate::time::Timestamp;

const DAILY: &str = "feature-";
/// The longest prefix after a program, in bytes.
const MAX_PROGRAM: usize = 40;

/// Cache of the highest numbers of automatic names, so that creating a session does not have to list all others.
///
/// A cache may lose its content at any time: it then returns `None`, and the sessions are counted. Names need not be
/// unique.
#[async_trait]
pub trait NameCounter: Send + Sync + std::fmt::Debug {
    /// Returns the next number for a prefix, each number once; `None` if the sessions have to be counted.
    async fn next(&self, prefix: &str) -> Option<u64>;

    /// Stores the highest number of each prefix in use, found by counting. Returns the next one for `prefix`, which is
    /// higher if concurrent callers counted the same.
    async fn counted(&self, prefix: &str, highest: &BTreeMap<String, u64>) -> u64;

    /// Gives a number back whose session was not created. The next caller gets it, if it is still the last one.
    async fn unused(&self, prefix: &str, number: u64);

    /// Records a number that a user chose with a name.
    async fn used(&self, prefix: &str, number: u64);
}

/// The source of automatic names. Without a counter, each name lists the sessions of the day, or all for a program.
#[derive(Debug)]
pub(crate) struct Names {
    counter: Option<Arc<dyn NameCounter>>,
    /// The prefix instead of that of the day.
    program: Option<String>,
}

impl Names {
    pub(crate) const fn new(counter: Option<Arc<dyn NameCounter>>, program: Option<String>) -> Self {
        Self { counter, program }
    }

    /// Returns the next automatic name. Without a cache, two processes that count concurrently get the same name.
    pub(crate) async fn next(&self, storage: &dyn SessionStorage, now: Timestamp) -> Result<String> {
        let prefix = match &self.program {
            Some(program) => program.clone(),
            None => format!("{DAILY}{}-", now.to_utc().format("%Y-%m-%d")),
        };
        let known = match &self.counter {
            Some(counter) => counter.next(&prefix).await,
            None => None,
        };
        let number = match known {
            Some(number) => number,
            None => self.count(storage, &prefix, now).await?,
        };
        Ok(if self.program.is_some() { format!("{prefix}{number}") } else { format!("{prefix}{number:03}") })
    }

    async fn count(&self, storage: &dyn SessionStorage, prefix: &str, now: Timestamp) -> Result<u64> {
        let mut filter = SessionFilter::all();
        if self.counter.is_none() && self.program.is_none() {
            let midnight = now.to_utc().date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
            filter = filter.updated_since(Timestamp::new(midnight));
        }
        let mut highest = BTreeMap::new();
        for head in storage.list_all(&filter).await?.heads {
            if let Some((prefix, number)) = numbered(&head.name) {
                let known = highest.entry(prefix.to_owned()).or_insert(number);
                *known = number.max(*known);
            }
        }
        Ok(match &self.counter {
            Some(counter) => counter.counted(prefix, &highest).await,
            None => highest.get(prefix).map_or(1, |number| number.saturating_add(1)),
        })
    }

    /// Gives an automatic name back whose session was not created.
    pub(crate) async fn unused(&self, name: &str) {
        if let (Some(counter), Some((prefix, number))) = (&self.counter, numbered(name)) {
            counter.unused(prefix, number).await;
        }
    }

    /// Records a chosen name that looks automatic. Called once the session exists.
    pub(crate) async fn chosen(&self, name: &str) {
        if let (Some(counter), Some((prefix, number))) = (&self.counter, numbered(name)) {
            counter.used(prefix, number).await;
        }
    }
}

/// Splits a name that ends with a number: `make-3` into `make-` and 3.
fn numbered(name: &str) -> Option<(&str, u64)> {
    let at = name.rfind('-')? + 1;
    let (prefix, number) = name.split_at_checked(at)?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().ok()).flatten().map(|number| (prefix, number))
}

/// Returns the prefix of names after a program: `make-` for `/usr/bin/make`. Characters that names or shells do not take
/// as they are become `-`.
pub(crate) fn prefix_of(program: &OsStr) -> String {
    let base = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
    let mut name = String::new();
    for c in base.chars() {
        let is_plain = c.is_alphanumeric() || matches!(c, '.' | '_' | '+');
        if is_plain {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = cut(&name, MAX_PROGRAM);
    let name = name.trim_matches('-');
    format!("{}-", if name.is_empty() { "command" } else { name })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn programs_become_prefixes_that_names_allow() {
        for (program, prefix) in [
            ("make", "make-"),
            ("/usr/bin/python3.12", "python3.12-"),
            ("./my script.sh", "my-script.sh-"),
            ("--help", "help-"),
            ("@last", "last-"),
            ("größe", "größe-"),
            ("a\u{1b}[2J\u{202e}b", "a-2J-b-"),
            ("..", "..-"),
            ("/", "command-"),
            ("", "command-"),
            ("---", "command-"),
        ] {
            assert_eq!(prefix_of(OsStr::new(program)), prefix);
            crate::config::check_name(&format!("{prefix}1")).unwrap();
        }
        assert_eq!(prefix_of(OsStr::from_bytes(b"caf\xff")), "caf-");
        assert!(prefix_of(OsStr::new(&"ü".repeat(200))).len() <= MAX_PROGRAM + 1);
    }

    #[test]
    fn only_names_that_end_with_a_number_are_numbered() {
        assert_eq!(numbered("make-3"), Some(("make-", 3)));
        assert_eq!(numbered("feature-2026-11-21-007"), Some(("feature-2026-11-21-", 7)));
        for name in ["make", "make-", "make-3a", "make-+3", "3", "make-99999999999999999999"] {
            assert_eq!(numbered(name), None, "{name}");
        }
    }
}
