//! The conversation of a step with the owner of its session.

use std::io;
use std::os::fd::AsFd;

use sessionkit::log::InputFile;
use sessionkit::workflow::protocol::{
    ClientMessage, End, FileIdentity, PART_BYTES, Part, Recorded, Replay, Run, ServerMessage, StepMessage,
    VERSION,
};

use super::command::{Ended, Input, Output};
use crate::args::Step;
use crate::error::Result;
use crate::verb::client::{Connection, DECISIONS, Named, answer_line, unexpected};

/// The owner's answer to a step.
pub(super) enum Begun {
    Run(Run),
    Replay(Replay),
}

/// Returns the message that begins a step.
pub(super) fn message(args: &Step, inputs: Vec<InputFile>) -> ClientMessage {
    let stdout = rustix::fs::fstat(io::stdout().as_fd()).ok();
    ClientMessage::Step(Box::new(StepMessage {
        version: VERSION,
        name: args.name.clone(),
        key: args.key.clone(),
        argv: args.command.clone(),
        input: args.stdin,
        if_unknown: args.if_unknown,
        on_change: args.on_change.unwrap_or_default(),
        keep_failure: args.keep_failure,
        ok: args.ok.clone(),
        timeout_ms: args.timeout.map(millis),
        value: (args.value || args.no_value).then_some(args.value),
        stdout: stdout.map(|file| FileIdentity { device: file.st_dev, inode: file.st_ino }),
        inputs,
        max_age_ms: args.max_age.map(millis),
    }))
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Sends the input of the step that follows: the owner makes the fingerprint from it.
pub(super) fn send_input(connection: &mut Connection, input: &mut Input) -> Result<()> {
    let mut failed = None;
    input.read_parts(|part| {
        failed = connection.send(&ClientMessage::Input(Part(part.to_vec()))).err();
        failed.is_none()
    })?;
    failed.map_or(Ok(()), Err)
}

/// Begins a step. If a person has to decide about it first, it waits, and a line names what to type.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other message breaks the protocol")]
pub(super) fn begin(connection: &mut Connection, args: &Step, message: &ClientMessage) -> Result<Begun> {
    connection.send(message)?;
    loop {
        match connection.receive()? {
            ServerMessage::Run(run) => return Ok(Begun::Run(run)),
            ServerMessage::Replay(replay) => return Ok(Begun::Replay(replay)),
            ServerMessage::Asked(asked) => {
                let line = answer_line(&asked, DECISIONS);
                Named::from(args).note(&format!("was started before, and may have happened; decide: {line}"));
            }
            _ => return Err(unexpected()),
        }
    }
}

/// Returns the next part of a recorded value.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other message breaks the protocol")]
pub(super) fn part(connection: &mut Connection) -> Result<Vec<u8>> {
    match connection.receive()? {
        ServerMessage::Part(Part(bytes)) if !bytes.is_empty() => Ok(bytes),
        _ => Err(unexpected()),
    }
}

/// Reports the end of the command, with its value if it has one, and waits until it is recorded.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other message breaks the protocol")]
pub(super) fn end(connection: &mut Connection, ended: &Ended, value: Option<&Output>) -> Result<Recorded> {
    let mut too_long = false;
    if let Some(output) = value {
        too_long = output.is_too_long();
        for part in output.bytes().chunks(PART_BYTES).filter(|_| !too_long) {
            connection.send(&ClientMessage::Part(Part(part.to_vec())))?;
        }
    }
    connection.send(&ClientMessage::End(End {
        exit_code: ended.exit_code(),
        signal: ended.signal(),
        too_long,
    }))?;
    match connection.receive()? {
        ServerMessage::Recorded(recorded) => Ok(recorded),
        _ => Err(unexpected()),
    }
}
