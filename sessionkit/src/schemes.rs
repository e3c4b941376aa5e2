//! The schemes of stores' URLs: those of this library, and those that were registered in this process.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

/// The schemes of this library. A build can open those whose features it has.
const BUILT_IN: [&str; 4] = ["file", "sled", "sqlite", "memory"];

static REGISTERED: RwLock<BTreeSet<String>> = RwLock::new(BTreeSet::new());

/// Adds a scheme; `false` if it is taken.
pub(crate) fn claim(scheme: &str) -> bool {
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    !BUILT_IN.contains(&scheme) && registered.insert(scheme.to_owned())
}

pub(crate) fn is_registered(scheme: &str) -> bool {
    REGISTERED.read().unwrap_or_else(PoisonError::into_inner).contains(scheme)
}

/// Returns the schemes that were [registered](crate::register), sorted.
#[must_use]
pub fn registered_schemes() -> Vec<String> {
    REGISTERED.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// Returns the forms that a URL may have, for messages.
pub(crate) fn forms() -> String {
    let form =
        |scheme: &str| if scheme == "memory" { "`memory:`".to_owned() } else { format!("`{scheme}:PATH`") };
    let registered = registered_schemes();
    let all = BUILT_IN.into_iter().chain(registered.iter().map(String::as_str));
    all.map(form).collect::<Vec<_>>().join(", ")
}
