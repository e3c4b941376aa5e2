//! A session whose program is a process tree that resists its end, with ways to kill its owner and supervisor and to
//! list its live processes.

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Moment;
use crate::trees_support::{BINARY, Ran, TreesFixture};

/// The documented limit: one second of grace, then the kill.
const KILL_DEADLINE: Duration = Duration::from_secs(2);
/// Additional time on a busy machine.
const MARGIN: Duration = Duration::from_secs(4);
const TIMEOUT: Duration = Duration::from_secs(60);

/// Three levels of processes: a process that ignores TERM, one in a process session of its own, one that was forked
/// twice, and a nested session. All keep the output pipe open.
const SCRIPT: &str = r#"
touch "$2"
sh -c 'trap "" TERM; touch "$2.stubborn"; sleep "$1" & sleep "$1"' sh "$1" "$2" &
setsid sh -c 'sleep "$1" & touch "$2.apart"; wait' sh "$1" "$2" &
(sh -c 'sleep "$1" & touch "$2.twice"; wait' sh "$1" "$2" &)
"$3" run -- sh -c 'touch "$2.nested"; sleep "$1"' sh "$1" "$2" &
if [ "$4" = all ]; then env -i PATH="$PATH" sleep "$1" & fi
wait
"#;
const MARKS: [&str; 4] = ["stubborn", "apart", "twice", "nested"];

/// The processes of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Members {
    /// Includes a process without the session's environment, which only a supervisor finds.
    All,
    /// Only processes with the session's environment.
    Marked,
}

pub(crate) struct Tree {
    pub(crate) name: String,
    /// The duration that its processes sleep, unique to this tree.
    mark: String,
    ready: std::path::PathBuf,
    owner: Option<Child>,
    killer: Option<std::thread::JoinHandle<Instant>>,
    killed: Option<Instant>,
}

impl Tree {
    pub(crate) fn start(fixture: &TreesFixture, name: &str, members: Members) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("86400.{}{:05}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let ready = fixture.file(&format!("ready-{mark}"));
        let members = if members == Members::All { "all" } else { "marked" };
        let args = [
            "run",
            "--name",
            name,
            "--",
            "sh",
            "-c",
            SCRIPT,
            "sh",
            &mark,
            ready.to_str().unwrap(),
            BINARY,
            members,
        ];
        let owner = fixture.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        Self { name: name.to_owned(), mark, ready, owner: Some(owner), killer: None, killed: None }
    }

    /// Runs the same program again by `resume`.
    pub(crate) fn resume(fixture: &TreesFixture, tree: &Self) -> Self {
        tree.remove_ready_files();
        let args = ["resume", &tree.name];
        let owner = fixture.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (name, mark, ready) = (tree.name.clone(), tree.mark.clone(), tree.ready.clone());
        Self { name, mark, ready, owner: Some(owner), killer: None, killed: None }
    }

    fn is_ready(ready: &std::path::Path) -> bool {
        MARKS.iter().all(|mark| std::path::Path::new(&format!("{}.{mark}", ready.display())).exists())
    }

    fn remove_ready_files(&self) {
        for mark in MARKS {
            let _ = std::fs::remove_file(format!("{}.{mark}", self.ready.display()));
        }
    }

    pub(crate) fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + TIMEOUT;
        while !Self::is_ready(&self.ready) {
            let ended = self.owner.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{}: never ready: {ended:?}", self.name);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn owner_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.owner.as_ref().unwrap().id()).unwrap()).unwrap()
    }

    /// Kills the owner at a moment, on a thread of its own.
    pub(crate) fn kill_owner_at(&mut self, moment: Moment) {
        let (pid, ready) = (self.owner_pid(), self.ready.clone());
        self.killer = Some(std::thread::spawn(move || {
            let wait = match moment {
                Moment::After(wait) => wait,
                Moment::Ready(wait) => {
                    let deadline = Instant::now() + TIMEOUT;
                    while !Self::is_ready(&ready) && Instant::now() < deadline {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    wait
                }
            };
            std::thread::sleep(wait);
            kill_process(pid, Signal::KILL).unwrap();
            Instant::now()
        }));
    }

    pub(crate) fn kill_supervisor(&mut self) {
        kill_process(self.supervisor(), Signal::KILL).unwrap();
        self.killed = Some(Instant::now());
    }

    /// Kills owner and supervisor so that neither can react to the end of the other.
    pub(crate) fn kill_both(&mut self) {
        let (owner, supervisor) = (self.owner_pid(), self.supervisor());
        // Stops both first, so that the second does nothing between the kills.
        for signal in [Signal::STOP, Signal::KILL] {
            kill_process(owner, signal).unwrap();
            kill_process(supervisor, signal).unwrap();
        }
        self.killed = Some(Instant::now());
    }

    /// Kills the owner, and leaves the supervisor stopped if asked to.
    pub(crate) fn kill_owner(&mut self, stop_supervisor: bool) {
        if stop_supervisor {
            kill_process(self.supervisor(), Signal::STOP).unwrap();
        }
        kill_process(self.owner_pid(), Signal::KILL).unwrap();
        self.killed = Some(Instant::now());
    }

    /// Waits for the death of the killed owner.
    pub(crate) fn wait_killed(mut self) -> Self {
        if let Some(killer) = self.killer.take() {
            self.killed = Some(killer.join().unwrap());
        }
        let status = self.owner.take().unwrap().wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(9),
            "{}: {status}",
            self.name
        );
        self
    }

    /// Waits until the owner exits by itself.
    pub(crate) fn wait_ended(mut self) -> Ran {
        Ran::from(self.owner.take().unwrap().wait_with_output().unwrap())
    }

    /// Returns the supervisor: the owner's child that watches over the tree.
    fn supervisor(&self) -> Pid {
        let owner = self.owner_pid().as_raw_nonzero().to_string();
        let found = processes().find(|pid| {
            args(*pid).get(1).is_some_and(|word| word == "__supervise")
                && parent(*pid).is_some_and(|pid| pid == owner)
        });
        Pid::from_raw(found.unwrap()).unwrap()
    }

    /// Returns the owner's socket, from the environment of its processes.
    pub(crate) fn socket(&self) -> String {
        let environ = |pid| std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut all = processes().filter(|pid| args(*pid).contains(&self.mark)).flat_map(|pid| {
            split_nul(&environ(pid))
                .into_iter()
                .filter_map(|name| name.strip_prefix("SESSIONCTL_SOCKET=").map(str::to_owned))
        });
        all.next().unwrap()
    }

    /// Returns its live processes, recognised by the mark in their arguments.
    pub(crate) fn live_processes(&self) -> Vec<(i32, String)> {
        let running = processes().map(|pid| (pid, args(pid)));
        running
            .filter(|(_, args)| args.contains(&self.mark))
            .map(|(pid, args)| (pid, args[0].clone()))
            .collect()
    }

    /// Returns its live processes that have no session of their own.
    pub(crate) fn supervised_processes(&self) -> Vec<(i32, String)> {
        self.live_processes().into_iter().filter(|(pid, _)| !is_apart(*pid)).collect()
    }
}

/// Ends the processes of a failed test.
impl Drop for Tree {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (pid, _) in self.live_processes() {
                let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
            }
        }
    }
}

/// Returns `true` for a process that left the session of this process, so that it may outlive its owner.
fn is_apart(pid: i32) -> bool {
    session(pid) != session(std::process::id().cast_signed())
}

/// Waits until no process of these trees is left that has no session of its own, and ends those that have one.
pub(crate) fn wait_until_supervised_are_gone(trees: &[Tree], case: &str) -> Vec<Duration> {
    let durations = wait_until_none(trees, case, |pid| !is_apart(pid));
    for pid in trees.iter().flat_map(Tree::live_processes).map(|(pid, _)| pid) {
        assert!(is_apart(pid), "{case}: {pid}");
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
    wait_until_gone(trees, case);
    durations
}

/// Waits until no process of these trees is left, and returns the time from the kill to the end of each.
pub(crate) fn wait_until_gone(trees: &[Tree], case: &str) -> Vec<Duration> {
    wait_until_none(trees, case, |_| true)
}

fn wait_until_none(trees: &[Tree], case: &str, counts: impl Fn(i32) -> bool) -> Vec<Duration> {
    let mut gone = vec![None; trees.len()];
    loop {
        let all: Vec<Vec<String>> = processes().filter(|pid| counts(*pid)).map(args).collect();
        for (tree, gone) in trees.iter().zip(&mut gone) {
            let since = tree.killed.unwrap().elapsed();
            if all.iter().all(|args| !args.contains(&tree.mark)) {
                gone.get_or_insert(since);
            } else {
                *gone = None;
                assert!(
                    since < KILL_DEADLINE + MARGIN,
                    "{case}: {} is alive after {since:?}: {:?}",
                    tree.name,
                    tree.live_processes()
                );
            }
        }
        if gone.iter().all(Option::is_some) {
            for tree in trees {
                let _ = std::fs::remove_file(&tree.ready);
                tree.remove_ready_files();
            }
            return gone.into_iter().flatten().collect();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn processes() -> impl Iterator<Item = i32> {
    let names = std::fs::read_dir("/proc").unwrap().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns the arguments of a process; none once it has ended.
fn args(pid: i32) -> Vec<String> {
    split_nul(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
}

fn split_nul(bytes: &[u8]) -> Vec<String> {
    let args = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    args.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn parent(pid: i32) -> Option<String> {
    stat_field(pid, 1)
}

fn session(pid: i32) -> Option<String> {
    stat_field(pid, 3)
}

/// Returns a field of a process behind its name.
fn stat_field(pid: i32, at: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(at).map(str::to_owned)
}
