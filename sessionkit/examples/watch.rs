//! Watches a session of another process: `cargo run -p sessionkit --example watch -- STORE NAME`.
//!
//! It only reads the log: the process that runs the session is not contacted, and nothing is changed.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use sessionkit::{ManagerOptions, SessionFilter, SessionManagerExt as _, format_progress, text};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(store), Some(name)) = (args.next(), args.next()) else {
        return Err("usage: watch STORE NAME".into());
    };
    // A reader must not recover crashed sessions.
    let options = ManagerOptions::new().recovery(None);
    let manager = sessionkit::builder(&format!("file:{store}")).options(options).open().await?;

    let found = manager.list_sessions(SessionFilter::all().name(&name)).await?;
    let id = found.heads.first().ok_or("there is no session of this name")?.id;
    let mut events = manager.events(id, 0);
    while let Some(record) = events.next().await? {
        println!("{} {}", record.envelope.seq, record.event.kind());
        // Steps and names are untrusted: this escapes control characters.
        println!("{}", text::visible(&format_progress(&manager.get_progress(id).await?, 80)));
    }
    Ok(())
}
