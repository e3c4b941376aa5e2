//! A tool server: each request is a session of the global manager, with progress, a time limit, and a cancel by id. After
//! a crash, the user is asked, and the request continues with its context.
//!
//! ```toml
//! [dependencies]
//! sessionkit = "0.1"
//! tokio = { version = "1", features = ["full"] }
//! ```
//!
//! `cargo run --example tool_server -- STORE call|cancel|crash|resume`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use sessionkit::log::FailureCause;
use sessionkit::manager::CancellationSource;
use sessionkit::{
    CancelRequest, Failure, Result, Session, SessionConfig, SessionId, SessionSummary, format_progress,
    global, set_global,
};

async fn work(session: Session, crash: bool) -> Result<()> {
    session.progress().on_change(|progress| eprintln!("{}", format_progress(progress, 60))).forget();
    let stops = session.cancellation().on_cancelled(|reason| println!("the tool stops: {reason}"));
    let limit = CancellationSource::with_timeout(Duration::from_secs(60));
    let done: u64 = session.last_checkpoint()?.unwrap_or(0); // from the attempt that crashed
    session.progress().start(5);
    for part in done..5 {
        tokio::select! {
            _ = session.cancellation().cancelled() => return Ok(()), // the session has ended
            late = limit.token().cancelled() => return session.fail(Failure::new(FailureCause::Timeout, late)).await,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        session.progress().complete_step("part");
        session.checkpoint(&(part + 1)).await?;
        if crash && part == 2 {
            std::process::abort();
        }
    }
    drop(stops); // completing is no cancellation
    session.complete(SessionSummary::new().message("counted to five")).await
}

async fn request(crash: bool) -> Result<SessionId> {
    let manager = global().await?;
    let id = manager.create_session(SessionConfig::new("count")).await?;
    tokio::spawn(work(manager.start_session(id).await?, crash));
    Ok(id)
}

#[tokio::main]
async fn main() -> Result<()> {
    let [_, store, command] = &std::env::args().collect::<Vec<_>>()[..] else { panic!("STORE COMMAND") };
    set_global(sessionkit::open(&format!("file:{store}")).await?).expect("it is set once");
    let manager = global().await?;
    if command == "resume" {
        for crashed in manager.find_crashed_sessions().await?.sessions {
            println!("{} was interrupted: {}. Continue? [y/n]", crashed.head.operation, crashed.evidence);
            let answer = std::io::stdin().lines().next().transpose().expect("stdin is text");
            if answer.as_deref() == Some("y") {
                work(manager.resume_session(crashed.head.id).await?, false).await?;
            }
        }
        return Ok(());
    }
    let id = request(command == "crash").await?;
    if command == "cancel" {
        manager.cancel_session(id, CancelRequest::new("not needed", "user")).await?;
    }
    println!("{}", manager.wait_for(id, &[]).await?.state().name());
    Ok(())
}
