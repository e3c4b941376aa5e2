//! Signals at random moments to the owner, the supervisor, the program, or all: what the session is afterwards follows
//! from what was sent. Nothing survives that should end, and no output that was shown is gone.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use session_testkit::random::Random;

use crate::rounds::run_rounds;
use crate::stops::{child_of, pid};
use crate::support::{Fixture, TIMEOUT, eventually};

/// The program's treatment of stop signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Exits with 0.
    Orderly,
    Deaf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Owner,
    Supervisor,
    Program,
    All,
}

/// One round, as drawn.
#[derive(Debug)]
struct Round {
    kind: Kind,
    signal: Signal,
    target: Target,
    /// Milliseconds after the program is ready. It ends by itself after 100 to 500.
    after: u64,
    lines: usize,
    code: i32,
}

impl Round {
    fn draw(random: &mut Random) -> Self {
        let kind = *random.pick(&[Kind::Plain, Kind::Orderly, Kind::Deaf]).unwrap();
        let signal = *random.pick(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::KILL]).unwrap();
        let target =
            *random.pick(&[Target::Owner, Target::Supervisor, Target::Program, Target::All]).unwrap();
        let (after, lines) = (random.below(500) as u64, 10 + random.below(40));
        Self { kind, signal, target, after, lines, code: if random.one_in(2) { 3 } else { 0 } }
    }

    fn script(&self) -> String {
        let trap = match self.kind {
            Kind::Plain => "",
            Kind::Orderly => "trap 'exit 0' TERM INT HUP;",
            Kind::Deaf => "trap '' TERM INT HUP;",
        };
        format!(
            "{trap} i=0; : >ready; while [ $i -lt {} ]; do i=$((i+1)); echo line $i; sleep 0.01; done; \
             : >ended; exit {}",
            self.lines, self.code
        )
    }

    /// Returns the statuses that are right. `ended` is `true` if the program came to its own end, so that both are
    /// possible; `after_end` if that was well before the signal, so that only its own result is.
    fn allowed(&self, ended: bool, after_end: bool) -> Vec<&'static str> {
        let result = if self.code == 0 { "completed" } else { "failed" };
        let (kill, int) = (self.signal == Signal::KILL, self.signal == Signal::INT);
        let stopped = match (self.target, self.kind) {
            (Target::Owner | Target::All, _) if kill => vec!["crashed"],
            // Its own end may have been reported before.
            (Target::Supervisor | Target::Program, _) if kill => vec!["failed"],
            // Both outlive these signals.
            (Target::Supervisor, _) | (Target::Program, Kind::Deaf) => vec![result],
            (Target::Program, Kind::Plain) => vec!["failed"],
            (Target::Program, Kind::Orderly) => vec!["completed"],
            (Target::Owner | Target::All, Kind::Plain) if int => vec!["stopped"],
            (Target::Owner | Target::All, Kind::Orderly) if int => vec!["completed"],
            (Target::Owner | Target::All, Kind::Deaf) if int => {
                vec![if self.code == 0 { "completed" } else { "stopped" }]
            }
            (Target::Owner | Target::All, _) => vec!["interrupted"],
        };
        match (ended, after_end) {
            (true, true) => vec![result],
            // A supervisor that dies before it reports the end leaves a crash: `failed`. A program that was about to exit, and did
            // not come to its trap any more, is one that ignores the signal.
            (true, false) => {
                let ignored = matches!(self.target, Target::Owner | Target::All) && int && self.code != 0;
                let ignored = ignored.then_some("stopped");
                stopped.into_iter().chain([result]).chain(ignored).collect()
            }
            (false, _) => stopped,
        }
    }
}

/// Runs one round. Returns `false` if nothing can be derived from it, or the description of what is wrong.
fn run(round: &Round) -> Result<bool, String> {
    let fixture = Fixture::new();
    let folder = fixture.dir.path();
    let mut command = fixture.command(["run", "--name", "it", "--", "sh", "-c", &round.script()]);
    command.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    let mut owner = command.spawn().unwrap();
    eventually("a program", || folder.join("ready").exists());
    let supervisor = child_of(pid(owner.id()));
    let program = child_if_any(supervisor);
    let shown = folder.join("shown");
    let mut follow = fixture.command(["logs", "it", "--follow"]);
    let mut follower = follow.stdout(File::create(&shown).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(round.after));
    let (before, ended_before) = (Instant::now(), age_of(&folder.join("ended")));
    let targets = match round.target {
        Target::Owner => vec![Some(pid(owner.id()))],
        Target::Supervisor => vec![Some(supervisor)],
        Target::Program => vec![program],
        Target::All => vec![Some(pid(owner.id())), Some(supervisor), program],
    };
    // One that has ended gets none; its owner has not reaped it, or its id is not in use again yet.
    for target in targets.into_iter().flatten() {
        let _ = kill_process(target, round.signal);
    }
    if before.elapsed() > Duration::from_millis(50) {
        // The machine was busy between two of them: nothing can be derived from their order.
        let _ = (owner.kill(), follower.kill(), owner.wait(), follower.wait());
        return Ok(false);
    }
    if wait(&mut owner).is_none() {
        let _ = (owner.kill(), follower.kill(), owner.wait(), follower.wait());
        return Err("the owner does not end".to_owned());
    }
    // Those of a killed owner are ended by their supervisor.
    let left = || processes_in(folder).into_iter().filter(|pid| *pid != follower.id()).collect::<Vec<_>>();
    let deadline = Instant::now() + TIMEOUT;
    while !left().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let survivors = left();
    let _ = follower.kill();
    let _ = follower.wait();
    if !survivors.is_empty() {
        return Err(format!("processes survive: {survivors:?}"));
    }
    let status = fixture.show("it")["status"].as_str().unwrap().to_owned();
    let after_end = ended_before.is_some_and(|age| age > Duration::from_millis(100));
    let allowed = round.allowed(folder.join("ended").exists(), after_end);
    if !allowed.contains(&status.as_str()) {
        let why = fixture.ctl(["why", "it"]).stdout;
        return Err(format!("it is {status}, and may be {allowed:?}\n{why}"));
    }
    let (shown, stored) = (std::fs::read_to_string(shown).unwrap(), fixture.ctl(["logs", "it"]).stdout);
    if !stored.starts_with(&shown) {
        return Err(format!("output was shown and is gone: {shown:?}, {stored:?}"));
    }
    Ok(true)
}

/// Returns the time since a file was written.
fn age_of(path: &std::path::Path) -> Option<Duration> {
    std::fs::metadata(path).ok()?.modified().ok()?.elapsed().ok()
}

/// Waits for a process to end.
fn wait(child: &mut Child) -> Option<()> {
    let deadline = Instant::now() + TIMEOUT;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(())
}

fn child_if_any(parent: Pid) -> Option<Pid> {
    crate::stops::children(parent).first().copied()
}

/// Returns the processes that work in a folder.
fn processes_in(folder: &std::path::Path) -> Vec<u32> {
    let ids = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let works_there =
        |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder);
    ids.filter(works_there).collect()
}

#[test]
fn signals_at_random_moments_give_the_right_status() {
    run_rounds(24, Round::draw, run);
}
