//! The terminals of running sessions that can be attached to on this machine, and whether each has a viewer.

use std::cell::OnceCell;
use std::collections::HashMap;

use sessionkit::runner::attachable_sessions;
use sessionkit::{Head, SessionId, SessionState};

/// The terminals of the sessions that one command shows. They are looked for once, when the first session that may have
/// one is shown.
#[derive(Debug, Default)]
pub(crate) struct AttachableTerminals {
    found: OnceCell<HashMap<SessionId, bool>>,
}

impl AttachableTerminals {
    /// Returns `true` if the session's terminal has a viewer, and `false` if it has none; `None` if there is no terminal
    /// that can be attached to.
    pub(crate) fn viewed(&self, head: &Head) -> Option<bool> {
        let may_have_one = head.lifecycle.owner.is_some()
            && matches!(head.state(), SessionState::Running { .. } | SessionState::Paused { .. });
        if !may_have_one {
            return None;
        }
        self.found.get_or_init(attachable_sessions).get(&head.id).copied()
    }
}
