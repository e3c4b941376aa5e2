//! Repair of the file `FORMAT`: it is rebuilt only if marks, database and logs prove that this version wrote the store.
//! A method of the writer.

use std::path::PathBuf;
use std::sync::Arc;

use session_core::StorageError;
use session_core::backend::{Chain, CheckedLine, DecodeError};
use session_storage_engine::{Folders, IoContext as _, stat_path};

use crate::error::Fault;
use crate::files;
use crate::format::{self, FormatDamage};
use crate::layout::KNOWN_NAMES;
use crate::writer::{WriteError, Writer};

impl Writer {
    /// Rebuilds a damaged `FORMAT`, if the store was opened for repair. Returns a sentence about the repair; `None` if
    /// none was needed. The id comes from the marks, and opening has compared it with the database.
    pub(crate) fn rebuild_format(&mut self) -> Result<Option<String>, WriteError> {
        let Some(damage) = self.engine.lock().format_damage else { return Ok(None) };
        self.refuse_newer(damage)?;
        let kept = self.set_format_aside(damage)?;
        let layout = &self.engine.layout;
        format::write(layout, self.engine.store)?;
        self.engine.lock().format_damage = None;
        let path = layout.format();
        tracing::warn!(path = %path.display(), "rebuilt the format file of the store");
        let kept = kept.map(|path| format!("; the damaged one is {}", path.display())).unwrap_or_default();
        Ok(Some(format!(
            "{} was rebuilt with the id {} of marks and database{kept}",
            path.display(),
            self.engine.store
        )))
    }

    /// Refuses a store that a newer version may have written.
    fn refuse_newer(&self, damage: FormatDamage) -> Result<(), WriteError> {
        let layout = &self.engine.layout;
        let names = files::names(layout.root())?;
        if let Some(foreign) = names.iter().find(|name| !KNOWN_NAMES.contains(&name.as_str())) {
            let why = format!(
                "{foreign:?} next to it may belong to another version or program: move that elsewhere if it does not"
            );
            return Err(damage.refusal(layout, &why).into());
        }
        for id in self.engine.all(&self.db)? {
            let line = self.db.line(id, 1).map_err(Fault::from)?.unwrap_or_default();
            let Ok(Err(error)) = Chain::start(id).pass(&line).map(CheckedLine::decode) else { continue };
            if matches!(error, DecodeError::NewerFormat { .. } | DecodeError::UnknownKind { .. }) {
                let what = format!("{}, and session {id}", damage.problem(layout));
                return Err(StorageError::UnsupportedFormat { what, source: Some(Arc::new(error)) }.into());
            }
        }
        Ok(())
    }

    /// Moves what is at the path of `FORMAT` to the quarantine, and returns its path there.
    fn set_format_aside(&self, damage: FormatDamage) -> Result<Option<PathBuf>, StorageError> {
        let layout = &self.engine.layout;
        if damage == FormatDamage::Missing {
            return Ok(None);
        }
        let (folder, path) = (layout.folders().quarantine(), layout.format());
        Folders::create(&folder)?;
        let mut number = 1u32;
        let kept = loop {
            let kept = folder.join(format!("FORMAT.{number}"));
            if stat_path(&kept).context("stat", &kept)?.is_none() {
                break kept;
            }
            number += 1;
        };
        std::fs::rename(&path, &kept).context("rename", &path)?;
        files::sync_folder(&folder)?;
        Ok(Some(kept))
    }
}
