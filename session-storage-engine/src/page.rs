//! Checks of a page of stored lines: a reader gets only records that follow from each other, and never an end of the
//! log that comes too early.

use session_core::backend::{Chain, Tip};
use session_core::{SessionId, StoredRecord};

/// The result of checking a page of stored lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// The next records, at least one.
    Records(Vec<StoredRecord>),
    /// The end of the log.
    End,
    /// Something is wrong: audit the session.
    Suspect,
}

/// Checks the lines that a database holds after revision `after`, ascending and each with its number.
///
/// `before` is the line of revision `after`; `None` before record 1, or if there is none. `ends` are the known tips of
/// the log: the one of its head, and its mark, read before the lines. If the chain breaks within the page, the records
/// before the break are returned, and the next page is suspect.
pub fn page<L: AsRef<[u8]>>(
    id: SessionId,
    after: u64,
    before: Option<&[u8]>,
    lines: impl IntoIterator<Item = (u64, L)>,
    ends: &[Option<Tip>],
) -> Page {
    let known = || ends.iter().flatten();
    let contradicts = |tip: Tip| known().any(|end| end.revision == tip.revision && *end != tip);
    let mut lines = lines.into_iter();
    let mut chain = match (after, before) {
        (0, _) => Chain::start(id),
        // A caller asks for records after a missing one only by mistake, or if that record was lost.
        (_, None) => {
            let by_mistake = lines.next().is_none() && known().all(|end| end.revision < after);
            return if by_mistake { Page::End } else { Page::Suspect };
        }
        (_, Some(before)) => {
            match std::str::from_utf8(before).map(|line| StoredRecord::from_storage(after, line)) {
                Ok(Ok(before)) if !contradicts(before.tip()) => Chain::at(id, before.tip()),
                _ => return Page::Suspect,
            }
        }
    };
    let mut records = Vec::new();
    for (seq, line) in lines {
        match chain.check(line.as_ref()) {
            Ok(record) if record.revision() == seq && !contradicts(record.tip()) => records.push(record),
            _ if records.is_empty() => return Page::Suspect,
            _ => break,
        }
    }
    if !records.is_empty() {
        return Page::Records(records);
    }
    // An existing session has at least record 1.
    if after > 0 && known().all(|end| end.revision <= after) { Page::End } else { Page::Suspect }
}

#[cfg(test)]
mod tests;
