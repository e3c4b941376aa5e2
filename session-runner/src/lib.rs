//! Runs child processes as durable sessions: supervision, captured output.

mod supervised;
mod supervisor;

pub use supervised::LaunchError;
pub use supervisor::protocol::{Ended, Escaped};
pub use supervisor::supervise_main;
