//! Kills at random moments of an `each`: no recorded item runs again, no more are unknown than ran at a time, and none is
//! missing at the end. `SESSION_EACH_ITEMS` and `SESSION_EACH_KILLS` set the size of a round.

use std::collections::{HashMap, HashSet};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use session_testkit::random::Random;
use sessionkit::SessionId;
use sessionkit::log::StepIdentity;
use sessionkit::workflow::{ItemState, WorkflowState};

use crate::fixture::Fixture;
use crate::rounds::run_rounds;
use crate::step_rounds::{children, command_line, descendants, next_attempt};

/// A log may take this many bytes for each item.
const LOG_BYTES_PER_ITEM: u64 = 250;
/// The size from which a round is judged as a whole.
const LARGE: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Owner,
    Client,
    All,
}

#[derive(Debug)]
struct Round {
    scheme: &'static str,
    items: usize,
    jobs: usize,
    /// Target, and milliseconds after the first new item of the attempt.
    kills: Vec<(Target, u64)>,
}

fn size(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|size| size.parse().ok()).unwrap_or(default)
}

impl Round {
    fn draw(random: &mut Random) -> Self {
        let (items, kills) = (size("SESSION_EACH_ITEMS", 1500), size("SESSION_EACH_KILLS", 6));
        let targets = [Target::Owner, Target::Owner, Target::Client, Target::All];
        let is_large = items >= LARGE;
        let (least, more) = if is_large { (300, 2700) } else { (0, 300) };
        Self {
            scheme: if is_large { "file" } else { random.pick(&["file", "sqlite", "sled"]).unwrap() },
            items,
            jobs: 1 + random.below(4),
            kills: (0..kills)
                .map(|_| (*random.pick(&targets).unwrap(), least + random.below(more) as u64))
                .collect(),
        }
    }

    /// Returns an item: some twice, some with spaces and characters that a shell would take.
    fn item(number: usize) -> String {
        match number % 10 {
            3 => format!("item {number} 'x' $y"),
            7 => format!("twice {}", number / 20),
            _ => format!("{number}"),
        }
    }
}

fn run(round: &Round) -> Result<bool, String> {
    let fixture = Fixture::on(round.scheme);
    let items: Vec<String> = (0..round.items).map(Round::item).collect();
    fixture.write("items", &(items.join("\n") + "\n"));
    fixture.write("item", "echo \"$1\" >>ran\n");
    let script = format!(
        "set -e\nsessionctl each check --jobs {} --keep-going -- sh ./item {{}} <items\n: >finished\n",
        round.jobs
    );
    let mut owner = fixture.spawn(&script);
    let mut checks = Checks::default();
    for (target, after) in &round.kills {
        if !first_new_item(&fixture, &mut owner, checks.read) {
            break;
        }
        std::thread::sleep(Duration::from_millis(*after));
        for pid in targets(&owner, *target) {
            // One that has ended meanwhile gets none.
            let _ = kill_process(pid, Signal::KILL);
        }
        owner.wait().unwrap();
        checks.kills += 1;
        checks.attempt(&fixture, round)?;
        match next_attempt(&fixture)? {
            Some(next) => owner = next,
            None => return checks.whole(&fixture, round, &items).map(|()| true),
        }
    }
    for _ in 0..=round.kills.len() {
        owner.wait().unwrap();
        checks.attempt(&fixture, round)?;
        match next_attempt(&fixture)? {
            Some(next) => owner = next,
            None => return checks.whole(&fixture, round, &items).map(|()| true),
        }
    }
    Err(format!("it does not come to its end: {}", fixture.ctl(&["why", "it"]).stdout))
}

/// Waits for the first item of this attempt. Returns `false` if it has ended before.
fn first_new_item(fixture: &Fixture, owner: &mut Child, read: usize) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if std::fs::metadata(fixture.path("ran")).is_ok_and(|file| file.len() > read as u64) {
            return true;
        }
        if owner.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(Instant::now() < deadline, "no item runs");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn targets(owner: &Child, target: Target) -> Vec<Pid> {
    let owner = Pid::from_raw(owner.id().try_into().unwrap()).unwrap();
    let below = descendants(owner);
    let is_client = |pid: &Pid| command_line(*pid).starts_with("sessionctl each ");
    match target {
        Target::Owner => vec![owner],
        Target::Client => below.into_iter().filter(is_client).collect(),
        Target::All => [vec![owner], children(owner), below].concat(),
    }
}

#[derive(Default)]
struct Checks {
    kills: usize,
    /// Bytes of the file of runs that were checked.
    read: usize,
    /// The items that are recorded as done, with the number of their occurrences.
    done: HashMap<String, usize>,
    /// Runs of each item so far.
    runs: HashMap<String, usize>,
    unknown: usize,
}

impl Checks {
    /// Checks what ran since the last time, and the log.
    fn attempt(&mut self, fixture: &Fixture, round: &Round) -> Result<(), String> {
        let ran = fixture.read("ran");
        let new = ran.get(self.read..).unwrap_or_default();
        // A line that is still being written is read the next time.
        let end = new.rfind('\n').map_or(0, |end| end + 1);
        for item in new[..end].lines() {
            let runs = self.runs.entry(item.to_owned()).or_default();
            *runs += 1;
            let occurrences = usize::from(item.starts_with("twice ")) + 1;
            if self.done.get(item).is_some_and(|done| *done == occurrences) {
                return Err(format!("item {item} was recorded as done, and ran again"));
            }
        }
        self.read += end;
        let each = state(fixture)?;
        let Some(each) = each.eaches().get(&StepIdentity::nth("check", 1)) else { return Ok(()) };
        let unknown = each.count(ItemState::Unknown);
        if unknown > round.jobs {
            return Err(format!("{unknown} items are unknown, but only {} ran at a time", round.jobs));
        }
        self.unknown += unknown;
        let mut done: HashMap<String, usize> = HashMap::new();
        for (_, item) in each.items().filter(|(_, item)| item.state == ItemState::Done) {
            let text = String::from_utf8_lossy(&item.identity.arg).into_owned();
            *done.entry(text).or_default() += 1;
        }
        if let Some((item, _)) = self.done.iter().find(|(item, count)| done.get(*item).unwrap_or(&0) < *count)
        {
            return Err(format!("item {item} was recorded as done, and is not any more"));
        }
        for (item, count) in &done {
            if self.runs.get(item).is_none_or(|runs| runs < count) {
                return Err(format!("item {item} is recorded as done, and did not run as often"));
            }
        }
        self.done = done;
        Ok(())
    }

    /// Checks that every item is done, and ran no more often than it was unknown.
    fn whole(&self, fixture: &Fixture, round: &Round, items: &[String]) -> Result<(), String> {
        let distinct: HashSet<&String> = items.iter().collect();
        let missing = distinct.iter().find(|item| !self.done.contains_key(**item));
        if let Some(item) = missing {
            return Err(format!("item {item} is missing"));
        }
        let done: usize = self.done.values().sum();
        let runs: usize = self.runs.values().sum();
        if done != round.items || runs > round.items + self.unknown {
            return Err(format!(
                "{done} of {} items are done after {runs} runs and {} unknown ends",
                round.items, self.unknown
            ));
        }
        let log = std::fs::metadata(fixture.path(&format!("store/sessions/{}/events.jsonl", id(fixture))))
            .map(|log| log.len());
        let log = log.unwrap_or(0);
        eprintln!(
            "{} items, {} kills, {} unknown ends, {} runs, a log of {log} bytes",
            round.items, self.kills, self.unknown, runs
        );
        if round.items >= LARGE && log > LOG_BYTES_PER_ITEM * round.items as u64 {
            return Err(format!("the log has {log} bytes"));
        }
        Ok(())
    }
}

fn id(fixture: &Fixture) -> SessionId {
    fixture.json(&["show", "it"])["id"].as_str().unwrap().parse().unwrap()
}

fn state(fixture: &Fixture) -> Result<WorkflowState, String> {
    let id = id(fixture);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = sessionkit::open_store(&fixture.url()).await.map_err(|error| error.to_string())?;
        let state = WorkflowState::read(&**store.manager(), id).await.map_err(|error| error.to_string())?;
        store.manager().shutdown().await.map_err(|error| error.to_string())?;
        Ok(state)
    })
}

#[test]
fn kills_between_items_repeat_no_recorded_item() {
    run_rounds(3, Round::draw, run);
}
