//! How fast sessions are, beside what one would use instead. Figures are ratios of one run: what is compared runs in
//! turn, round after round, and the median counts. `cargo xtask bench` builds and runs it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a table is what it is for")]

mod appends;
mod calls;
mod command;
mod device;
mod events;
mod history;
mod listing;
mod pages;
mod report;
mod stats;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::report::Section;

/// How much is measured, and where.
pub(crate) struct Settings {
    /// How often each contender has its turn.
    pub(crate) rounds: usize,
    /// About how long a turn lasts.
    pub(crate) slice: Duration,
    /// A folder on the disk that is measured.
    pub(crate) folder: PathBuf,
    /// A folder on a disk that needs no flushing.
    pub(crate) memory_folder: PathBuf,
    /// The command, where it is to be measured.
    pub(crate) sessionctl: Option<PathBuf>,
    /// Whether the system's caches may be dropped, to see how a store is after a reboot.
    pub(crate) drop_caches: bool,
    /// How many sessions append at once.
    pub(crate) widths: &'static [usize],
    /// How long logs are that are read whole, and of the two that are appended to.
    pub(crate) histories: &'static [usize],
    pub(crate) appended: [usize; 2],
    /// How many sessions there are in stores that are listed.
    pub(crate) stores: &'static [usize],
}

impl Settings {
    /// For figures that count.
    fn full(folder: &Path, memory_folder: &Path) -> Self {
        Self {
            rounds: 7,
            slice: Duration::from_millis(300),
            folder: folder.to_owned(),
            memory_folder: memory_folder.to_owned(),
            sessionctl: None,
            drop_caches: false,
            widths: &[1, 8, 64, 1000],
            histories: &[10, 1000, 100_000, 1_000_000],
            appended: [10, 100_000],
            stores: &[10_000, 100_000],
        }
    }

    /// For a first look, in a minute.
    fn quick(folder: &Path, memory_folder: &Path) -> Self {
        Self {
            rounds: 3,
            slice: Duration::from_millis(100),
            widths: &[1, 8],
            histories: &[10, 1000],
            stores: &[10_000],
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
    ("observers", calls::observed),
    ("replay", history::replay),
    ("history", history::append),
    ("lists", listing::lists),
    ("pages", pages::first),
    ("command", command::costs),
];

/// What a process is told that only measures how large it grows.
pub(crate) const MEMORY: &str = "--memory-of";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [MEMORY, kind, sessions, path] =
        arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice()
    {
        let sessions = sessions.parse().expect("it was a number");
        println!("{}", listing::measure_memory(kind, sessions, path.as_ref()));
        return ExitCode::SUCCESS;
    }
    let mut wanted = Vec::new();
    let (mut json, mut quick, mut drop_caches, mut sessionctl) = (false, false, false, None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--quick" => quick = true,
            "--drop-caches" => drop_caches = true,
            "--sessionctl" => sessionctl = arguments.next().map(PathBuf::from),
            name if PARTS.iter().any(|(part, _)| *part == name) => wanted.push(argument),
            _ => {
                let parts: Vec<_> = PARTS.iter().map(|(part, _)| *part).collect();
                eprintln!("`{argument}` is none of: --json --quick --drop-caches {}", parts.join(" "));
                return ExitCode::from(2);
            }
        }
    }
    let temporary = |parent: &Path| tempfile::Builder::new().prefix("session-bench-").tempdir_in(parent);
    let folder = temporary(".".as_ref()).expect("a folder can be made");
    let in_memory = temporary("/dev/shm".as_ref());
    let in_memory = in_memory.as_ref().map_or_else(|_| folder.path(), |folder| folder.path());
    let settings = if quick { Settings::quick } else { Settings::full };
    let settings = Settings { sessionctl, drop_caches, ..settings(folder.path(), in_memory) };
    let parts = PARTS.iter().filter(|(part, _)| wanted.is_empty() || wanted.iter().any(|name| name == part));
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
        println!("{}", serde_json::to_string_pretty(&sections).expect("figures are JSON"));
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
            slice: Duration::from_millis(1),
            widths: &[2],
            histories: &[1000],
            appended: [10, 100],
            stores: &[],
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
