//! `cargo xtask guarantees`: `docs/guarantees.md`, made of what each backend's profile says and what its laws showed in a
//! run just now. With `--check` it writes nothing and fails where the page is stale.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;

use crate::Outcome;
use crate::args::Args;
use crate::workspace::{self, cargo};

const PAGE: &str = "docs/guarantees.md";
/// Begins what the law of profiles tells on stderr: `profile file: Flushed, Machine`.
const PROFILE: &str = "profile ";
const SKIPPED: &str = "skipped ";

/// A backend: how its laws are run, and what no run can show.
struct Backend {
    title: &'static str,
    url: &'static str,
    tests: &'static [&'static str],
    looked_at_with: &'static str,
    limits: &'static str,
    choose: &'static str,
}

const BACKENDS: &[Backend] = &[
    Backend {
        title: "file",
        url: "`file:PATH`",
        tests: &["--package", "session-storage-file", "--all-features", "--test", "laws"],
        looked_at_with: "`cat`, `grep`, `tail -f`: a line of JSON for each event",
        limits: "a folder and some files for each session; local file systems only",
        choose: "always, unless one of the others has what you need: it is the default",
    },
    Backend {
        title: "SQLite",
        url: "`sqlite:PATH`",
        tests: &["--package", "session-storage-sqlite", "--all-features", "--test", "laws"],
        looked_at_with: "`sqlite3`, any program that reads SQLite; [ten queries](sqlite.md)",
        limits: "one writer at a time for all sessions; local file systems only",
        choose: "you want to query sessions, or keep very many of them in one file",
    },
    Backend {
        title: "sled",
        url: "`sled:PATH`",
        tests: &["--package", "session-storage-sled", "--all-features", "--test", "laws"],
        looked_at_with: "this library alone",
        limits: "one process at a time; what its crate's page says of sled 0.34",
        choose: "your program embeds sled already, and nobody else has to look in",
    },
    Backend {
        title: "memory",
        url: "`memory:`",
        tests: &["--package", "session-testkit", "--test", "memory"],
        looked_at_with: "this library alone",
        limits: "gone with the process",
        choose: "tests, and work whose history nobody needs",
    },
    Backend {
        title: "redb, [the example](../examples/own-backend)",
        url: "",
        tests: &["--locked", "--manifest-path", "examples/own-backend/Cargo.toml", "--test", "laws"],
        looked_at_with: "redb's tools",
        limits: "one process at a time; every append is flushed",
        choose: "you want to see how [one is written](write-a-backend.md)",
    },
];

/// What a run showed.
struct Run {
    profile: String,
    /// For each law why it could not be tried; `None` where it was, on one of the backend's stores at least.
    laws: BTreeMap<String, Option<String>>,
}

pub(crate) fn run(mut args: Args) -> Outcome {
    let check = args.flag("--check");
    args.finish()?;
    let page = page()?;
    let path = workspace::root().join(PAGE);
    if !check {
        return Ok(fs::write(path, page)?);
    }
    if fs::read_to_string(path)? == page {
        return Ok(());
    }
    Err(format!(
        "{PAGE} is not what the backends show: run `cargo xtask guarantees` and commit what it wrote"
    )
    .into())
}

fn page() -> Result<String, Box<dyn Error>> {
    let runs = BACKENDS.iter().map(of).collect::<Result<Vec<Run>, _>>()?;
    let sentences = sentences()?;
    let mut page =
        "<!-- Made by `cargo xtask guarantees` from the backends' profiles and a run of their laws. -->\n\n\
        # What each backend promises\n\n"
            .to_owned();
    let columns = |page: &mut String, first: &str, cell: &dyn Fn(&Backend, &Run) -> String| {
        let cells: Vec<String> =
            BACKENDS.iter().zip(&runs).map(|(backend, run)| cell(backend, run)).collect();
        writeln!(page, "| {first} | {} |", cells.join(" | ")).expect("a text has room");
    };
    columns(&mut page, "", &|backend, _| backend.title.to_owned());
    columns(&mut page, "---", &|_, _| "---".to_owned());
    columns(&mut page, "URL", &|backend, _| backend.url.to_owned());
    columns(&mut page, "an acknowledged, flushed append survives", &|_, run| {
        durability(&run.profile).to_owned()
    });
    columns(&mut page, "shared by", &|_, run| sharing(&run.profile).to_owned());
    columns(&mut page, "looked at with", &|backend, _| backend.looked_at_with.to_owned());
    columns(&mut page, "limits", &|backend, _| backend.limits.to_owned());
    columns(&mut page, "choose it when", &|backend, _| backend.choose.to_owned());
    page.push_str(
        "\nThe first lines say what a backend's `profile()` promises. That it keeps it is what the laws show, below: \
         each is a test\nthat runs against each backend. ✓ it holds; a number: it could not be tried, for the reason \
         that stands below.\n\n",
    );
    let mut reasons: Vec<&str> = Vec::new();
    columns(&mut page, "law", &|backend, _| backend.title.to_owned());
    columns(&mut page, "---", &|_, _| "---".to_owned());
    for (law, sentence) in &sentences {
        let mut cells = Vec::new();
        for (backend, run) in BACKENDS.iter().zip(&runs) {
            let found = run.laws.get(law).ok_or_else(|| format!("{} does not run {law}", backend.title))?;
            cells.push(match found {
                None => "✓".to_owned(),
                Some(reason) => {
                    let number = reasons.iter().position(|known| known == reason).unwrap_or_else(|| {
                        reasons.push(reason);
                        reasons.len() - 1
                    });
                    (number + 1).to_string()
                }
            });
        }
        let number = law.split('_').nth(1).unwrap_or_default();
        writeln!(page, "| {number}. {sentence} | {} |", cells.join(" | "))?;
    }
    page.push('\n');
    for (number, reason) in (1..).zip(&reasons) {
        writeln!(page, "{number}. {reason}")?;
    }
    Ok(page)
}

/// Runs a backend's laws.
fn of(backend: &Backend) -> Result<Run, Box<dyn Error>> {
    let mut command = cargo();
    command.arg("test").args(backend.tests);
    if backend.tests.contains(&"--manifest-path") {
        command.env("CARGO_TARGET_DIR", "target/own-backend");
    }
    let output = command.output()?;
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(format!("{} breaks a law:\n{said}\n{told}", backend.title).into());
    }
    let mut tried: BTreeMap<String, usize> = BTreeMap::new();
    for line in said.lines().filter(|line| line.ends_with("... ok")) {
        let name =
            line.split_whitespace().nth(1).and_then(|path| path.rsplit("::").next()).unwrap_or_default();
        if name.starts_with("law_") {
            *tried.entry(name.to_owned()).or_default() += 1;
        }
    }
    let mut laws: BTreeMap<String, Option<String>> = tried.keys().map(|law| (law.clone(), None)).collect();
    for line in told.lines().filter_map(|line| line.strip_prefix(SKIPPED)) {
        let (law, reason) = line.split_once(": ").ok_or("a law that is skipped has a reason")?;
        let left = tried.get_mut(law).ok_or("a law that is skipped is one")?;
        *left -= 1;
        if *left == 0 {
            laws.insert(law.to_owned(), Some(reason.to_owned()));
        }
    }
    let profiles: BTreeSet<&str> = told.lines().filter_map(|line| line.strip_prefix(PROFILE)).collect();
    match profiles.into_iter().collect::<Vec<_>>().as_slice() {
        [profile] => Ok(Run { profile: (*profile).to_owned(), laws }),
        other => Err(format!("the profile of {} is one of {other:?}", backend.title).into()),
    }
}

fn durability(profile: &str) -> &'static str {
    if profile.contains("Flushed") {
        "power loss"
    } else if profile.contains("Buffered") {
        "the death of the process"
    } else {
        "nothing"
    }
}

fn sharing(profile: &str) -> &'static str {
    if profile.contains("Machines") {
        "many machines"
    } else if profile.contains("Machine") {
        "all processes of a machine"
    } else {
        "one process"
    }
}

/// The laws in their order, each with its sentence, as the list of the testkit has them.
fn sentences() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let list = fs::read_to_string(workspace::root().join("session-testkit/src/list.rs"))?;
    let mut found = Vec::new();
    let mut lines = list.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(name) = line.split_whitespace().nth(1).filter(|name| name.starts_with("law_")) else {
            continue;
        };
        let sentence = lines.next().unwrap_or_default().trim_matches('"');
        found.push((name.to_owned(), sentence.to_owned()));
    }
    Ok(found)
}
