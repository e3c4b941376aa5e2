//! Reads the session stores of older tools and converts them to logs. Nothing here writes to such a store.
//!
//! A converted log begins with `created` and records its origin: the labels `imported-from` and `imported-id`, and the
//! complete old record under `imported` in the metadata or, if it does not fit there, in `noted{session.imported}`. Its
//! state is what the old tool meant. Nothing is invented: it is not known which process ran the session, so its owner
//! is a placeholder with the tool's name, and a session that the old store calls running is `interrupted` without proof
//! of a death. Times are those of the old store, so that reading it again creates the same logs.
//!
//! | to | use |
//! |---|---|
//! | read a store | [`read`], [`Format`] |
//! | list its contents | [`LegacyStore`] with each [`LegacySession`], and [`Unreadable`] |
//! | store it | [`LegacySession::import`]; [`LegacySession::preview`] returns the outcome without writing |
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path();
//! # std::fs::write(path.join("5c0f3a52-5d3e-4a55-8f2c-9a5b7c0e4f11.json"), r#"{
//! #   "id": "5c0f3a52-5d3e-4a55-8f2c-9a5b7c0e4f11", "operation": "crawl", "status": "completed",
//! #   "progress": { "status": "cancelled", "startedAt": "2025-03-01T10:00:00.000Z" },
//! #   "context": {}, "createdAt": "2025-03-01T10:00:00.000Z", "updatedAt": "2025-03-01T10:05:00.000Z" }"#)?;
//! use session_core::backend::MemoryStorage;
//! use session_legacy::{Format, Outcome};
//!
//! let (storage, store) = (MemoryStorage::new(), session_legacy::read(Format::Msw, path)?);
//! for session in store.sessions() {
//!     assert_eq!(session.head().state().name().name(), "cancelled");
//!     assert_eq!(session.import(&storage).await?, Outcome::Imported);
//!     assert_eq!(session.import(&storage).await?, Outcome::Skipped);
//! }
//! for entry in store.unreadable() {
//!     eprintln!("{}: {}", entry.source, entry.reason);
//! }
//! # Ok(())
//! # }
//! ```

mod fields;
mod folder;
mod format;
mod formats;
mod import;
mod log;
mod origin;
mod read;
mod store;

pub use self::format::Format;
pub use self::import::Outcome;
pub use self::read::{LegacyError, read};
pub use self::store::{LegacyEntry, LegacySession, LegacyStore, Unreadable};
