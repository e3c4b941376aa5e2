//! Kills at random moments of a script with 100 steps, on every backend: no recorded step runs again, no recorded value
//! differs, no two runs of a step overlap, and the script comes to its end.

use std::collections::HashMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use session_testkit::random::Random;

use crate::fixture::Fixture;
use crate::rounds::run_rounds;

/// Kills of one session before it may end by itself.
const KILLS: usize = 10;
const STEPS: usize = 100;

/// The script: each value that it sees is written down.
const SCRIPT: &str = r#"set -e
i=0
while [ $i -lt 100 ]; do
    i=$((i+1))
    v=$(sessionctl step s$i --retries 2 --backoff 1ms -- sh ./work $i)
    echo "$i $v" >>seen
done
: >finished
"#;

/// A step: fails sometimes, has another value each time, and looks for a former run of itself.
const WORK: &str = r#"
for pid in $(cat pids.$1 2>/dev/null); do
    [ -d /proc/$pid ] && tr '\000' ' ' </proc/$pid/cmdline 2>/dev/null | grep -q "work $1 " && echo "$1 $pid" >>overlaps
done
echo $$ >>pids.$1
echo $1 >>began
[ $(($1 % 7)) = 3 ] && [ ! -e flaky.$1 ] && { : >flaky.$1; exit 9; }
sleep 0.00$(($1 % 10))
head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n'
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Owner,
    Supervisor,
    Client,
    Command,
    All,
}

#[derive(Debug)]
struct Round {
    scheme: &'static str,
    /// Target, signal, and milliseconds after the start of the attempt.
    kills: Vec<(Target, Signal, u64)>,
}

impl Round {
    fn draw(random: &mut Random) -> Self {
        let targets = [Target::Owner, Target::Supervisor, Target::Client, Target::Command, Target::All];
        let signals = [Signal::KILL, Signal::KILL, Signal::TERM, Signal::INT];
        let kill = |random: &mut Random| {
            let target = *random.pick(&targets).unwrap();
            (target, *random.pick(&signals).unwrap(), 20 + random.below(700) as u64)
        };
        Self {
            scheme: random.pick(&["file", "sqlite", "sled"]).unwrap(),
            kills: (0..KILLS).map(|_| kill(random)).collect(),
        }
    }
}

fn run(round: &Round) -> Result<bool, String> {
    let fixture = Fixture::on(round.scheme);
    fixture.write("work", WORK);
    let mut owner = fixture.spawn(SCRIPT);
    fixture.wait_for("began");
    let mut checks = Checks::default();
    for (target, signal, after) in &round.kills {
        std::thread::sleep(Duration::from_millis(*after));
        for pid in targets(&owner, *target) {
            // One that has ended meanwhile gets none.
            let _ = kill_process(pid, *signal);
        }
        // A signal that a process ignores changes nothing: the script is left to continue.
        let deadline = Instant::now() + Duration::from_millis(600);
        while owner.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        if owner.try_wait().unwrap().is_none() {
            continue;
        }
        checks.attempt(&fixture)?;
        match next_attempt(&fixture)? {
            Some(next) => owner = next,
            None => return checks.whole(&fixture).map(|()| true),
        }
    }
    // Now it may come to its end.
    for _ in 0..=KILLS {
        owner.wait().unwrap();
        checks.attempt(&fixture)?;
        match next_attempt(&fixture)? {
            Some(next) => owner = next,
            None => return checks.whole(&fixture).map(|()| true),
        }
    }
    Err(format!("it does not come to its end: {}", fixture.ctl(&["why", "it"]).stdout))
}

/// Returns the processes to kill, as far as they exist.
fn targets(owner: &Child, target: Target) -> Vec<Pid> {
    let owner = Pid::from_raw(owner.id().try_into().unwrap()).unwrap();
    let supervisor = children(owner);
    let scripts: Vec<Pid> = supervisor.iter().flat_map(|pid| children(*pid)).collect();
    // A shell forks for `$(…)`, and executes the client there or forks again.
    let below: Vec<Pid> = scripts.iter().flat_map(|pid| descendants(*pid)).collect();
    let is_client = |pid: &&Pid| command_line(**pid).starts_with("sessionctl step ");
    let clients: Vec<Pid> = below.iter().filter(is_client).copied().collect();
    let commands: Vec<Pid> = clients.iter().flat_map(|pid| children(*pid)).collect();
    match target {
        Target::Owner => vec![owner],
        Target::Supervisor => supervisor,
        Target::Client => clients,
        Target::Command => commands,
        Target::All => [vec![owner], supervisor, scripts, below].concat(),
    }
}

pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero();
    let children =
        std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

pub(crate) fn descendants(parent: Pid) -> Vec<Pid> {
    let children = children(parent);
    let below: Vec<Pid> = children.iter().flat_map(|pid| descendants(*pid)).collect();
    [children, below].concat()
}

pub(crate) fn command_line(pid: Pid) -> String {
    let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// Starts the next attempt or retry; `None` once the session has completed.
pub(crate) fn next_attempt(fixture: &Fixture) -> Result<Option<Child>, String> {
    let finished = fixture.path("finished").exists();
    let status = fixture.status();
    let verb = match status.as_str() {
        "completed" if finished => return Ok(None),
        "completed" => return Err("it completed before its script was finished".to_owned()),
        "crashed" | "interrupted" | "stopped" => "resume",
        "failed" => "retry",
        other => return Err(format!("it is {other} though its owner has ended")),
    };
    let mut command = fixture.command(&[verb, "--quiet", "it"]);
    Ok(Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()))
}

/// The values recorded so far: they may not change.
#[derive(Default)]
struct Checks {
    values: HashMap<String, String>,
}

impl Checks {
    /// Checks the files of the script, and the steps of its newest session, after an attempt.
    fn attempt(&mut self, fixture: &Fixture) -> Result<(), String> {
        let overlaps = fixture.read("overlaps");
        if !overlaps.is_empty() {
            return Err(format!("two runs of a step overlap: {overlaps}"));
        }
        // A value that the script has seen is the same in every attempt.
        for line in fixture.read("seen").lines() {
            let Some((step, value)) = line.split_once(' ') else { continue };
            let known = self.values.entry(step.to_owned()).or_insert_with(|| value.to_owned());
            if known != value {
                return Err(format!("step {step} had the value {known}, and now {value}"));
            }
        }
        // A failure is not taken over by a retry, and a retry that was killed may not have taken over everything: the sessions
        // before it have the rest.
        let mut steps: HashMap<String, Value> = HashMap::new();
        for session in line(fixture) {
            for step in fixture.json(&["steps", &session])["steps"].as_array().unwrap() {
                steps.entry(step["step"].as_str().unwrap().to_owned()).or_insert_with(|| step.clone());
            }
        }
        // Its intent was recorded before it began.
        for number in fixture.read("began").lines() {
            if !steps.contains_key(&format!("s{number}")) {
                return Err(format!("step s{number} has begun, and no log knows it"));
            }
        }
        for (number, value) in &self.values {
            let step = &steps[&format!("s{number}")];
            if step["state"] != "completed" || step["value"] != *value {
                return Err(format!("step s{number} with the value {value} is {step}"));
            }
        }
        Ok(())
    }

    /// Checks that each step has exactly one recorded value, and that nothing ran after it was recorded.
    fn whole(&self, fixture: &Fixture) -> Result<(), String> {
        if self.values.len() != STEPS {
            return Err(format!("{} steps have a value", self.values.len()));
        }
        let last = fixture.json(&["steps", "it"]);
        for step in last["steps"].as_array().unwrap() {
            let number = step["step"].as_str().unwrap().trim_start_matches('s');
            if step["value"] != self.values[number] {
                return Err(format!("the value {} of the script is {step}", self.values[number]));
            }
        }
        for session in line(fixture) {
            check_log(&fixture.ctl(&["events", &session, "--json"]).stdout)?;
        }
        Ok(())
    }
}

/// Returns the session and those that it retries, the newest first.
fn line(fixture: &Fixture) -> Vec<String> {
    let mut sessions = Vec::new();
    let mut next = Some("it".to_owned());
    while let Some(session) = next {
        next = fixture.json(&["show", &session])["retry_of"].as_str().map(str::to_owned);
        sessions.push(session);
    }
    sessions
}

/// Checks the log of one session: no step starts after its recorded end, and one that is open at a start was ended before.
fn check_log(log: &str) -> Result<(), String> {
    let mut recorded: HashMap<String, u64> = HashMap::new();
    let mut starts: HashMap<u64, String> = HashMap::new();
    for line in log.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let (seq, event) = (record["seq"].as_u64().unwrap(), &record["event"]);
        if let Some(step) = event["inherited"].as_object() {
            if step["outcome"]["completed"].is_object() {
                recorded.insert(step["name"].as_str().unwrap().to_owned(), seq);
            }
        } else if let Some(step) = event["step_started"].as_object() {
            let name = step["name"].as_str().unwrap().to_owned();
            if let Some(end) = recorded.get(&name) {
                return Err(format!("step {name} was recorded at {end}, and started again at {seq}"));
            }
            starts.insert(seq, name);
        } else if let Some(end) = event["step_completed"].as_object() {
            let name = &starts[&end["start"].as_u64().unwrap()];
            recorded.insert(name.clone(), seq);
        }
    }
    Ok(())
}

#[test]
fn kills_at_random_moments_repeat_no_recorded_step() {
    run_rounds(4, Round::draw, run);
}
