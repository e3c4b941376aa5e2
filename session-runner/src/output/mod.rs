//! The output of programs: captured from their pipes, stored, and followed by readers.

pub(crate) mod capture;
mod follow;
mod interceptor;
mod storage;

pub use self::follow::OutputFollower;
pub use self::interceptor::OutputInterceptor;
pub use self::storage::{
    Chunk, FileOutput, OutputCut, OutputError, OutputFilter, OutputLength, OutputLimits, OutputPage,
    OutputStorage, OutputStorageExt, OutputStream, OutputWriter,
};
