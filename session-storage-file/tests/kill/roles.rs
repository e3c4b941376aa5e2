//! The roles of the child processes: write until killed, race for an orphan, race for a session slot.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

use session_core::backend::*;
use session_core::maintenance::StorageMaintenance as _;
use session_core::*;
use session_storage_file::{FileStorage, FileStorageOptions};

pub(crate) const ROLE: &str = "SESSION_KILL_ROLE";
pub(crate) const STORE: &str = "SESSION_KILL_STORE";
pub(crate) const ARGUMENT: &str = "SESSION_KILL_ARGUMENT";
/// The prefix of lines for the test, among those of the test harness.
pub(crate) const MARK: &str = "\u{1}";

pub(crate) fn run(role: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = runtime.block_on(async {
        match role {
            "writer" => write().await,
            "rival" => race_for_orphans().await,
            "creator" => race_for_a_place().await,
            other => panic!("unknown role {other}"),
        }
    });
    if let Err(error) = result {
        send(&format!("error {}", error.code()));
        eprintln!("{role}: {error:?}");
    }
}

fn send(line: &str) {
    // One write: a line is sent completely or not at all.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{MARK}{line}\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}

fn receive() -> Option<String> {
    std::io::stdin().lock().lines().next().map(Result::unwrap)
}

async fn manager(options: ManagerOptions) -> Result<PersistentSessionManager<FileStorage>> {
    let storage = FileStorage::open(FileStorageOptions::new(std::env::var_os(STORE).unwrap()))?;
    let presence = LocalPresence::new(storage.owners_dir());
    PersistentSessionManager::open(Arc::new(storage), Arc::new(presence), options).await
}

/// Resumes orphans or creates sessions, counts in checkpoints, and reports acknowledgements. With the argument
/// `waits` it waits for a line after each acknowledgement.
async fn write() -> Result<()> {
    let waits = std::env::var(ARGUMENT).is_ok_and(|argument| argument == "waits");
    let manager = manager(ManagerOptions::new().recovery(None)).await?;
    for round in 0.. {
        let orphan =
            if round % 2 == 1 { manager.find_crashed_sessions().await?.sessions.pop() } else { None };
        let session = match orphan {
            Some(orphan) if orphan.head.lifecycle.owner.is_some() => {
                match manager.resume_session(orphan.head.id).await {
                    Ok(session) => session,
                    // Another writer resumed it first.
                    Err(error) if matches!(error.code(), ErrorCode::Conflict | ErrorCode::Fenced) => continue,
                    Err(error) if error.code() == ErrorCode::IllegalTransition => continue,
                    Err(error) => return Err(error),
                }
            }
            _ => {
                let id = manager.create_session(SessionConfig::new("count").name("counts")).await?;
                manager.start_session(id).await?
            }
        };
        let head = session.head();
        send(&format!("instance {}", head.lifecycle.owner.unwrap().instance));
        let mut value = session.last_checkpoint::<u64>()?.unwrap_or(0);
        for _ in 0..20 {
            value += 1;
            session.progress().complete_step("count");
            let tip = session.checkpoint(&value).await?;
            send(&format!("ack {} {} {value}", session.id(), tip.revision));
            if waits {
                // Waits here, where it holds no lock.
                receive();
            }
        }
        session.complete(SessionSummary::new()).await?;
    }
    Ok(())
}

/// Resumes each session that it receives, if it can, and completes it.
async fn race_for_orphans() -> Result<()> {
    let manager = manager(ManagerOptions::new().recovery(None)).await?;
    while let Some(id) = receive() {
        match manager.resume_session(id.parse().unwrap()).await {
            Ok(session) => {
                send("won");
                // The loser must find a running session.
                receive();
                session.complete(SessionSummary::new()).await?;
                send("completed");
            }
            Err(error) => send(error.code().as_str()),
        }
    }
    Ok(())
}

async fn race_for_a_place() -> Result<()> {
    let limit: std::num::NonZeroUsize = std::env::var(ARGUMENT).unwrap().parse().unwrap();
    let manager = manager(ManagerOptions::new().recovery(None).max_sessions(limit)).await?;
    send("ready");
    receive();
    match manager.create_session(SessionConfig::new("place")).await {
        Ok(_) => send("created"),
        Err(error) => send(error.code().as_str()),
    }
    receive();
    Ok(())
}
