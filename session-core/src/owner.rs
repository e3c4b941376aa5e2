//! Who runs a session: the facts by which a process is told from every other one, before and after it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::InstanceId;
use crate::limits::{HEAD_ID, LimitError};
use crate::text::cut;

/// The process that runs a session, or created it.
///
/// Two owners are the same exactly if their `instance` is; the rest is what [`Presence`](crate::Presence) needs
/// to prove that one is dead, and what a person needs to find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Owner {
    /// Random, one for each manager that was ever opened.
    pub instance: InstanceId,
    /// The network name of the machine; for people, it proves nothing.
    pub host: String,
    /// What names the machine across reboots.
    pub machine: String,
    /// What names this run of the machine's kernel.
    pub boot: String,
    /// The process id.
    pub pid: u32,
    /// When the process started, in clock ticks since the boot: with `pid` and `boot` it names one process.
    pub start_time: u64,
}

impl Owner {
    /// An owner of these facts, under a new random instance.
    #[must_use]
    pub fn new(host: String, machine: String, boot: String, pid: u32, start_time: u64) -> Self {
        Self { instance: InstanceId::random(), host, machine, boot, pid, start_time }
    }

    /// Whether a record can name this owner: machine and boot must fit a head whole, because a liveness is proven
    /// with what the head has of them.
    pub(crate) fn check(&self) -> Result<(), LimitError> {
        if shortened(&self.machine) != self.machine || shortened(&self.boot) != self.boot {
            return Err(LimitError::invalid("owner", "has a machine or boot id of more than 64 plain bytes"));
        }
        Ok(())
    }

    /// The owner as heads keep it.
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
    /// `pid 4711 on build-7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} on {}", self.pid, self.host)
    }
}

/// Why an owner is known to have let go of its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Evidence {
    /// The kernel lock that the owner held while its process lived is free.
    LockReleased,
    /// No process of the owner's id and start time exists, and its lock file is gone.
    ProcessGone,
    /// The machine has been started anew since.
    Rebooted {
        /// The boot that runs now.
        boot: String,
    },
    /// The owner let go in an orderly way.
    Shutdown,
    /// The work's future was dropped by the program that drove it.
    Dropped,
    /// A person said so; nothing was proven.
    Forced {
        /// Who said it.
        by: String,
    },
    /// The end of the log was lost, and a person accepted that.
    Repaired,
}

impl Evidence {
    /// Whether this proves a death, and so counts against the limit of attempts.
    #[must_use]
    pub const fn is_death(&self) -> bool {
        match self {
            Self::LockReleased | Self::ProcessGone | Self::Rebooted { .. } => true,
            Self::Shutdown | Self::Dropped | Self::Forced { .. } | Self::Repaired => false,
        }
    }
}

impl Evidence {
    /// Whether the owner itself said so, and so lived until then.
    pub(crate) const fn is_from_owner(&self) -> bool {
        match self {
            Self::Shutdown | Self::Dropped => true,
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
            Self::Dropped => f.write_str("its work was dropped"),
            Self::Forced { by } => write!(f, "declared dead by {by}, without proof"),
            Self::Repaired => f.write_str("its log was repaired with loss"),
        }
    }
}
