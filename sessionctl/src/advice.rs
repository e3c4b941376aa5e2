//! Advice on a session that does not continue by itself: which process can run it, and the command to type next.
//!
//! Only the session of a program can be resumed and retried from here. The work of a library is in the program that
//! created it, and an imported session has nothing to run.

use sessionkit::log::{Owner, PersistedSession};
use sessionkit::{SessionEvent, SessionId, SessionManager, SessionState, text::visible};

use crate::unknown_owner::DECLARE_DEAD;

/// The label that an import from an older tool sets.
const IMPORTED: &str = "imported-from";

/// The advice for one session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    /// The process that can run the session and how, if no command here can.
    pub(crate) sentence: Option<String>,
    next: Vec<String>,
}

impl Advice {
    /// Creates the advice to type a verb for a session.
    pub(crate) fn command(verb: &str, id: SessionId) -> Self {
        Self { sentence: None, next: vec![verb.to_owned(), id.to_string()] }
    }

    /// Creates the advice to type these words.
    pub(crate) const fn words(next: Vec<String>) -> Self {
        Self { sentence: None, next }
    }

    /// Creates the advice to declare an owner dead of whom it is not known whether it lives.
    pub(crate) fn declare_dead(sentence: String) -> Self {
        Self { sentence: Some(sentence), next: DECLARE_DEAD.map(str::to_owned).to_vec() }
    }

    /// Appends the sentence to a text about the session.
    pub(crate) fn append_to(&self, text: &str) -> String {
        match &self.sentence {
            Some(sentence) => format!("{text}; {sentence}"),
            None => text.to_owned(),
        }
    }

    /// Returns the arguments of the command to type next.
    pub(crate) fn next(&self) -> Vec<&str> {
        self.next.iter().map(String::as_str).collect()
    }

    /// Returns `true` if the next command continues the session.
    pub(crate) const fn is_command(&self) -> bool {
        self.sentence.is_none()
    }

    /// Returns `true` if the next command runs the program of the session.
    pub(crate) fn runs_program(&self) -> bool {
        self.is_command() && self.next.first().is_some_and(|verb| verb == "retry" || verb == "resume")
    }

    /// Replaces the next command where it cannot continue the session.
    pub(crate) fn or_else(mut self, verb: &str) -> Self {
        if let (Some(_), Some(first)) = (&self.sentence, self.next.first_mut()) {
            verb.clone_into(first);
        }
        self
    }
}

/// Returns the advice for a session without a live owner, or one that has ended.
pub(crate) async fn advise(manager: &dyn SessionManager, id: SessionId) -> Advice {
    match manager.restore_session(id).await {
        Ok(session) => advise_loaded(manager, &session).await,
        // The verb reports the error, or has reported it.
        Err(_) => Advice::command("why", id),
    }
}

/// Returns the same advice for a session that is loaded already.
pub(crate) async fn advise_loaded(manager: &dyn SessionManager, session: &PersistedSession) -> Advice {
    let id = session.head.id;
    if matches!(session.state, SessionState::Completed { .. }) {
        return Advice::command(if session.origin.is_some() { "logs" } else { "events" }, id);
    }
    if session.origin.is_some() {
        return Advice::command(if session.state.is_final() { "retry" } else { "resume" }, id);
    }
    let sentence = match session.config.labels.get(IMPORTED) {
        Some(tool) => imported(session, tool),
        None => library(session, creator(manager, id).await.as_ref()),
    };
    Advice { sentence: Some(sentence), ..Advice::command("why", id) }
}

fn imported(session: &PersistedSession, tool: &str) -> String {
    let tool = visible(tool);
    match &session.state {
        SessionState::Failed { .. } | SessionState::Cancelled { .. } => {
            format!("it was imported from {tool} without a command, so there is nothing to run again")
        }
        SessionState::Created => format!(
            "it was imported from {tool} without a command: a program can start it with `start_session`, `cancel` ends it"
        ),
        SessionState::Running { .. } | SessionState::Paused { .. } | SessionState::Completed { .. } => {
            format!(
                "it was imported from {tool} without a command: a program can resume it with `resume_session`, `cancel` ends it"
            )
        }
    }
}

fn library(session: &PersistedSession, creator: Option<&Owner>) -> String {
    let operation = visible(&session.config.operation);
    let creator = creator.map(|owner| format!(", {}", visible(&owner.to_string()))).unwrap_or_default();
    let program = format!("the program that created it (operation `{operation}`{creator})");
    let key = session.config.idempotency_key.as_deref().map(visible);
    let (verb, call) = match &session.state {
        SessionState::Failed { .. } | SessionState::Cancelled { .. } => ("retries", None),
        SessionState::Created => ("starts", Some("start_session")),
        SessionState::Running { .. } | SessionState::Paused { .. } | SessionState::Completed { .. } => {
            ("resumes", Some("resume_session"))
        }
    };
    match (key, call) {
        (Some(key), _) => format!("{program} {verb} it with `run_or_resume` and the key `{key}`"),
        (None, Some(call)) => format!("only {program} {verb} it, with `{call}`"),
        (None, None) => format!("only {program} can run it again, as a new session"),
    }
}

/// Returns the process that created a session.
async fn creator(manager: &dyn SessionManager, id: SessionId) -> Option<Owner> {
    let first = manager.read_log(id, 0, 1).await.ok()?.first()?.decode().ok()?;
    if let SessionEvent::Created { creator, .. } = first.event { Some(creator) } else { None }
}
