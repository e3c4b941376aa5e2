//! Sessions in git worktrees of their own: creation, the return to them, removal and restoration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::pty_pair::PtyPair;
use crate::support::{self, Fixture, Ran, eventually};

/// A store next to a repository with one commit.
pub(crate) struct Project {
    fixture: Fixture,
}

impl Project {
    pub(crate) fn new() -> Self {
        let project = Self { fixture: Fixture::new() };
        fs::create_dir(project.repo()).unwrap();
        project.git(&["init", "--quiet", "--initial-branch=main"]);
        fs::write(project.repo().join("README"), "hello\n").unwrap();
        fs::write(project.repo().join(".gitignore"), "*.log\n").unwrap();
        project.git(&["add", "--all"]);
        project.git(&["commit", "--quiet", "--message=first"]);
        project
    }

    fn repo(&self) -> PathBuf {
        self.fixture.dir.path().canonicalize().unwrap().join("repo")
    }

    fn tree(&self, name: &str) -> PathBuf {
        self.repo().with_file_name("repo.worktrees").join(name)
    }

    fn git(&self, args: &[&str]) -> String {
        git(&self.repo(), args)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.fixture.command(args);
        command.current_dir(self.repo());
        // Commits of programs need a person.
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "a").env(format!("GIT_{role}_EMAIL"), "a@b");
        }
        command
    }

    pub(crate) fn ctl(&self, args: &[&str]) -> Ran {
        support::run(self.command(args))
    }

    /// Runs a script in a worktree of this name.
    fn run(&self, name: &str, script: &str) -> Ran {
        self.ctl(&["run", &format!("--worktree={name}"), "--", "sh", "-c", script])
    }

    fn json(&self, args: &[&str]) -> Value {
        let ran = self.ctl(&[args, &["--json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// Starts a script in a worktree that runs until it is ended, and waits until it is there.
    fn start(&self, name: &str, script: &str) -> Child {
        let script = format!("{script}; : > started; exec sleep 1000");
        let mut command =
            self.command(&["run", "-q", &format!("--worktree={name}"), "--", "sh", "-c", &script]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("the program has started", || self.tree(name).join("started").exists());
        child
    }

    fn sessions(&self) -> Vec<Value> {
        serde_json::from_str(&self.ctl(&["ls", "--all", "--json"]).stdout).unwrap()
    }

    fn kinds(&self, session: &str) -> Vec<String> {
        let printed = self.ctl(&["events", session, "--json"]).exits(0).stdout;
        let kind = |line: &str| {
            let record: Value = serde_json::from_str(line).unwrap();
            record["event"].as_object().unwrap().keys().next().unwrap().clone()
        };
        printed.lines().map(kind).collect()
    }
}

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = support::clean_command("git");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
        command.env_remove(name);
    }
    let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"];
    let ran = command.current_dir(dir).args(identity).args(args).output().unwrap();
    assert!(ran.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim_end().to_owned()
}

/// Returns all files below a directory with their contents.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_session_runs_in_a_worktree_and_on_a_branch_of_its_own() {
    let project = Project::new();
    let head = project.git(&["rev-parse", "HEAD"]);
    let script = r#"pwd; git branch --show-current
        printf '%s\n' "$PWD" "$SESSIONCTL_WORKTREE" "$SESSIONCTL_SOURCE" "$SESSIONCTL_SLUG""#;
    let ran = project.run("fix", script).exits(0);
    let (tree, repo) = (project.tree("fix"), project.repo());
    let (tree, repo) = (tree.to_str().unwrap(), repo.to_str().unwrap());
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), [tree, "feature/fix", tree, tree, repo, "fix"]);
    assert!(
        ran.stderr.contains("created the worktree") && ran.stderr.contains("from main"),
        "{}",
        ran.stderr
    );
    let shown = project.fixture.show("fix");
    for (member, value) in [
        ("worktree", tree),
        ("cwd", tree),
        ("worktree_branch", "feature/fix"),
        ("worktree_base", &head),
        ("worktree_base_branch", "main"),
    ] {
        assert_eq!(shown[member], value, "{member}");
    }
    let kinds = project.kinds("fix");
    assert_eq!(
        kinds,
        ["created", "started", "worktree_intended", "worktree_made", "command_executed", "completed"]
    );
    let row = &project.json(&["worktree", "ls"])[0];
    assert_eq!(
        (&row["state"], &row["session_status"], &row["branch"]),
        (&Value::from("present"), &Value::from("completed"), &Value::from("feature/fix"))
    );
}

/// `ls` showed nothing of a worktree: what would be lost, and where, took one call for each session.
#[test]
fn a_list_shows_branches_and_changes() {
    let project = Project::new();
    project.ctl(&["run", "--name", "plain", "--", "true"]).exits(0);
    let listed = project.ctl(&["ls", "--all"]).exits(0).stdout;
    assert!(!listed.contains("BRANCH"), "{listed}");
    let script = "git commit --quiet --allow-empty --message=theirs; echo more >> README; echo u > untracked";
    project.ctl(&["run", "--worktree=fix", "--", "sh", "-c", script]).exits(0);
    project.ctl(&["run", "--worktree=fix", "--name", "again", "--", "true"]).exits(0);
    project.ctl(&["run", "--worktree=old", "--", "true"]).exits(0);
    project.ctl(&["run", "--worktree=lost", "--", "true"]).exits(0);
    project.ctl(&["worktree", "rm", "old"]).exits(0);
    fs::remove_dir_all(project.tree("lost")).unwrap();

    let listed = project.ctl(&["ls", "--all"]).exits(0).stdout;
    let row = |name: &str| {
        let line = listed.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
        line.unwrap_or_else(|| panic!("no {name} in {listed}"))
    };
    for name in ["fix", "again"] {
        let changes = "feature/fix  1 ahead, 1 changed +1 -0, 1 untracked  ";
        assert!(row(name).contains(changes), "{listed}");
    }
    assert!(row("old").contains("feature/old  removed "), "{listed}");
    assert!(row("lost").contains(" gone "), "{listed}");

    let sessions = project.sessions();
    let state = |name: &str| {
        let session = sessions.iter().find(|session| session["name"] == name).unwrap();
        &session["worktree_state"]
    };
    assert_eq!(state("plain"), &Value::Null);
    assert_eq!((&state("old")["state"], &state("lost")["state"]), (&"removed".into(), &"gone".into()));
    let shown = project.fixture.show("again")["worktree_state"].clone();
    for (member, value) in [("ahead", 1), ("files_changed", 1), ("lines_added", 1), ("untracked", 1)] {
        assert_eq!((&state("again")[member], &shown[member]), (&value.into(), &value.into()), "{member}");
    }
    assert!(shown["disk_bytes"].as_u64() > Some(0) && state("fix")["disk_bytes"].is_null());
}

#[test]
fn names_are_unique_and_come_from_the_session_or_the_program() {
    let project = Project::new();
    for expected in ["true", "true-2"] {
        project.ctl(&["run", "--worktree", "--", "true"]).exits(0);
        assert!(project.tree(expected).is_dir());
    }
    project.ctl(&["run", "--worktree", "--name", "Fix the Login!", "--", "true"]).exits(0);
    assert!(project.tree("fix-the-login").is_dir());
    let names: Vec<String> =
        project.sessions().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
    assert!(
        names.contains(&"true-2".to_owned()) && names.contains(&"Fix the Login!".to_owned()),
        "{names:?}"
    );
}

/// An inherited `GIT_DIR` sent a commit to the branch of the main worktree.
#[test]
fn the_git_of_a_program_sees_only_its_worktree() {
    let project = Project::new();
    let before = project.git(&["rev-parse", "main"]);
    let commit = "git commit --quiet --allow-empty --message=theirs";
    let mut command = project.command(&["run", "--worktree=fix", "--", "sh", "-c", commit]);
    command.env("GIT_DIR", project.repo().join(".git")).env("GIT_WORK_TREE", project.repo());
    command.env("GIT_INDEX_FILE", "/nowhere");
    support::run(command).exits(0);
    assert_eq!(project.git(&["rev-parse", "main"]), before);
    assert_eq!(project.git(&["log", "--format=%s", "main..feature/fix"]), "theirs");
}

#[test]
fn a_directory_inside_is_entered_and_one_outside_refused() {
    let project = Project::new();
    fs::create_dir(project.repo().join("web")).unwrap();
    fs::write(project.repo().join("web/page"), "x").unwrap();
    project.git(&["add", "--all"]);
    project.git(&["commit", "--quiet", "--message=web"]);
    let run = |dir: &str| project.ctl(&["run", "--worktree=fix", "--in", dir, "--", "pwd"]);
    assert_eq!(run("web").exits(0).stdout.trim_end(), project.tree("fix/web").to_str().unwrap());
    assert_eq!(project.fixture.show("fix")["cwd"], project.tree("fix/web").to_str().unwrap());
    run("../..").exits(2);
    run("/tmp").exits(2);
    project.ctl(&["run", "--worktree=other", "--in", "missing", "--", "pwd"]).exits(2);
    assert_eq!(project.fixture.show("other")["state"], "failed");
}

#[test]
fn a_start_that_is_not_possible_creates_no_session() {
    let project = Project::new();
    let elsewhere = project.fixture.dir.path().to_str().unwrap().to_owned();
    let unborn = project.fixture.dir.path().join("unborn");
    fs::create_dir(&unborn).unwrap();
    git(&unborn, &["init", "--quiet"]);
    let unborn = unborn.to_str().unwrap();
    for (args, code, message) in [
        (vec!["--worktree=--help"], 2, "cannot be the name"),
        (vec!["--worktree=a..b"], 2, "cannot be the name"),
        (vec!["--worktree=@{"], 2, "cannot be the name"),
        (vec!["--worktree=x.lock"], 2, "cannot be the name"),
        (vec!["--worktree=fix", "--base", "nowhere"], 2, "does not name a commit"),
        (vec!["--worktree=fix", "--base", "--upload-pack=x"], 2, ""),
        (vec!["--worktree=fix", "--repo", &elsewhere], 2, "no git repository"),
        (vec!["--worktree=fix", "--repo", unborn], 2, "has no commit yet"),
    ] {
        let ran = project.ctl(&[&["run"], args.as_slice(), &["--", "true"]].concat()).exits(code);
        assert!(ran.stderr.contains(message), "{args:?}: {}", ran.stderr);
    }
    let old = project.fixture.dir.path().join("git");
    fs::write(&old, "#!/bin/sh\necho git version 2.20.1\n").unwrap();
    Command::new("chmod").arg("+x").arg(&old).status().unwrap();
    let mut command = project.command(&["run", "--worktree", "--", "true"]);
    command.env("PATH", format!("{elsewhere}:{}", std::env::var("PATH").unwrap()));
    let ran = support::run(command).exits(125);
    assert!(ran.stderr.contains("too old"), "{}", ran.stderr);
    assert!(project.sessions().is_empty());
    assert_eq!(project.git(&["branch", "--list"]), "* main");
}

#[test]
fn a_killed_session_resumes_where_it_was() {
    let project = Project::new();
    let script = "if [ -e mine ]; then pwd; cat mine; exit 3; fi
        echo work > mine; git checkout --quiet -b elsewhere";
    end(project.start("fix", script));
    let ran = project.ctl(&["resume", "fix"]).exits(3);
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), [project.tree("fix").to_str().unwrap(), "work"]);
    assert!(ran.stderr.contains("on branch elsewhere: it was created on feature/fix"), "{}", ran.stderr);
    assert_eq!(project.git(&["worktree", "list"]).lines().count(), 2);
}

#[test]
fn a_session_runs_in_its_worktree_or_not_at_all() {
    let project = Project::new();
    end(project.start("fix", "echo work > mine"));
    let refuses = |what: &str| {
        let ran = project.ctl(&["resume", "--json", "fix"]).exits(125);
        assert!(ran.stderr.contains("WORKTREE_GONE"), "{what}: {}", ran.stderr);
        assert_eq!(project.fixture.show("fix")["attempt"], 1, "{what}");
    };
    project.ctl(&["worktree", "rm", "--in-use", "fix"]).exits(0);
    refuses("removed");
    project.git(&["worktree", "add", "--quiet", project.tree("fix").to_str().unwrap()]);
    refuses("another worktree is in its place");
    let restored = project.ctl(&["worktree", "restore", "fix"]).exits(0).stdout;
    let path = project.tree("fix-2");
    assert_eq!(restored.trim_end(), path.to_str().unwrap());
    let moved = project.tree("moved");
    project.git(&["worktree", "move", "--force", "--force", path.to_str().unwrap(), moved.to_str().unwrap()]);
    let shown = project.ctl(&["show", "fix"]).exits(0).stdout;
    assert!(shown.contains(&format!("moved to {}, ", moved.display())), "{shown}");
    assert_eq!(project.fixture.show("fix")["worktree_state"]["path"], moved.to_str().unwrap());
    let mut command = project.command(&["resume", "-q", "fix"]);
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    project.fixture.wait_for("fix", "it runs where it was moved to", |shown| shown["status"] == "running");
    eventually("its program works there", || {
        let processes = project.json(&["worktree", "ls"]);
        processes.as_array().unwrap().iter().any(|row| {
            row["path"] == moved.to_str().unwrap() && !row["processes"].as_array().unwrap().is_empty()
        })
    });
    end(child);
}

#[test]
fn a_retry_runs_in_the_same_worktree_or_in_a_new_one() {
    let project = Project::new();
    project.run("fix", "pwd; test -e mine || { echo work > mine; exit 1; }").exits(1);
    let id = project.fixture.show("fix")["id"].as_str().unwrap().to_owned();
    let tree = project.tree("fix");
    assert_eq!(project.ctl(&["retry", &id]).exits(0).stdout.trim_end(), tree.to_str().unwrap());
    let again = project.ctl(&["retry", "--new-worktree", &id]).exits(1);
    assert_eq!(again.stdout.trim_end(), project.tree("fix-2").to_str().unwrap());
    project.ctl(&["worktree", "rm", &id]).exits(0);
    let refused = project.ctl(&["retry", "--json", &id]).exits(125);
    assert!(refused.stderr.contains("WORKTREE_GONE"), "{}", refused.stderr);
    assert_eq!(project.sessions().len(), 3);
}

#[test]
fn one_session_at_a_time_works_in_a_worktree() {
    let project = Project::new();
    let child = project.start("fix", "true");
    let id = project.fixture.show("fix")["id"].as_str().unwrap().to_owned();
    let occupied = |args: &[&str], code: i32| {
        let ran = project.ctl(args).exits(code);
        assert!(
            ran.stderr.contains("WORKTREE_IN_USE") && ran.stderr.contains(&id),
            "{args:?}: {}",
            ran.stderr
        );
    };
    let join = ["run", "--json", "--worktree=fix", "--", "true"];
    occupied(&join, 125);
    assert_eq!(project.sessions().len(), 1, "a refused start leaves no session");
    occupied(&["worktree", "rm", "--json", &id], 4);
    occupied(&["worktree", "rm", "--json", "--in-use", "--dry-run", &id], 4);
    occupied(&["worktree", "rm", "--json", "--in-use", &id], 4);
    assert!(project.tree("fix/started").exists());
    end(child);
    // It has not ended: its work is to be resumed.
    occupied(&join, 125);
    assert!(project.ctl(&join).stderr.contains("resume"));
    project.ctl(&["cancel", &id]).exits(0);
    project.ctl(&join).exits(0);
    assert_eq!(project.git(&["worktree", "list"]).lines().count(), 2);
}

#[test]
fn a_process_inside_keeps_a_worktree_and_its_session() {
    let project = Project::new();
    project.run("fix", "true").exits(0);
    let mut inside = Command::new("sleep").arg("1000").current_dir(project.tree("fix")).spawn().unwrap();
    for args in [&["worktree", "rm", "--json", "fix"][..], &["rm", "--json", "fix"]] {
        let ran = project.ctl(args).exits(4);
        assert!(ran.stderr.contains("WORKTREE_IN_USE"), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(project.sessions().len(), 1);
    inside.kill().unwrap();
    inside.wait().unwrap();
    project.ctl(&["rm", "fix"]).exits(0);
    assert!(project.sessions().is_empty() && !project.tree("fix").exists());
}

/// All of it comes back byte for byte: what was committed, staged, changed, untracked and ignored.
#[test]
fn a_removed_worktree_comes_back_as_it_was() {
    let project = Project::new();
    let script =
        "echo two >> README; git add README; echo three >> README; echo u > untracked; echo l > x.log
        git commit --quiet --allow-empty --message=mine";
    project.run("fix", script).exits(0);
    let tree = project.tree("fix");
    let before = (files(&tree), git(&tree, &["status", "--porcelain", "--ignored"]));
    let removed = project.ctl(&["worktree", "rm", "--delete-branch", "fix"]).exits(0);
    assert!(removed.stdout.contains("branch feature/fix deleted"), "{}", removed.stdout);
    assert!(!tree.exists() && project.git(&["branch", "--list", "feature/fix"]).is_empty());
    project.git(&["gc", "--quiet", "--prune=now"]);
    assert_eq!(project.json(&["worktree", "ls"])[0]["state"], "removed");
    project.ctl(&["worktree", "restore", "fix"]).exits(0);
    assert_eq!((files(&tree), git(&tree, &["status", "--porcelain", "--ignored"])), before);
    assert_eq!(project.git(&["log", "-1", "--format=%s", "feature/fix"]), "mine");
    // And after everything else is gone, from the snapshot.
    git(&tree, &["checkout", "--quiet", "--detach"]);
    let removed = project.ctl(&["worktree", "rm", "--delete-branch", "fix"]).exits(0);
    assert!(removed.stdout.contains("branch: none deleted"), "{}", removed.stdout);
    project.ctl(&["worktree", "restore", "fix"]).exits(0);
    git(&tree, &["checkout", "--quiet", "feature/fix"]);
    project.ctl(&["worktree", "rm", "--delete-branch", "fix"]).exits(0);
    project.ctl(&["worktree", "purge", "fix"]).exits(0);
    assert_eq!(project.json(&["worktree", "ls"])[0]["state"], "snapshots");
    let snapshots = project.json(&["worktree", "snapshots", "fix"]);
    let last = snapshots.as_array().unwrap().len().to_string();
    let restored = project.ctl(&["worktree", "restore", &format!("fix@{last}")]).exits(0).stdout;
    let restored = Path::new(restored.trim_end());
    assert_eq!(git(restored, &["status", "--porcelain", "--ignored"]), before.1);
}

#[test]
fn a_worktree_can_be_restored_after_its_session_was_removed() {
    let project = Project::new();
    project.run("fix", "echo u > untracked").exits(0);
    let id = project.fixture.show("fix")["id"].as_str().unwrap().to_owned();
    let hint = project.ctl(&["rm", "fix"]).exits(0).stderr;
    assert!(hint.contains("worktree restore"), "{hint}");
    assert!(project.sessions().is_empty());
    for name in [&id, &id[..8], "fix"] {
        project.ctl(&["worktree", "restore", name]).exits(0);
        assert_eq!(fs::read(project.tree("fix/untracked")).unwrap(), b"u\n");
        let target = project.ctl(&["worktree", "path", name]).exits(0).stdout;
        assert_eq!(target.trim_end(), project.tree("fix").to_str().unwrap());
        project.ctl(&["worktree", "rm", name]).exits(0);
    }
}

#[test]
fn a_session_whose_worktree_is_shared_leaves_it() {
    let project = Project::new();
    project.run("fix", "exit 1").exits(1);
    let id = project.fixture.show("fix")["id"].as_str().unwrap().to_owned();
    project.ctl(&["retry", &id]).exits(1);
    let hint = project.ctl(&["rm", &id]).exits(0).stderr;
    assert!(hint.contains("its worktree is left") && project.tree("fix").is_dir(), "{hint}");
    project.ctl(&["rm", "fix"]).exits(0);
    assert!(!project.tree("fix").exists());
}

#[test]
fn gc_leaves_sessions_with_a_worktree() {
    let project = Project::new();
    project.run("fix", "echo u > untracked").exits(0);
    project.ctl(&["run", "--", "true"]).exits(0);
    let gc = ["gc", "--older-than", "0s"];
    let ran = project.ctl(&gc).exits(0);
    assert!(ran.stderr.contains("1 ended sessions are left"), "{}", ran.stderr);
    assert_eq!(project.sessions().len(), 1);

    project.run("done", "git commit --quiet --allow-empty --message=theirs").exits(0);
    project.ctl(&["run", "--worktree=done", "--name", "again", "--", "true"]).exits(0);
    let would = project.json(&["gc", "--older-than", "0s", "--dry-run"]);
    let clean = |name: &str| {
        let id = &project.fixture.show(name)["id"];
        would["worktrees"].as_array().unwrap().iter().find(|held| held["session"] == *id).unwrap()["clean"]
            .clone()
    };
    assert_eq!(
        serde_json::json!([clean("fix"), clean("done"), clean("again")]),
        serde_json::json!([false, true, true])
    );
    let shown = project.ctl(&["gc", "--older-than", "0s", "--dry-run"]).exits(0);
    assert!(
        shown.stderr.contains("3 ended sessions are left") && shown.stderr.contains("1 worktrees are clean"),
        "{shown:?}"
    );
    assert!(shown.stdout.contains("1 untracked") && shown.stdout.contains("1 ahead"), "{shown:?}");
    project.ctl(&["worktree", "rm", "done"]).exits(0);
    project.ctl(&["rm", "done", "again"]).exits(0);

    project.ctl(&["worktree", "rm", "fix"]).exits(0);
    project.ctl(&gc).exits(0);
    assert!(project.sessions().is_empty());
    project.ctl(&["worktree", "restore", "fix"]).exits(0);
    assert_eq!(fs::read(project.tree("fix/untracked")).unwrap(), b"u\n");
}

/// A script that commits a file of this name.
fn commits(name: &str) -> String {
    format!("echo {name} > {name}; git add {name}; git commit --quiet --message={name}")
}

#[test]
fn a_worktree_is_merged_completely_or_not_at_all() {
    let project = Project::new();
    for role in ["name", "email"] {
        project.git(&["config", &format!("user.{role}"), "a@b"]);
    }
    project.run("fix", &commits("mine")).exits(0);
    let merge = |args: &[&str]| project.ctl(&[&["worktree", "merge", "--json"], args].concat());
    let json = |ran: &Ran| serde_json::from_str::<Value>(&ran.stdout).unwrap();
    let fails = |args: &[&str], exit: i32, code: &str| {
        let ran = merge(args).exits(exit);
        assert!(ran.stderr.contains(&format!("\"{code}\"")), "{args:?}: {ran:?}");
        ran
    };
    let tip = git(&project.tree("fix"), &["rev-parse", "HEAD"]);
    let would = json(&merge(&["--dry-run", "fix"]).exits(0));
    assert_eq!((&would["outcome"], &would["into"]), (&"would_merge".into(), &"main".into()));
    assert!(!project.repo().join("mine").exists());
    let merged = json(&merge(&["fix"]).exits(0));
    assert_eq!(
        (&merged["outcome"], &merged["to"], &merged["source"]),
        (&"merged".into(), &Value::from(&*tip), &Value::from(&*tip))
    );
    assert_eq!(fs::read_to_string(project.repo().join("mine")).unwrap(), "mine\n");
    assert_eq!(json(&merge(&["fix"]).exits(0))["outcome"], "up_to_date");

    fs::write(project.tree("fix/README"), "mine\n").unwrap();
    let refused = fails(&["fix"], 4, "MERGE_REFUSED");
    assert!(refused.stderr.contains("--committed"), "{refused:?}");
    git(&project.tree("fix"), &["commit", "--quiet", "--all", "--message=mine"]);
    fs::write(project.repo().join("README"), "theirs\n").unwrap();
    let refused = fails(&["fix"], 4, "MERGE_REFUSED");
    assert!(refused.stderr.contains("README"), "{refused:?}");
    project.git(&["commit", "--quiet", "--all", "--message=theirs"]);
    fails(&["--ff", "fix"], 4, "MERGE_REFUSED");
    let before = project.git(&["for-each-ref"]);
    let conflict = fails(&["fix"], 4, "MERGE_CONFLICT");
    assert_eq!(json(&conflict)["conflicts"], serde_json::json!(["README"]));
    let shown = project.ctl(&["worktree", "merge", "--squash", "fix"]).exits(4);
    assert_eq!(shown.stdout, "README  conflict\n");
    assert_eq!(
        (project.git(&["for-each-ref"]), project.git(&["status", "--porcelain"])),
        (before, String::new())
    );
    fails(&["--into", "nothing", "fix"], 2, "INVALID_ARGUMENT");

    // Not under a session that works there.
    let child = project.start("other", "true");
    fails(&["--into", "feature/other", "fix"], 4, "WORKTREE_IN_USE");
    end(child);
}

#[test]
fn a_successful_program_is_merged_on_request() {
    let project = Project::new();
    for role in ["name", "email"] {
        project.git(&["config", &format!("user.{role}"), "a@b"]);
    }
    let run = |name: &str, script: &str| {
        let worktree = format!("--worktree={name}");
        project.ctl(&["run", &worktree, "--auto-merge", "--", "sh", "-c", script])
    };
    let result = |name: &str| project.ctl(&["show", name]).exits(0).stdout;
    run("one", &commits("one")).exits(0);
    assert!(project.repo().join("one").exists());
    assert!(result("one").contains("merged into main as "), "{}", result("one"));
    let kinds = project.kinds("one");
    assert_eq!(kinds[kinds.len() - 2..], ["command_executed", "completed"]);

    run("failed", &format!("{}; exit 3", commits("failed"))).exits(3);
    assert!(!project.repo().join("failed").exists());
    run("dirty", &format!("{}; echo u > untracked", commits("dirty"))).exits(0);
    assert!(result("dirty").contains("not merged: ") && result("dirty").contains("1 untracked"));
    assert!(!project.repo().join("dirty").exists() && project.tree("dirty/untracked").exists());
    let conflict = "echo mine > README; git commit --quiet --all --message=mine
        cd \"$SESSIONCTL_SOURCE\"; echo theirs > README; git commit --quiet --all --message=theirs";
    run("conflict", conflict).exits(0);
    assert!(
        result("conflict").contains("not merged: 1 files conflict with main: README"),
        "{}",
        result("conflict")
    );
    assert_eq!(
        (project.git(&["status", "--porcelain"]), project.fixture.show("conflict")["state"].clone()),
        (String::new(), "completed".into())
    );
    run("nothing", "true").exits(0);
    assert!(result("nothing").contains("nothing to merge into main"), "{}", result("nothing"));
}

#[test]
fn merged_worktrees_are_removed_with_their_branches() {
    let project = Project::new();
    for name in ["squashed", "unmerged", "dirty", "running"] {
        project.run(name, &commits(name)).exits(0);
    }
    for name in ["squashed", "dirty", "running"] {
        project.git(&["merge", "--quiet", "--squash", &format!("feature/{name}")]);
        // With the same message, it would be the same commit if it was made in the same second.
        project.git(&["commit", "--quiet", &format!("--message=squash of {name}")]);
    }
    fs::write(project.tree("dirty/untracked"), "").unwrap();
    let script = "sleep 1000";
    let mut command =
        project.command(&["run", "-q", "--worktree=running", "--name", "live", "--", "sh", "-c", script]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    project.fixture.wait_for("live", "it runs", |shown| shown["status"] == "running");

    let rm = |args: &[&str]| project.json(&[&["worktree", "rm", "--merged"], args].concat());
    let outcomes = |rows: &Value| -> Vec<(String, String)> {
        let name = |row: &Value| row["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let mut found: Vec<_> = rows
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let message = row["message"].as_str().unwrap_or_default();
                (name(row), format!("{} {message}", row["outcome"].as_str().unwrap()))
            })
            .collect();
        found.sort();
        found
    };
    let expected = |outcome: &str| {
        let live = project.fixture.show("live")["id"].as_str().unwrap()[..8].to_owned();
        [
            ("dirty", "left 1 untracked".to_owned()),
            ("running", format!("left session {live} has not ended")),
            ("squashed", format!("{outcome} ")),
            ("unmerged", "left it is not merged".to_owned()),
        ]
        .map(|(name, outcome)| (name.to_owned(), outcome))
        .to_vec()
    };
    assert_eq!(outcomes(&rm(&["--dry-run"])), expected("would_be_removed"));
    assert_eq!(
        outcomes(&rm(&["--dry-run", "--older-than", "1h"]))
            .iter()
            .filter(|row| row.1.contains("ended later"))
            .count(),
        3
    );
    let rows = rm(&[]);
    assert_eq!(outcomes(&rows), expected("removed"));
    let removed = rows.as_array().unwrap().iter().find(|row| row["outcome"] == "removed").unwrap();
    assert_eq!(removed["branch_outcome"], "deleted");
    assert_eq!(removed["merged"]["into"], "refs/heads/main");
    assert!(!project.tree("squashed").exists());
    assert_eq!(project.git(&["branch", "--list", "feature/squashed"]), "");
    end(child);
    project.ctl(&["worktree", "rm"]).exits(2);
    project.ctl(&["worktree", "rm", "--merged", "dirty"]).exits(2);
    project.ctl(&["worktree", "restore", "squashed"]).exits(0);
    assert_eq!(project.git(&["rev-list", "--count", "main..feature/squashed"]), "1");
}

#[test]
fn gc_removes_clean_worktrees_on_request() {
    let project = Project::new();
    for name in ["merged", "unmerged", "dirty", "shared"] {
        project.run(name, &commits(name)).exits(0);
    }
    project.git(&["merge", "--quiet", "--ff-only", "feature/merged"]);
    fs::write(project.tree("dirty/untracked"), "").unwrap();
    project.ctl(&["run", "--worktree=shared", "--name", "second", "--", "true"]).exits(0);
    let gc = ["gc", "--older-than", "0s", "--worktrees"];
    let would = project.json(&[&gc[..], &["--dry-run"]].concat());
    assert_eq!(
        (would["removed"].as_array().unwrap().len(), would["worktrees"].as_array().unwrap().len()),
        (4, 1)
    );
    assert_eq!(project.json(&["worktree", "ls"]).as_array().unwrap().len(), 4);
    let report = project.json(&gc);
    assert_eq!((report["removed"].as_array().unwrap().len(), &report["failed"]), (4, &serde_json::json!([])));
    let sessions = project.sessions();
    assert_eq!(sessions.iter().map(|session| &session["name"]).collect::<Vec<_>>(), ["dirty"]);
    assert!(
        project.tree("dirty").exists()
            && !project.tree("merged").exists()
            && !project.tree("shared").exists()
    );
    let branches = project.git(&["branch", "--list", "feature/*", "--format=%(refname:short)"]);
    assert_eq!(branches.lines().collect::<Vec<_>>(), ["feature/dirty", "feature/shared", "feature/unmerged"]);
    project.ctl(&["worktree", "restore", "merged"]).exits(0);
    assert_eq!(fs::read_to_string(project.tree("merged/merged")).unwrap(), "merged\n");
}

/// Puts a git first in `PATH` that kills its caller before or after it has created a worktree.
fn deadly_git(project: &Project, after: bool) -> String {
    let folder = project.fixture.dir.path().join("deadly");
    fs::create_dir_all(&folder).unwrap();
    let real = String::from_utf8(Command::new("which").arg("git").output().unwrap().stdout).unwrap();
    let (first, then) = if after { ("\"$git\" \"$@\"", "") } else { ("", "exit 1") };
    let script = format!(
        "#!/bin/sh\ngit={}\ncase \" $* \" in *' worktree add '*) {first}; kill -9 $PPID; {then};; esac\nexec \"$git\" \"$@\"\n",
        real.trim_end()
    );
    fs::write(folder.join("git"), script.replace("add '*) ;", "add '*)")).unwrap();
    Command::new("chmod").arg("+x").arg(folder.join("git")).status().unwrap();
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap())
}

#[test]
fn an_interrupted_creation_is_completed_or_rolled_back() {
    for after in [false, true] {
        for verb in ["resume", "recover"] {
            let project = Project::new();
            let mut command = project.command(&["run", "--worktree=fix", "--", "pwd"]);
            command.env("PATH", deadly_git(&project, after));
            assert_eq!(support::run(command).code, None, "{after}");
            let case = format!("{verb}, killed {} the call", if after { "after" } else { "before" });
            assert_eq!(project.kinds("fix"), ["created", "started", "worktree_intended"], "{case}");
            if verb == "recover" {
                project.ctl(&["recover"]).exits(0);
                assert_eq!(project.git(&["worktree", "list"]).lines().count(), 1, "{case}");
                assert!(!project.tree("fix").exists() && project.git(&["branch"]) == "* main", "{case}");
            }
            if project.fixture.show("fix")["state"] != "failed" {
                let ran = project.ctl(&["resume", "fix"]).exits(0);
                assert_eq!(ran.stdout.trim_end(), project.tree("fix").to_str().unwrap(), "{case}");
            }
        }
    }
}

#[test]
fn what_git_ignores_is_copied_where_it_is_wanted() {
    let project = Project::new();
    fs::write(project.repo().join(".gitignore"), "secret*\n").unwrap();
    fs::write(project.repo().join(".worktreeinclude"), "secret.env\n").unwrap();
    project.git(&["add", "--all"]);
    project.git(&["commit", "--quiet", "--message=include"]);
    fs::write(project.repo().join("secret.env"), "KEY=1\n").unwrap();
    fs::write(project.repo().join("secret.other"), "no\n").unwrap();
    let ran = project.run("fix", "cat secret.env; ls").exits(0);
    assert_eq!(ran.stdout, "KEY=1\nREADME\nsecret.env\n");
}

#[test]
fn sessions_that_start_together_get_worktrees_of_their_own() {
    let project = Project::new();
    let start = |_| {
        let mut command =
            project.command(&["run", "-q", "--worktree", "--name", "fix", "--detach", "--", "pwd"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..8).map(start).collect();
    for child in children {
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    }
    let rows = project.json(&["worktree", "ls"]);
    assert_eq!(rows.as_array().unwrap().len(), 8, "{rows:#}");
    assert!(rows.as_array().unwrap().iter().all(|row| row["state"] == "present"), "{rows:#}");
    assert_eq!(project.git(&["worktree", "list"]).lines().count(), 9);
}

#[test]
fn a_dry_run_removes_nothing() {
    let project = Project::new();
    project.run("fix", "true").exits(0);
    let ran = project.ctl(&["worktree", "rm", "--dry-run", "fix"]).exits(0);
    assert!(ran.stdout.contains("would be removed"), "{}", ran.stdout);
    assert!(project.tree("fix").is_dir());
    project.ctl(&["worktree", "unlock", "fix"]).exits(0);
    assert!(!project.git(&["worktree", "list", "--porcelain"]).contains("locked"));
    project.ctl(&["worktree", "rm", "fix"]).exits(0);
}

#[test]
fn a_diff_shows_what_changed_since_the_base() {
    let project = Project::new();
    let script =
        "echo two >> README; git commit --quiet --all --message=two; echo three >> README; echo u > new";
    project.run("fix", script).exits(0);
    let ran = project.ctl(&["worktree", "diff", "fix"]).exits(0);
    assert!(ran.stdout.contains("+two") && ran.stdout.contains("+three"), "{}", ran.stdout);
    assert!(ran.stderr.contains("1 untracked"), "{}", ran.stderr);
    let stat = project.ctl(&["worktree", "diff", "--stat", "fix"]).exits(0).stdout;
    assert!(stat.contains("README | 2 ++"), "{stat}");
    let shown = project.ctl(&["show", "fix"]).exits(0).stdout;
    assert!(shown.contains("1 ahead, 1 changed +1 -0, 1 untracked"), "{shown}");
}

/// Prints `set up`, and leaves a trace.
const SET_UP: &str = "echo set up; echo once >> prepared";

#[test]
fn a_set_up_runs_once_in_each_worktree_before_the_program() {
    let project = Project::new();
    let run = ["run", "--worktree=fix", "--setup", SET_UP, "--", "sh", "-c", "cat prepared; exit 1"];
    let ran = project.ctl(&run).exits(1);
    assert_eq!(ran.stdout, "set up\nonce\n");
    let id = project.fixture.show("fix")["id"].as_str().unwrap().to_owned();
    assert_eq!(project.ctl(&["logs", &id]).exits(0).stdout, "set up\nonce\n");
    let steps = project.json(&["steps", &id]);
    assert_eq!(
        (&steps["steps"][0]["name"], &steps["steps"][0]["state"]),
        (&"setup".into(), &"completed".into())
    );
    let kinds = project.kinds(&id);
    let place = |kind: &str| kinds.iter().position(|found| found == kind).unwrap();
    assert!(
        place("worktree_made") < place("step_started") && place("step_completed") < place("command_executed")
    );
    // The first one takes over no step: only the worktree knows.
    assert_eq!(project.ctl(&["retry", "--fresh", &id]).exits(1).stdout, "once\n");
    assert_eq!(project.ctl(&["retry", &id]).exits(1).stdout, "once\n");
    assert_eq!(project.ctl(&["retry", "--new-worktree", &id]).exits(1).stdout, "set up\nonce\n");
}

#[test]
fn a_failed_set_up_ends_the_session_and_keeps_the_worktree() {
    let project = Project::new();
    let set_up = "echo broken >&2; test -e fixed || exit 3";
    let ran = project.ctl(&["run", "--worktree=fix", "--setup", set_up, "--", "echo", "program"]).exits(125);
    assert!(ran.stderr.contains("broken") && ran.stderr.contains("exited with code 3"), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    let shown = project.fixture.show("fix");
    assert_eq!((&shown["state"], &shown["error"]["cause"]), (&"failed".into(), &"spawn".into()));
    fs::write(project.tree("fix").join("fixed"), "").unwrap();
    assert_eq!(project.ctl(&["retry", "fix"]).exits(0).stdout, "program\n");
    assert_eq!(project.git(&["worktree", "list"]).lines().count(), 2);
}

/// Starts a session whose set-up sleeps in two processes, and waits until both are there.
fn start_set_up(project: &Project) -> Child {
    let set_up = "test -e again && exit; sleep 1000 & : > started; sleep 1000";
    let mut command =
        project.command(&["run", "-q", "--worktree=fix", "--setup", set_up, "--", "echo", "program"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the set-up has started", || project.tree("fix/started").exists());
    child
}

fn nothing_works_in(project: &Project) {
    eventually("no process of the set-up is left", || {
        project.json(&["worktree", "ls"])[0]["processes"].as_array().unwrap().is_empty()
    });
}

#[test]
fn a_set_up_is_cancelled_with_its_processes() {
    let project = Project::new();
    let mut child = start_set_up(&project);
    project.ctl(&["cancel", "fix"]).exits(0);
    assert!(!child.wait().unwrap().success());
    assert_eq!(project.fixture.show("fix")["state"], "cancelled");
    assert_eq!(project.json(&["worktree", "ls"])[0]["processes"], serde_json::json!([]));
}

#[test]
fn an_interrupted_set_up_runs_again() {
    for signal in ["KILL", "TERM"] {
        let project = Project::new();
        let mut child = start_set_up(&project);
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
        child.wait().unwrap();
        nothing_works_in(&project);
        fs::write(project.tree("fix/again"), "").unwrap();
        assert_eq!(project.ctl(&["resume", "fix"]).exits(0).stdout, "program\n", "{signal}");
    }
}

#[test]
fn the_set_up_of_a_repository_needs_approval() {
    let project = Project::new();
    let state = project.fixture.dir.path().join("state");
    let run = |args: &[&str]| {
        let mut command = project.command(&[&["run", "--worktree"], args, &["--", "true"]].concat());
        command.env("XDG_STATE_HOME", &state);
        support::run(command)
    };
    let file = project.repo().join(".sessionctl.toml");
    fs::write(&file, "[worktree]\nsetup = \"echo asked\"\n").unwrap();
    let refused = run(&[]).exits(2);
    assert!(
        refused.stderr.contains("`echo asked`") && refused.stderr.contains("--yes"),
        "{}",
        refused.stderr
    );
    assert!(project.sessions().is_empty());
    assert_eq!(run(&["--no-setup"]).exits(0).stdout, "");
    assert_eq!(run(&["--setup", "echo mine"]).exits(0).stdout, "mine\n");
    assert_eq!(run(&["--yes"]).exits(0).stdout, "asked\n");
    // It was approved, also for a process without a terminal.
    assert_eq!(run(&[]).exits(0).stdout, "asked\n");
    fs::write(&file, "[worktree]\nsetup = \"echo other\"\n").unwrap();
    run(&[]).exits(2);
    for wrong in ["[worktree]\nset-up = \"x\"\n", "[worktree\n", "setup = \"x\"\n"] {
        fs::write(&file, wrong).unwrap();
        let refused = run(&["--yes"]).exits(2);
        assert!(refused.stderr.contains(".sessionctl.toml"), "{wrong}: {}", refused.stderr);
    }
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
    run(&[]).exits(0);
}

#[test]
fn programs_of_a_repository_need_approval() {
    let project = Project::new();
    let state = project.fixture.dir.path().join("state");
    let run = |name: &str, args: &[&str]| {
        let start = ["run", &format!("--worktree={name}")];
        let mut command = project.command(&[&start[..], args, &["--", "cat", "README"]].concat());
        command.env("XDG_STATE_HOME", &state);
        support::run(command).exits(0)
    };
    fs::write(project.repo().join(".git/info/attributes"), "README filter=upper\n").unwrap();
    project.git(&["config", "filter.upper.smudge", "tr a-z A-Z"]);
    let refused = run("one", &[]);
    assert_eq!(refused.stdout, "hello\n");
    assert!(refused.stderr.contains("filter upper") && refused.stderr.contains("--yes"), "{refused:?}");
    assert_eq!(run("two", &["--yes"]).stdout, "HELLO\n");
    // They were approved, also for a process without a terminal, and for the other verbs.
    let approved = run("three", &[]);
    assert!(approved.stdout == "HELLO\n" && !approved.stderr.contains("filter"), "{approved:?}");
    let events = project.ctl(&["events", "three", "--json"]).exits(0).stdout;
    assert!(events.contains("filter.upper.smudge=tr a-z A-Z"), "{events}");
    project.git(&["config", "filter.upper.smudge", "tr a-z X"]);
    assert_eq!(run("four", &[]).stdout, "hello\n");
}

/// An imported log would have had `ls` run any program of the repository that it names.
#[test]
fn an_approval_in_a_log_is_for_its_owner_only() {
    let project = Project::new();
    let ran = project.fixture.dir.path().join("ran");
    fs::write(project.repo().join(".git/info/attributes"), "README filter=noted\n").unwrap();
    project.git(&["config", "filter.noted.clean", &format!("touch {}; cat", ran.display())]);
    let with = |state: &str, args: &[&str]| {
        let mut command = project.command(args);
        command.env("XDG_STATE_HOME", project.fixture.dir.path().join(state));
        support::run(command)
    };
    with("mine", &["run", "--worktree=fix", "--yes", "--", "sh", "-c", "echo more >> README"]).exits(0);
    let looks: [&[&str]; 6] = [
        &["ls", "--all"],
        &["show", "fix"],
        &["why", "fix"],
        &["worktree", "ls"],
        &["worktree", "diff", "fix"],
        &["gc", "--older-than", "0s", "--dry-run"],
    ];
    for args in looks {
        let _ = fs::remove_file(&ran);
        with("theirs", args).exits(0);
        assert!(!ran.exists(), "{args:?} ran a program");
    }
    // Control: it is run for the person who has approved it.
    with("mine", &["show", "fix"]).exits(0);
    assert!(ran.exists());
}

/// The owner of a program with a terminal has none itself, so that nobody was asked.
#[test]
fn programs_of_a_repository_are_asked_for_at_the_terminal() {
    let project = Project::new();
    fs::write(project.repo().join(".git/info/attributes"), "README filter=upper\n").unwrap();
    project.git(&["config", "filter.upper.smudge", "tr a-z A-Z"]);
    let question = b"filter.upper.smudge=tr a-z A-Z\r\nRun it, now and whenever it is the same? [y/N] ";
    // Who has declined is not asked again.
    for (number, (answer, output)) in
        [(Some("n"), "hello\r\n"), (None, "hello\r\n"), (Some("y"), "HELLO\r\n"), (None, "HELLO\r\n")]
            .into_iter()
            .enumerate()
    {
        if number == 2 {
            project.git(&["config", "filter.upper.clean", "cat"]);
        }
        let control = project.fixture.dir.path().join(format!("control-{number}"));
        fs::create_dir(&control).unwrap();
        let mut shell = support::clean_command("env");
        shell.env("SESSIONCTL_STORE", project.fixture.url()).current_dir(project.repo()).env_remove("CI");
        shell.env("XDG_STATE_HOME", project.fixture.dir.path().join("state"));
        let program = format!("{} run --worktree=t{number} -- cat README 2>&3 3>&-", support::BINARY);
        let mut pty = PtyPair::start(&program, shell, &control, format!("run {number}"));
        if let Some(answer) = answer {
            pty.wait(question);
            pty.type_bytes(format!("{answer}\r").as_bytes());
        }
        pty.wait(output.as_bytes());
        pty.end();
        let (results, got) = pty.finish();
        assert_eq!((results.code.as_str(), results.before), ("0", results.after));
        let asked = got.windows(question.len()).filter(|bytes| bytes == question).count();
        assert_eq!(asked, usize::from(answer.is_some()), "run {number}");
    }
}

/// `worktree rm fix` removed `fix-2`, whose session had the same name.
#[test]
fn the_name_of_a_worktree_comes_before_that_of_a_session() {
    let project = Project::new();
    project.run("fix", "echo one > mine").exits(0);
    let id = project.fixture.show("fix")["id"].as_str().unwrap().to_owned();
    project.ctl(&["retry", "--new-worktree", &id]).exits(0);
    let path = |name: &str| project.ctl(&["worktree", "path", name]).exits(0).stdout;
    assert_eq!(path("fix").trim_end(), project.tree("fix").to_str().unwrap());
    assert_eq!(path("fix-2").trim_end(), project.tree("fix-2").to_str().unwrap());
    project.ctl(&["worktree", "rm", "fix"]).exits(0);
    assert!(!project.tree("fix").exists() && project.tree("fix-2").is_dir());
    // A worktree from a snapshot has a name, too.
    let look = project.tree("look");
    project.ctl(&["worktree", "restore", &format!("{id}@1"), "--to", look.to_str().unwrap()]).exits(0);
    project.ctl(&["worktree", "rm", "look"]).exits(0);
    assert!(!look.exists() && project.tree("fix-2").is_dir());
}

#[test]
fn a_snapshot_is_found_by_the_name_of_its_worktree() {
    let project = Project::new();
    project.run("fix", "echo one > mine").exits(0);
    let id = project.fixture.show("fix")["id"].as_str().unwrap().to_owned();
    project.ctl(&["rm", &id]).exits(0);
    project.ctl(&["worktree", "purge", "fix"]).exits(0);
    assert_eq!(project.json(&["worktree", "ls"])[0]["name"], "fix");
    let to = project.tree("back");
    project.ctl(&["worktree", "restore", "fix@1", "--to", to.to_str().unwrap()]).exits(0);
    assert_eq!(fs::read(to.join("mine")).unwrap(), b"one\n");
}

/// One branch was checked out in two worktrees, and each overwrote the work of the other.
#[test]
fn a_snapshot_takes_no_branch_from_another_worktree() {
    let project = Project::new();
    project.run("fix", "git rm -q README; echo n > n; git add n").exits(0);
    project.ctl(&["worktree", "rm", "fix"]).exits(0);
    project.ctl(&["worktree", "restore", "fix"]).exits(0);
    let base = project.git(&["rev-parse", "main"]);
    let first = project.tree("first");
    project.ctl(&["worktree", "restore", "fix@1", "--to", first.to_str().unwrap()]).exits(0);
    assert_eq!(git(&first, &["rev-parse", "--abbrev-ref", "HEAD"]), "HEAD");
    git(&project.tree("fix"), &["commit", "--quiet", "--message=later"]);
    let look = project.tree("look");
    project.ctl(&["worktree", "restore", "fix@1", "--to", look.to_str().unwrap()]).exits(0);
    assert_eq!(git(&look, &["rev-parse", "--abbrev-ref", "HEAD"]), "HEAD");
    assert_eq!(git(&look, &["rev-parse", "HEAD"]), base);
    assert_eq!(git(&look, &["status", "--porcelain"]), "D  README\nA  n");
}

/// The link went into the trash, and the worktree was cut off from git.
#[test]
fn a_link_in_the_place_of_a_worktree_is_not_removed() {
    let project = Project::new();
    project.run("fix", "echo one > mine").exits(0);
    let (tree, moved) = (project.tree("fix"), project.fixture.dir.path().join("moved"));
    fs::rename(&tree, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &tree).unwrap();
    let ran = project.ctl(&["worktree", "rm", "--json", "fix"]).exits(4);
    assert!(ran.stderr.contains("WORKTREE_GONE") && ran.stderr.contains("a link"), "{}", ran.stderr);
    assert_eq!(git(&moved, &["status", "--porcelain"]), "?? mine");
}

#[test]
fn what_is_gone_names_the_way_on() {
    let project = Project::new();
    project.run("fix", "true").exits(0);
    project.ctl(&["worktree", "rm", "fix"]).exits(0);
    let shown = project.ctl(&["show", "fix"]).exits(0).stdout;
    assert!(shown.contains("in the trash since"), "{shown}");
    assert!(project.ctl(&["retry", "fix"]).exits(125).stderr.contains("worktree restore"));
    project.ctl(&["worktree", "purge", "fix"]).exits(0);
    assert!(project.ctl(&["retry", "fix"]).exits(125).stderr.contains("retry --new-worktree"));
    // What is left of a deleted directory is named, and can be removed.
    project.run("lost", "true").exits(0);
    fs::remove_dir_all(project.tree("lost")).unwrap();
    let row = &project.json(&["worktree", "ls"])[0];
    assert_eq!((&row["state"], &row["branch"]), (&"gone".into(), &"feature/lost".into()));
    assert!(project.ctl(&["worktree", "path", "lost"]).exits(4).stderr.contains("worktree rm"));
    project.ctl(&["worktree", "rm", "--dry-run", "lost"]).exits(0);
    project.ctl(&["worktree", "rm", "--delete-branch", "lost"]).exits(0);
    assert_eq!(project.git(&["branch", "--list", "feature/lost"]), "");
    assert_eq!(project.json(&["worktree", "ls"])[0]["state"], "removed");
    // Another repository in its place is no worktree.
    project.run("other", "true").exits(0);
    fs::remove_dir_all(project.tree("other")).unwrap();
    fs::create_dir(project.tree("other")).unwrap();
    git(&project.tree("other"), &["init", "--quiet"]);
    project.ctl(&["retry", "other"]).fails(125, "WORKTREE_GONE");
}
