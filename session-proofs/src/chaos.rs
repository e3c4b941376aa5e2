//! Chaos: many workers run random verbs on one store, and many of the commands are killed. Afterwards each log is legal,
//! what was acknowledged holds, and no process, lock, socket or file is left.

mod aftermath;
mod facts;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use self::facts::{Fact, Known};
use crate::calls::BACKENDS;
use crate::command::{Output, Patience, Place, finish};
use crate::outcome::{End, Result, binary, print, scratch, setting};
use session_testkit::random::Random;

/// Workers and commands of each backend without `SESSION_PROOF_WORKERS` and `SESSION_PROOF_COMMANDS`.
const WORKERS: usize = 50;
const COMMANDS: usize = 10_000;
/// Sessions that a worker keeps: more would make each list longer.
const KEPT: usize = 4;
/// Time a command may wait for its turn: all workers share two cores, and a store of sled is for one process.
const LIMIT: Duration = Duration::from_secs(120);

/// One store with its workers.
#[derive(Debug)]
struct Crowd {
    place: Place,
    seed: u64,
    known: Mutex<Known>,
    begun: AtomicUsize,
    commands: usize,
}

pub(crate) fn run(seed: u64, probe: bool) -> Result<End> {
    if probe {
        return Ok(End::Passed);
    }
    let chosen = std::env::var("SESSION_PROOF_BACKENDS").unwrap_or_else(|_| BACKENDS.join(","));
    let mut failed = Vec::new();
    for backend in BACKENDS {
        if !chosen.split(',').any(|name| name == backend) {
            continue;
        }
        let folder = scratch("spx-")?;
        let place = Place {
            binary: binary()?,
            backend,
            store: folder.path().join("store"),
            folder: folder.path().to_owned(),
            tag: format!("chaos-{}-{backend}", std::process::id()),
        };
        place.prepare()?;
        let commands = setting("SESSION_PROOF_COMMANDS", COMMANDS);
        let crowd = Crowd { place, seed, known: Mutex::default(), begun: AtomicUsize::new(0), commands };
        let begin = Instant::now();
        crowd.riot();
        let wrong = aftermath::judge(&crowd.place, &mut crowd.known())?;
        let known = crowd.known();
        let acknowledgements: usize = known.facts.values().map(Vec::len).sum();
        print(&format!(
            "{backend}: {commands} commands in {} s, {} killed, {} refused; {acknowledgements} acknowledgements; {} wrong",
            begin.elapsed().as_secs(),
            known.killed,
            known.refused,
            wrong.len()
        ));
        let verbs: Vec<_> = known.commands.iter().map(|(verb, count)| format!("{count} {verb}")).collect();
        print(&format!("  {}", verbs.join(", ")));
        print(&format!(
            "tally: commands={commands} killed={} acknowledgements={acknowledgements}",
            known.killed
        ));
        for line in wrong.iter().take(40) {
            print(&format!("WRONG {backend}: {line}"));
        }
        if !wrong.is_empty() {
            failed.push(format!("{backend}: {} things are wrong", wrong.len()));
        }
    }
    if failed.is_empty() { Ok(End::Passed) } else { Err(failed.join("; ").into()) }
}

impl Crowd {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs all commands.
    fn riot(&self) {
        thread::scope(|scope| {
            for worker in 0..setting("SESSION_PROOF_WORKERS", WORKERS) {
                scope.spawn(move || {
                    if let Err(error) = self.work(worker) {
                        self.known().wrong.push(format!("worker {worker}: {error}"));
                    }
                });
            }
        });
    }

    fn work(&self, worker: usize) -> Result<()> {
        let mut random = Random::part(self.seed, worker as u64 + 1);
        let mut mine: Vec<String> = Vec::new();
        while self.begun.load(Ordering::Relaxed) < self.commands {
            let name = format!("w{worker}-{}", random.number() >> 40);
            if mine.len() > KEPT {
                self.remove(&mut mine, &mut random)?;
                continue;
            }
            match random.below(100) {
                0..=24 => mine.extend(self.start(&name, &mut random)?),
                25..=31 => self.detach(&name, &mut random)?,
                32..=55 => self.request(&mut random)?,
                56..=63 => {
                    let policy = random.pick(&["fail", "pause", "resume"]).copied().unwrap_or("fail");
                    self.call(&["recover", "--policy", policy], 30, &mut random)?;
                }
                64..=67 => self.verify(&mut random)?,
                68..=70 => drop(self.call(&["verify", "--repair"], 30, &mut random)?),
                71..=74 => drop(self.call(&["gc", "--older-than", "1h"], 30, &mut random)?),
                75..=82 => self.remove(&mut mine, &mut random)?,
                83..=85 => drop(self.call(&["export"], 20, &mut random)?),
                86 => {
                    let other = if self.place.backend == "file" { "sqlite" } else { "file" };
                    let to = format!("{other}:{}-copy{worker}", self.place.store.display());
                    self.call(&["migrate", "--to", &to], 50, &mut random)?;
                }
                87..=91 => drop(self.call(&["ls", "--all", "--json"], 10, &mut random)?),
                92..=95 => {
                    if let Some(id) = self.any_shared(&mut random) {
                        self.call(&["wait", &id, "--timeout", "1s"], 30, &mut random)?;
                    }
                }
                _ => {
                    if let Some(id) = random.pick(&mine).cloned() {
                        self.call(&["retry", &id], 20, &mut random)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs a command, and kills some: so many of 100.
    fn call(&self, args: &[&str], kill: usize, random: &mut Random) -> Result<Output> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let after = Duration::from_millis((random.below(35) * random.below(35)) as u64);
        let group = random.percent(20);
        let kills = random.percent(kill);
        let patience = if kills {
            Patience::Kill { after, group }
        } else {
            Patience::Kill { after: LIMIT, group: true }
        };
        let output = finish(self.place.command(args), &self.place.folder, patience)?;
        let verb = args.first().copied().unwrap_or_default();
        let mut known = self.known();
        *known.commands.entry(verb.to_owned()).or_default() += 1;
        known.killed += usize::from(output.killed);
        known.refused += usize::from(output.error_code().is_some());
        let mut wrong = Vec::new();
        if output.panicked() {
            wrong.push(format!("panic of {args:?}: {}", output.describe()));
        }
        if output.killed && !kills {
            wrong.push(format!("hang of {args:?}: {}", output.describe()));
        }
        // The codes of the programs that run here are 0 and 3; 137 and 143 are those of programs that were ended.
        let plain = matches!(output.code, Some(0 | 3 | 137 | 143));
        if !output.killed && !plain && output.error_code().is_none() && verb != "retry" && verb != "wait" {
            wrong.push(format!("no error code from {args:?}: {}", output.describe()));
        }
        known.wrong.extend(wrong);
        drop(known);
        Ok(output)
    }

    fn learn(&self, id: &str, fact: Fact) {
        self.known().facts.entry(id.to_owned()).or_default().push(fact);
    }

    fn any_shared(&self, random: &mut Random) -> Option<String> {
        let known = self.known();
        let recent = known.shared.len().saturating_sub(20);
        random.pick(known.shared.get(recent..).unwrap_or_default()).cloned()
    }

    /// Runs a session to its end. Returns its id.
    fn start(&self, name: &str, random: &mut Random) -> Result<Option<String>> {
        let code = if random.percent(30) { 3 } else { 0 };
        let binary = self.place.binary.display();
        let reports = format!("{binary} report --progress 30; exit {code}");
        let script =
            if random.percent(30) { reports } else { format!("sleep 0.0{}; exit {code}", random.below(9)) };
        let output = self.call(&["run", "--name", name, "--", "sh", "-c", &script], 30, random)?;
        let id = started(&output.err);
        if let Some(id) = &id {
            self.learn(id, Fact::Exists);
            // A worker of another kind may have cancelled it only by name: nobody knows the name.
            if !output.killed && output.code == Some(code) && output.error_code().is_none() {
                self.learn(id, Fact::Ended(if code == 0 { "completed" } else { "failed" }));
            }
        }
        Ok(id)
    }

    fn detach(&self, name: &str, random: &mut Random) -> Result<()> {
        // A session keeps a store of sled to itself while it runs.
        let lengths: &[&str] =
            if self.place.backend == "sled" { &["0.02"] } else { &["0.1", "0.5", "2", "10"] };
        let seconds = random.pick(lengths).copied().unwrap_or("1");
        let output = self.call(&["run", "--detach", "--name", name, "--", "sleep", seconds], 10, random)?;
        if output.code == Some(0)
            && let Some(id) = output.out.split_whitespace().next()
        {
            self.learn(id, Fact::Exists);
            self.known().shared.push(id.to_owned());
        }
        Ok(())
    }

    fn request(&self, random: &mut Random) -> Result<()> {
        let Some(id) = self.any_shared(random) else { return Ok(()) };
        let args: &[&str] = match random.below(4) {
            0 => &["pause", &id],
            1 => &["resume", "--detach", &id],
            2 => &["cancel", &id],
            _ => &["cancel", &id, "--force"],
        };
        let output = self.call(args, 20, random)?;
        if output.code == Some(0) && !output.killed {
            let verb = match args.first() {
                Some(&"pause") => "pause",
                Some(&"cancel") => "cancel",
                _ => "resume",
            };
            self.learn(&id, Fact::Asked(verb));
        }
        Ok(())
    }

    fn remove(&self, mine: &mut Vec<String>, random: &mut Random) -> Result<()> {
        if mine.is_empty() {
            return Ok(());
        }
        let id = mine.swap_remove(random.below(mine.len()));
        self.learn(&id, Fact::Removing);
        let output = self.call(&["rm", &id], 20, random)?;
        if output.code == Some(0) && !output.killed {
            self.learn(&id, Fact::Removed);
        }
        Ok(())
    }

    fn verify(&self, random: &mut Random) -> Result<()> {
        let output = self.call(&["verify", "--json"], 10, random)?;
        let damaged = ["degraded", "read_only", "corrupt", "lost"];
        let named = damaged.iter().any(|verdict| output.out.contains(&format!("\"verdict\":\"{verdict}\"")));
        if !output.killed && (named || output.code == Some(7)) {
            self.known().wrong.push(format!("verify in the crowd: {} {}", output.describe(), output.out));
        }
        Ok(())
    }
}

/// Returns the session that a `run` names.
fn started(err: &str) -> Option<String> {
    let named = |line: &str| Some(line.strip_prefix("session ")?.split_once(" started;")?.0.to_owned());
    err.lines().find_map(named)
}
