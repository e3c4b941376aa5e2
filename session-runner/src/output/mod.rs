//! The output of programs: captured from their pipes, stored, and followed by readers.

pub(crate) mod capture;
mod follow;
mod storage;

pub use self::capture::OutputInterceptor;
pub use self::follow::OutputFollower;
pub use self::storage::{
    Chunk, FileOutput, OutputCut, OutputError, OutputLength, OutputPage, OutputStorage, OutputStorageExt,
    OutputStream, OutputWriter, Stored,
};
