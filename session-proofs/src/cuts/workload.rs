//! Commands on the recorded disk, with a mark for each thing that one of them has acknowledged.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::recorder::Recorder;
use crate::command::{Output, Patience, Place, finish};
use crate::outcome::Result;
use session_testkit::random::Random;

/// A fact that a caller knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// The file system is set up.
    Base,
    /// The session exists.
    Exists(String),
    Ended(String, &'static str),
    /// Its removal has begun, or the import that brings it back: it may or may not exist.
    Changing(String),
    Removed(String),
}

/// The filter that lets flushes of these paths succeed without doing them.
#[derive(Debug, Clone)]
pub(super) struct Lie {
    pub(super) filter: PathBuf,
    pub(super) path: &'static str,
}

/// A command that is recorded alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Remove,
    Import,
}

/// Sessions of a recording of one act.
const ALONE: usize = 8;

/// The commands, through a program that ignores flushes or not.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) place: Place,
    pub(super) recorder: Recorder<Mark>,
    pub(super) lie: Option<Lie>,
    pub(super) length: Duration,
}

impl Workload {
    /// Runs the commands of all workers. sled opens a store for one process at a time.
    pub(super) fn run(&self, seed: u64) -> Result<()> {
        let workers = if self.place.backend == "sled" { 1 } else { 3 };
        let results = thread::scope(|scope| {
            let start = |worker| scope.spawn(move || self.work(worker, seed));
            let threads: Vec<_> = (0..workers).map(start).collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        for result in results {
            result.map_err(|_| "a worker panicked")??;
        }
        Ok(())
    }

    /// Runs one act after the other, each on a session of its own, once all that came before is on the disk.
    pub(super) fn run_alone(&self, act: Act) -> Result<()> {
        let honest = Self { lie: None, ..self.clone() };
        let mut streams = Vec::new();
        for number in 0..ALONE {
            let id = honest.start(&format!("alone-{number}"), 0)?.ok_or("a session has not completed")?;
            if act == Act::Import {
                let stream = honest.export(&id, number)?.ok_or("a session could not be exported")?;
                if !honest.remove(&id)? {
                    return Err("a session could not be removed".into());
                }
                streams.push((id, Some(stream)));
            } else {
                streams.push((id, None));
            }
        }
        rustix::fs::sync();
        self.recorder.mark(Mark::Base);
        for (id, stream) in streams {
            let done = match stream {
                Some(stream) => self.import(&id, &stream)?,
                None => self.remove(&id)?,
            };
            if !done {
                return Err(format!("{act:?} of session {id} failed").into());
            }
        }
        Ok(())
    }

    fn work(&self, worker: usize, seed: u64) -> Result<()> {
        let mut random = Random::part(seed, worker as u64);
        let end = Instant::now() + self.length;
        let mut mine = Vec::new();
        let mut count = 0;
        while Instant::now() < end {
            count += 1;
            let name = format!("w{worker}-{count}");
            match random.below(10) {
                0..=4 => mine.extend(self.start(&name, 0)?),
                5 | 6 => mine.extend(self.start(&name, 7)?),
                7 | 8 if !mine.is_empty() => {
                    let id = mine.swap_remove(random.below(mine.len()));
                    self.remove(&id)?;
                }
                _ if !mine.is_empty() => {
                    let id = mine.swap_remove(random.below(mine.len()));
                    if self.bring_back(&id, worker)? {
                        mine.push(id);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Runs a session. Returns its id once its end is acknowledged.
    fn start(&self, name: &str, code: i32) -> Result<Option<String>> {
        let binary = self.place.binary.display();
        let script = format!("{binary} report --progress 30 --step a; echo out; exit {code}");
        let mut command = self.command(&["run", "--name", name, "--", "sh", "-c", &script]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut id = None;
        if let Some(stderr) = child.stderr.take() {
            for line in BufReader::new(stderr).lines() {
                let line = line?;
                if let Some((found, _)) =
                    line.strip_prefix("session ").and_then(|rest| rest.split_once(" started;"))
                {
                    self.recorder.mark(Mark::Exists(found.to_owned()));
                    id = Some(found.to_owned());
                }
            }
        }
        let state = if code == 0 { "completed" } else { "failed" };
        let id = id.filter(|_| child.wait().is_ok_and(|status| status.code() == Some(code)));
        if let Some(id) = &id {
            self.recorder.mark(Mark::Ended(id.clone(), state));
        }
        Ok(id)
    }

    fn remove(&self, id: &str) -> Result<bool> {
        self.recorder.mark(Mark::Changing(id.to_owned()));
        let removed = self.call(&["rm", id])?.code == Some(0);
        if removed {
            self.recorder.mark(Mark::Removed(id.to_owned()));
        }
        Ok(removed)
    }

    /// Exports, removes and imports a session.
    fn bring_back(&self, id: &str, worker: usize) -> Result<bool> {
        let Some(stream) = self.export(id, worker)? else { return Ok(false) };
        Ok(self.remove(id)? && self.import(id, &stream)?)
    }

    /// Exports a session to a file outside the disk.
    fn export(&self, id: &str, number: usize) -> Result<Option<PathBuf>> {
        let stream = self.call(&["export", id])?;
        let file = self.place.folder.join(format!("stream-{number}"));
        fs::write(&file, stream.out)?;
        Ok((stream.code == Some(0)).then_some(file))
    }

    fn import(&self, id: &str, stream: &Path) -> Result<bool> {
        self.recorder.mark(Mark::Changing(id.to_owned()));
        let back = self.call(&["import", &stream.display().to_string()])?.code == Some(0);
        if back {
            self.recorder.mark(Mark::Exists(id.to_owned()));
        }
        Ok(back)
    }

    fn call(&self, args: &[&str]) -> Result<Output> {
        Ok(finish(self.command(args), &self.place.folder, Patience::Limit)?)
    }

    fn command(&self, args: &[&str]) -> Command {
        let Some(Lie { filter, path }) = &self.lie else { return self.place.command(args) };
        let mut command = Command::new(filter);
        let store = self.place.store.parent().unwrap_or(&self.place.store).display().to_string();
        command.args([
            "-d",
            &format!("{store}/"),
            "-x",
            "/sessionctl",
            "-l",
            "60",
            "-e",
            "LIE",
            "-p",
            path,
            "--",
        ]);
        command.arg(&self.place.binary).arg("--store").arg(self.place.url()).args(args);
        self.place.environment(&mut command);
        command
    }
}
