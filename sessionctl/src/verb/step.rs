//! `step`: runs a command as a durable step of the session around it. A client of the session's owner, without a runtime:
//! most of its runs only replay a recorded end.

mod command;
mod connection;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::time::Duration;

use sessionkit::ErrorCode;
use sessionkit::log::InputFile;
use sessionkit::text::escape_bytes;
use sessionkit::workflow::protocol::{Recorded, Replay, Run};
use sessionkit::workflow::{backoffs, digest_input};

use self::command::RunningCommand;
pub(super) use self::command::{Ended, ended, keep_signals, launch_code};
use self::connection::Begun;
use super::client::{self, Connection, Named, TROUBLE, is_off};
use crate::args::Step;
use crate::error::{Failure, Result};

/// The exit code after a time limit.
const TIMED_OUT: u8 = 124;

/// Runs a step. Every failure of its own exits with 125, since all other codes are those of commands.
pub(crate) fn run(args: &Step) -> Result<u8> {
    run_step(args).map_err(|failure| failure.or_exit_code(TROUBLE))
}

/// Returns the digests of the input files.
fn digest_inputs(args: &Step) -> Result<Vec<InputFile>> {
    let digest = |path: &std::path::PathBuf| {
        digest_input(path).map_err(|error| {
            let path = escape_bytes(path.as_os_str());
            Failure::new(ErrorCode::InvalidArgument, format!("cannot read the input `{path}`: {error}"))
        })
    };
    args.input.iter().map(digest).collect()
}

fn run_step(args: &Step) -> Result<u8> {
    if is_off() {
        return Err(command::execute(&args.command));
    }
    let words = ["sessionctl", "step", &args.name, "--"].map(OsString::from);
    let line = words.into_iter().chain(args.command.iter().cloned()).collect();
    let socket = client::socket(Named::from(args), line, "run its command plainly")?;
    // Before the standard input is read.
    let mut inputs = Some(digest_inputs(args)?);
    let mut input = command::Input::of(args)?;
    let mut connection = Connection::open(&socket, &args.name)?;
    let mut delays = backoffs(args.backoff, args.retries).enumerate();
    loop {
        // The content at the start of each try.
        let inputs = inputs.take().map_or_else(|| digest_inputs(args), Ok)?;
        let message = connection::message(args, inputs);
        connection::send_input(&mut connection, &mut input)?;
        let run = match connection::begin(&mut connection, args, &message)? {
            Begun::Replay(replay) => return replay_end(args, &mut connection, &replay),
            Begun::Run(run) => run,
        };
        if let Some(why) = &run.why {
            Named::from(args).note(&format!("runs again: {why}"));
        }
        let (ended, recorded, output) = run_command(args, &mut connection, &mut input, &run)?;
        let may_retry = matches!(recorded, Recorded::Failed | Recorded::TimedOut);
        let retry = if may_retry { delays.next() } else { None };
        if let Some((n, delay)) = retry {
            let what =
                if recorded == Recorded::TimedOut { "timed out".to_owned() } else { ended.to_string() };
            Named::from(args).note(&format!(
                "{what}; retry {} of {} in {}",
                n + 1,
                args.retries,
                rounded(delay)
            ));
            std::thread::sleep(delay);
            continue;
        }
        return finish(args, &ended, recorded, &output);
    }
}

/// Runs the command once and records its end.
fn run_command(
    args: &Step,
    connection: &mut Connection,
    input: &mut command::Input,
    run: &Run,
) -> Result<(Ended, Recorded, command::Output)> {
    let mut running = RunningCommand::start(args, input, run)?;
    let output = running.read_output(args.stream);
    let ended = running.wait();
    let has_end =
        ended.exit_code().is_some_and(|code| code == 0 || args.keep_failure || args.ok.contains(&code));
    let recorded = connection::end(connection, &ended, if has_end { Some(&output) } else { None })?;
    Ok((ended, recorded, output))
}

/// Passes the output on, now that the end is recorded, and exits as the command did.
fn finish(args: &Step, ended: &Ended, recorded: Recorded, output: &command::Output) -> Result<u8> {
    if recorded == Recorded::Completed && output.is_too_long() {
        too_long(args);
        return Ok(TROUBLE);
    }
    if !args.stream {
        pass_on(output.bytes())?;
    }
    if recorded == Recorded::TimedOut {
        Named::from(args).note("timed out");
        return Ok(TIMED_OUT);
    }
    if let Ended::NotStarted { code, error } = ended {
        Named::from(args).note(error);
        return Ok(*code);
    }
    // A script has to see that a key or a stop ended its command.
    ended.raise();
    Ok(ended.code())
}

fn replay_end(args: &Step, connection: &mut Connection, replay: &Replay) -> Result<u8> {
    if replay.skipped {
        Named::from(args)
            .note("was started before, and may have happened: it is recorded as done and not run again");
    } else if replay.attempt == 0 {
        Named::from(args)
            .note(&format!("recorded by the session that this one retries ({})", code_of(replay)));
    } else {
        Named::from(args).note(&format!("recorded by attempt {} ({})", replay.attempt, code_of(replay)));
    }
    let mut left = replay.value_bytes.unwrap_or(0);
    while left > 0 {
        let part = connection::part(connection)?;
        left = left.saturating_sub(part.len() as u64);
        pass_on(&part)?;
    }
    if replay.too_long {
        too_long(args);
        return Ok(TROUBLE);
    }
    Ok(u8::try_from(replay.exit_code & 0xff).unwrap_or(TROUBLE))
}

fn code_of(replay: &Replay) -> String {
    format!("exit code {}", replay.exit_code)
}

fn too_long(args: &Step) {
    Named::from(args)
        .note("is done, but its output is longer than 16 MiB and was not recorded: use --no-value");
}

/// Writes to standard output. A reader that is gone ends this process like any other.
fn pass_on(bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ended::Signalled(rustix::process::Signal::PIPE.as_raw()).raise();
            Err(Failure::output(&error))
        }
        written => written.map_err(|error| Failure::output(&error)),
    }
}

fn rounded(delay: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_millis(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
}
