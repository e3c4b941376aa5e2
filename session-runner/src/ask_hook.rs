//! The command that notifies a person of a question: run for each one, apart from the program and without a terminal.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::exit::signal_name;
use crate::variables::{ATTEMPT_VARIABLE, SESSION_VARIABLE, SOCKET_VARIABLE, STORE_VARIABLE};

/// Time that a hook may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Hooks of this process that run concurrently.
static PLACES: Semaphore = Semaphore::const_new(4);
/// Hooks of this process that run or wait for a place. More are refused: what asks so often reaches nobody by its hooks.
static QUEUE: Semaphore = Semaphore::const_new(64);

/// The hook of a session.
#[derive(Debug, Clone)]
pub(crate) struct AskHook {
    /// The command, for `sh -c`.
    pub(crate) command: String,
    pub(crate) directory: PathBuf,
    /// The store's URL, so that the command can answer.
    pub(crate) store: Option<String>,
}

impl AskHook {
    /// Runs the command with this input to its end.
    ///
    /// # Errors
    /// The reason why the person may not be notified.
    pub(crate) async fn run(self, input: Vec<u8>) -> Result<(), String> {
        self.run_within(input, LIMIT).await
    }

    async fn run_within(self, input: Vec<u8>, limit: Duration) -> Result<(), String> {
        let Ok(_queued) = QUEUE.try_acquire() else { return Err("too many hooks run already".to_owned()) };
        // The semaphore is never closed.
        let Ok(_place) = PLACES.acquire().await else { return Ok(()) };
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.command).current_dir(&self.directory).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Those of a run around this one: the hook is part of no session.
        for name in [SESSION_VARIABLE, ATTEMPT_VARIABLE, SOCKET_VARIABLE] {
            command.env_remove(name);
        }
        command.envs(self.store.map(|store| (STORE_VARIABLE, store)));
        let mut child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
        let mut group = Group::of(child.id());
        let stdin = child.stdin.take();
        let ended = tokio::time::timeout(limit, async {
            if let Some(mut stdin) = stdin {
                // A command that does not read is none of ours to judge.
                let _ = stdin.write_all(&input).await;
            }
            child.wait().await
        });
        let Ok(status) = ended.await else {
            group.kill();
            let _ = child.wait().await;
            return Err(format!("it has not ended within {} s, and was killed", limit.as_secs()));
        };
        group.has_ended();
        failure(status.map_err(|error| error.to_string())?)
    }
}

fn failure(status: ExitStatus) -> Result<(), String> {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("exit code {code}")),
        (None, signal) => Err(format!("signal {}", signal.map_or_else(String::new, signal_name))),
    }
}

/// The process group of a hook, which is killed with its owner.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: Option<u32>) -> Self {
        Self(leader.and_then(|leader| i32::try_from(leader).ok()).map(Pid::from_raw))
    }

    /// Its leader is reaped: the number may be another group's.
    fn has_ended(&mut self) {
        self.0 = None;
    }

    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // An error is a group that has ended.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(folder: &tempfile::TempDir, command: &str) -> AskHook {
        let store = Some("file:/somewhere".to_owned());
        AskHook { command: command.to_owned(), directory: folder.path().to_owned(), store }
    }

    #[tokio::test]
    async fn a_hook_gets_its_input_and_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let script =
            "cat >input; echo $SESSIONCTL_STORE >store; ps -o pgid= -p $$ | grep -w $$ >group; test ! -t 0";
        hook(&folder, script).run(b"{}".to_vec()).await.unwrap();
        let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!((read("input"), read("store")), ("{}".to_owned(), "file:/somewhere\n".to_owned()));
        assert_ne!(read("group"), "", "it leads a group of its own");
    }

    #[tokio::test]
    async fn a_hook_that_reads_nothing_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        hook(&folder, "exec <&-; exit 0").run(vec![b'x'; 200_000]).await.unwrap();
    }

    #[tokio::test]
    async fn a_failure_names_the_end_of_the_hook() {
        let folder = tempfile::tempdir().unwrap();
        let error = hook(&folder, "exit 3").run(Vec::new()).await.unwrap_err();
        assert_eq!(error, "exit code 3");
        let error = hook(&folder, "kill -KILL $$").run(Vec::new()).await.unwrap_err();
        assert_eq!(error, "signal 9 (KILL)");
        let missing = AskHook { directory: folder.path().join("missing"), ..hook(&folder, "true") };
        assert!(missing.run(Vec::new()).await.unwrap_err().starts_with("it cannot be started: "));
    }

    #[tokio::test]
    async fn a_hook_over_its_time_is_killed_with_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
        let held = tokio::task::spawn_blocking({
            let fifo = fifo.clone();
            move || std::fs::read(fifo).unwrap()
        });
        let killed = hook(&folder, "exec 3>fifo; sleep 60 & exec sleep 60");
        let error = killed.run_within(Vec::new(), Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error, "it has not ended within 1 s, and was killed");
        // Both writers are gone.
        held.await.unwrap();
    }
}
