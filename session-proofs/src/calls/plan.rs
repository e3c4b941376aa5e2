//! The cases: which call fails, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use session_testkit::random::Random;

/// A system call, by kind and file. Ids and numbers in the path are left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call {
    pub(super) family: String,
    pub(super) path: String,
}

/// One call of a verb that fails in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) verb: String,
    pub(super) backend: String,
    pub(super) call: Call,
    /// The number of this call among those of the same kind and file, from 1.
    pub(super) count: usize,
    pub(super) error: String,
}

/// Occurrences of one call that each get a case: a loop over a thousand entries is not a thousand cases.
const OCCURRENCES: usize = 24;

/// Returns the ways in which a call may fail.
fn errors(family: &str) -> &'static [&'static str] {
    match family {
        "fsync" | "fdatasync" | "sync_file_range" => {
            &["EIO", "ENOSPC", "EDQUOT", "EINTR", "LATE", "KILL", "LATEKILL"]
        }
        "write" | "pwrite" => {
            &["EIO", "ENOSPC", "EDQUOT", "EINTR", "SHORT", "LATE", "KILL", "LATEKILL", "TORNKILL"]
        }
        "writev" | "pwritev" | "copy_file_range" => &["EIO", "ENOSPC", "EDQUOT", "EINTR", "KILL"],
        "read" | "pread" => &["EIO", "EINTR", "SHORT", "KILL"],
        "open" => &["EIO", "ENOSPC", "EDQUOT", "EINTR", "EACCES", "EMFILE", "LATE", "KILL"],
        "rename" | "unlink" | "mkdir" => &["EIO", "ENOSPC", "EDQUOT", "EACCES", "LATE", "KILL", "LATEKILL"],
        "link" | "chmod" => &["EIO", "EACCES", "EPERM", "KILL"],
        "ftruncate" | "fallocate" => &["EIO", "ENOSPC", "EDQUOT", "EINTR", "LATE", "KILL", "LATEKILL"],
        "flock" | "fcntl" => &["EIO", "EINTR", "ENOLCK", "KILL"],
        "stat" | "readlink" | "getdents" | "statfs" | "readv" | "preadv" => &["EIO", "EACCES", "KILL"],
        "mmap" | "thread_stack" => &["ENOMEM", "KILL"],
        "fork" | "thread" => &["EAGAIN", "ENOMEM", "KILL"],
        "exec" => &["EACCES", "ENOMEM", "EIO"],
        "pipe" | "socket" | "accept" | "epoll_create" | "eventfd" | "inotify" => {
            &["EMFILE", "ENFILE", "KILL"]
        }
        "pidfd_open" => &["EMFILE", "EPERM", "KILL"],
        "bind" | "listen" => &["EACCES", "ENOSPC", "KILL"],
        "connect" => &["ECONNREFUSED", "EACCES", "KILL"],
        "kill" | "kill0" | "setsid" | "setpgid" | "prctl" => &["EPERM", "KILL"],
        _ => &["EIO", "KILL"],
    }
}

/// Enumerates the cases of a verb from the calls that it did.
pub(super) fn cases(verb: &str, backend: &str, calls: &[Call]) -> Vec<Case> {
    let mut counts = BTreeMap::<&Call, usize>::new();
    for call in calls {
        *counts.entry(call).or_default() += 1;
    }
    let mut cases = Vec::new();
    for (call, count) in counts {
        for count in 1..=count.min(OCCURRENCES) {
            cases.extend(errors(&call.family).iter().map(|error| Case {
                verb: verb.to_owned(),
                backend: backend.to_owned(),
                call: call.clone(),
                count,
                error: (*error).to_owned(),
            }));
        }
    }
    cases
}

/// Chooses cases by a seed. Calls that change the disk get three of four.
pub(super) fn choose(cases: Vec<Case>, count: usize, seed: u64) -> Vec<Case> {
    let mut random = Random::new(seed);
    let (mut changing, mut others): (Vec<_>, Vec<_>) = cases.into_iter().partition(Case::changes_the_disk);
    random.shuffle(&mut changing);
    random.shuffle(&mut others);
    let of_others = (count / 4).max(count.saturating_sub(changing.len())).min(others.len());
    changing.truncate(count.saturating_sub(of_others));
    others.truncate(of_others);
    changing.append(&mut others);
    random.shuffle(&mut changing);
    changing
}

impl Case {
    pub(super) fn changes_the_disk(&self) -> bool {
        let families = "fsync fdatasync sync_file_range write writev pwrite pwritev rename unlink mkdir link ftruncate \
                        fallocate flock fcntl";
        let in_proc = ["/proc/", "/sys/", "/etc/"].iter().any(|root| self.call.path.starts_with(root));
        let opens = self.call.family == "open" && !in_proc;
        families.split_whitespace().any(|family| family == self.call.family) || opens
    }

    /// Returns `true` where faults of sled 0.34 are known, in its own file: after a failed write or flush a thread may
    /// wait for ever (our watchdog reports that after 2 minutes; here it is killed after seconds), buffered reports may
    /// be lost with a typed error, and a failed read while it opens cuts its log off, which is reported as damage.
    pub(super) fn is_in_sled(&self) -> bool {
        let sled = self.call.path.ends_with("/db/db") && !self.kills();
        sled && matches!(&*self.call.family, "sync_file_range" | "fsync" | "fdatasync" | "pwrite" | "pread")
    }

    /// Returns `true` if the failure kills the process.
    pub(super) fn kills(&self) -> bool {
        self.error.ends_with("KILL")
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, backend, call: Call { family, path }, count, error } = self;
        write!(f, "{verb} {backend} {family} {count} {error} {path}")
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.splitn(6, ' ').collect();
        let wrong = || format!("`{text}` is no case: VERB BACKEND FAMILY COUNT ERROR PATH");
        let [verb, backend, family, count, error, path] = *words else { return Err(wrong()) };
        let call = Call { family: family.to_owned(), path: path.to_owned() };
        let count = count.parse().map_err(|_| wrong())?;
        Ok(Self { verb: verb.to_owned(), backend: backend.to_owned(), call, count, error: error.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(family: &str, path: &str) -> Call {
        Call { family: family.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn each_occurrence_of_a_call_gets_every_error() {
        let calls = [call("flock", "store/lock"), call("lseek", "a"), call("flock", "store/lock")];
        let cases = cases("run", "file", &calls);
        let count = |family| cases.iter().filter(|case| case.call.family == family).count();
        assert_eq!((count("flock"), count("lseek")), (8, 2));
    }

    #[test]
    fn a_case_is_read_as_it_is_printed() {
        let text = "run file thread 2 EAGAIN [tokio rt worker]";
        let case: Case = text.parse().unwrap();
        assert_eq!((case.to_string().as_str(), case.call.path.as_str()), (text, "[tokio rt worker]"));
        assert!("run file thread x EAGAIN a".parse::<Case>().is_err());
    }

    #[test]
    fn the_choice_follows_from_the_seed() {
        let calls: Vec<_> =
            (0..20).flat_map(|n| [call("fsync", &n.to_string()), call("stat", "a")]).collect();
        let cases = cases("run", "file", &calls);
        let chosen = choose(cases.clone(), 40, 1);
        assert_eq!(chosen, choose(cases.clone(), 40, 1));
        assert_ne!(chosen, choose(cases.clone(), 40, 2));
        assert_eq!(chosen.iter().filter(|case| case.changes_the_disk()).count(), 30);
        assert_eq!(choose(cases.clone(), 1_000_000, 1).len(), cases.len());
    }
}
