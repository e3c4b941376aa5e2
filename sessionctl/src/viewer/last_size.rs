//! The size that the terminal of a session had last.

use serde::Deserialize as _;
use sessionkit::log::PersistedSession;
use sessionkit::runner::{TERMINAL_RESIZED, Terminal, TerminalSize};
use sessionkit::{SessionEvent, SessionManager};

use crate::error::{Failure, Result};

/// Records that are read at a time.
const PAGE: usize = 1_000;

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
        let after = end.saturating_sub(PAGE as u64);
        let limit = usize::try_from(end - after).unwrap_or(PAGE);
        let page =
            manager.read_log(id, after, limit).await.map_err(|error| Failure::from(error).about(id))?;
        for record in page.iter().rev() {
            // Of a newer version: not known here.
            let Ok(record) = record.decode() else { continue };
            if let SessionEvent::Noted { kind, data } = &record.event
                && kind == TERMINAL_RESIZED
                && let Ok(TerminalSize { rows, columns }) = TerminalSize::deserialize(data)
            {
                (terminal.rows, terminal.columns) = (rows, columns);
                return Ok(());
            }
        }
        end = after;
    }
    Ok(())
}
