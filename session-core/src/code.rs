//! The stable error codes, each with its exit code and advice. The table in the docs is generated from this file.

use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $exit:literal $advice:literal,)+) => {
        /// A stable error code: the same in logs, JSON, docs and messages, in every version.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[doc = $doc])+ $variant,)+ }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the text of the code, upper case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Returns the meaning of the code in one sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// Returns the exit code of verbs that do not pass on the exit code of a child.
            #[must_use]
            pub const fn exit_code(self) -> u8 {
                match self { $(Self::$variant => $exit,)+ }
            }

            /// Returns advice for the user or program that meets the error.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)+ }
            }
        }
    };
}

codes! {
    /// No such session.
    NotFound "NOT_FOUND" 3 "list the sessions and use an id from there",
    /// The given id or name matches more than one session.
    Ambiguous "AMBIGUOUS" 3 "use more characters of the id",
    /// The state of the session does not allow the change.
    IllegalTransition "ILLEGAL_TRANSITION" 4 "check the session's state; nothing was changed",
    /// Another process changed the session, or owns it.
    Conflict "CONFLICT" 4 "read the session again, then decide again; nothing was changed",
    /// The session has a new owner.
    Fenced "FENCED" 4 "stop this work: another process continues it",
    /// The limit of sessions with an owner or a start to come is reached.
    MaxSessions "MAX_SESSIONS" 4 "end a session, or recover crashed ones",
    /// A limit of the format is exceeded.
    LimitExceeded "LIMIT_EXCEEDED" 4 "make it smaller; nothing was changed",
    /// The store is unavailable, or this path is not a store.
    StorageUnavailable "STORAGE_UNAVAILABLE" 5 "find out what locks or hides the store, then try again",
    /// Other users can have written the commands that are recorded in the store.
    StoreNotYours "STORE_NOT_YOURS" 5 "look at the command, then trust the store if you know who wrote it",
    /// The store, or a session in it, was closed after a failure.
    Closed "CLOSED" 5 "open the store again",
    /// A limit of the system is reached: of processes and threads, or of open files.
    SystemLimit "SYSTEM_LIMIT" 5 "raise the limit, or end other processes, then try again",
    /// No space left.
    StorageFull "STORAGE_FULL" 6 "free some space and try again; acknowledged records are safe",
    /// Reading or writing the store failed.
    StorageIo "STORAGE_IO" 6 "check the disk; acknowledged records are safe",
    /// Acknowledged records are gone, or the store itself is damaged.
    Corrupt "CORRUPT" 7 "keep a copy, then run `verify`",
    /// The log violates a rule of the state machine.
    InvalidLog "INVALID_LOG" 7 "keep a copy: this log was not written by a correct program",
    /// A newer version wrote it.
    UnsupportedFormat "UNSUPPORTED_FORMAT" 8 "use the newer version to change it; this one can read it",
    /// It is unknown whether the last change was stored.
    OutcomeUnknown "OUTCOME_UNKNOWN" 9 "check the session before trying again",
    /// An argument is invalid.
    InvalidArgument "INVALID_ARGUMENT" 2 "correct the argument; nothing was changed",
    /// The program could not be started.
    SpawnFailed "SPAWN_FAILED" 4 "check that the program exists and is executable",
    /// The work was cancelled.
    Cancelled "CANCELLED" 4 "do nothing: the cancellation was requested",
    /// The work failed.
    WorkFailed "WORK_FAILED" 4 "find out why; a retry is a new session",
    /// The owner of the session has died.
    Crashed "CRASHED" 4 "resume it, or let `recover` decide",
    /// The owner of the session was shut down, or released it.
    Interrupted "INTERRUPTED" 4 "resume it, or let `recover` decide",
    /// A person stopped the owner of the session.
    Stopped "STOPPED" 4 "resume it; `recover` leaves that to you",
    /// A step was started before, and its end is unknown.
    StepUnknown "STEP_UNKNOWN" 4 "find out whether it happened, then resume or retry with `--unknown STEP=rerun|skip`",
    /// A step would run something else than its recorded end was recorded for.
    StepChanged "STEP_CHANGED" 4 "resume or retry with `--changed STEP=rerun|keep`",
    /// A step with this name or key runs already.
    StepOpen "STEP_OPEN" 4 "give each concurrent step a name or a key of its own",
    /// The worktree of the session is not there, or another one is in its place.
    WorktreeGone "WORKTREE_GONE" 4 "restore it, or retry the session with a new one",
    /// A session or another program works in the worktree, or has locked it.
    WorktreeInUse "WORKTREE_IN_USE" 4 "end what works in it, then try again; nothing was changed",
    /// Two branches changed the same lines, so that git cannot merge them.
    MergeConflict "MERGE_CONFLICT" 4 "merge the target into the worktree and resolve the conflicts there; nothing was changed",
    /// A merge would overwrite or leave out something, or is not the one that was asked for.
    MergeRefused "MERGE_REFUSED" 4 "do what the message asks for, then merge again; nothing was changed",
    /// Git is missing, too old, or failed.
    GitFailed "GIT_FAILED" 5 "correct what git names, then try again; nothing was lost",
    /// The deadline passed.
    Timeout "TIMEOUT" 4 "raise the timeout, or find out what is slow",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
