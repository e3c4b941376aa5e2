//! Following a session from another process: `events --follow` and `logs --follow`.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use sessionkit::backend::{Batch, Chain, Expected, UnsealedRecord};
use sessionkit::manager::{Clock as _, Durability, SystemClock};
use sessionkit::{SessionConfig, SessionEvent, SessionSummary};

use crate::support::{Fixture, TIMEOUT, eventually};

/// A follower. Threads read its lines as they come, so that a missing line is a failure and not an endless wait.
pub(crate) struct Follower {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = String::new();
        while pipe.read_line(&mut line).is_ok_and(|length| length > 0) {
            if sender.send(std::mem::take(&mut line)).is_err() {
                break;
            }
        }
    });
    receiver
}

impl Follower {
    pub(crate) fn start(fixture: &Fixture, words: &[&str]) -> Self {
        let mut child = fixture.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, out, err }
    }

    /// Returns the next line of stdout.
    #[track_caller]
    fn line(&mut self) -> String {
        self.out.recv_timeout(TIMEOUT).expect("another line")
    }

    /// Returns the next line of stderr.
    #[track_caller]
    pub(crate) fn stderr_line(&self) -> String {
        self.err.recv_timeout(TIMEOUT).expect("another line on stderr")
    }

    /// Waits for its end, and returns the rest of stdout, the exit code, and the rest of stderr.
    #[track_caller]
    pub(crate) fn end(mut self) -> (String, Option<i32>, String) {
        let mut code = None;
        eventually("the follower to end", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        (self.out.iter().collect(), code.unwrap().code(), self.err.iter().collect())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a program in a process of its own. Its script waits for files that `allow` creates.
fn run(fixture: &Fixture, script: &str) -> Child {
    let script = format!("cd {}; {script}", fixture.dir.path().display());
    let mut command = fixture.command(["run", "--name", "followed", "--", "sh", "-c", &script]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the session", || fixture.ctl(["show", "followed"]).code == Some(0));
    child
}

fn allow(fixture: &Fixture, step: &str) {
    std::fs::write(fixture.dir.path().join(step), "").unwrap();
}

const SCRIPT: &str = "\
    until_is() { until test -e $1; do sleep 0.02; done; }
    if [ $SESSIONCTL_ATTEMPT = 1 ]; then
      echo one; echo side >&2; until_is two; printf tw; printf 'o\\n'; sleep 600
    fi
    echo again; until_is end; echo end";

/// Followers print what is stored, then what is appended, across a crash and the resume by another process.
#[test]
fn followers_see_everything_across_a_crash() {
    let fixture = Fixture::new();
    let mut first = run(&fixture, SCRIPT);
    let mut logs = Follower::start(&fixture, &["logs", "followed", "--follow"]);
    let mut json = Follower::start(&fixture, &["logs", "followed", "--follow", "--json"]);
    let mut events = Follower::start(&fixture, &["events", "followed", "--follow", "--json"]);
    let only = Follower::start(&fixture, &["logs", "followed", "--stdout", "-f"]);
    let late = Follower::start(&fixture, &["events", "followed", "--follow", "--after", "2"]);
    // Each line is printed immediately, although the program prints nothing more until it is allowed to.
    let mut lines = [logs.line(), logs.line()];
    lines.sort();
    assert_eq!(lines, ["one\n", "side\n"]);
    let chunk: Value = serde_json::from_str(&json.line()).unwrap();
    assert!(chunk["offset"] == 0 && chunk["base64"].is_string(), "{chunk}");
    for kind in ["created", "started"] {
        let record: Value = serde_json::from_str(&events.line()).unwrap();
        assert!(record["event"][kind].is_object(), "{record}");
    }
    allow(&fixture, "two");
    assert_eq!(logs.line(), "two\n");
    first.kill().unwrap();
    first.wait().unwrap();

    // The session may stay crashed for any time, which is reported once.
    let mut resumed = fixture.command(["resume", "followed"]);
    let hint = logs.stderr_line();
    assert!(hint.contains("its owner died") && hint.contains("resume"), "{hint}");

    let mut second = resumed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(logs.line(), "again\n");
    let tail = Follower::start(&fixture, &["logs", "followed", "--stdout", "--tail", "1", "--follow"]);
    allow(&fixture, "end");
    assert!(second.wait().unwrap().success());

    let (rest, code, stderr) = logs.end();
    assert_eq!((rest.as_str(), code, stderr.as_str()), ("end\n", Some(0), ""));
    let (rest, code, _) = only.end();
    assert_eq!((rest.as_str(), code), ("one\ntwo\nagain\nend\n", Some(0)));
    let (rest, code, _) = tail.end();
    assert!(code == Some(0) && (rest == "again\nend\n" || rest == "end\n"), "{rest}");
    let (rest, code, _) = json.end();
    let kept = fixture.command(["logs", "followed"]).output().unwrap().stdout;
    let mut next = 5;
    for line in rest.lines() {
        let chunk: Value = serde_json::from_str(line).unwrap();
        let text = chunk["base64"].as_str().unwrap();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
        let at = usize::try_from(chunk["offset"].as_u64().unwrap()).unwrap();
        assert!(at <= next && kept[at..at + bytes.len()] == bytes, "{chunk} {next}");
        next = at + bytes.len();
    }
    assert_eq!((next, code), (kept.len(), Some(0)));

    let stored = fixture.ctl(["events", "followed", "--json"]).exits(0).stdout;
    let (rest, code, _) = events.end();
    let first_two: String = stored.split_inclusive('\n').take(2).collect();
    assert_eq!((first_two + &rest, code), (stored.clone(), Some(0)));
    let (rest, code, _) = late.end();
    assert_eq!((rest.lines().count(), code), (stored.lines().count() - 2, Some(0)));
    // A follower of an ended session prints all of it and exits.
    for args in [["events", "followed", "--json", "-f"], ["logs", "followed", "--stdout", "-f"]] {
        let complete = fixture.ctl(&args[..3]).exits(0).stdout;
        assert_eq!(fixture.ctl(args).exits(0).stdout, complete);
    }
    assert_eq!(fixture.ctl(["events", "followed", "--follow", "--after", "99"]).exits(0).stdout, "");
}

/// A record can be read by another process before it is flushed. A follower that exited then would report an end that
/// power loss could undo.
#[test]
fn followers_report_an_end_only_once_it_is_flushed() {
    let fixture = Fixture::new();
    let live = fixture.owner(SessionConfig::new("import"));
    let id = live.id;
    let storage = live.store.maintenance().expect("a store of files");
    let flushed = || async { storage.verify(id).await.unwrap().flushed };
    live.runtime.block_on(async {
        let mut head = storage.head(id).await.unwrap().unwrap();
        let event = SessionEvent::Completed { summary: SessionSummary::new() };
        let unsealed = UnsealedRecord { at: SystemClock.now(), attempt: 1, flushed: 0, event };
        let (stored, record) = Chain::at(id, head.tip).seal(unsealed).unwrap();
        let before = head.tip;
        head.apply(&record).unwrap();
        let batch = Batch::new(vec![stored], head);
        storage.append(id, Expected::At(before), batch, Durability::Buffered).await.unwrap();
        assert_eq!(flushed().await, 2);
    });
    // Flushing needs the lock, which is held here: until it is released, the followers must not report the end.
    let lock =
        std::fs::File::open(fixture.store().join("sessions").join(id.to_string()).join("lock")).unwrap();
    lock.lock().unwrap();
    let id = id.to_string();
    let mut followers: Vec<Follower> = [["events", &id, "--follow"], ["logs", &id, "--follow"]]
        .map(|args| Follower::start(&fixture, &args))
        .into();
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        for follower in &mut followers {
            assert!(follower.child.try_wait().unwrap().is_none(), "it exited before the end was flushed");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    lock.unlock().unwrap();
    let ended: Vec<_> = followers.into_iter().map(Follower::end).collect();
    assert!(ended.iter().all(|(_, code, _)| *code == Some(0)), "{ended:#?}");
    assert!(ended[0].0.lines().last().unwrap().contains("completed"), "{ended:#?}");
    assert_eq!(live.runtime.block_on(flushed()), 3);
}

#[test]
fn following_a_deleted_session_fails_with_not_found() {
    for verb in ["events", "logs"] {
        let fixture = Fixture::new();
        let id = fixture.crashed(SessionConfig::new("import")).to_string();
        let follower = Follower::start(&fixture, &[verb, &id, "--follow"]);
        // Its hint shows that it is following.
        assert!(follower.stderr_line().contains("its owner died"));
        crate::support::block_on(async {
            fixture.open().await.manager().delete_session(id.parse().unwrap()).await.unwrap();
        });
        let (_, code, stderr) = follower.end();
        assert!(stderr.contains("[NOT_FOUND]") && stderr.contains("next: "), "{verb}: {stderr}");
        assert_eq!(code, Some(3), "{verb}");
    }
}

#[test]
fn followers_are_warned_about_an_unowned_session() {
    let fixture = Fixture::new();
    let id = fixture.crashed(SessionConfig::new("import")).to_string();
    fixture.ctl(["recover", "--policy", "pause"]).exits(0);
    for verb in ["events", "logs"] {
        let hint = Follower::start(&fixture, &[verb, &id, "--follow"]).stderr_line();
        assert!(hint.contains("it has no owner") && hint.contains("resume"), "{verb}: {hint}");
    }
}

/// For example `| head -1`, after which the session may print nothing for days.
#[test]
fn a_follower_exits_when_its_reader_is_gone() {
    let fixture = Fixture::new();
    let mut running = run(&fixture, "echo one; sleep 600");
    for args in [&["events", "followed", "-f"][..], &["logs", "followed", "-f", "--json"]] {
        let mut command = fixture.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut byte = [0];
        child.stdout.take().unwrap().read_exact(&mut byte).unwrap();
        let mut code = None;
        eventually("the follower to notice", || {
            code = child.try_wait().unwrap();
            code.is_some()
        });
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((code.unwrap().code(), stderr.as_str()), (Some(0), ""));
    }
    running.kill().unwrap();
    running.wait().unwrap();
}
