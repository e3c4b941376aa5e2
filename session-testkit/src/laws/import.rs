//! Law 1 for imports: a log of any length is appended as one batch.

use std::pin::pin;

use session_core::StorageError;
use session_core::backend::{CheckedLog, Imported, PAGE_BYTES, SessionStorage, SessionStorageExt as _};

use super::{check_absent, check_reads, limit, open_handles};
use crate::harness::Harness;
use crate::law::{Outcome, check, check_eq};
use crate::logs::Log;

/// Bytes of the long records.
const LONG: usize = 400_000;

/// Returns a completed log of this many long records, and others.
fn long_log(notes: usize) -> Log {
    let mut log = Log::plain();
    log.started();
    for n in 0..notes {
        log.noted(format!("{n}{}", "x".repeat(LONG)));
    }
    log.completed();
    log
}

fn checked(log: &Log) -> Result<CheckedLog, StorageError> {
    let mut checked = CheckedLog::new(log.id());
    for record in log.records() {
        checked.add(record.line().as_bytes())?;
    }
    Ok(checked)
}

pub(crate) async fn law_1_an_import_is_complete_or_absent(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [writer, reader] = handles.as_slice() else { unreachable!("two were asked for") };
    for notes in [0, 1, 3, 12] {
        let log = long_log(notes);
        check_absent(&**reader, log.id()).await?;
        let mut import = pin!(writer.import_log(checked(&log)?));
        let imported = loop {
            tokio::select! {
                biased;
                imported = &mut import => break imported?,
                () = tokio::task::yield_now() => {
                    check_complete_or_absent(&**reader, &log).await?;
                }
            }
        };
        check_eq!(imported, Imported::New(log.tip()), "the result of an import of {notes} long records");
        for storage in [writer, reader] {
            check_reads(&**storage, &log).await?;
        }
        let again = reader.import_log(checked(&log)?).await?;
        check_eq!(again, Imported::AlreadyThere(log.tip()), "the result of the same import again");
        let other = Log::with_id(log.id(), session_core::SessionConfig::new("test").name("other"));
        let refused = reader.import_log(checked(&other)?).await;
        check!(matches!(refused, Err(StorageError::Conflict { .. })), "expected a conflict, not {refused:?}");
        check_reads(&**reader, &log).await?;
    }
    Ok(())
}

/// Checks that a session that is being imported does not exist, or has its whole log.
async fn check_complete_or_absent(storage: &dyn SessionStorage, log: &Log) -> Outcome {
    if let Some(head) = storage.head(log.id()).await? {
        check_eq!(&head, log.head(), "the head during an import");
    }
    match storage.records(log.id(), log.revision() - 1, limit(1)).await {
        Ok(page) => {
            check_eq!(page.records.first(), log.records().last(), "the end of the log during an import");
        }
        Err(StorageError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

pub(crate) async fn law_5_a_page_of_records_is_bounded_in_bytes(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [writer, reader] = handles.as_slice() else { unreachable!("two were asked for") };
    let mut log = long_log(9);
    log.take().send(&**writer, session_core::Durability::Flushed).await?;
    let (mut after, mut read) = (0, Vec::new());
    loop {
        let page = reader.records(log.id(), after, limit(usize::MAX)).await?.records;
        let Some((last, before)) = page.split_last() else { break };
        let bytes: usize = before.iter().map(|record| record.line().len()).sum();
        check!(bytes < PAGE_BYTES, "{bytes} bytes before the last record of a page after {after}");
        after = last.revision();
        read.extend(page);
    }
    check_eq!(read.as_slice(), log.records(), "the pages of a long log");
    Ok(())
}
