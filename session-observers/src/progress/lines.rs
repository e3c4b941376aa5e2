//! Progress lines where there is no terminal: logs of build servers, files.

use std::time::{Duration, Instant};

use super::view::View;

/// Maximum columns of a line.
const COLUMNS: usize = 100;
/// Percent between two lines.
const STEP: u64 = 10;
/// Minimum time between two lines with less progress than that.
const INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Lines {
    last: Option<Line>,
}

#[derive(Debug)]
struct Line {
    text: String,
    tenth: u64,
    at: Instant,
}

impl Lines {
    /// Returns the next line, if it is due, and `true` if this progress needs no further line.
    pub(super) fn next(&mut self, view: &View, now: Instant) -> (Vec<u8>, bool) {
        let text = view.text(COLUMNS);
        let tenth = view.percent().unwrap_or(0) / STEP;
        match &self.last {
            Some(last) if last.text == text => return (Vec::new(), true),
            Some(last) if tenth <= last.tenth && now.saturating_duration_since(last.at) < INTERVAL => {
                return (Vec::new(), false);
            }
            Some(_) | None => {}
        }
        (self.write_line(text, tenth, now), true)
    }

    /// Returns the last line, if it adds anything about the end of the session.
    pub(super) fn last(&mut self, view: &View) -> Vec<u8> {
        let text = view.text(COLUMNS);
        if !view.is_final() || self.last.as_ref().is_some_and(|last| last.text == text) {
            return Vec::new();
        }
        self.write_line(text, STEP, Instant::now())
    }

    fn write_line(&mut self, text: String, tenth: u64, at: Instant) -> Vec<u8> {
        let line = format!("{text}\n").into_bytes();
        self.last = Some(Line { text, tenth, at });
        line
    }
}
