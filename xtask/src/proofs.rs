//! `cargo xtask proofs`: the tests that take long, at the size that CI runs, or for a night with `--full`.

use std::cell::Cell;
use std::error::Error;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use crate::args::{Args, Usage};
use crate::console::{self, Outcome};
use crate::soak::{self, Impossible, Program, Proof, Seed, Stopped, new_seed};
use crate::steps::{self, AfterFailure, Completion, Run};
use crate::subcommand::Subcommand;
use crate::{crash, damage, fuzz, kill};

/// Length of each seeded proof with `--full`.
const FULL: Duration = Duration::from_secs(30 * 60);

pub(crate) const COMMAND: Subcommand = Subcommand {
    name: "proofs",
    usage: "[--full] [--minutes M] [--seed S] [--list] [NAME…]",
    summary: "Run the long proofs: power cuts, damage, kills, fuzzing and more",
    about: "\
Runs each proof once at the size that CI runs, with a random seed: at most 45 minutes on two cores.
Each prints its seed and the command that repeats it. The other proofs run after a failure; a table
of results and times comes last.
The programs are those of `cargo xtask test`, so nothing is built twice; only the tests that do more
without debug assertions (damage, failures) are built in release.

With --full each seeded proof runs rounds with new seeds for 30 minutes, and the others run once:
about six hours in total. With --minutes M it takes about 12 × M + 15 minutes.
The proofs of whole commands (calls, ext4, xfs, btrfs, chaos) are reported as not run where a tool or
a privilege is missing. SESSION_PROOF_… variables change their size: see docs/testing.md.",
    options: &[
        ("--full", "soak each seeded proof for 30 minutes: about six hours"),
        ("--minutes M", "length of each seeded proof; implies --full (default: 30)"),
        ("--seed S", "seed of every proof (default: random)"),
        ("--list", "list the proofs and run none"),
        ("NAME…", "proofs to run (default: all)"),
    ],
    examples: &[
        ("cargo xtask proofs", "before a release, and in CI"),
        ("cargo xtask proofs machine --seed 42", "one proof, with the seed of an earlier run"),
        ("cargo xtask proofs --full --minutes 60", "more than twelve hours"),
    ],
    run,
};

/// A proof of the list.
struct Part {
    name: &'static str,
    title: String,
    /// The proof at the size of CI.
    once: Proof,
    /// One round of `--full`; `None` if rounds would repeat the same cases.
    round: Option<Proof>,
}

/// A proof with its seed and length.
struct Scheduled {
    part: Part,
    seed: u64,
    /// `None` runs it once.
    time: Option<Duration>,
    /// Set when a signal has ended a proof: the others are not run.
    stopped: Rc<Cell<bool>>,
}

fn run(mut args: Args) -> Outcome {
    let full = args.flag("--full");
    let time = soak::minutes(&mut args)?.or(full.then_some(FULL));
    let seed: Option<u64> = args.option("--seed")?;
    let list = args.flag("--list");
    let parts = select(parts(), &args.names()?)?;
    if list {
        let mut text = String::new();
        for Part { name, title, .. } in &parts {
            let _ = writeln!(text, "{name:10} {title}");
        }
        return console::print(&text);
    }
    let stopped = Rc::default();
    let schedule =
        |part| Scheduled { part, seed: seed.unwrap_or_else(new_seed), time, stopped: Rc::clone(&stopped) };
    let schedule: Vec<_> = parts.into_iter().map(schedule).collect();
    steps::run(&schedule, AfterFailure::Continue)
}

/// Returns the proofs with these names, or all.
fn select(mut parts: Vec<Part>, names: &[String]) -> Result<Vec<Part>, Box<dyn Error>> {
    if let Some(unknown) = names.iter().find(|name| parts.iter().all(|part| part.name != **name)) {
        return Err(Usage::error(format!("there is no proof `{unknown}`: `--list` lists them")));
    }
    parts.retain(|part| names.is_empty() || names.iter().any(|name| name == part.name));
    Ok(parts)
}

impl Run for Scheduled {
    fn name(&self) -> &str {
        &self.part.title
    }

    /// The error of a proof names the command with the seed of the failed round.
    fn reproduction(&self) -> Option<String> {
        None
    }

    fn run(&self) -> Result<Completion, String> {
        if self.stopped.get() {
            return Ok(Completion::NotRun("stopped by a signal".to_owned()));
        }
        eprintln!("\n=== {}", self.part.title);
        let result = match (&self.part.round, self.time) {
            (Some(round), Some(time)) => round.soak(time, Some(self.seed)),
            _ => self.part.once.once(self.seed),
        };
        match result {
            Ok(()) => Ok(Completion::Passed),
            Err(error) if error.is::<Impossible>() => Ok(Completion::NotRun(error.to_string())),
            Err(error) => {
                self.stopped.set(error.is::<Stopped>());
                Err(error.to_string())
            }
        }
    }
}

/// Creates a proof that has no command of its own.
fn proof(name: &str, programs: Vec<Program>, failure: &'static str) -> Proof {
    Proof { command: format!("proofs {name}"), programs, size: String::new(), failure }
}

fn machine(sequences: u64) -> Proof {
    let program = Program::test("session-core", "machine", Seed::Variable("SESSION_SEED")).arg(&"table::");
    let programs = vec![program.env("SESSION_MACHINE_SEQUENCES", &sequences)];
    proof("machine", programs, "the state machine and its model disagree")
}

fn stops(rounds: u64) -> Proof {
    let program = Program::test("sessionctl", "ctl", Seed::Variable("SESSION_TESTKIT_SEED"));
    let programs = vec![program.arg(&"stop_rounds::").env("SESSIONCTL_TEST_ROUNDS", &rounds)];
    proof("stops", programs, "a signal gave a session the wrong status, or left a process running")
}

fn durable_steps(rounds: u64) -> Proof {
    let program = Program::test("sessionctl", "steps", Seed::Variable("SESSION_TESTKIT_SEED"));
    let programs = vec![program.arg(&"step_rounds::").env("SESSIONCTL_TEST_ROUNDS", &rounds)];
    proof("steps", programs, "a recorded step ran again, a value differs, or two runs of a step overlap")
}

fn items(items: u64, kills: u64) -> Proof {
    let program = Program::test("sessionctl", "steps", Seed::Variable("SESSION_TESTKIT_SEED"));
    let program = program.arg(&"each_rounds::").env("SESSIONCTL_TEST_ROUNDS", &1);
    let programs = vec![program.env("SESSION_EACH_ITEMS", &items).env("SESSION_EACH_KILLS", &kills)];
    proof("items", programs, "a recorded item ran again or is missing, or too many are unknown")
}

fn of_worktrees() -> Part {
    let title = "lifetimes: 100 random lives of worktrees next to garbage collections (200 in a round)";
    let (once, round) = (lifetimes(100), Some(lifetimes(200)));
    Part { name: "lifetimes", title: title.to_owned(), once, round }
}

fn lifetimes(number: u64) -> Proof {
    let program = Program::test("session-worktree", "lifetimes", Seed::Variable("SESSION_WORKTREE_SEED"));
    let programs = vec![program.env("SESSION_WORKTREE_LIFETIMES", &number)];
    proof("lifetimes", programs, "something that a worktree held is gone, or is left where nothing names it")
}

fn terminals(rounds: u64) -> Proof {
    let program = Program::test("sessionctl", "ctl", Seed::Variable("SESSION_TESTKIT_SEED"));
    let programs = vec![program.arg(&"terminal_rounds::").env("SESSIONCTL_TEST_ROUNDS", &rounds)];
    proof(
        "terminals",
        programs,
        "output that was shown is gone, or a terminal, a status or a process is wrong",
    )
}

/// A proof of the command as a whole, by the binary `session-proofs`.
/// Once it is of this size, set by a variable; in a round of its full one.
fn whole_command(
    name: &'static str,
    title: &str,
    (variable, size): (&'static str, u64),
    failure: &'static str,
) -> Part {
    let program = || Program::whole_command(name);
    let once = proof(name, vec![program().env(variable, &size)], failure);
    Part { name, title: title.to_owned(), once, round: Some(proof(name, vec![program()], failure)) }
}

fn whole_commands() -> Vec<Part> {
    const CUT: &str = "a power cut lost or invented data, or left a store that does not work";
    vec![
        whole_command(
            "calls",
            "calls: 600 system calls of all verbs fail, one in each command (5,400 in a round)",
            ("SESSION_PROOF_CALLS", 600),
            "a failed system call lost or invented data, or gave a wrong result",
        ),
        whole_command(
            "ext4",
            "ext4: 16 images of a disk whose power was cut for each backend and mode, and controls (160 in a round)",
            ("SESSION_PROOF_IMAGES", 16),
            CUT,
        ),
        whole_command(
            "xfs",
            "xfs: 12 images of a disk whose power was cut for each backend (100 in a round)",
            ("SESSION_PROOF_IMAGES", 12),
            CUT,
        ),
        whole_command(
            "btrfs",
            "btrfs: 12 images of a disk whose power was cut for each backend (100 in a round)",
            ("SESSION_PROOF_IMAGES", 12),
            CUT,
        ),
        whole_command(
            "chaos",
            "chaos: 1,000 random commands of 50 workers on each backend, many killed (10,000 in a round)",
            ("SESSION_PROOF_COMMANDS", 1_000),
            "a crowd of processes lost data, or left processes or files",
        ),
    ]
}

fn parts() -> Vec<Part> {
    let mut parts = in_crates();
    parts.push(of_worktrees());
    parts.extend(whole_commands());
    parts
}

fn in_crates() -> Vec<Part> {
    let part = |name, title: &str, once, round| Part { name, title: title.to_owned(), once, round };
    let sessionkit = |target| Program::test("sessionkit", target, Seed::None);
    vec![
        part(
            "machine",
            "machine: 10 million random sequences of events",
            machine(10_000_000),
            Some(machine(1_000_000)),
        ),
        part(
            "crash",
            "crash: power cuts, 100,000 images",
            crash::proof(crash::IMAGES, None),
            Some(crash::proof(crash::IMAGES, Some(crash::ROUND))),
        ),
        part(
            "damage",
            "damage: 20,000 cases and each bit of a log; 1,000 cases on sled",
            damage::proof(damage::CASES),
            Some(damage::proof(damage::ROUND)),
        ),
        part(
            "failures",
            "failures: each call of the disk fails, and a second one after it",
            proof(
                "failures",
                vec![Program::release_test("session-storage-file", "failures", Seed::None)],
                "a failed call of the disk lost or invented data",
            ),
            None,
        ),
        part(
            "kill",
            "kill: 300 writers, 200 races, 300 process trees; 1,000 sessions in a row",
            kill::proof(kill::CYCLES, kill::TREES),
            Some(kill::proof(kill::ROUND.0, kill::ROUND.1)),
        ),
        part(
            "stops",
            "stops: 300 signals at random moments to owner, supervisor, program or all",
            stops(300),
            Some(stops(60)),
        ),
        part(
            "steps",
            "steps: 200 kills of scripts with 100 steps (500 in a round)",
            durable_steps(20),
            Some(durable_steps(50)),
        ),
        part(
            "items",
            "items: 60 kills of an each with 100,000 items",
            items(100_000, 60),
            Some(items(100_000, 60)),
        ),
        part(
            "terminals",
            "terminals: 60 terminals closed, and viewers and owners killed, at random moments",
            terminals(60),
            Some(terminals(300)),
        ),
        part(
            "memory",
            "memory: 1 GiB of output without a line end, lines of 100 MB; logs of 100 MB",
            proof(
                "memory",
                vec![
                    Program::test("sessionctl", "ctl", Seed::None)
                        .arg(&"memory::")
                        .env("SESSIONCTL_TEST_MIB", &1024)
                        .env("SESSIONCTL_TEST_RECORDS", &100),
                ],
                "memory use depends on the output of a program or on the length of a log",
            ),
            None,
        ),
        part(
            "fuzz",
            "fuzz: 20,000 inputs of each target",
            fuzz::proof(fuzz::CASES),
            Some(fuzz::proof(fuzz::ROUND)),
        ),
        part(
            "backends",
            "backends: 1,000 sequences of calls on each (seeds 0 to 999), 300 moved sessions",
            proof(
                "backends",
                vec![
                    sessionkit("backends").env("SESSION_BACKENDS_SEQUENCES", &1_000),
                    sessionkit("migration").env("SESSION_MOVES_SESSIONS", &300),
                ],
                "backends give different answers",
            ),
            None,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_proofs_are_unique_and_can_be_selected() {
        let names: Vec<_> = parts().iter().map(|part| part.name).collect();
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
        assert_eq!(select(parts(), &[]).unwrap().len(), names.len());
        let selected = select(parts(), &["kill".into(), "crash".into()]).unwrap();
        assert_eq!(selected.iter().map(|part| part.name).collect::<Vec<_>>(), ["crash", "kill"]);
        assert!(select(parts(), &["crsh".into()]).err().unwrap().is::<Usage>());
    }

    #[test]
    fn every_reproduction_is_a_command_with_the_seed() {
        for part in parts() {
            let command = part.once.reproduction(42);
            assert!(command.contains("--seed 42") || !part.once.has_seed(), "{command}");
            let mut words = command.split(' ').skip(2);
            let name = words.next().unwrap();
            assert!(crate::COMMANDS.iter().any(|known| known.name == name), "{command}");
            assert_eq!(name == "proofs", words.next() == Some(part.name), "{command}");
            assert!(part.title.starts_with(part.name), "{}", part.title);
        }
    }

    #[test]
    fn only_seeded_proofs_have_rounds() {
        assert!(parts().iter().all(|part| part.round.is_some() == part.once.has_seed()));
    }
}
