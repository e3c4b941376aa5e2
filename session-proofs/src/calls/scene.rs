//! The store that a verb finds, and one run of the verb on a copy of it.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::plan::{Call, Case};
use super::shim::{Report, Shim};
use crate::command::{LIMIT, Output, Patience, Place, finish, text};
use crate::outcome::Result;
use crate::processes;

pub(super) const VERBS: [&str; 12] = [
    "run",
    "resume",
    "pause",
    "cancel",
    "cancel-live",
    "recover",
    "rm",
    "gc",
    "import",
    "migrate",
    "repair",
    "export",
];

/// Kills its owner (the parent of its supervisor) in the first attempt.
const VICTIM: &str = "[ \"$SESSIONCTL_ATTEMPT\" != 1 ] || { kill -9 $(cut -d' ' -f4 /proc/$PPID/stat); exec sleep 60; }; \
                      echo again";

/// Returns `true` if the verb means something on this backend: a store of sled belongs to one process at a time.
pub(super) fn applies(verb: &str, backend: &str) -> bool {
    backend != "sled" || !matches!(verb, "pause" | "cancel-live")
}

/// Begin of what is said of a report that was acknowledged and is not stored.
pub(super) const LOST_REPORT: &str = "an acknowledged report is lost";

/// Lists what is wrong after a case.
type Judge = fn(&Scene, &Place, Option<&Case>, &Output, bool) -> Result<Vec<String>>;

/// A verb on a backend.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) verb: &'static str,
    pub(super) backend: &'static str,
    binary: PathBuf,
    /// The folder to copy.
    seed: PathBuf,
    /// Sessions of that folder by id: state and revision.
    pub(super) before: BTreeMap<String, (String, u64)>,
    /// The stream that an export of it prints.
    pub(super) stream: String,
    pub(super) judge: Judge,
    /// The calls of the verb without a failure.
    pub(super) calls: Vec<Call>,
}

/// The result of a case.
#[derive(Debug)]
pub(super) struct CaseResult {
    /// The call has happened and failed.
    pub(super) met: bool,
    /// A known fault of sled: see [`Case::is_in_sled`].
    pub(super) known: bool,
    /// The verb ended with a typed error.
    pub(super) refused: bool,
    pub(super) wrong: Vec<String>,
    pub(super) end: String,
}

impl Scene {
    /// Creates the store, and records the calls of the verb.
    pub(super) fn new(
        verb: &'static str,
        backend: &'static str,
        binary: &Path,
        folder: &Path,
        shim: &Shim,
        judge: Judge,
    ) -> Result<Self> {
        let seed = folder.join(format!("{verb}-{backend}"));
        let mut scene = Self {
            verb,
            backend,
            binary: binary.to_owned(),
            seed,
            before: BTreeMap::new(),
            stream: String::new(),
            judge,
            calls: Vec::new(),
        };
        let place = scene.place(&scene.seed);
        fs::create_dir_all(&place.folder)?;
        place.prepare()?;
        scene.fill(&place)?;
        let lane = folder.join(format!("{verb}-{backend}-trace"));
        let (report, result) = scene.attempt(None, &lane, shim)?;
        if !result.wrong.is_empty() {
            let wrong = result.wrong.join("; ");
            return Err(
                format!("{verb} on {backend} is wrong without a failure: {wrong}; {}", result.end).into()
            );
        }
        fs::remove_dir_all(&lane)?;
        scene.calls = report.calls;
        Ok(scene)
    }

    pub(super) fn is_of(&self, case: &Case) -> bool {
        self.verb == case.verb && self.backend == case.backend
    }

    /// Runs a case in this folder.
    pub(super) fn run(&self, case: &Case, lane: &Path, shim: &Shim) -> Result<CaseResult> {
        let (_, result) = self.attempt(Some(case), lane, shim)?;
        Ok(result)
    }

    fn place(&self, folder: &Path) -> Place {
        let tag = format!("calls-{}-{}", std::process::id(), folder.display());
        let store = folder.join("store");
        Place { binary: self.binary.clone(), backend: self.backend, store, folder: folder.to_owned(), tag }
    }

    fn fill(&mut self, place: &Place) -> Result<()> {
        if self.verb == "run" {
            return Ok(());
        }
        let report = format!("{} report --progress 40; echo out; exit 0", self.binary.display());
        expect(&place.call(&["run", "--name", "done", "--", "sh", "-c", &report])?, 0)?;
        expect(&place.call(&["run", "--name", "bad", "--", "sh", "-c", "exit 3"])?, 3)?;
        self.stream = place.call(&["export"])?.out;
        for head in place.heads()? {
            let state =
                (text(&head, "state").to_owned(), head.get("revision").and_then(Value::as_u64).unwrap_or(0));
            self.before.insert(text(&head, "id").to_owned(), state);
        }
        if self.verb == "import" {
            fs::write(place.folder.join("stream"), &self.stream)?;
            for entry in fs::read_dir(&place.folder)? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name.starts_with("store") && path.is_dir() {
                    fs::remove_dir_all(path)?;
                } else if name.starts_with("store") {
                    fs::remove_file(path)?;
                }
            }
        }
        if self.verb == "repair" && self.backend == "file" {
            for session in fs::read_dir(place.folder.join("store/sessions"))? {
                let log = session?.path().join("events.jsonl");
                OpenOptions::new().append(true).open(log)?.write_all(b"{\"seq\":99,\"torn")?;
            }
        }
        Ok(())
    }

    /// Adds what a copy cannot have: a session whose owner has crashed in this folder, or a living one.
    fn animate(&self, place: &Place) -> Result<()> {
        match self.verb {
            "resume" | "cancel" | "recover" | "repair" => {
                place.call(&["run", "--name", "vic", "--", "sh", "-c", VICTIM])?;
                let left = processes::wait_for_end(&place.tag, LIMIT)?;
                if left.is_empty() {
                    Ok(())
                } else {
                    Err(format!("the crashed session leaves {left:?}").into())
                }
            }
            "pause" | "cancel-live" => {
                expect(&place.call(&["run", "--detach", "--name", "live", "--", "sleep", "60"])?, 0)?;
                expect(&place.call(&["wait", "live", "--for", "running"])?, 0)
            }
            _ => Ok(()),
        }
    }

    /// Returns the arguments of the verb.
    fn args(&self, place: &Place) -> Vec<String> {
        let (folder, binary) = (place.folder.display(), self.binary.display());
        let script = format!(
            "echo started >> {folder}/marks; {binary} report --progress 50 --step half && echo acked >> {folder}/marks; \
             echo hello; echo ended >> {folder}/marks; exit 7"
        );
        let (stream, to) = (format!("{folder}/stream"), self.target(place).url());
        let args: &[&str] = match self.verb {
            "run" => &["run", "--name", "case", "--", "sh", "-c", &script],
            "resume" => &["resume", "vic"],
            "pause" => &["pause", "live"],
            "cancel" => &["cancel", "vic", "--reason", "no"],
            "cancel-live" => &["cancel", "live"],
            "recover" => &["recover", "--policy", "fail"],
            "rm" => &["rm", "done"],
            "gc" => &["gc", "--older-than", "0s"],
            "import" => &["import", &stream],
            "migrate" => &["migrate", "--to", &to],
            "repair" => &["verify", "--repair"],
            _ => &["export"],
        };
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    /// Returns the store to which `migrate` copies.
    pub(super) fn target(&self, place: &Place) -> Place {
        let backend = if self.backend == "file" { "sqlite" } else { "file" };
        let folder = place.folder.join("to");
        Place { backend, store: folder.join("store"), folder, ..place.clone() }
    }

    fn attempt(&self, case: Option<&Case>, lane: &Path, shim: &Shim) -> Result<(Report, CaseResult)> {
        if lane.exists() {
            fs::remove_dir_all(lane)?;
        }
        copy(&self.seed, lane)?;
        let place = self.place(lane);
        place.prepare()?;
        self.target(&place).prepare()?;
        self.animate(&place)?;
        let report_at = lane.with_extension("report");
        let mut command = shim.command(&place, &report_at, case, &self.args(&place));
        command.current_dir(lane);
        // The output is a file of the case: writes to it fail, too.
        let files = if self.verb == "export" { lane.to_owned() } else { lane.with_extension("out") };
        fs::create_dir_all(&files)?;
        let output = finish(command, &files, Patience::Limit)?;
        let report = Report::read(&report_at);
        let hung = !report.left.is_empty() && case.is_some_and(Case::is_in_sled);
        let mut wrong = if hung { Vec::new() } else { report.left.clone() };
        wrong.extend((self.judge)(self, &place, case, &output, hung)?);
        let mut known = hung;
        if case.is_some_and(Case::is_in_sled) {
            let refused = output.error_code().is_some();
            let before = wrong.len();
            wrong.retain(|text| !(refused && text.starts_with(LOST_REPORT)));
            if case.is_some_and(|case| case.call.family == "pread")
                && wrong.iter().any(|text| text.contains("CORRUPT"))
            {
                wrong.clear();
            }
            known |= wrong.len() < before;
        }
        let left = processes::tagged(&place.tag)?;
        if !left.is_empty() {
            wrong.push(format!("processes are left: {left:?}"));
            processes::kill(&left);
        }
        let refused = output.error_code().is_some();
        Ok((
            Report { calls: report.calls, ..Report::default() },
            CaseResult { met: report.met, known, refused, wrong, end: output.describe() },
        ))
    }
}

fn expect(output: &Output, code: i32) -> Result<()> {
    if output.code == Some(code) {
        Ok(())
    } else {
        Err(format!("a preparation failed: {}", output.describe()).into())
    }
}

/// Copies a folder with all it has.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Returns the session with this name.
pub(super) fn named<'a>(heads: &'a [Value], name: &str) -> Option<&'a Value> {
    heads.iter().find(|head| text(head, "name") == name)
}

/// Time that a living session gets to act on a request that was acknowledged.
pub(super) const REACTION: Duration = Duration::from_secs(10);
