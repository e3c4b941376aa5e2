//! The memory storage, which is the reference, keeps the laws.

mod laws {
    use session_testkit::{MemoryHarness, storage_laws};

    storage_laws!(|| async { MemoryHarness::default() });
}

/// Checks of the memory storage that persistent storages may omit.
mod stricter {
    use session_core::backend::{
        Batch, Chain, Expected, MemoryStorage, SessionStorage as _, Tip, UnsealedRecord,
    };
    use session_core::{Durability, ErrorCode, Head, SessionEvent, StorageError, StoredRecord, SystemClock};
    use session_testkit::logs::Log;

    async fn append(
        storage: &MemoryStorage,
        log: &Log,
        records: Vec<StoredRecord>,
        head: Head,
    ) -> Result<Tip, StorageError> {
        let batch = Batch::new(records, head);
        storage.append(log.id(), Expected::At(log.tip()), batch, Durability::Flushed).await
    }

    fn next(log: &Log, event: SessionEvent) -> (StoredRecord, Head) {
        let at = session_core::Clock::now(&SystemClock);
        let unsealed = UnsealedRecord { at, attempt: log.head().lifecycle.attempt, flushed: 0, event };
        let (stored, _) =
            Chain::at(log.id(), log.tip()).seal(unsealed).expect("the event is within the limits");
        let mut head = log.head().clone();
        head.tip = stored.tip();
        (stored, head)
    }

    #[tokio::test]
    async fn an_invalid_batch_is_refused_without_effect() {
        let storage = MemoryStorage::new();
        let mut log = Log::plain();
        log.started();
        log.take().send(&storage, Durability::Flushed).await.unwrap();
        let (lie, stale_head) = next(&log, SessionEvent::Noted { kind: "test.lie".into(), data: 1.into() });
        let (illegal, its_head) = next(&log, SessionEvent::Started { owner: session_testkit::logs::owner() });
        let mut other = Log::plain();
        other.started().noted("of another log");
        let foreign = other.records()[2].clone();
        for (what, record, head) in [
            ("a head that is not the fold", lie, stale_head),
            ("an event that the machine does not allow", illegal, its_head),
            ("a record of another log", foreign, other.head().clone()),
        ] {
            let refused = append(&storage, &log, vec![record], head).await.expect_err(what);
            assert_eq!(refused.code(), ErrorCode::InvalidArgument, "{what}: {refused}");
            assert_eq!(storage.head(log.id()).await.unwrap().as_ref(), Some(log.head()), "{what}");
        }
    }

    #[test]
    fn debug_output_does_not_contain_logs() {
        assert_eq!(format!("{:?}", MemoryStorage::new()), "MemoryStorage { sessions: 0, .. }");
    }
}
