//! The stable codes of all errors, with the exit code and the advice that belong to each. The table in the docs is
//! made from here.

use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $exit:literal $advice:literal,)+) => {
        /// A stable code: the same in logs, JSON, docs and messages, in every version.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[doc = $doc])+ $variant,)+ }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The code's text, upper case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// The exit code of every verb that does not pass on a child's.
            #[must_use]
            pub const fn exit_code(self) -> u8 {
                match self { $(Self::$variant => $exit,)+ }
            }

            /// What whoever meets it does next.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)+ }
            }
        }
    };
}

codes! {
    /// No such session.
    NotFound "NOT_FOUND" 3 "list what there is and use an id from there",
    /// More than one session is meant.
    Ambiguous "AMBIGUOUS" 3 "use more of the id",
    /// The machine has no such transition.
    IllegalTransition "ILLEGAL_TRANSITION" 4 "look at the session's state; nothing was changed",
    /// Somebody else changed the session, or owns it.
    Conflict "CONFLICT" 4 "look at the session again and decide anew; nothing was changed",
    /// The session has a new owner.
    Fenced "FENCED" 4 "stop this work: somebody else goes on with it",
    /// As many unended sessions as are allowed.
    MaxSessions "MAX_SESSIONS" 4 "end a session, or recover crashed ones",
    /// More than the format has room for.
    LimitExceeded "LIMIT_EXCEEDED" 4 "make it smaller; nothing was changed",
    /// The storage cannot be used now, or is none.
    StorageUnavailable "STORAGE_UNAVAILABLE" 5 "see what holds or hides the store, then try again",
    /// The storage, or a session of it, was closed after a failure.
    Closed "CLOSED" 5 "open the store again",
    /// No room.
    StorageFull "STORAGE_FULL" 6 "make room and try again; what was acknowledged is safe",
    /// The system failed.
    StorageIo "STORAGE_IO" 6 "look at the disk; what was acknowledged is safe",
    /// Acknowledged records are gone.
    Corrupt "CORRUPT" 7 "keep a copy, then see what `verify` says",
    /// A log that breaks a rule of the machine.
    InvalidLog "INVALID_LOG" 7 "keep a copy: this log was not written by a correct program",
    /// Written by a newer version.
    UnsupportedFormat "UNSUPPORTED_FORMAT" 8 "use the newer version to change it; this one can read it",
    /// It is not known whether the last change was stored.
    OutcomeUnknown "OUTCOME_UNKNOWN" 9 "look at the session before trying again",
    /// An argument that makes no sense.
    InvalidArgument "INVALID_ARGUMENT" 2 "correct the argument; nothing was changed",
    /// The program could not be started.
    SpawnFailed "SPAWN_FAILED" 4 "see that the program exists and may be executed",
    /// The work was cancelled.
    Cancelled "CANCELLED" 4 "nothing; somebody asked for it",
    /// The work failed.
    WorkFailed "WORK_FAILED" 4 "see why; a retry is a new session",
    /// The deadline passed.
    Timeout "TIMEOUT" 4 "allow more time, or see what is slow",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
