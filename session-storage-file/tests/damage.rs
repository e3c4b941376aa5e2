//! Damage to every file of a store: each case is reported or harmless, none is silent, and none affects another
//! session. `SESSION_DAMAGE_SEED` sets the first seed, `SESSION_DAMAGE_CASES` the number of cases: stores of
//! random sessions, one after another, each damaged some hundred times.

#![cfg(feature = "fault-disk")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a missing value is a failure")]

#[expect(dead_code, reason = "each test uses only a part of the shared code")]
mod common {
    pub(crate) mod logs;
    pub(crate) mod random_events;
    pub(crate) mod store;
}

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use session_core::backend::{Expected, SessionStorage, SessionStorageExt};
use session_core::maintenance::Condition;
use session_core::{Durability, Head, SessionEvent, SessionFilter, SessionId, StorageError, StoredRecord};
use session_storage_file::FileStorage;
use session_storage_file::fault::{Content, FaultDisk, Keep, Moment, Rng};

use common::logs::{self, chain_of, fold, id, seal, wait};
use common::random_events;
use common::store::{ROOT, condition, open, reconcile};

/// The number of cases; all of them only in release.
const CASES: usize = if cfg!(debug_assertions) { 2_000 } else { 20_000 };
/// The number of cases on one store, about enough to damage each of its files in each way.
const OF_ONE_STORE: usize = 250;
/// The distance of the flipped bits of a log: every bit only in release.
const EVERY: usize = if cfg!(debug_assertions) { 11 } else { 1 };

/// The acknowledged log of one session, and the number of its flushed records.
#[derive(Debug, Clone)]
struct Expectation {
    records: Vec<StoredRecord>,
    flushed: usize,
}

type Expectations = BTreeMap<SessionId, Expectation>;

/// A healthy store of random sessions, on a machine that still runs.
struct Fixture {
    moment: Moment,
    expectations: Expectations,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Fixture {
    fn new(rng: &mut Rng) -> Self {
        let disk = FaultDisk::new();
        let storage = open(&disk).unwrap();
        let mut expectations = Expectations::new();
        // At least two: damage to one must not affect another.
        let ids: Vec<SessionId> = (0..2 + rng.below(5)).map(|_| id(rng.next() >> 1)).collect();
        for (number, id) in ids.iter().enumerate() {
            let mut log =
                Log { id: *id, head: None, expected: Expectation { records: Vec::new(), flushed: 0 } };
            log.put(&storage, vec![logs::created(&format!("session-{number}"))], Durability::Flushed);
            // The first session stays running, so that at least one can be written.
            if number == 0 {
                log.put(&storage, vec![logs::started(0)], Durability::Flushed);
            }
            for _ in 0..rng.below(12) {
                let head = log.head.as_ref().unwrap();
                let Some(events) = random_events::next_events(rng, head, number as u64) else { break };
                let ends = random_events::ends(&events);
                if ends && number == 0 {
                    continue;
                }
                let flushed = ends || rng.coin();
                log.put(&storage, events, if flushed { Durability::Flushed } else { Durability::Buffered });
            }
            expectations.insert(*id, log.expected);
        }
        drop(storage);
        // The store's own id is random: with a different one, a flipped bit would be different damage.
        let format = format!("{{\"format\":1,\"store\":\"{}\"}}\n", id(1));
        disk.edit(&PathBuf::from(ROOT).join("FORMAT"), |bytes| *bytes = format.into_bytes()).unwrap();
        let file = |(path, content)| match content {
            Content::File(bytes) => Some((path, bytes.to_vec())),
            Content::Dir => None,
        };
        Self { moment: disk.now(), expectations, files: disk.tree().into_iter().filter_map(file).collect() }
    }
}

/// A log that is being written.
struct Log {
    id: SessionId,
    head: Option<Head>,
    expected: Expectation,
}

impl Log {
    fn put(&mut self, storage: &FileStorage, events: Vec<SessionEvent>, durability: Durability) {
        let expected = self.head.as_ref().map_or(Expected::Absent, |head| Expected::At(head.tip));
        let batch = seal(self.id, self.head.as_ref(), self.expected.flushed as u64, events);
        self.expected.records.extend(batch.load().unwrap());
        self.head = batch.head().cloned();
        wait(storage.append(self.id, expected, batch, durability)).unwrap();
        if durability == Durability::Flushed {
            self.expected.flushed = self.expected.records.len();
        }
    }
}

/// A way to damage a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Zero,
    Truncate,
    Drop,
    Double,
    Swap,
    Splice,
    /// The file is removed.
    Remove,
    /// The file is truncated and random bytes are appended.
    Garbage,
}

const DAMAGES: [Damage; 9] = [
    Damage::Flip,
    Damage::Zero,
    Damage::Truncate,
    Damage::Drop,
    Damage::Double,
    Damage::Swap,
    Damage::Splice,
    Damage::Remove,
    Damage::Garbage,
];

/// Returns the pieces that are dropped, doubled and swapped: lines, or eighths if there are fewer than two
/// lines.
fn pieces(bytes: &[u8]) -> Vec<Vec<u8>> {
    let lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.len() > 1 { lines } else { bytes.chunks(bytes.len() / 8 + 1).map(<[u8]>::to_vec).collect() }
}

fn damaged(bytes: &[u8], foreign: &[u8], damage: Damage, rng: &mut Rng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let at = rng.below(bytes.len());
    match damage {
        Damage::Flip => {
            if let Some(byte) = out.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        Damage::Zero => {
            let len = 1 + rng.below(bytes.len() - at);
            out[at..].iter_mut().take(len).for_each(|byte| *byte = 0);
        }
        Damage::Truncate => out.truncate(at),
        Damage::Drop | Damage::Double | Damage::Swap | Damage::Splice => {
            let mut pieces = pieces(bytes);
            if pieces.is_empty() {
                return out;
            }
            let (one, two) = (rng.below(pieces.len()), rng.below(pieces.len()));
            match damage {
                Damage::Drop => drop(pieces.remove(one)),
                Damage::Double => pieces.insert(two, pieces[one].clone()),
                Damage::Swap => pieces.swap(one, two),
                Damage::Splice if rng.one_in(8) => return foreign.to_vec(),
                Damage::Splice
                | Damage::Flip
                | Damage::Zero
                | Damage::Truncate
                | Damage::Remove
                | Damage::Garbage => {
                    let foreign_pieces = self::pieces(foreign);
                    if !foreign_pieces.is_empty() {
                        let piece = foreign_pieces[rng.below(foreign_pieces.len())].clone();
                        if rng.coin() { pieces[one] = piece } else { pieces.insert(one, piece) }
                    }
                }
            }
            out = pieces.concat();
        }
        Damage::Garbage => {
            out.truncate(rng.below(bytes.len() + 1));
            let mut garbage: Vec<u8> = (0..rng.below(200)).map(|_| rng.next().to_be_bytes()[0]).collect();
            if rng.coin() {
                garbage.push(b'\n');
            }
            out.extend(garbage);
        }
        Damage::Remove => {}
    }
    out
}

/// Returns the session to which this file belongs.
fn session_of(path: &Path, expectations: &Expectations) -> Option<SessionId> {
    let parts: BTreeSet<String> =
        path.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    expectations.keys().copied().find(|id| parts.contains(&id.to_string()))
}

/// Chooses the same file of another session, or any other file.
fn foreign<'a>(
    path: &Path,
    files: &'a [(PathBuf, Vec<u8>)],
    expectations: &Expectations,
    rng: &mut Rng,
) -> &'a (PathBuf, Vec<u8>) {
    let like: Vec<_> = files
        .iter()
        .filter(|(other, _)| {
            other.file_name() == path.file_name()
                && session_of(other, expectations) != session_of(path, expectations)
        })
        .collect();
    if like.is_empty() { &files[rng.below(files.len())] } else { like[rng.below(like.len())] }
}

#[derive(Debug, Default)]
struct DamageCounts {
    reported: usize,
    harmless: usize,
}

#[test]
fn no_damage_is_silent() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seed = number("SESSION_DAMAGE_SEED").unwrap_or(1);
    let cases = number("SESSION_DAMAGE_CASES").map_or(CASES, |cases| usize::try_from(cases).unwrap());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tallies: Vec<BTreeMap<String, DamageCounts>> = std::thread::scope(|scope| {
        let work = |thread: usize| {
            let mut tallies = BTreeMap::<String, DamageCounts>::new();
            for first in (thread * OF_ONE_STORE..cases).step_by(threads * OF_ONE_STORE) {
                let fixture = Fixture::new(&mut Rng::new(seed.wrapping_add(first as u64)));
                for case in first..cases.min(first + OF_ONE_STORE) {
                    let (damage, reported) = one_damage(&fixture, seed, case);
                    let tally = tallies.entry(damage).or_default();
                    if reported { tally.reported += 1 } else { tally.harmless += 1 }
                }
            }
            tallies
        };
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a case failed")).collect()
    });
    let sum = |count: fn(&DamageCounts) -> usize| {
        tallies.iter().flat_map(BTreeMap::values).map(count).sum::<usize>()
    };
    let (reported, harmless) = (sum(|tally| tally.reported), sum(|tally| tally.harmless));
    eprintln!("{reported} reported, {harmless} harmless, 0 silent: {tallies:?}");
    eprintln!("tally: cases={cases} reported={reported} harmless={harmless}");
    assert_eq!(reported + harmless, cases);
    assert!(reported >= cases / 6, "only {reported} cases were reported: the damage has no effect");
}

/// Damages one file. Returns the kind of damage, and `true` if it was reported.
fn one_damage(fixture: &Fixture, seed: u64, case: usize) -> (String, bool) {
    let Fixture { moment, expectations, files } = fixture;
    let mut rng = Rng::new(seed.wrapping_add(case as u64) ^ 0xda3a_6e00);
    let rebooted = rng.coin();
    let disk = if rebooted { moment.cut(Keep::All) } else { moment.kill() };
    let damage = DAMAGES[rng.below(DAMAGES.len())];
    // Markers and locks are empty and are chosen less often.
    let full: Vec<_> = files.iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
    let (path, bytes) =
        if rng.one_in(4) { &files[rng.below(files.len())] } else { full[rng.below(full.len())] };
    let (_, foreign_bytes) = foreign(path, files, expectations, &mut rng);
    let after = damaged(bytes, foreign_bytes, damage, &mut rng);
    if matches!(damage, Damage::Remove) {
        session_storage_file::Disk::remove_file(&disk, path).unwrap();
    } else {
        disk.edit(path, |old| old.clone_from(&after)).unwrap();
    }
    let reported = one_case(&disk, expectations, path, rebooted).unwrap_or_else(|failure| {
        panic!(
            "case {case} (SESSION_DAMAGE_SEED={seed} SESSION_DAMAGE_CASES={}): {damage:?} of {}, rebooted: {rebooted}: {failure}\n{}",
            case + 1,
            path.display(),
            String::from_utf8_lossy(&after)
        )
    });
    (format!("{damage:?}"), reported)
}

/// Returns `true` if the damage was reported; an error is damage that was silent or affected others.
fn one_case(
    disk: &FaultDisk,
    expectations: &Expectations,
    path: &Path,
    rebooted: bool,
) -> Result<bool, String> {
    let victim = session_of(path, expectations);
    let is_store_file = path.parent() == Some(Path::new(ROOT));
    let storage = match open(&disk.process()) {
        Ok(storage) => storage,
        // Only damage to the store's own files may prevent it from opening.
        Err(_) if is_store_file => return Ok(true),
        Err(error) => return Err(format!("the store cannot be opened: {}", chain_of(&error))),
    };
    let mut reported = false;
    let mut reads = BTreeMap::new();
    for (id, expected_log) in expectations {
        let may_be_affected = victim == Some(*id) || is_store_file;
        let read = read(&storage, *id, expected_log, rebooted, may_be_affected)?;
        reported |= read.reported;
        reads.insert(*id, read);
    }
    reported |= check_lists(&storage, expectations, &reads, path, is_store_file)?;
    for (id, expected_log) in expectations {
        let may_be_affected = victim == Some(*id) || is_store_file;
        reported |= write(&storage, *id, expected_log, &reads[id], may_be_affected, rebooted)?;
    }
    if let Err(failure) = reconcile(&storage)
        && !reported
    {
        return Err(failure);
    }
    Ok(reported)
}

#[derive(Debug)]
struct Read {
    reported: bool,
    /// The readable records.
    records: Vec<StoredRecord>,
}

/// Reads one session: either everything acknowledged, or an error.
fn read(
    storage: &FileStorage,
    id: SessionId,
    expected_log: &Expectation,
    rebooted: bool,
    may_be_affected: bool,
) -> Result<Read, String> {
    let (mut records, mut after, mut error) = (Vec::new(), 0, None);
    // In pages of one record: everything before the damage is readable.
    loop {
        match wait(storage.records(id, after, std::num::NonZeroUsize::MIN)) {
            Ok(page) if page.records.is_empty() => break,
            Ok(page) => {
                after = page.records[0].revision();
                records.extend(page.records);
            }
            Err(failure) => {
                error = Some(failure);
                break;
            }
        }
    }
    if !may_be_affected && (error.is_some() || records != expected_log.records) {
        return Err(format!(
            "{id} is affected by damage to another session: {error:?}, {} records",
            records.len()
        ));
    }
    if !expected_log.records.starts_with(&records) {
        return Err(format!("{id}: returns records that were never written: {records:?}"));
    }
    let needed = if rebooted { expected_log.flushed } else { expected_log.records.len() };
    if error.is_none() && records.len() < needed {
        return Err(format!("{id}: {} of {needed} acknowledged records, and no error", records.len()));
    }
    let mut reported = error.is_some();
    match wait(storage.head(id)) {
        Ok(Some(head)) => {
            // A head is a cache: if an earlier record is damaged, it may have later information.
            let known =
                expected_log.records.iter().take_while(|record| record.revision() <= head.tip.revision);
            let known: Vec<_> = known.cloned().collect();
            if fold(id, &known)?.as_ref() != Some(&head) || known.len() < records.len() {
                return Err(format!("{id}: the head is {head:?}, {} records can be read", records.len()));
            }
            if known.len() > records.len() && error.is_none() {
                return Err(format!("{id}: the head says {}, the log ends before, no error", head.tip));
            }
        }
        Ok(None) if reported => {}
        Ok(None) => return Err(format!("{id}: no head, and no error")),
        Err(_) if may_be_affected => reported = true,
        Err(error) => return Err(format!("{id}: head: {}", chain_of(&error))),
    }
    let is_damaged = !matches!(condition(storage, id), Some(Condition::Healthy | Condition::Torn));
    if let Some(error) = error.filter(|_| !is_damaged) {
        return Err(format!("{id}: reading fails but the condition is good: {}", chain_of(&error)));
    }
    Ok(Read { reported: reported || is_damaged, records })
}

/// Checks that no session is missing from the list of all, and none from the list of active ones unless its own
/// marker is damaged.
fn check_lists(
    storage: &FileStorage,
    expectations: &Expectations,
    reads: &BTreeMap<SessionId, Read>,
    path: &Path,
    is_store_file: bool,
) -> Result<bool, String> {
    let mut reported = false;
    for (filter, name) in [(SessionFilter::all(), "all"), (SessionFilter::active(), "active")] {
        let page = match wait(storage.list_all(&filter)) {
            Ok(page) => page,
            Err(_) if is_store_file => return Ok(true),
            Err(error) => return Err(format!("list of {name}: {}", chain_of(&error))),
        };
        reported |= !page.unreadable.is_empty();
        let shown: BTreeSet<SessionId> = page.heads.iter().map(|head| head.id).collect();
        let unreadable: BTreeSet<SessionId> = page.unreadable.iter().map(|(id, _)| *id).collect();
        for (id, read) in reads {
            let head = fold(*id, &read.records)?;
            let wanted = fold(*id, &expectations[id].records)?
                .is_some_and(|expected_log| filter.matches(&expected_log));
            let marker = path.parent().is_some_and(|parent| parent.ends_with("active"));
            let excused = marker && name == "active";
            if wanted && !excused && !shown.contains(id) && !unreadable.contains(id) {
                return Err(format!("{id} is missing from the list of {name}"));
            }
            if let (Some(head), Some(listed)) = (&head, page.heads.iter().find(|listed| listed.id == *id))
                && head != listed
                && !read.reported
            {
                return Err(format!("{id}: listed as {listed:?}, its records say {head:?}"));
            }
        }
    }
    Ok(reported)
}

/// Appends: the append is rejected, or follows everything that was acknowledged.
fn write(
    storage: &FileStorage,
    id: SessionId,
    expected_log: &Expectation,
    read: &Read,
    may_be_affected: bool,
    rebooted: bool,
) -> Result<bool, String> {
    let Some(head) = fold(id, &read.records)? else { return Ok(false) };
    let before = read.records.len();
    let events = if head.state().is_final() { Vec::new() } else { vec![logs::note(30)] };
    let batch = if events.is_empty() {
        session_core::backend::Batch::empty()
    } else {
        seal(id, Some(&head), 0, events)
    };
    let wrote = batch.load().unwrap();
    match wait(storage.append(id, Expected::At(head.tip), batch, Durability::Flushed)) {
        Ok(_) => {
            // Lost records that were never flushed may be overwritten; the loss was reported.
            if before < expected_log.flushed
                || (before < expected_log.records.len() && !rebooted && !read.reported)
            {
                return Err(format!(
                    "{id}: overwritten after {before} of {} records",
                    expected_log.records.len()
                ));
            }
            let now = wait(storage.records_after(id, 0)).map_err(|error| chain_of(&error))?;
            if now[..before] != read.records[..] || now[before..] != wrote[..] {
                return Err(format!("{id}: after the append the log is {now:?}"));
            }
            Ok(false)
        }
        Err(_) if may_be_affected => Ok(true),
        Err(error) => {
            Err(format!("{id} cannot be written after damage to another session: {}", chain_of(&error)))
        }
    }
}

/// Flips each bit of a log of 4 KiB in turn, a different log for each seed.
#[test]
fn every_flipped_bit_of_a_log_is_reported() {
    let seed = std::env::var("SESSION_DAMAGE_SEED").map_or(1, |text| text.parse().expect("a number"));
    let mut rng = Rng::new(seed);
    let disk = FaultDisk::new();
    let storage = open(&disk).unwrap();
    let id = id(seed);
    let mut head: Option<Head> = None;
    let mut expected_log = Vec::new();
    let path = PathBuf::from(ROOT).join(format!("sessions/{id}/events.jsonl"));
    let length = |disk: &FaultDisk| match disk.tree().get(&path) {
        Some(Content::File(bytes)) => bytes.len(),
        _ => 0,
    };
    while length(&disk) < 4096 {
        let expected = head.as_ref().map_or(Expected::Absent, |head| Expected::At(head.tip));
        let events = if head.is_none() {
            vec![logs::created("bits"), logs::started(1)]
        } else {
            // The last record fills the log exactly.
            let room = (4096_usize - length(&disk)).saturating_sub(170);
            vec![logs::note(if room < 500 { room } else { rng.below(500) })]
        };
        let batch = seal(id, head.as_ref(), head.as_ref().map_or(0, |head| head.tip.revision), events);
        head = batch.head().cloned();
        expected_log.extend(batch.load().unwrap());
        wait(storage.append(id, expected, batch, Durability::Flushed)).unwrap();
    }
    drop(storage);
    let (moment, bits) = (disk.now(), length(&disk) * 8);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let expected_log = &expected_log;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (moment, path) = (&moment, &path);
            scope.spawn(move || {
                for bit in (thread * EVERY..bits).step_by(threads * EVERY) {
                    let disk = if bit % 2 == 0 { moment.kill() } else { moment.cut(Keep::All) };
                    disk.edit(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8)).unwrap();
                    let storage = open(&disk).unwrap();
                    match wait(storage.records_after(id, 0)) {
                        Err(StorageError::Corrupt { readable, .. }) => {
                            assert!(
                                readable < expected_log.len() as u64,
                                "SESSION_DAMAGE_SEED={seed}: bit {bit}"
                            );
                        }
                        other => {
                            panic!("SESSION_DAMAGE_SEED={seed}: bit {bit} of byte {}: {other:?}", bit / 8)
                        }
                    }
                }
            });
        }
    });
    eprintln!("tally: bits={}", bits.div_ceil(EVERY));
}

/// Regression: a log was replaced by the log of another copy of the store, longer and intact. `verify` reported
/// it as corrupt, but a reader that had read to its end was only given the end. Now the reader gets an error,
/// too.
#[test]
fn readers_report_a_log_replaced_by_another() {
    let disk = FaultDisk::new();
    let storage = open(&disk).unwrap();
    let id = id(1);
    let begin = seal(id, None, 0, vec![logs::created("copied"), logs::started(1)]);
    let copies = [1, 2].map(|copy| seal(id, begin.head(), 0, vec![logs::progress(copy), logs::note(9)]));
    let (fork, next) = (begin.head().unwrap().tip, copies[1].head().cloned().unwrap());
    let longer = seal(id, Some(&next), 0, vec![logs::note(1), logs::note(2)]);
    wait(storage.append(id, Expected::Absent, begin.clone(), Durability::Flushed)).unwrap();
    wait(storage.append(id, Expected::At(fork), copies[0].clone(), Durability::Flushed)).unwrap();
    drop(storage);
    let path = PathBuf::from(ROOT).join(format!("sessions/{id}/events.jsonl"));
    let other: String = [&begin, &copies[1], &longer]
        .iter()
        .flat_map(|batch| batch.records())
        .flat_map(|record| [record.unwrap().line().to_owned(), "\n".to_owned()])
        .collect();
    disk.edit(&path, |bytes| *bytes = other.clone().into_bytes()).unwrap();
    for disk in [disk.now().kill(), disk.now().cut(Keep::All)] {
        let storage = open(&disk).unwrap();
        assert_eq!(condition(&storage, id), Some(Condition::Corrupt));
        let read = wait(storage.records_after(id, 0));
        assert!(matches!(read, Err(StorageError::Corrupt { readable: 6, .. })), "{read:?}");
    }
}
