//! Owners of sessions: the facts that identify one process among all others, across reboots and machines.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, LockFolderId};
use crate::limits::{HEAD_ID, LimitError};
use crate::text::cut;

/// The process that runs a session, or created it.
///
/// Two owners are the same if and only if their `instance` is. The other fields are evidence for
/// [`Presence`](crate::backend::Presence) to prove a death, and help people to find the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Owner {
    /// A random id, unique to each manager that is opened.
    pub instance: InstanceId,
    /// The network name of the machine. For people only: it proves nothing.
    pub host: String,
    /// The id of the machine, stable across reboots.
    pub machine: String,
    /// The id of the machine's current boot.
    pub boot: String,
    /// The process id.
    pub pid: u32,
    /// The start time of the process in clock ticks since boot. With `pid` and `boot` it identifies one process.
    pub start_time: u64,
    /// The id of the folder in which it holds its kernel lock. Its lock and its process id prove something only to those
    /// who use the same folder. `None` in logs of older versions, and for an owner without such a lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_folder: Option<LockFolderId>,
    /// The id of the namespace in which its process id is valid, unique within a boot; `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
}

impl Owner {
    /// Creates an owner with these facts and a random instance id, without a lock folder and a namespace.
    #[must_use]
    pub fn new(host: String, machine: String, boot: String, pid: u32, start_time: u64) -> Self {
        Self {
            instance: InstanceId::random(),
            host,
            machine,
            boot,
            pid,
            start_time,
            lock_folder: None,
            pid_namespace: None,
        }
    }

    /// Checks that a record can name this owner. Machine and boot must fit into a head uncut, because liveness is
    /// decided from the head.
    pub(crate) fn check(&self) -> Result<(), LimitError> {
        if shortened(&self.machine) != self.machine || shortened(&self.boot) != self.boot {
            return Err(LimitError::invalid("owner", "has a machine or boot id of more than 64 plain bytes"));
        }
        Ok(())
    }

    /// Returns the owner in the cut form that heads store.
    pub(crate) fn shortened(&self) -> Self {
        Self {
            host: shortened(&self.host),
            machine: shortened(&self.machine),
            boot: shortened(&self.boot),
            ..*self
        }
    }
}

fn shortened(text: &str) -> String {
    cut(text, HEAD_ID)
}

impl fmt::Display for Owner {
    /// Writes `pid 4711 on build-7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} on {}", self.pid, self.host)
    }
}

/// The way in which a session lost its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OwnerLoss {
    /// The owner is proven dead, or was declared dead.
    Crashed,
    /// SIGTERM, SIGHUP or a shutdown reached the owner.
    Interrupted,
    /// A person ended the attempt: by a key, SIGINT or SIGQUIT. Only a person resumes it.
    Stopped,
    /// The work was dropped in a living process.
    Dropped,
}

impl OwnerLoss {
    /// Returns the name, as written in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crashed => "crashed",
            Self::Interrupted => "interrupted",
            Self::Stopped => "stopped",
            Self::Dropped => "dropped",
        }
    }
}

/// The origin of a stop signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopSource {
    /// A key of the session's terminal: Ctrl-C, Ctrl-\\.
    Key,
    /// A signal that came through the owner.
    Signal,
}

/// A stop signal that ended an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stop {
    /// The number of the signal.
    pub signal: i32,
    /// Its origin.
    pub by: StopSource,
}

impl Stop {
    /// The number of SIGINT.
    const INT: i32 = 2;
    /// The number of SIGQUIT.
    const QUIT: i32 = 3;

    /// Returns how a session is lost whose owner got this signal: a person sends SIGINT and SIGQUIT, the system SIGTERM
    /// and SIGHUP.
    #[must_use]
    pub const fn loss(self) -> OwnerLoss {
        match self.signal {
            Self::INT | Self::QUIT => OwnerLoss::Stopped,
            _ => OwnerLoss::Interrupted,
        }
    }
}

/// The evidence that an owner no longer has its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Evidence {
    /// The kernel lock that the owner held while its process lived is free.
    LockReleased,
    /// No process of the owner's id and start time exists, and its lock file is gone.
    ProcessGone,
    /// The machine has been rebooted since.
    Rebooted {
        /// The id of the current boot.
        boot: String,
    },
    /// The owner shut down in an orderly way and released the session.
    Shutdown,
    /// A person stopped the attempt.
    Stopped(Stop),
    /// The work's future was dropped by the program that drove it.
    Dropped,
    /// A person declared the owner dead, without proof.
    Forced {
        /// The person.
        by: String,
    },
    /// The end of the log was lost, and a person accepted the loss.
    Repaired,
}

impl Evidence {
    /// Returns `true` if this proves a death, which counts towards the limit of attempts.
    #[must_use]
    pub const fn is_death(&self) -> bool {
        match self {
            Self::LockReleased | Self::ProcessGone | Self::Rebooted { .. } => true,
            Self::Shutdown | Self::Stopped(_) | Self::Dropped | Self::Forced { .. } | Self::Repaired => false,
        }
    }
}

impl Evidence {
    /// Returns `true` if the owner itself released the session, and so was alive until then.
    pub(crate) const fn is_from_owner(&self) -> bool {
        match self {
            Self::Shutdown | Self::Stopped(_) | Self::Dropped => true,
            Self::LockReleased
            | Self::ProcessGone
            | Self::Rebooted { .. }
            | Self::Forced { .. }
            | Self::Repaired => false,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LockReleased => f.write_str("its owner's lock is free: the process has ended"),
            Self::ProcessGone => f.write_str("its owner's process no longer exists"),
            Self::Rebooted { .. } => f.write_str("the machine was restarted"),
            Self::Shutdown => f.write_str("its owner shut down"),
            Self::Stopped(Stop { signal, by: StopSource::Key }) => {
                write!(f, "a person stopped it by a key (signal {signal})")
            }
            Self::Stopped(Stop { signal, by: StopSource::Signal }) => {
                write!(f, "a person stopped it (signal {signal})")
            }
            Self::Dropped => f.write_str("its work was dropped"),
            Self::Forced { by } => write!(f, "declared dead by {by}, without proof"),
            Self::Repaired => f.write_str("its log was repaired with loss"),
        }
    }
}
