//! sled storage for `session-core`.

mod db;
mod durable;
mod engine;
mod error;
mod files;
mod format;
mod layout;
mod lock;
mod mend;
mod open;
mod options;
mod read;
mod readers;
mod rows;
mod running;
mod storage;
mod store;
mod unclean;
mod write;

pub use options::SledStorageOptions;
pub use storage::SledStorage;
