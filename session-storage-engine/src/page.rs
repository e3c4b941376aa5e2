//! What a reader gets of a log: only records that follow from each other, and no end that comes too early.

use session_core::{Chain, SessionId, StoredRecord, Tip};

/// What a page of stored lines is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// The next records, at least one.
    Records(Vec<StoredRecord>),
    /// The end of the log.
    End,
    /// Something is wrong: look at the whole session.
    Suspect,
}

/// Checks the lines that a database holds behind revision `after`, ascending and each with its number.
///
/// `before` is the line of revision `after`; `None` before record 1, or where there is none. `ends` are the tips that are
/// known of the log: its head's, and its mark, read before the lines. Where the chain breaks within the page, what comes
/// before the break is handed out, and the next page is suspect.
pub fn page<L: AsRef<[u8]>>(
    id: SessionId,
    after: u64,
    before: Option<&[u8]>,
    lines: impl IntoIterator<Item = (u64, L)>,
    ends: &[Option<Tip>],
) -> Page {
    let known = || ends.iter().flatten();
    let is_other = |found: Tip| known().any(|end| end.revision == found.revision && *end != found);
    let mut lines = lines.into_iter();
    let mut chain = match (after, before) {
        (0, _) => Chain::start(id),
        // Nobody asks for what comes behind a record that is not there, unless it was there, or by mistake.
        (_, None) => {
            let by_mistake = lines.next().is_none() && known().all(|end| end.revision < after);
            return if by_mistake { Page::End } else { Page::Suspect };
        }
        (_, Some(before)) => {
            match std::str::from_utf8(before).map(|line| StoredRecord::from_storage(after, line)) {
                Ok(Ok(before)) if !is_other(before.tip()) => Chain::at(id, before.tip()),
                _ => return Page::Suspect,
            }
        }
    };
    let mut records = Vec::new();
    for (seq, line) in lines {
        match chain.check(line.as_ref()) {
            Ok(record) if record.revision() == seq && !is_other(record.tip()) => records.push(record),
            _ if records.is_empty() => return Page::Suspect,
            _ => break,
        }
    }
    if !records.is_empty() {
        return Page::Records(records);
    }
    // A session that is there has a record 1.
    if after > 0 && known().all(|end| end.revision <= after) { Page::End } else { Page::Suspect }
}

#[cfg(test)]
mod tests;
