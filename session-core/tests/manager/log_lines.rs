//! The log lines of a manager: a person finds what was lost, deleted or refused, and nothing in an orderly run.

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::common::World;
use session_core::*;

/// Collects the lines of the tests' thread: level and message.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("session_core")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = String::new();
        event.record(&mut Message(&mut message));
        self.0.lock().unwrap().push((*event.metadata().level(), message));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Lines {
    fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn config() -> SessionConfig {
    SessionConfig::new("test")
}

#[tokio::test(start_paused = true)]
async fn an_orderly_life_and_shutdown_log_no_warning() {
    let lines = Lines::default();
    let _collected = tracing::subscriber::set_default(lines.clone());
    let world = World::default();
    let manager = world.process_with(ManagerOptions::new()).await;
    let id = manager.create_session(config()).await.unwrap();
    let running = manager.start_session(id).await.unwrap();
    let id = manager.create_session(config()).await.unwrap();
    manager.start_session(id).await.unwrap().complete(SessionSummary::new()).await.unwrap();
    let id = manager.create_session(config()).await.unwrap();
    let cancelled = manager.start_session(id).await.unwrap();
    manager.cancel_session(id, CancelRequest::new("enough", "test")).await.unwrap();
    manager.shutdown().await.unwrap();
    drop((running, cancelled));
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(lines.take(), []);
}

#[tokio::test(start_paused = true)]
async fn deletions_and_refused_creations_are_logged() {
    let lines = Lines::default();
    let world = World::default();
    let options = ManagerOptions::new().max_sessions(NonZeroUsize::MIN);
    let manager = world.process_with(options).await;
    let id = manager.run(config(), async |_| Ok(())).await.unwrap().id;
    let _created = manager.create_session(config()).await.unwrap();
    let _collected = tracing::subscriber::set_default(lines.clone());
    manager.create_session(config()).await.unwrap_err();
    assert_eq!(lines.take(), [(Level::WARN, "could not create a session".to_owned())]);
    manager.delete_session(id).await.unwrap();
    assert_eq!(lines.take(), [(Level::INFO, "deleted a session".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn opening_logs_each_session_that_it_recovers() {
    let lines = Lines::default();
    let world = World::default();
    let first = world.process().await;
    let id = first.create_session(config()).await.unwrap();
    let _session = first.start_session(id).await.unwrap();
    world.declare_dead(id).await;
    let _collected = tracing::subscriber::set_default(lines.clone());
    let _second = world.process_with(ManagerOptions::new()).await;
    assert_eq!(lines.take(), [(Level::WARN, "recovered a session that lost its owner".to_owned())]);
}
