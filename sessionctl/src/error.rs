//! Failures of the command itself: what is told, as text or JSON, and with which exit code.

use std::error::Error;
use std::io;

use serde::Serialize;
use sessionkit::runner::RunError;
use sessionkit::{ErrorCode, SessionError, SessionId, StorageError, text::visible};

use crate::context::Context;
use crate::json;

/// What a verb answers.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a verb did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever reads the output has read enough. That is no failure of anybody's.
    ReaderGone,
    /// Everything else.
    Reported(Box<Details>),
}

/// A failure that somebody is told of.
#[derive(Debug)]
pub(crate) struct Details {
    code: ErrorCode,
    /// What happened, its own part.
    message: String,
    /// Why, from the nearest cause to the last.
    causes: Vec<String>,
    /// The session that it is about.
    session: Option<SessionId>,
    /// What could have been meant, one line each.
    candidates: Vec<String>,
    /// Words of a better next command than the code's own.
    next: Option<Vec<String>>,
    /// A better exit code than the code's own.
    exit: Option<u8>,
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
            exit: None,
        }))
    }

    /// Something that does not fit on the command line.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// The standard output cannot be written to.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ReaderGone;
        }
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let code = if full { ErrorCode::StorageFull } else { ErrorCode::StorageIo };
        Self::new(code, "the standard output cannot be written to")
            .map(|details| details.causes.push(error.to_string()))
    }

    /// An error and what caused it, each once.
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

    /// The session that it is about.
    pub(crate) fn about(self, id: SessionId) -> Self {
        self.map(|details| details.session = details.session.or(Some(id)))
    }

    /// What could have been meant.
    pub(crate) fn candidates(self, candidates: Vec<String>) -> Self {
        self.map(|details| details.candidates = candidates)
    }

    /// The words of the command to type next.
    pub(crate) fn next(self, words: &[&str]) -> Self {
        self.map(|details| details.next = Some(words.iter().map(ToString::to_string).collect()))
    }

    /// The exit code, whatever the code says.
    pub(crate) fn with_exit_code(self, code: u8) -> Self {
        self.map(|details| details.exit = Some(code))
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
        let failure = Self::chain(code, &error);
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
            error => Self::chain(error.code(), &error),
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        SessionError::from(error).into()
    }
}

fn session_of(error: &SessionError) -> Option<SessionId> {
    // Most kinds are about no session, or say so in fields that only they have.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a new kind without a session here only loses a hint")]
    match error {
        SessionError::Transition { id, .. }
        | SessionError::Fenced { id, .. }
        | SessionError::Owned { id, .. }
        | SessionError::Contended { id }
        | SessionError::Payload { id, .. }
        | SessionError::Failed { id, .. }
        | SessionError::Unfinished { id, .. }
        | SessionError::Storage(
            StorageError::Conflict { id, .. }
            | StorageError::OutcomeUnknown { id, .. }
            | StorageError::Corrupt { id, .. }
            | StorageError::Invalid { id, .. },
        ) => Some(*id),
        _ => None,
    }
}

/// How exit codes are to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCodes {
    /// The command's own: one for each kind of failure.
    Own,
    /// A child's: 2 for wrong usage and 125 for whatever is no ending of the child.
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

/// Tells a failure on stderr and returns the exit code.
pub(crate) fn print(failure: &Failure, verb: &str, exit_codes: ExitCodes, context: &Context) -> u8 {
    let Failure::Reported(details) = failure else { return 0 };
    let exit_code = details.exit.unwrap_or_else(|| exit_codes.of(details.code));
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

/// The command to type next.
fn next(details: &Details, verb: &str, context: &Context) -> String {
    if let Some(words) = &details.next {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        return context.command(&words);
    }
    let id = details.session.map(|id| id.to_string());
    let id = id.as_deref();
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "for all other codes a look at the session, or at all of them, is next"
    )]
    match details.code {
        ErrorCode::MaxSessions => context.command(&["ls"]),
        ErrorCode::StorageUnavailable | ErrorCode::Closed => context.store_command("ls -ld"),
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
