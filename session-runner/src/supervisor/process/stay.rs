//! Processes that stay when the supervision of their tree ends: the record of them, and the reading of what they print.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::WaitOptions;

use super::outputs::Outputs;
use super::signals::Children;
use crate::report::socket::record_of_left;
use crate::supervisor::messages::{BackgroundProcess, STAYING, Start};

/// Records that processes with this owner's socket in their environment stay on purpose. The owner may be dead, so that
/// its log cannot say so; without the record they would be ended as leftovers when the session runs again.
pub(crate) fn record(start: &Start, left: &[BackgroundProcess]) {
    let Some(socket) = &start.socket else { return };
    let lines = left.iter().map(|process| format!("{} {}\n", process.pid, process.start_time));
    let file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(record_of_left(socket.as_ref()));
    // Without a record they are leftovers, which is the safe side.
    let _ = file.and_then(|mut file| file.write_all(lines.collect::<String>().as_bytes()));
}

/// Reads and discards the output of the processes that stay, until none of them holds it.
pub(crate) fn discard(mut outputs: Outputs, children: &Children) {
    let _ = rustix::thread::set_name(STAYING);
    loop {
        while matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        outputs.discard();
        let open: Vec<_> = outputs.open().collect();
        if open.is_empty() {
            return;
        }
        let mut sources = vec![PollFd::new(children, PollFlags::IN)];
        sources.extend(open.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let _ = poll(&mut sources, None);
        children.clear();
    }
}
