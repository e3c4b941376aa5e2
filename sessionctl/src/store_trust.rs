//! Whether a store can be trusted with commands: a session of it names the program that `resume` runs as this user.

use std::os::unix::fs::MetadataExt as _;

use rustix::fs::Mode;
use rustix::process::geteuid;
use sessionkit::{ErrorCode, StoreUrl};

use crate::context::Context;
use crate::error::{Failure, Result};

/// Returns the reason why others can have written what is in a store, if they can.
fn strangers(url: &StoreUrl) -> Option<String> {
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

/// Prints a line if others can have written what is in the store.
pub(crate) fn report(url: &StoreUrl, context: &Context) {
    if let Some(strangers) = strangers(url) {
        context.hint(&format!("the store {url} {strangers}"), &[], &["ls", "--all"]);
    }
}

/// Returns `true` if the commands that are recorded in the store may be run.
pub(crate) fn is_trusted(url: &StoreUrl, trusted: bool) -> bool {
    trusted || strangers(url).is_none()
}

/// Checks that the commands that are recorded in the store may be run. `trusted` is the person's word for it, `next` the
/// command line with that word.
///
/// # Errors
/// `STORE_NOT_YOURS` if others can have written them.
pub(crate) fn check(url: &StoreUrl, trusted: bool, next: &[&str]) -> Result<()> {
    match strangers(url).filter(|_| !trusted) {
        None => Ok(()),
        Some(strangers) => {
            let text = format!("the store {url} {strangers}: a command recorded in it is not run");
            Err(Failure::new(ErrorCode::StoreNotYours, text).next(next))
        }
    }
}
