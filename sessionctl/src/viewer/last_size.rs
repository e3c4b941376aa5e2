//! The size that the terminal of a session had last.

use serde::Deserialize as _;
use sessionkit::log::{PersistedSession, StoredRecord};
use sessionkit::runner::{TERMINAL_RESIZED, Terminal, TerminalSize};
use sessionkit::{SessionEvent, SessionManager};

use crate::error::{Failure, Result};

/// Records that are read at a time.
const PAGE: usize = 1_000;

/// Returns the size that a record says the terminal has from there on.
fn size(record: &StoredRecord) -> Option<TerminalSize> {
    // Of a newer version: not known here.
    let SessionEvent::Noted { kind, data } = record.decode().ok()?.event else { return None };
    if kind == TERMINAL_RESIZED { TerminalSize::deserialize(&data).ok() } else { None }
}

/// Gives a terminal the size that the one of a session had last, if it was another than at the beginning.
///
/// # Errors
/// The log cannot be read.
pub(super) async fn set_last_size(
    terminal: &mut Terminal,
    manager: &dyn SessionManager,
    stored: &PersistedSession,
) -> Result<()> {
    let (id, mut end) = (stored.head.id, stored.head.tip.revision);
    while end > 0 {
        let start = end.saturating_sub(PAGE as u64);
        let (mut after, mut last) = (start, None);
        // A page may have fewer records than that.
        while after < end {
            let limit = usize::try_from(end - after).unwrap_or(PAGE);
            let page =
                manager.read_log(id, after, limit).await.map_err(|error| Failure::from(error).about(id))?;
            let Some(revision) = page.last().map(StoredRecord::revision) else { break };
            after = revision;
            last = page.iter().rev().find_map(size).or(last);
        }
        if let Some(TerminalSize { rows, columns }) = last {
            (terminal.rows, terminal.columns) = (rows, columns);
            return Ok(());
        }
        end = start;
    }
    Ok(())
}
