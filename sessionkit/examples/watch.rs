//! Watches a session of another process: `cargo run -p sessionkit --example watch -- STORE NAME`.
//!
//! It only reads the log: the process that runs the session is not contacted, and nothing is changed.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use sessionkit::{EventKind, ManagerOptions, SessionFilter, SessionStorageExt as _, format_progress, text};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(store), Some(name)) = (args.next(), args.next()) else {
        return Err("usage: watch STORE NAME".into());
    };
    // A reader must not recover crashed sessions.
    let options = ManagerOptions::new().recovery(None);
    let store = sessionkit::builder(&format!("file:{store}")).options(options).open_store().await?;
    let manager = store.manager();

    let found = manager.list_sessions(SessionFilter::all().name(&name)).await?;
    let id = found.heads.first().ok_or("there is no session of this name")?.id;
    let storage = store.storage();
    let mut log = storage.watch(id, 0, Duration::from_millis(100));
    let mut ended = false;
    while !ended {
        for stored in log.next().await? {
            let record = stored.decode()?;
            // Not from `get_state`: that may be ahead of the records printed so far.
            ended = matches!(
                record.event.kind(),
                EventKind::Completed | EventKind::Failed | EventKind::Cancelled
            );
            println!("{} {}", record.envelope.seq, record.event.kind());
        }
        // Steps and names are untrusted: this escapes control characters.
        println!("{}", text::visible(&format_progress(&manager.get_progress(id).await?, 80)));
    }
    Ok(())
}
