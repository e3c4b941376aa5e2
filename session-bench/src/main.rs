//! Benchmarks of sessions against the alternatives. Compared contenders run alternately, round after round, and the
//! median of the rounds is reported; only ratios within one run are meaningful. `cargo xtask bench` builds and runs it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its results")]

mod appends;
mod calls;
mod command;
mod device;
mod events;
mod history;
mod items;
mod listing;
mod pages;
mod process;
mod report;
mod stats;
mod steps;
mod terminal;
mod worktrees;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::report::Section;

/// The extent and the place of the measurements.
pub(crate) struct Settings {
    /// Rounds, in each of which every contender runs once.
    pub(crate) rounds: usize,
    /// The approximate duration of a contender's run in a round.
    pub(crate) turn_time: Duration,
    /// A folder on the measured disk.
    pub(crate) folder: PathBuf,
    /// A folder on a file system in memory.
    pub(crate) memory_folder: PathBuf,
    /// The path of `sessionctl`, if it is measured.
    pub(crate) sessionctl: Option<PathBuf>,
    /// `true` if the system's caches may be dropped, to measure a store as after a reboot.
    pub(crate) drop_caches: bool,
    /// Numbers of sessions that append concurrently.
    pub(crate) concurrency: &'static [usize],
    /// Lengths of the logs that are replayed.
    pub(crate) log_lengths: &'static [usize],
    /// Lengths of the two logs that are appended to.
    pub(crate) append_lengths: [usize; 2],
    /// Numbers of sessions in the stores that are listed.
    pub(crate) store_sizes: &'static [usize],
}

impl Settings {
    /// Returns the settings for figures to publish.
    fn full(folder: &Path, memory_folder: &Path) -> Self {
        Self {
            rounds: 7,
            turn_time: Duration::from_millis(300),
            folder: folder.to_owned(),
            memory_folder: memory_folder.to_owned(),
            sessionctl: None,
            drop_caches: false,
            concurrency: &[1, 8, 64, 1000],
            log_lengths: &[10, 1000, 100_000, 1_000_000],
            append_lengths: [10, 100_000],
            store_sizes: &[10_000, 100_000],
        }
    }

    /// Returns the settings for a quick run of about a minute.
    fn quick(folder: &Path, memory_folder: &Path) -> Self {
        Self {
            rounds: 3,
            turn_time: Duration::from_millis(100),
            concurrency: &[1, 8],
            log_lengths: &[10, 1000],
            store_sizes: &[10_000],
            ..Self::full(folder, memory_folder)
        }
    }
}

type Part = (&'static str, fn(&Settings) -> Vec<Section>);

const PARTS: &[Part] = &[
    ("appends", appends::real),
    ("simulated", appends::simulated),
    ("backends", appends::backends),
    ("calls", calls::plain),
    ("cancels", calls::cancelled),
    ("observers", calls::observed),
    ("replay", history::replay),
    ("history", history::append),
    ("lists", listing::lists),
    ("pages", pages::first),
    ("command", command::costs),
    ("items", |settings| items::costs(settings.sessionctl.as_deref(), &settings.folder, settings.rounds)),
    ("steps", |settings| steps::costs(settings.sessionctl.as_deref(), &settings.folder, settings.rounds)),
    ("terminal", |settings| {
        terminal::costs(settings.sessionctl.as_deref(), &settings.folder, settings.rounds)
    }),
    ("worktrees", |settings| worktrees::times(&settings.folder, settings.rounds)),
];

/// The argument of a child process that only measures its memory.
pub(crate) const MEMORY: &str = "--memory-of";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [MEMORY, kind, sessions, path] =
        arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice()
    {
        let sessions = sessions.parse().expect("the parent passes a number");
        println!("{}", listing::measure_memory(kind, sessions, path.as_ref()));
        return ExitCode::SUCCESS;
    }
    let mut selected = Vec::new();
    let (mut json, mut quick, mut drop_caches, mut sessionctl) = (false, false, false, None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--quick" => quick = true,
            "--drop-caches" => drop_caches = true,
            "--sessionctl" => sessionctl = arguments.next().map(PathBuf::from),
            name if PARTS.iter().any(|(part, _)| *part == name) => selected.push(argument),
            _ => {
                let parts: Vec<_> = PARTS.iter().map(|(part, _)| *part).collect();
                eprintln!(
                    "unknown argument `{argument}`: choose from --json --quick --drop-caches --sessionctl PATH {}",
                    parts.join(" ")
                );
                return ExitCode::from(2);
            }
        }
    }
    let temporary = |parent: &Path| tempfile::Builder::new().prefix("session-bench-").tempdir_in(parent);
    let folder = temporary(".".as_ref()).expect("a folder can be created");
    let in_memory = temporary("/dev/shm".as_ref());
    let in_memory = in_memory.as_ref().map_or_else(|_| folder.path(), |folder| folder.path());
    let settings = if quick { Settings::quick } else { Settings::full };
    let settings = Settings { sessionctl, drop_caches, ..settings(folder.path(), in_memory) };
    let parts =
        PARTS.iter().filter(|(part, _)| selected.is_empty() || selected.iter().any(|name| name == part));
    let mut sections = Vec::new();
    for (_, part) in parts {
        let measured = part(&settings);
        if !json {
            for section in &measured {
                print!("{}", section.render());
            }
        }
        sections.extend(measured);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&sections).expect("figures can be serialized"));
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_measures_something() {
        let folder = tempfile::tempdir().unwrap();
        let smallest = Settings {
            rounds: 1,
            turn_time: Duration::from_millis(1),
            concurrency: &[2],
            log_lengths: &[1000],
            append_lengths: [10, 100],
            store_sizes: &[],
            ..Settings::quick(folder.path(), folder.path())
        };
        for (name, part) in PARTS {
            for section in part(&smallest) {
                assert!(!section.rows.is_empty(), "{name}: {section:?}");
                for row in &section.rows {
                    assert_eq!(row.figures.len(), section.columns.len(), "{name}: {row:?}");
                    assert!(row.figures.iter().flatten().all(|figure| *figure >= 0.0), "{name}: {row:?}");
                    assert!(row.figures.iter().any(Option::is_some), "{name}: {row:?}");
                }
                assert!(section.render().contains(&section.title));
            }
        }
    }
}
