//! The log of `-v` on stderr: events of the sessions that run here, and the messages of the library.
//!
//! One line each, with control characters escaped. A thread writes them, so that a stopped terminal delays no work.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sessionkit::SessionManager;
use sessionkit::manager::ObservableSessionManager;
use sessionkit::observers::TracingObserver;
use sessionkit::text::visible;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::json;
use crate::term::Term;

/// Lines that may be queued; further ones are dropped.
const QUEUE: usize = 1024;
/// Time limit for writing the queued lines at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A running log. Dropping it writes the queued lines.
#[derive(Debug)]
pub(crate) struct Verbose {
    lines: SyncSender<Option<String>>,
    written: Receiver<()>,
}

impl Drop for Verbose {
    fn drop(&mut self) {
        // The process exits after this, so a thread that is stuck is abandoned.
        if self.lines.try_send(None).is_ok() {
            let _ = self.written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Starts the log at the level for this number of `-v`: none, info, debug, trace.
pub(crate) fn start(times: u8, term: &Term) -> Option<Verbose> {
    let level = match times {
        0 => return None,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let (lines, to_write) = sync_channel::<Option<String>>(QUEUE);
    let (done, written) = sync_channel(1);
    let write = term.stderr_printer();
    let writer = move || {
        while let Ok(Some(line)) = to_write.recv() {
            write(&line);
        }
        let _ = done.send(());
    };
    // Without a thread there is no log, and the command runs all the same.
    std::thread::Builder::new().name("verbose".to_owned()).spawn(writer).ok()?;
    let (json, queue) = (term.json, lines.clone());
    let write = Box::new(move |line: &str| drop(queue.try_send(Some(line.to_owned()))));
    let log =
        tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(Lines { json, write });
    // This process has one context, so no other subscriber is installed.
    let _ = if json { log.json().try_init() } else { log.try_init() };
    Some(Verbose { lines, written })
}

/// Returns the manager with its events logged.
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

/// One line, written as a unit when it is complete.
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

    fn logged(json: bool) -> String {
        let got = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&got);
        let write = Box::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()));
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(Lines { json, write });
        let log_message = || tracing::warn!(text = HOSTILE, shown = %HOSTILE, "{HOSTILE}");
        if json {
            tracing::subscriber::with_default(log.json().finish(), log_message);
        } else {
            tracing::subscriber::with_default(log.finish(), log_message);
        }
        let mut got = got.lock().unwrap();
        assert_eq!(got.len(), 1, "one line for each message");
        got.remove(0)
    }

    #[test]
    fn log_lines_contain_no_control_characters() {
        for json in [false, true] {
            let line = logged(json);
            assert!(!line.contains(is_unsafe_char), "{line:?}");
            assert!(line.contains("title") && line.contains("tab"), "{line:?}");
        }
        let line: serde_json::Value = serde_json::from_str(&logged(true)).unwrap();
        assert_eq!(line["fields"]["text"], HOSTILE);
    }
}
