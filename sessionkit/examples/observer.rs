//! A custom observer that counts events by kind: `cargo run -p sessionkit --example observer`.
//!
//! Observers receive events in order, after they are durable. A slow or panicking observer delays only itself.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]
#![expect(clippy::clone_on_ref_ptr, reason = "the shortest form that converts to a trait object")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sessionkit::manager::ObservableSessionManager;
use sessionkit::{
    EventContext, SessionConfig, SessionEvent, SessionManager as _, SessionManagerExt as _, SessionObserver,
};

#[derive(Debug, Default)]
struct Count {
    kinds: Mutex<BTreeMap<&'static str, u64>>,
    missed: Mutex<u64>,
}

impl SessionObserver for Count {
    fn on_event(&self, _context: &EventContext, event: &SessionEvent) {
        *self.kinds.lock().unwrap_or_else(PoisonError::into_inner).entry(event.kind().name()).or_default() +=
            1;
    }

    // The observer's queue was full. To get the missed events, read the log from the revision in the context.
    fn on_lagged(&self, _context: &EventContext, missed: u64) {
        *self.missed.lock().unwrap_or_else(PoisonError::into_inner) += missed;
    }
}

#[tokio::main]
async fn main() -> sessionkit::Result<()> {
    let count = Arc::new(Count::default());
    let manager = sessionkit::open("memory:").await?;
    let manager = ObservableSessionManager::new(manager).observe("count", count.clone());
    let report = manager
        .run(SessionConfig::new("work"), async |session| {
            for number in 0..3 {
                session.checkpoint(&number).await?;
            }
            Ok(())
        })
        .await?;
    // Waits until observers have received everything.
    manager.shutdown().await?;
    println!("{}", report.state.name());
    for (kind, times) in &*count.kinds.lock().unwrap_or_else(PoisonError::into_inner) {
        println!("{times} {kind}");
    }
    Ok(())
}
