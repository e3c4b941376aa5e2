//! A job that continues where it stopped: `cargo run -p sessionkit --example resumable -- STORE [DIE_AT]`.
//!
//! With `DIE_AT` the process dies at that row, as with `kill -9`. The same command again takes over the session and
//! continues after the last checkpoint.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use sessionkit::{ManagerOptions, SessionConfig, SessionManagerExt as _};

const ROWS: usize = 5;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let store = args.next().ok_or("usage: resumable STORE [DIE_AT]")?;
    let die_at: Option<usize> = args.next().map(|row| row.parse()).transpose()?;

    // `run_or_resume` takes over a crashed session itself, so no recovery is needed on opening.
    let options = ManagerOptions::new().recovery(None);
    let manager = sessionkit::builder(&format!("file:{store}")).options(options).open().await?;
    let config = SessionConfig::new("import").name("rows");
    let report = manager
        .run_or_resume("import-rows", config, async |session| {
            let done: usize = session.last_checkpoint()?.unwrap_or(0);
            println!("attempt {}: {done} rows are done", session.attempt());
            session.progress().start(ROWS);
            for row in done + 1..=ROWS {
                session.cancellation().check()?;
                if die_at == Some(row) {
                    std::process::abort();
                }
                println!("row {row}"); // the work itself
                session.progress().complete_step(format!("row {row}"));
                session.checkpoint(&row).await?;
            }
            Ok(ROWS)
        })
        .await?;
    println!("{}: {} rows", report.state.name(), report.result::<usize>()?);
    Ok(())
}
