//! `ask`: asks a question in a script, waits for its answer, and prints it. A client of the session's owner.

use std::io::{self, Write as _};

use sessionkit::workflow::protocol::{Answered, AskMessage, Asked, ClientMessage, ServerMessage, VERSION};

use super::client::{Connection, Named, TROUBLE, answer_line, is_off, socket, unexpected};
use crate::args::Ask;
use crate::error::{Failure, Result};
use crate::render::local_time;

/// Asks a question. Every failure exits with 125.
pub(crate) fn run(args: &Ask) -> Result<u8> {
    let answer = ask(args).map_err(|failure| failure.or_exit_code(TROUBLE))?;
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(format!("{answer}\n").as_bytes()).and_then(|()| stdout.flush());
    written.map(|()| 0).map_err(|error| Failure::output(&error).or_exit_code(TROUBLE))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other message breaks the protocol")]
fn ask(args: &Ask) -> Result<String> {
    let named = Named { verb: "ask", name: &args.name, key: args.key.as_deref() };
    if is_off() {
        return match &args.default {
            Some(default) => {
                named.note("steps are switched off, so that nobody can answer: the default is used");
                Ok(default.clone())
            }
            None => Err(Failure::invalid(format!(
                "{named} has no default, and with SESSIONCTL_STEPS=off nobody can answer it"
            ))),
        };
    }
    let socket = socket(named, std::env::args_os().collect(), "use its default")?;
    let mut connection = Connection::open(&socket, &args.name)?;
    connection.send(&ClientMessage::Ask(Box::new(message(args))))?;
    loop {
        match connection.receive()? {
            ServerMessage::Asked(asked) => named.note(&waits(args, &asked)),
            ServerMessage::Answer(answered) => {
                if let Some(note) = note(&answered) {
                    named.note(&note);
                }
                return Ok(answered.answer);
            }
            _ => return Err(unexpected()),
        }
    }
}

fn message(args: &Ask) -> AskMessage {
    AskMessage {
        version: VERSION,
        name: args.name.clone(),
        key: args.key.clone(),
        question: args.question.clone(),
        choices: args.choices.clone(),
        default: args.default.clone(),
        after_ms: args.after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// Returns the line about a question that waits, with what to type elsewhere.
fn waits(args: &Ask, asked: &Asked) -> String {
    let value = if args.choices.is_empty() { "VALUE".to_owned() } else { args.choices.join("|") };
    let mut line = format!("{} Answer: {}", args.question, answer_line(asked, &value));
    if let Some(key) = &args.key {
        line = format!("{line} --key {}", crate::quoting::quoted(key));
    }
    if let (Some(default), Some(at)) = (&args.default, asked.default_at) {
        line = format!("{line}; without an answer it is `{default}` at {}", local_time(at));
    }
    line
}

/// Returns the line about an answer that did not come from a person just now.
fn note(answered: &Answered) -> Option<String> {
    let Answered { answer, by, default, recorded } = answered;
    // One that a retry took over says so only by its author.
    match (recorded, *default || by == "default") {
        (true, true) => Some(format!("recorded before: `{answer}`, the default")),
        (true, false) => Some(format!("recorded before: `{answer}`, by {by}")),
        (false, true) => Some(format!("nobody answered in time: the default `{answer}` is used")),
        (false, false) => None,
    }
}
