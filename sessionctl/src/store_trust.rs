//! Trust in a store: a session of it names the program that `resume` runs as this user.

use std::os::unix::fs::MetadataExt as _;

use rustix::fs::Mode;
use rustix::process::geteuid;
use sessionkit::StoreUrl;

/// Returns how others can have written what is in a store; `None` if they cannot.
pub(crate) fn strangers(url: &StoreUrl) -> Option<String> {
    // A store that does not exist yet will be of this user. A link is followed: its target is used.
    let found = std::fs::metadata(url.path()?).ok()?;
    let others = Mode::WGRP | Mode::WOTH;
    if found.uid() != geteuid().as_raw() {
        Some(format!("belongs to user {}", found.uid()))
    } else if Mode::from_raw_mode(found.mode()).intersects(others) {
        Some("can be written to by other users".to_owned())
    } else {
        None
    }
}
