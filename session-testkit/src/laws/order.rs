//! Law 1 without crashes: batches, their order and their heads.

use session_core::Durability;
use session_core::backend::{Batch, Expected, SessionStorageExt as _};

use super::{check_reads, open_handles};
use crate::harness::Harness;
use crate::law::{Outcome, check_eq};
use crate::logs::{self, Log};

/// Returns the durability of the n-th append: one flushed for every two buffered.
const fn mixed(n: usize) -> Durability {
    if n.is_multiple_of(3) { Durability::Flushed } else { Durability::Buffered }
}

pub(crate) async fn law_1_batches_of_every_size_come_back_in_order(harness: &dyn Harness) -> Outcome {
    const RECORDS: usize = 9;
    let storage = harness.open().await?;
    // Every way to split a log of nine records into batches: if bit n is set, a batch ends after record n + 1.
    for cuts in 0..1_u32 << (RECORDS - 1) {
        let mut log = Log::plain();
        let mut batches = 0;
        for at in 1..=RECORDS {
            if at == RECORDS || cuts >> (at - 1) & 1 == 1 {
                log.take().send(&*storage, mixed(batches)).await?;
                batches += 1;
            }
            if at < RECORDS {
                log.noted(at);
            }
        }
        let records = storage.records_after(log.id(), 0).await?;
        check_eq!(records, log.records(), "the records of a log split after {cuts:#b}");
        check_eq!(storage.head(log.id()).await?.as_ref(), Some(log.head()), "the head of that log");
    }
    for size in [1, 2, 3, 10, 100, 1000] {
        let mut log = Log::plain();
        log.started();
        for round in 0..2 {
            for n in 0..size {
                log.progress(n, size);
            }
            log.take().send(&*storage, mixed(round)).await?;
        }
        check_reads(&*storage, &log)
            .await
            .map_err(|finding| finding.context(format!("batches of {size}")))?;
    }
    Ok(())
}

pub(crate) async fn law_1_the_head_is_the_fold_of_the_log_after_each_append(
    harness: &dyn Harness,
) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [writer, reader] = handles.as_slice() else { unreachable!("two were asked for") };
    for mut log in logs::of_every_kind() {
        for (n, step) in log.take_each().into_iter().enumerate() {
            let tip = step.send(&**writer, mixed(n)).await?;
            let so_far = log.up_to(tip.revision);
            for storage in [writer, reader] {
                check_reads(&**storage, &so_far).await?;
            }
        }
        check_reads(&**reader, &log).await?;
    }
    Ok(())
}

pub(crate) async fn law_1_an_append_returns_the_new_tip(harness: &dyn Harness) -> Outcome {
    let storage = harness.open().await?;
    let mut log = Log::plain();
    for round in 0..6 {
        check_eq!(log.take().send(&*storage, mixed(round)).await?, log.tip(), "the result of append {round}");
        for durability in [Durability::Buffered, Durability::Flushed] {
            let tip = storage.append(log.id(), Expected::At(log.tip()), Batch::empty(), durability).await?;
            check_eq!(tip, log.tip(), "the result of an empty batch");
        }
        for n in 0..=round {
            log.noted(n);
        }
    }
    Ok(())
}
