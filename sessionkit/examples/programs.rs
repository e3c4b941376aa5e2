//! Programs as sessions: start one and follow its output; after a crash, hear of the orphans and run them again.
//!
//! ```toml
//! [dependencies]
//! sessionkit = "0.1"
//! tokio = { version = "1", features = ["full"] }
//! ```
//!
//! `cargo run --example programs -- STORE start PROGRAM ARG… | resume`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;

use sessionkit::manager::RecoveryReport;
use sessionkit::runner::{Command, Running};
use sessionkit::{EventContext, SessionConfig, SessionEvent, SessionObserver, builder};

/// Prints the recovery at opening.
struct Printer;

impl SessionObserver for Printer {
    fn on_event(&self, _: &EventContext, _: &SessionEvent) {}

    fn on_recovery(&self, report: &RecoveryReport) {
        report.recovered.iter().for_each(|(_, outcome)| println!("recovered a session: {outcome:?}"));
    }
}

async fn follow(mut running: Running) -> Result<(), Box<dyn Error>> {
    let mut output = running.output().ok_or("a store in a folder keeps output")?;
    while let Some(chunk) = output.next().await? {
        std::io::stdout().write_all(&chunk.bytes)?;
    }
    println!("exit code {}", running.wait().await?.exit_code());
    Ok(())
}

#[sessionkit::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, command, program @ ..] = &arguments[..] else { return Err("STORE start|resume".into()) };
    let store = builder(&format!("file:{store}")).observe("printer", Arc::new(Printer)).open_store().await?;
    let (manager, runner) = (store.manager(), store.runner()?);
    if let ("start", [program, arguments @ ..]) = (&**command, program) {
        let command = Command::new(program).args(arguments);
        follow(runner.spawn(SessionConfig::new("program"), command).await?).await?;
    } else {
        for crashed in manager.find_crashed_sessions().await?.sessions {
            follow(runner.resume(crashed.head.id, |command| command).await?).await?;
        }
    }
    manager.shutdown().await?; // delivers the last events to the observer
    Ok(())
}
