//! Repair of the file `FORMAT`: it is rebuilt only if the logs of the sessions prove that this version wrote the store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use session_core::backend::{Chain, DecodeError};
use session_core::{SessionId, StorageError};
use uuid::Uuid;

use crate::disk::{Kind, Open};
use crate::error::IoContext;
use crate::format::{FormatDamage, Probe, probe};
use crate::layout::NAMES;
use crate::scan::{ChainItem, ChainReader};
use crate::store::{Purpose, Store};

/// The format of a log according to its first record.
enum LogFormat {
    /// The one of this version.
    Known,
    Newer(DecodeError),
    /// The record is missing or damaged.
    Unreadable,
}

impl Store {
    /// Rebuilds a missing or damaged `FORMAT`, if the store is open for repair. Returns a sentence about the repair;
    /// `None` if none was needed.
    pub(crate) fn rebuild_format(&self, deadline: Instant) -> Result<Option<String>, StorageError> {
        if self.purpose == Purpose::Work || !matches!(probe(&*self.disk, &self.layout)?, Probe::Damaged(_)) {
            return Ok(None);
        }
        let _lock = self.wait_for_lock(deadline)?;
        // Another process may have repaired it meanwhile.
        let Probe::Damaged(damage) = probe(&*self.disk, &self.layout)? else { return Ok(None) };
        let proofs = self.prove_format(damage)?;
        self.create_folders()?;
        let known = if let FormatDamage::Content { store } = damage { store } else { None };
        let staged = self.stage_format(known.unwrap_or_else(Uuid::new_v4))?;
        let kept = self.set_format_aside(damage)?;
        self.publish_format(&staged)?;
        let path = self.layout.format();
        tracing::warn!(path = %path.display(), proofs, "rebuilt the format file of the store");
        let logs = if proofs == 1 {
            "the log of 1 session".to_owned()
        } else {
            format!("the logs of {proofs} sessions")
        };
        let id = if known.is_some() { "" } else { ", with a new store id, to which nothing else refers" };
        let kept = kept.map(|path| format!("; the damaged one is {}", path.display())).unwrap_or_default();
        Ok(Some(format!("{} was rebuilt from {logs}{id}{kept}", path.display())))
    }

    /// Returns the number of logs that prove the format of this version.
    fn prove_format(&self, damage: FormatDamage) -> Result<usize, StorageError> {
        let problem = damage.problem(&self.layout);
        let refuse = |why: String| Err(StorageError::StoreDamaged { what: format!("{problem}, and {why}") });
        let root = self.layout.root();
        let names = self.disk.read_dir(root).context("list", root)?;
        if let Some(foreign) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
            return refuse(format!(
                "{foreign:?} next to it may belong to another version or program: move that elsewhere if it does not"
            ));
        }
        let sessions = self.layout.sessions();
        let ids = if self.is_folder(&sessions)? { self.ids(&sessions)? } else { Vec::new() };
        let mut proofs = 0;
        for id in &ids {
            match self.log_format(*id) {
                LogFormat::Known => proofs += 1,
                LogFormat::Unreadable => {}
                LogFormat::Newer(error) => {
                    return Err(StorageError::UnsupportedFormat {
                        what: format!("{problem}, and session {id}"),
                        source: Some(Arc::new(error)),
                    });
                }
            }
        }
        match (proofs, ids.len()) {
            (0, 0) => refuse(format!(
                "there is no session whose log proves what it was: if the store never had one, remove {}",
                self.layout.format().display()
            )),
            (0, sessions) => refuse(format!(
                "none of the {sessions} sessions has a readable log that proves what it was: restore it from a backup"
            )),
            (proofs, _) => Ok(proofs),
        }
    }

    /// Reads the format of a log. A log that cannot be read proves nothing, and blocks no repair: it states its own
    /// format once it can be read again.
    fn log_format(&self, id: SessionId) -> LogFormat {
        let path = self.layout.session(id).log;
        if !matches!(self.disk.kind(&path), Ok(Some((Kind::File, _)))) {
            return LogFormat::Unreadable;
        }
        let Ok(file) = self.disk.open(&path, Open::Read) else { return LogFormat::Unreadable };
        let mut chain = ChainReader::from(&*file, Chain::start(id), 0);
        let Ok(ChainItem::Record(first)) = chain.next() else { return LogFormat::Unreadable };
        match first.decode() {
            Ok(_) => LogFormat::Known,
            Err(error @ (DecodeError::NewerFormat { .. } | DecodeError::UnknownKind { .. })) => {
                LogFormat::Newer(error)
            }
            Err(_) => LogFormat::Unreadable,
        }
    }

    /// Moves what is at the path of `FORMAT` to the quarantine, and returns its path there.
    fn set_format_aside(&self, damage: FormatDamage) -> Result<Option<PathBuf>, StorageError> {
        if damage == FormatDamage::Missing {
            return Ok(None);
        }
        let (folder, path) = (self.layout.quarantine(), self.layout.format());
        let kept = self.unused_name(&folder.join("FORMAT"))?;
        self.disk.rename_new(&path, &kept).context("rename", &path)?;
        self.disk.sync_dir(&folder).context("flush", &folder)?;
        Ok(Some(kept))
    }
}
