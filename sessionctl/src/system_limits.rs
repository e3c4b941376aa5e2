//! A check that programs can be run at all, before anything is written.

use std::io;
use std::sync::RwLock;
use std::thread;

use sessionkit::ErrorCode;

use crate::error::{Failure, Result};

/// Processes and threads that a session of a program needs besides this thread: supervisor, program, and threads for the
/// store, the output and the runtime.
const NEEDED: usize = 8;

/// Checks that this user may start as many processes and threads as a session needs. Without them, the session would be
/// created, and fail.
pub(crate) fn check() -> Result<()> {
    let hold = RwLock::new(());
    thread::scope(|scope| {
        // Each thread waits until all of them were started.
        let _held = hold.write();
        for _ in 0..NEEDED {
            thread::Builder::new()
                .spawn_scoped(scope, || drop(hold.read()))
                .map_err(|error| failure(&error))?;
        }
        Ok(())
    })
}

fn failure(error: &io::Error) -> Failure {
    let text = format!(
        "fewer than {NEEDED} processes and threads can be started, by the limit of this user (`ulimit -u`) or of its \
         control group: {error}"
    );
    Failure::new(ErrorCode::SystemLimit, text)
}
