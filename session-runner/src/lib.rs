//! Runs child processes as durable sessions: supervision, captured output.

mod output;
mod supervised;
mod supervisor;

pub use output::{
    Chunk, FileOutput, OutputError, OutputLength, OutputPage, OutputStorage, OutputStorageExt, OutputStream,
    OutputWriter, Stored,
};
pub use supervised::LaunchError;
pub use supervisor::protocol::{Ended, Escaped};
pub use supervisor::supervise_main;
