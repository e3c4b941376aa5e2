//! The size limit of a head. Each of its texts is cut by itself; where all of them are long at the same time, the ones
//! that a list of sessions needs least are cut further.

use serde::Serialize as _;

use super::{Head, WorktreePlace};
use crate::limits::{HEAD_BYTES, HEAD_ID, HEAD_TEXT};
use crate::machine::{Requests, SessionState};
use crate::owner::Owner;
use crate::text::cut;

/// A head with less text than this is within the limit, whatever its numbers are.
const ALWAYS_FITS: usize = 1280;

/// The sizes to which texts are cut, one after the other.
const SHORTER: [usize; 2] = [64, 16];

/// The size to which the last texts are cut.
const SHORTEST: usize = 16;

impl Head {
    /// Cuts texts until the head is within its limit.
    pub(super) fn fit(&mut self) {
        if self.text_bytes() <= ALWAYS_FITS || self.is_within_limit() {
            return;
        }
        for limit in SHORTER {
            for cut_one in CUTS {
                cut_one(self, limit);
                if self.is_within_limit() {
                    return;
                }
            }
        }
        for cut_one in LAST_CUTS {
            cut_one(self, SHORTEST);
            if self.is_within_limit() {
                return;
            }
        }
    }

    /// Cuts the texts of the lifecycle.
    pub(super) fn shorten_lifecycle(&mut self) {
        let lifecycle = &mut self.lifecycle;
        lifecycle.owner = lifecycle.owner.as_ref().map(Owner::shortened);
        match &mut lifecycle.state {
            SessionState::Created | SessionState::Running { .. } => {}
            SessionState::Paused { reason } => *reason = reason.shortened(HEAD_TEXT),
            SessionState::Completed { summary } => *summary = summary.shortened(HEAD_TEXT),
            SessionState::Failed { error } => *error = error.shortened(HEAD_TEXT),
            SessionState::Cancelled { reason } => *reason = cut(reason, HEAD_TEXT),
        }
        let Requests { pause, resume, cancel, answer: _ } = &mut lifecycle.requests;
        if let Some(pause) = pause {
            pause.reason = cut(&pause.reason, HEAD_TEXT);
            pause.by = cut(&pause.by, HEAD_ID);
        }
        if let Some(cancel) = cancel {
            cancel.reason = cut(&cancel.reason, HEAD_TEXT);
            cancel.by = cut(&cancel.by, HEAD_ID);
        }
        *resume = resume.as_deref().map(|by| cut(by, HEAD_ID));
    }

    /// Returns the number of bytes that the texts take at most, the labels included.
    fn text_bytes(&self) -> usize {
        let lifecycle = &self.lifecycle;
        let (pause, cancel) = (&lifecycle.requests.pause, &lifecycle.requests.cancel);
        let optional = [
            &self.command,
            &self.cwd,
            &self.worktree,
            &self.progress.step,
            &self.progress.phase,
            &self.steps.newest,
            &self.items.newest,
            &lifecycle.requests.resume,
        ];
        let state = match &lifecycle.state {
            SessionState::Created | SessionState::Running { .. } => "",
            SessionState::Paused { reason } => reason.text(),
            SessionState::Completed { summary } => summary.message.as_deref().unwrap_or_default(),
            SessionState::Failed { error } => &error.message,
            SessionState::Cancelled { reason } => reason,
        };
        let owners = [&self.creator, &lifecycle.owner];
        let owners =
            owners.into_iter().flatten().flat_map(|owner| [&owner.host, &owner.machine, &owner.boot]);
        let texts = [state, &self.name, &self.operation]
            .into_iter()
            .chain(optional.into_iter().flatten().map(String::as_str))
            .chain(pause.iter().flat_map(|pause| [pause.reason.as_str(), &pause.by]))
            .chain(cancel.iter().flat_map(|cancel| [cancel.reason.as_str(), &cancel.by]))
            .chain(owners.map(String::as_str))
            .chain(self.waits.oldest.iter().map(|question| question.name.as_str()))
            .chain(self.place.iter().flat_map(WorktreePlace::texts))
            .chain(self.labels.iter().flat_map(|(key, value)| [key.as_str(), value]));
        texts.map(written).sum()
    }

    fn is_within_limit(&self) -> bool {
        let mut counter = Counter(0);
        let size = self.serialize(&mut serde_json::Serializer::new(&mut counter)).map(|()| counter.0);
        size.is_ok_and(|size| size <= HEAD_BYTES)
    }
}

/// Returns the number of bytes of a text inside a JSON string. The texts of a head have no control characters.
fn written(text: &str) -> usize {
    text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

type Cut = fn(&mut Head, usize);

/// The texts that are cut further, in this order. Names, labels and owners are compared with others, and so are the names of
/// questions: the head names fewer of them.
const CUTS: [Cut; 10] = [
    |head, limit| cut_text(&mut head.items.newest, limit),
    |head, limit| cut_text(&mut head.steps.newest, limit),
    |head, limit| {
        if let Some(cancel) = &mut head.lifecycle.requests.cancel {
            cancel.reason = cut(&cancel.reason, limit);
        }
    },
    |head, limit| {
        if let Some(pause) = &mut head.lifecycle.requests.pause {
            pause.reason = cut(&pause.reason, limit);
        }
    },
    |head, limit| match &mut head.lifecycle.state {
        SessionState::Created | SessionState::Running { .. } => {}
        SessionState::Paused { reason } => *reason = reason.shortened(limit),
        SessionState::Completed { summary } => *summary = summary.shortened(limit),
        SessionState::Failed { error } => *error = error.shortened(limit),
        SessionState::Cancelled { reason } => *reason = cut(reason, limit),
    },
    |head, limit| head.place.iter_mut().for_each(|place| place.shorten(limit)),
    |head, limit| cut_text(&mut head.worktree, limit),
    |head, limit| cut_text(&mut head.cwd, limit),
    |head, limit| cut_text(&mut head.command, limit),
    |head, limit| head.waits.oldest.truncate(limit / 32),
];

/// The texts that are cut only if nothing else helps. Progress is what people look for.
const LAST_CUTS: [Cut; 3] = [
    |head, limit| {
        let Requests { pause, resume, cancel, answer: _ } = &mut head.lifecycle.requests;
        let by =
            pause.iter_mut().map(|pause| &mut pause.by).chain(cancel.iter_mut().map(|cancel| &mut cancel.by));
        by.chain(resume).for_each(|by| *by = cut(by, limit));
    },
    |head, limit| cut_text(&mut head.progress.phase, limit),
    |head, limit| cut_text(&mut head.progress.step, limit),
];

fn cut_text(text: &mut Option<String>, limit: usize) {
    *text = text.as_deref().map(|text| cut(text, limit));
}

/// Counts the bytes that are written to it.
struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
