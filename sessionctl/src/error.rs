//! Failures of the command: their report on stderr, as text or JSON, and their exit codes.

use std::error::Error;
use std::io;

use serde::Serialize;
use sessionkit::manager::StorageError;
use sessionkit::runner::RunError;
use sessionkit::worktree::{SessionWorktreeError, WorktreeError};
use sessionkit::{ErrorCode, SessionError, SessionId, StoreUrl, text::visible};

use crate::config::ConfigError;
use crate::context::Context;
use crate::json;
use crate::unknown_owner::DECLARE_DEAD;

/// The result of a verb.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// The reason why a verb failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The reader of stdout closed it. Nothing is reported, and the exit code is 0.
    ReaderGone,
    /// A failure that is reported.
    Reported(Box<Details>),
}

/// The details of a reported failure.
#[derive(Debug)]
pub(crate) struct Details {
    code: ErrorCode,
    /// The message, complete by itself.
    message: String,
    /// The causes that the message does not contain, from the nearest to the last.
    causes: Vec<String>,
    /// The session concerned.
    session: Option<SessionId>,
    /// Sessions that the argument may have meant, one line each.
    candidates: Vec<String>,
    /// Arguments of the next command, instead of the default for the error code.
    next: Option<Vec<String>>,
    /// Exit code, instead of the default for the error code.
    exit_code: Option<u8>,
    /// `true` if this user may not use a file of the store.
    denied: bool,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Reported(Box::new(Details {
            code,
            message: message.into(),
            causes: Vec::new(),
            session: None,
            candidates: Vec::new(),
            next: None,
            exit_code: None,
            denied: false,
        }))
    }

    /// Creates a failure about the command's arguments or environment.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// Creates the failure of a write to stdout.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ReaderGone;
        }
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let code = if full { ErrorCode::StorageFull } else { ErrorCode::StorageIo };
        Self::new(code, "cannot write to stdout").map(|details| details.causes.push(error.to_string()))
    }

    /// Creates a failure from an error and its chain of causes.
    pub(crate) fn chain(code: ErrorCode, error: &(dyn Error + 'static)) -> Self {
        let message = error.to_string();
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        Self::new(code, message).map(|details| details.causes = causes)
    }

    /// Sets the session concerned, unless one is set.
    pub(crate) fn about(self, id: SessionId) -> Self {
        self.map(|details| details.session = details.session.or(Some(id)))
    }

    /// Sets the sessions that the argument may have meant.
    pub(crate) fn candidates(self, candidates: Vec<String>) -> Self {
        self.map(|details| details.candidates = candidates)
    }

    /// Sets the arguments of the command to type next.
    pub(crate) fn next(self, words: &[&str]) -> Self {
        self.map(|details| details.next = Some(words.iter().map(ToString::to_string).collect()))
    }

    /// Suggests the command that gives access, if the error is one about permissions.
    pub(crate) fn denied_if(self, error: &(dyn Error + 'static)) -> Self {
        self.map(|details| details.denied = is_denied(error))
    }

    /// Sets the exit code, instead of the default for the error code.
    pub(crate) fn with_exit_code(self, code: u8) -> Self {
        self.map(|details| details.exit_code = Some(code))
    }

    /// Sets the exit code, unless one is set.
    pub(crate) fn or_exit_code(self, code: u8) -> Self {
        self.map(|details| details.exit_code = details.exit_code.or(Some(code)))
    }

    /// Adds a sentence to the message of a failure with this code.
    pub(crate) fn explain(self, code: ErrorCode, sentence: &str) -> Self {
        self.map(|details| {
            if details.code == code {
                details.message = format!("{sentence}: {}", details.message);
            }
        })
    }

    /// Returns the code, if the failure is reported.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::ReaderGone => None,
            Self::Reported(details) => Some(details.code),
        }
    }

    /// Returns the message, if the failure is reported.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::ReaderGone => None,
            Self::Reported(details) => Some(&details.message),
        }
    }

    fn map(mut self, change: impl FnOnce(&mut Details)) -> Self {
        if let Self::Reported(details) = &mut self {
            change(details);
        }
        self
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let code = error.code();
        let failure = Self::chain(code, &error).denied_if(&error);
        if let SessionError::Storage(StorageError::StoreDamaged { .. }) = error {
            return failure.next(&["verify", "--repair"]);
        }
        let may_be_dead = matches!(error, SessionError::Owned { proven: false, .. });
        let failure = if may_be_dead { failure.next(&DECLARE_DEAD) } else { failure };
        match session_of(&error) {
            Some(id) => failure.about(id),
            None => failure,
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Session(error) => error.into(),
            RunError::Launch { session, .. } => {
                let failure = Self::chain(error.code(), &error)
                    .with_exit_code(u8::try_from(error.exit_code()).unwrap_or(125));
                session.into_iter().fold(failure, Self::about)
            }
            RunError::NoProgram { id } => {
                Self::chain(error.code(), &error).about(id).next(&["show", &id.to_string()])
            }
            RunError::Place { session, ref error } => {
                let id = session.to_string();
                let failure = Self::chain(error.code, error).about(session);
                if error.code == ErrorCode::WorktreeGone {
                    failure.next(&["worktree", "restore", &id])
                } else {
                    failure.next(&["why", &id])
                }
            }
            error => Self::chain(error.code(), &error),
        }
    }
}

impl From<WorktreeError> for Failure {
    fn from(error: WorktreeError) -> Self {
        Self::chain(error.code(), &error)
    }
}

impl From<SessionWorktreeError> for Failure {
    fn from(error: SessionWorktreeError) -> Self {
        match error {
            SessionWorktreeError::Session(error) => error.into(),
            SessionWorktreeError::Worktree(error) => error.into(),
            error => Self::chain(error.code(), &error),
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        SessionError::from(error).into()
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::chain(ErrorCode::InvalidArgument, &error).next(&["config", "--help"])
    }
}

/// Returns `true` if the system refused an access. An error that shows its cause itself has only that cause's source.
pub(crate) fn is_denied(error: &(dyn Error + 'static)) -> bool {
    if let Some(SessionError::Storage(error)) = error.downcast_ref() {
        return is_denied(error);
    }
    match error.downcast_ref() {
        Some(StorageError::Unavailable { source: Some(cause), .. }) => cause
            .downcast_ref::<io::Error>()
            .is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied),
        _ => false,
    }
}

fn session_of(error: &SessionError) -> Option<SessionId> {
    // Most kinds concern no single session.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a new kind without a session here only loses a hint")]
    match error {
        SessionError::Transition { id, .. }
        | SessionError::Fenced { id, .. }
        | SessionError::Owned { id, .. }
        | SessionError::Contended { id }
        | SessionError::Payload { id, .. }
        | SessionError::Failed { id, .. }
        | SessionError::Unfinished { id, .. }
        | SessionError::StillRunning { id, .. }
        | SessionError::Storage(
            StorageError::Conflict { id, .. }
            | StorageError::OutcomeUnknown { id, .. }
            | StorageError::Corrupt { id, .. }
            | StorageError::Invalid { id, .. },
        ) => Some(*id),
        _ => None,
    }
}

/// The meaning of a verb's exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCodes {
    /// The command's own: one for each kind of failure.
    Own,
    /// The child's: 2 for wrong usage and 125 for all failures that are not an exit of the child.
    Child,
}

impl ExitCodes {
    pub(crate) fn of(self, code: ErrorCode) -> u8 {
        match (self, code) {
            (Self::Own, code) => code.exit_code(),
            (Self::Child, ErrorCode::InvalidArgument) => 2,
            (Self::Child, _) => 125,
        }
    }
}

#[derive(Serialize)]
struct JsonError<'a> {
    schema: u32,
    error: JsonDetails<'a>,
}

#[derive(Serialize)]
struct JsonDetails<'a> {
    code: &'static str,
    message: &'a str,
    causes: &'a [String],
    session: Option<SessionId>,
    candidates: &'a [String],
    advice: &'static str,
    next: String,
    exit_code: u8,
}

/// Prints a failure to stderr and returns the exit code.
pub(crate) fn print(failure: &Failure, verb: &str, exit_codes: ExitCodes, context: &Context) -> u8 {
    let Failure::Reported(details) = failure else { return 0 };
    let exit_code = details.exit_code.unwrap_or_else(|| exit_codes.of(details.code));
    let next = next(details, verb, context);
    if context.term.json {
        let Details { code, message, causes, session, candidates, .. } = &**details;
        let error = JsonDetails {
            code: code.as_str(),
            message,
            causes,
            session: *session,
            candidates,
            advice: code.advice(),
            next,
            exit_code,
        };
        context.term.print_stderr(&json::line(&JsonError { schema: json::SCHEMA, error }));
        return exit_code;
    }
    let term = &context.term;
    let chain =
        [&details.message].into_iter().chain(&details.causes).map(|part| visible(part)).collect::<Vec<_>>();
    let mut lines = vec![format!("{} {} [{}]", term.bad("error:"), chain.join(": "), details.code)];
    lines.extend(details.candidates.iter().map(|candidate| format!("  {}", visible(candidate))));
    lines.push(format!("  {}", details.code.advice()));
    lines.push(format!("{} {next}", term.faint("next:")));
    term.print_stderr(&lines.join("\n"));
    exit_code
}

/// Returns the command to type next.
fn next(details: &Details, verb: &str, context: &Context) -> String {
    if let Some(args) = &details.next {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        return context.command(&args);
    }
    if details.denied
        && let Some(path) = context.url().as_ref().ok().and_then(StoreUrl::path)
        && let Some(command) = crate::permission::command(path, details.session)
    {
        return command;
    }
    let id = details.session.map(|id| id.to_string());
    let id = id.as_deref();
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "for all other codes the next step is to show the session, or to list all sessions"
    )]
    match details.code {
        ErrorCode::MaxSessions => context.command(&["ls"]),
        ErrorCode::StorageUnavailable | ErrorCode::Closed => context.store_command("ls -ld"),
        ErrorCode::SystemLimit => "ulimit -a".to_owned(),
        ErrorCode::StorageFull => context.store_command("df -h"),
        ErrorCode::StorageIo => context.command(&["verify"]),
        ErrorCode::Corrupt | ErrorCode::InvalidLog => match id {
            Some(id) => context.command(&["verify", id]),
            None => context.command(&["verify"]),
        },
        ErrorCode::UnsupportedFormat => context.command(&["--version"]),
        ErrorCode::InvalidArgument | ErrorCode::LimitExceeded => context.command(&[verb, "--help"]),
        _ => match id {
            Some(id) => context.command(&["show", id]),
            None => context.command(&["ls", "--all"]),
        },
    }
}
