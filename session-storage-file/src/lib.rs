//! File storage for `session-core`: one readable log per session.

mod disk;

pub use disk::{Disk, DiskFile, Identity, Kind, LockMode, Open, RealDisk};
