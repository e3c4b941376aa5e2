//! Failing calls: each system call of a verb, in all its processes, fails once; then the store is checked.

mod judge;
mod plan;
mod scene;
mod shim;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

pub(crate) use self::judge::leftovers;
use self::plan::Case;
use self::scene::{Scene, VERBS};
pub(crate) use self::shim::Shim;
use crate::outcome::{End, Result, binary, print, scratch, setting};

/// Failed calls of a run without `SESSION_PROOF_CALLS`.
const CALLS: usize = 5_400;
/// Failures that are printed completely.
const SHOWN: usize = 60;

pub(crate) const BACKENDS: [&str; 3] = ["file", "sqlite", "sled"];

pub(crate) fn run(seed: u64, probe: bool) -> Result<End> {
    let folder = scratch("spc-")?;
    let shim = match Shim::build(folder.path())? {
        Ok(shim) => shim,
        Err(reason) => return Ok(End::NotRun(reason)),
    };
    if probe {
        return Ok(End::Passed);
    }
    let begin = Instant::now();
    let scenes = scenes(folder.path(), &shim)?;
    let all: Vec<Case> =
        scenes.iter().flat_map(|scene| plan::cases(scene.verb, scene.backend, &scene.calls)).collect();
    let chosen = match std::env::var("SESSION_PROOF_CASE") {
        Ok(text) => vec![text.parse::<Case>()?; setting("SESSION_PROOF_REPEAT", 1)],
        Err(_) => plan::choose(all.clone(), setting("SESSION_PROOF_CALLS", CALLS), seed),
    };
    print(&format!(
        "{} of {} failures in {} scenes, prepared in {} s",
        chosen.len(),
        all.len(),
        scenes.len(),
        begin.elapsed().as_secs()
    ));
    let counts = run_cases(&scenes, &chosen, folder.path(), &shim)?;
    let failed = counts.values().map(|count| count.bad).sum::<usize>();
    for ((verb, backend), Count { met, bad, missed, known, .. }) in &counts {
        print(&format!(
            "{verb:12} {backend:7} {met:5} failed calls, {missed:3} not met, {known:3} known faults of sled, {bad:3} wrong"
        ));
    }
    let met: usize = counts.values().map(|count| count.met).sum();
    let refused: usize = counts.values().map(|count| count.refused).sum();
    let seconds = begin.elapsed().as_secs();
    print(&format!("tally: failed-calls={met} refused={refused} cases={}", chosen.len()));
    print(&format!(
        "{met} failed calls in {seconds} s; {refused} led to a typed error, {failed} to a wrong result"
    ));
    if failed == 0 {
        Ok(End::Passed)
    } else {
        Err(format!("{failed} of {met} failed calls had a wrong result").into())
    }
}

/// Prepares the scenes, two at a time.
fn scenes(folder: &Path, shim: &Shim) -> Result<Vec<Scene>> {
    let wanted = std::env::var("SESSION_PROOF_VERBS").unwrap_or_default();
    let case = std::env::var("SESSION_PROOF_CASE").ok().map(|text| text.parse::<Case>()).transpose()?;
    let mut pairs = Vec::new();
    for verb in VERBS {
        for backend in BACKENDS {
            let named = wanted.is_empty() || wanted.split(',').any(|name| name == verb || name == backend);
            let needed = case.as_ref().is_none_or(|case| case.verb == verb && case.backend == backend);
            if scene::applies(verb, backend) && named && needed {
                pairs.push((verb, backend));
            }
        }
    }
    let (next, made, binary) = (AtomicUsize::new(0), Mutex::new(Vec::new()), binary()?);
    thread::scope(|scope| {
        for _ in 0..workers() {
            scope.spawn(|| {
                while let Some((verb, backend)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let scene = Scene::new(verb, backend, &binary, folder, shim, judge::judge);
                    push(&made, scene);
                }
            });
        }
    });
    let mut scenes = made.into_inner().unwrap_or_default().into_iter().collect::<Result<Vec<Scene>>>()?;
    scenes.sort_by_key(|scene| (scene.verb, scene.backend));
    Ok(scenes)
}

/// The results of a verb on a backend.
#[derive(Debug, Default)]
struct Count {
    met: usize,
    missed: usize,
    refused: usize,
    known: usize,
    bad: usize,
}

fn run_cases(
    scenes: &[Scene],
    cases: &[Case],
    folder: &Path,
    shim: &Shim,
) -> Result<BTreeMap<(&'static str, &'static str), Count>> {
    let (next, shown) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (counts, broken) = (Mutex::new(BTreeMap::<_, Count>::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for lane in 0..workers() {
            let (next, shown, counts, broken) = (&next, &shown, &counts, &broken);
            scope.spawn(move || {
                let lane = folder.join(format!("lane{lane}"));
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Some(scene) = scenes.iter().find(|scene| scene.is_of(case)) else { continue };
                    let result = match scene.run(case, &lane, shim) {
                        Ok(result) => result,
                        Err(error) => return push(broken, format!("{case}: {error}")),
                    };
                    let Ok(mut counts) = counts.lock() else { return };
                    let count = counts.entry((scene.verb, scene.backend)).or_default();
                    count.met += usize::from(result.met);
                    count.missed += usize::from(!result.met);
                    count.known += usize::from(result.known);
                    count.refused += usize::from(result.refused);
                    count.bad += usize::from(!result.wrong.is_empty());
                    drop(counts);
                    if !result.wrong.is_empty() && shown.fetch_add(1, Ordering::Relaxed) < SHOWN {
                        print(&format!(
                            "WRONG {case}\n  {}\n  it ended with {}\n  again: SESSION_PROOF_CASE='{case}' cargo xtask \
                             proofs calls",
                            result.wrong.join("\n  "),
                            result.end
                        ));
                    }
                }
            });
        }
    });
    match broken.into_inner().unwrap_or_default().first() {
        Some(error) => Err(error.clone().into()),
        None => Ok(counts.into_inner().unwrap_or_default()),
    }
}

/// Returns the number of cases that run at the same time: some of their time is spent waiting.
fn workers() -> usize {
    setting("SESSION_PROOF_WORKERS", thread::available_parallelism().map_or(2, usize::from) + 1)
}

fn push<T>(list: &Mutex<Vec<T>>, item: T) {
    if let Ok(mut list) = list.lock() {
        list.push(item);
    }
}
