//! What `-v` tells on stderr: the facts of the sessions that run here, and what else the library has to say. A line each,
//! and none that a terminal would obey.

use std::io::{self, Write};
use std::sync::Arc;

use sessionkit::observers::TracingObserver;
use sessionkit::text::visible;
use sessionkit::{ObservableSessionManager, SessionManager};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::json;
use crate::term::Term;

/// From now on as much is told as `-v` was typed: nothing, info, debug, trace.
pub(crate) fn start(times: u8, term: &Term) {
    let level = match times {
        0 => return,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let json = term.json;
    let lines = Lines { json, write: Box::new(term.complainer()) };
    let told = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(lines);
    // There is one context in this process, and nobody else who would begin it.
    let _ = if json { told.json().try_init() } else { told.try_init() };
}

/// The manager, with its facts told as they happen.
pub(crate) fn observed(manager: Arc<dyn SessionManager>) -> Arc<dyn SessionManager> {
    Arc::new(ObservableSessionManager::new(manager).observe("log", Arc::new(TracingObserver::new())))
}

struct Lines {
    json: bool,
    write: Box<dyn Fn(&str) + Send + Sync>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { lines: self, bytes: Vec::new() }
    }
}

/// One line, which is written whole when it is complete.
struct Line<'a> {
    lines: &'a Lines,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.bytes);
        let text = text.trim_end_matches('\n');
        let line = if self.lines.json { json::escaped(text.to_owned()) } else { visible(text).into_owned() };
        (self.lines.write)(&line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use sessionkit::text::is_unsafe_char;

    use super::*;

    const HOSTILE: &str = "\u{1b}]0;title\u{7}\u{1b}[2J\r\n\u{8}\u{9b}31m\u{202e}\u{7f}\ttab";

    fn told(json: bool) -> String {
        let got = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&got);
        let write = Box::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()));
        let told = tracing_subscriber::fmt().with_ansi(false).with_writer(Lines { json, write });
        let say = || tracing::warn!(text = HOSTILE, shown = %HOSTILE, "{HOSTILE}");
        if json {
            tracing::subscriber::with_default(told.json().finish(), say);
        } else {
            tracing::subscriber::with_default(told.finish(), say);
        }
        let mut got = got.lock().unwrap();
        assert_eq!(got.len(), 1, "one line for each thing said");
        got.remove(0)
    }

    #[test]
    fn nothing_that_is_told_controls_the_terminal() {
        for json in [false, true] {
            let line = told(json);
            assert!(!line.contains(is_unsafe_char), "{line:?}");
            assert!(line.contains("title") && line.contains("tab"), "{line:?}");
        }
        let line: serde_json::Value = serde_json::from_str(&told(true)).unwrap();
        assert_eq!(line["fields"]["text"], HOSTILE);
    }
}
