//! `each`: runs a command once for every item of its input, several at a time. A client of the session's owner, which decides
//! what runs and records it; the commands run here.
//!
//! The socket is read and written by tasks of their own, and the input by a thread: none of them waits for another, however
//! long the input is, however slow the owner, and however much the commands print.

mod channels;
mod items;
mod jobs;
mod owner;
mod plain;
mod signals;

use std::io::{self, Write as _};

use sessionkit::ErrorCode;
use sessionkit::workflow::protocol::{ClientMessage, EachEnd, ItemRun, Part, ServerMessage};

use self::jobs::Jobs;
use self::owner::Owner;
use self::signals::Stops;
use super::client::{DECISIONS, Named, TROUBLE, answer_line, is_off, socket, unexpected};
use super::step::Ended;
use crate::args::Each;
use crate::error::{Failure, Result};

/// The exit code if some items failed, or were not run: that of `xargs`.
const SOME_FAILED: u8 = 123;
/// Questions that are named while they wait.
const MAX_QUESTIONS: usize = 10;

/// Runs an each. Every failure of its own exits with 125.
pub(crate) async fn run(args: &Each) -> Result<u8> {
    each(args).await.map_err(|failure| failure.or_exit_code(TROUBLE))
}

async fn each(args: &Each) -> Result<u8> {
    let owner = if is_off() {
        Owner::plain(args)
    } else {
        let socket = socket(Named::from(args), std::env::args_os().collect(), "run its commands plainly")?;
        Owner::connect(&socket, args).await?
    };
    // Before the first command, so that a signal does not end this process first.
    let stops = Stops::new();
    let jobs = Jobs::new(args, owner.sender());
    let mut client = Client {
        args,
        owner,
        stops,
        jobs,
        input: None,
        items: None,
        stopped_by: None,
        questions: 0,
        failure: None,
    };
    let end = client.run_items().await;
    match (client.failure.take(), client.stopped_by, end) {
        (Some(failure), None, _) => Err(failure),
        (failure, Some(signal), end) => {
            if let (None, Some(end)) = (&failure, &end) {
                client.summarise(end);
                if client.is_done(end) {
                    return client.finish(end).await;
                }
            }
            // A script has to see that a key or a stop ended its command.
            Ended::Signalled(signal).raise();
            Ok(TROUBLE)
        }
        (None, None, Some(end)) => {
            client.summarise(&end);
            client.finish(&end).await
        }
        (None, None, None) => Err(unexpected()),
    }
}

/// An each that runs.
struct Client<'a> {
    args: &'a Each,
    owner: Owner,
    stops: Stops,
    jobs: Jobs<'a>,
    /// The end of the input, or the reason why it cannot be read further; `None` before it is read.
    input: Option<items::InputEnd>,
    /// The number of items in the input, once its end is reached.
    items: Option<u64>,
    /// The signal of a stop.
    stopped_by: Option<i32>,
    /// Questions that were asked.
    questions: usize,
    /// The first failure. No item starts after it.
    failure: Option<Failure>,
}

impl Client<'_> {
    /// Runs items until the owner says that it has ended, or until a failure. Nothing runs on return.
    async fn run_items(&mut self) -> Option<EachEnd> {
        let mut is_open = true;
        while is_open || !self.jobs.is_idle() {
            tokio::select! {
                biased;
                signal = self.stops.next() => {
                    self.stopped_by.get_or_insert(signal);
                    self.jobs.pass_on(signal);
                    self.owner.send(ClientMessage::EachStop {});
                }
                Some(ended) = self.jobs.next_end() => self.jobs.on_end(&ended),
                message = self.owner.receive(), if is_open => match message {
                    Ok(ServerMessage::EachEnd(end)) => {
                        // Their ends are recorded, but not all of them are named.
                        while let Some(ended) = self.jobs.next_end().await {
                            self.jobs.on_end(&ended);
                        }
                        if let Some(end) = items::reached_end_of(&mut self.input) {
                            self.on_input_end(end);
                        }
                        return Some(end);
                    }
                    message => if let Err(failure) = message.and_then(|message| self.on_message(message)) {
                        self.fail(failure);
                        is_open = false;
                    },
                },
                end = items::end_of(&mut self.input) => self.on_input_end(end),
            }
        }
        None
    }

    fn on_input_end(&mut self, end: Result<u64>) {
        match end {
            Ok(count) => self.items = Some(count),
            Err(failure) => {
                self.fail(failure);
                // What runs is recorded first.
                self.owner.send(ClientMessage::EachStop {});
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.jobs.stop();
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "every other message breaks the protocol")]
    fn on_message(&mut self, message: ServerMessage) -> Result<()> {
        match message {
            ServerMessage::Each(each) => {
                if each.changed {
                    Named::from(self.args).note("runs all items again: its command has changed");
                }
                self.jobs.set_run(each.run);
                self.input = Some(items::read(self.args.null, self.owner.take_items())?);
            }
            ServerMessage::Item(item) => self.start(item),
            ServerMessage::Asked(asked) => {
                self.questions += 1;
                if self.questions <= MAX_QUESTIONS {
                    let line = answer_line(&asked, DECISIONS);
                    Named::from(self.args)
                        .note(&format!("an item was started before, and may have happened; decide: {line}"));
                }
            }
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    fn start(&mut self, item: ItemRun) {
        if self.stopped_by.is_some() {
            self.jobs.stop();
        }
        self.jobs.start(item);
    }

    fn is_done(&self, end: &EachEnd) -> bool {
        end.failed == 0 && end.not_run == 0 && self.was_whole(end)
    }

    /// Returns `true` if the owner has received the whole input.
    fn was_whole(&self, end: &EachEnd) -> bool {
        self.items == Some(end.total)
    }

    /// Prints what was done.
    fn summarise(&self, end: &EachEnd) {
        let EachEnd { total, before, done, failed, new, vanished, vanished_names, not_run, .. } = end;
        let note = |text: &str| Named::from(self.args).note(text);
        if *vanished > 0 {
            let more = if usize::try_from(*vanished).is_ok_and(|all| all > vanished_names.len()) {
                ", …"
            } else {
                ""
            };
            let (items, are) = if *vanished == 1 { ("item", "is") } else { ("items", "are") };
            let names = vanished_names.join(", ");
            note(&format!("{vanished} {items} of earlier runs {are} not in the input: {names}{more}"));
        }
        let mut parts = vec![format!("{done} done")];
        let counts = [(before, "recorded before"), (failed, "failed"), (not_run, "not run"), (new, "new")];
        parts.extend(
            counts.iter().filter(|(count, _)| **count > 0).map(|(count, what)| format!("{count} {what}")),
        );
        if !self.was_whole(end) {
            parts.push("the rest of the input not run".to_owned());
        } else if *total == 0 {
            parts = vec!["no items".to_owned()];
        }
        note(&parts.join(", "));
    }

    /// Prints the values, and returns the exit code.
    async fn finish(&mut self, end: &EachEnd) -> Result<u8> {
        if !self.is_done(end) {
            return Ok(SOME_FAILED);
        }
        if end.too_long {
            let text = "all items are done, but their outputs are longer than 16 MiB and were not recorded: do not use --values";
            Named::from(self.args).note(text);
            return Ok(TROUBLE);
        }
        let mut left = end.value_bytes.unwrap_or(0);
        let mut stdout = io::stdout().lock();
        while left > 0 {
            let ServerMessage::Part(Part(part)) = self.owner.receive().await? else {
                return Err(unexpected());
            };
            left = left.saturating_sub(part.len() as u64);
            if let Err(error) = stdout.write_all(&part) {
                if error.kind() == io::ErrorKind::BrokenPipe {
                    Ended::Signalled(rustix::process::Signal::PIPE.as_raw()).raise();
                }
                return Err(Failure::new(ErrorCode::StorageIo, format!("cannot write to stdout: {error}")));
            }
        }
        stdout.flush().map_err(|error| Failure::output(&error))?;
        Ok(0)
    }
}
