//! An in-memory file system for tests that loses power, fails calls, tears writes and runs full. It keeps live
//! contents separate from those that would survive a power cut, for bytes, lengths and names.
//!
//! It guarantees what a local journalling file system does, and no more: what was synced is durable, and a
//! rename within one folder is atomic. A power cut keeps any part of the rest.
//!
//! ```
//! use std::path::Path;
//! use session_storage_file::{Disk, Open};
//! use session_storage_file::fault::{FaultDisk, Keep};
//!
//! let disk = FaultDisk::new();
//! disk.start_recording();
//! let file = disk.open(Path::new("/log"), Open::Create)?;
//! file.write_at(b"hello", 0)?;
//! file.sync()?;
//! // The bytes are safe, the name is not: the folder was never synced.
//! let last = disk.moments().pop().expect("three changes were recorded");
//! assert!(last.cut(Keep::Synced).open(Path::new("/log"), Open::Read).is_err());
//! disk.sync_dir(Path::new("/"))?;
//! let last = disk.moments().pop().expect("four changes were recorded");
//! assert_eq!(last.cut(Keep::Synced).open(Path::new("/log"), Open::Read)?.len()?, 5);
//! # Ok::<(), std::io::Error>(())
//! ```

mod file;
mod fs;
mod image;
mod paths;
mod plan;
mod rng;
mod simulation;

#[cfg(test)]
mod tests;

pub use self::image::{Keep, Moment};
pub use self::plan::{AfterFailedSync, Call, Effect, Fault};
pub use self::rng::Rng;
pub use self::simulation::{Content, FaultDisk};
