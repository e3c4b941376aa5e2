//! Backends of other crates, opened by URL. Memory storages stand for them.

use std::sync::Arc;

use sessionkit::backend::{Backend, MemoryStorage, ProcessPresence, StorageProfile};
use sessionkit::manager::Durability;
use sessionkit::{ErrorCode, SessionConfig, SessionError, SessionManagerExt as _};

/// A memory storage that says that several processes share it.
mod shared {
    use std::num::NonZeroUsize;

    use sessionkit::async_trait::async_trait;
    use sessionkit::backend::*;
    use sessionkit::manager::*;
    use sessionkit::*;

    #[derive(Debug)]
    pub(crate) struct Shared(pub(crate) MemoryStorage, pub(crate) StorageProfile);

    #[async_trait]
    impl SessionStorage for Shared {
        async fn append(
            &self,
            id: SessionId,
            at: Expected,
            batch: Batch,
            how: Durability,
        ) -> Result<Tip, StorageError> {
            self.0.append(id, at, batch, how).await
        }

        async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
            self.0.head(id).await
        }

        async fn records(
            &self,
            id: SessionId,
            after: u64,
            limit: NonZeroUsize,
        ) -> Result<RecordPage, StorageError> {
            self.0.records(id, after, limit).await
        }

        async fn list(
            &self,
            filter: &SessionFilter,
            after: Option<SessionId>,
            limit: NonZeroUsize,
        ) -> Result<HeadPage, StorageError> {
            self.0.list(filter, after, limit).await
        }

        async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
            self.0.delete(id, tip).await
        }

        fn profile(&self) -> StorageProfile {
            self.1.clone()
        }

        fn change_feed(&self) -> Option<std::sync::Arc<dyn ChangeFeed>> {
            None
        }
    }
}

#[tokio::test]
async fn a_store_of_a_registered_backend_is_opened_by_its_url() {
    let storage = Arc::new(MemoryStorage::new());
    let kept = Arc::clone(&storage);
    sessionkit::register("mine", move |url| {
        let storage = Arc::clone(&kept);
        async move {
            assert_eq!(url.address().unwrap(), "/srv/sessions");
            Ok(Backend::new(storage))
        }
    })
    .unwrap();
    let store = sessionkit::open_store("mine:/srv/sessions").await.unwrap();
    assert_eq!(store.url().to_string(), "mine:/srv/sessions");
    let report = store.manager().run(SessionConfig::new("sum"), async |_| Ok(42)).await.unwrap();
    // The same storage behind another manager of this process, to which the first one's sessions are alive.
    let other = sessionkit::open("mine:/srv/sessions").await.unwrap();
    assert_eq!(other.get_head(report.id).await.unwrap().tip, report.head.tip);
    let running = store.manager().create_session(SessionConfig::new("runs")).await.unwrap();
    let _session = store.manager().start_session(running).await.unwrap();
    assert_eq!(other.resume_session(running).await.unwrap_err().code(), ErrorCode::Conflict);
    assert!(sessionkit::backend::registered_schemes().contains(&"mine".to_owned()));
}

#[tokio::test]
async fn a_scheme_is_registered_once_and_in_one_spelling() {
    let register = |scheme: &str| {
        sessionkit::register(scheme, async |_| Ok(Backend::new(Arc::new(MemoryStorage::new()))))
    };
    register("once+1.0-a").unwrap();
    for (scheme, reason) in [
        ("once+1.0-a", "taken"),
        ("file", "taken"),
        ("sqlite", "taken"),
        ("memory", "taken"),
        ("", "a letter"),
        ("1x", "a letter"),
        ("Mine", "a letter"),
        ("a:b", "a letter"),
    ] {
        let error = register(scheme).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{scheme}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let error = sessionkit::open("unce:x").await.err().unwrap();
    assert!(error.to_string().contains("`once+1.0-a:PATH`"), "{error}");
}

#[tokio::test]
async fn an_error_of_the_opener_is_returned() {
    sessionkit::register("broken", async |url| {
        Err(SessionError::InvalidArgument { what: format!("{url} is not there") })
    })
    .unwrap();
    let error = sessionkit::open("broken://server/x").await.err().unwrap();
    assert_eq!(error.to_string(), "broken://server/x is not there");
}

/// Owners in other processes would be taken for dead, and their sessions run twice.
#[tokio::test]
async fn a_shared_backend_without_presence_is_refused() {
    let profile =
        StorageProfile::new("ours", Some(Durability::Flushed), sessionkit::backend::Sharing::Machine);
    let backend = move || Backend::new(Arc::new(shared::Shared(MemoryStorage::new(), profile.clone())));
    let with = backend.clone();
    sessionkit::register("shared", move |_| std::future::ready(Ok(backend()))).unwrap();
    sessionkit::register("present", move |_| {
        std::future::ready(Ok(with().presence(Arc::new(ProcessPresence::default()))))
    })
    .unwrap();
    let error = sessionkit::open("shared:x").await.err().unwrap();
    assert!(error.to_string().contains("`Backend::folder` or `Backend::presence`"), "{error}");
    sessionkit::open("present:x").await.unwrap();
}
