//! A workflow in iterations, with the changes of each by name, an observer, and checkpoints from which it continues.
//!
//! ```toml
//! [dependencies]
//! sessionkit = "0.1"
//! tokio = { version = "1", features = ["full"] }
//! ```
//!
//! `cargo run --example workflow -- STORE [LAST]`: run it again after an abort in iteration LAST.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use sessionkit::log::{Changes, Commit, FileChange};
use sessionkit::manager::ObservableSessionManager;
use sessionkit::{
    EventContext, Result, Session, SessionConfig, SessionEvent, SessionManager as _, SessionManagerExt as _,
    SessionObserver, WorkError,
};

/// Prints what the iterations changed.
struct Printer;

impl SessionObserver for Printer {
    fn on_event(&self, _: &EventContext, event: &SessionEvent) {
        if let SessionEvent::IterationCompleted { number, changes } = event {
            let files = changes.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>();
            println!("iteration {number} changed {}", files.join(", "));
        }
    }
}

async fn improve(session: Session, last: Option<u64>) -> Result<u64, WorkError> {
    let from: u64 = session.last_checkpoint()?.unwrap_or(0); // from the attempt that was aborted
    println!("attempt {} continues after iteration {from}", session.attempt());
    session.progress().start(3);
    for _ in from..3 {
        session.cancellation().check()?;
        let number = session.start_iteration().await?;
        if last == Some(number) {
            std::process::abort();
        }
        let changes = Changes::default()
            .file(FileChange::modified(format!("src/part{number}.rs")).lines(10, 2))
            .file(FileChange::added("CHANGELOG.md").lines(1, 0))
            .commit(Commit::new(format!("{number:040x}"), format!("improve part {number}")));
        session.complete_iteration(changes).await?;
        session.progress().complete_step(format!("part {number}"));
        session.checkpoint(&number).await?;
    }
    Ok(3)
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let store = format!("file:{}", arguments.first().map_or("", String::as_str));
    let last = arguments.get(1).and_then(|last| last.parse().ok());
    let manager =
        ObservableSessionManager::new(sessionkit::open(&store).await?).observe("printer", Arc::new(Printer));
    let config = SessionConfig::new("improve").max_iterations(3);
    let report =
        manager.run_or_resume("improve", config, async |session| improve(session, last).await).await?;
    manager.shutdown().await?; // delivers the last events
    let progress = manager.get_progress(report.id).await?;
    println!("{} iterations, {} files changed", report.result::<u64>()?, progress.files_changed);
    Ok(())
}
