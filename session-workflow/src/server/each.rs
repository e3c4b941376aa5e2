//! An `each` of a client: the commands of its items run there, and their records are made here.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::Duration;

use session_core::ItemFailure;
use session_core::limits::{VALUE_BYTES, VALUE_PART_BYTES};
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::sync::mpsc;

use super::client::{Client, can_ask};
use super::program::EndedProcesses;
use super::step::command_line;
use super::wait::asked;
use crate::attempt::Attempt;
use crate::each::{EachReport, EachRequest, ItemEnd, OpenEach};
use crate::error::StepError;
use crate::fingerprint::Fingerprint;
use crate::protocol::{
    ClientMessage, EachEnd, EachMessage, EachRun, ItemEnded, ItemPart, ItemRun, Part, RUN_VARIABLE,
    ServerMessage,
};

/// Messages that are read before what they say is recorded: an input without an end must not hold that up.
const ARRIVED: usize = 64;
/// Most items that may run at a time.
const MAX_JOBS: usize = 10_000;

/// The outputs so far of the items that run.
type Outputs = HashMap<u64, Vec<u8>>;

impl<R, W> Client<'_, '_, R, W>
where
    R: AsyncBufRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    /// Serves an `each`. Returns `false` once the client is gone.
    pub(super) async fn serve_each(mut self, message: EachMessage) -> io::Result<bool> {
        let attempt = Attempt::of(self.session);
        let (questions, mut asked_about) = mpsc::unbounded_channel();
        let values = message.values;
        let request = EachRequest { questions: Some(questions), ..request(message, can_ask(self.session)) };
        let begun = tokio::select! {
            begun = OpenEach::begin(&attempt, self.session, request) => begun,
            gone = self.connection.wait_for_end() => return gone.map(|()| false),
        };
        let mut each = match begun {
            Ok(each) => each,
            Err(error) => return self.connection.send_error(&error).await.map(|()| true),
        };
        let run = format!("{}:{}", self.session.id(), each.start());
        let variable = format!("{RUN_VARIABLE}={run}");
        let started = EachRun { run, done: each.recorded(), changed: each.has_changed() };
        let mut outputs = values.then(HashMap::new);
        let mut outcome = match self.connection.send(&ServerMessage::Each(started)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Stopped::Gone),
        };
        while outcome.is_ok() && !each.has_ended() {
            outcome = self.next_event(&mut each, &mut outputs, &mut asked_about).await;
        }
        match outcome {
            Ok(()) => {}
            Err(Stopped::Refused(error)) => {
                // What runs is left to its client, which ends with this error.
                let sent = self.connection.send_error(&error).await;
                self.abandon(each, &variable).await;
                return sent.map(|()| false);
            }
            Err(Stopped::Gone) => {
                self.abandon(each, &variable).await;
                return Ok(false);
            }
        }
        if let Some(error) = each.error() {
            return self.connection.send_error(&error.clone()).await.map(|()| true);
        }
        self.send_end(&each, values).await.map(|()| true)
    }

    /// Records what has ended, begins what may begin, and waits for the next message or change.
    async fn next_event(
        &mut self,
        each: &mut OpenEach,
        outputs: &mut Option<Outputs>,
        asked_about: &mut mpsc::UnboundedReceiver<session_core::StepIdentity>,
    ) -> Result<(), Stopped> {
        // What has arrived already is in the same record.
        for _ in 0..ARRIVED {
            let Some(message) = self.connection.arrived_message().await? else { break };
            self.on_message(each, outputs, message).await?;
        }
        if each.can_advance() {
            for item in each.advance().await? {
                let order = ItemRun { item: item.number, arg: item.arg, key: item.key.to_string() };
                self.connection.send(&ServerMessage::Item(order)).await?;
            }
            return Ok(());
        }
        if each.has_ended() {
            return Ok(());
        }
        tokio::select! {
            message = self.connection.next_message() => match message? {
                Some(message) => self.on_message(each, outputs, message).await,
                None => Err(Stopped::Gone),
            },
            changed = each.changed() => Ok(changed?),
            Some(question) = asked_about.recv() => {
                let message = asked(&self.session.id().to_string(), &question, None);
                Ok(self.connection.send(&ServerMessage::Asked(message)).await?)
            }
        }
    }

    async fn on_message(
        &mut self,
        each: &mut OpenEach,
        outputs: &mut Option<Outputs>,
        message: ClientMessage,
    ) -> Result<(), Stopped> {
        match message {
            ClientMessage::Items(items) => {
                for item in items {
                    each.add_item(item.into_vec()).await?;
                }
            }
            ClientMessage::ItemsEnd {} => each.end_input(),
            ClientMessage::EachStop {} => each.stop(),
            ClientMessage::ItemPart(ItemPart { item, part: Part(bytes) }) if each.is_running(item) => {
                if let Some(outputs) = outputs {
                    let output = outputs.entry(item).or_default();
                    // One byte more than a value may have is enough to know that it is too long.
                    let room = (VALUE_BYTES + 1).saturating_sub(output.len());
                    output.extend(bytes.iter().take(room));
                }
            }
            ClientMessage::ItemEnd(end) if each.is_running(end.item) => {
                let output =
                    outputs.as_mut().and_then(|outputs| outputs.remove(&end.item)).unwrap_or_default();
                let end = self.item_end(end, output).await;
                each.end_item(end.0, end.1);
            }
            // Of an item that does not run: the client would wait for one that does.
            ClientMessage::ItemPart(_)
            | ClientMessage::ItemEnd(_)
            | ClientMessage::Step(_)
            | ClientMessage::Each(_)
            | ClientMessage::Ask(_)
            | ClientMessage::Sleep(_)
            | ClientMessage::Input(_)
            | ClientMessage::Part(_)
            | ClientMessage::End(_) => return Err(Stopped::Gone),
        }
        Ok(())
    }

    async fn item_end(&self, end: ItemEnded, output: Vec<u8>) -> (u64, ItemEnd) {
        let ItemEnded { item, exit_code, signal } = end;
        if exit_code == Some(0) {
            return (item, ItemEnd::Done(output));
        }
        let unknown =
            signal.is_some() || exit_code.is_none() || self.program.is_stopped(exit_code, signal).await;
        (item, ItemEnd::Failed(ItemFailure { item, exit_code, signal, unknown, error: None }))
    }

    /// Ends the processes of an `each` whose client is gone. Only then is its name free.
    async fn abandon(&self, mut each: OpenEach, variable: &str) {
        each.set_ending();
        each.stop();
        // What its client reported before it went has ended.
        if let Err(error) = each.advance().await {
            tracing::debug!(session = %self.session.id(), %error, "could not record the last ends of items");
        }
        let EndedProcesses { left, separate: _ } = self.program.end_processes(variable, true).await;
        if left.is_empty() {
            each.give_up().await;
        } else {
            let message = format!(
                "processes of `{}`, whose client is gone, cannot be ended: {left:?}",
                each.identity()
            );
            each.keep_open(&message).await;
        }
    }

    async fn send_end(&mut self, each: &OpenEach, has_values: bool) -> io::Result<()> {
        let report = each.report();
        let values = if has_values && report.failed == 0 && report.not_run == 0 && !report.too_long {
            match each.values().await {
                Ok(values) => Some(values.concat()),
                Err(error) => return self.connection.send_error(&error).await,
            }
        } else {
            None
        };
        let EachReport { total, before, done, failed, new, vanished, vanished_names, not_run, too_long } =
            report;
        let value_bytes = values.as_ref().map(|values| u64::try_from(values.len()).unwrap_or(u64::MAX));
        let too_long = too_long && has_values;
        let end = EachEnd {
            total,
            before,
            done,
            failed,
            new,
            vanished,
            vanished_names,
            not_run,
            value_bytes,
            too_long,
        };
        self.connection.send(&ServerMessage::EachEnd(end)).await?;
        for part in values.unwrap_or_default().chunks(VALUE_PART_BYTES) {
            self.connection.send(&ServerMessage::Part(Part(part.to_vec()))).await?;
        }
        Ok(())
    }
}

/// The reason why an `each` is not served to its end.
enum Stopped {
    /// The client is gone, or breaks the protocol.
    Gone,
    Refused(StepError),
}

impl From<io::Error> for Stopped {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<StepError> for Stopped {
    fn from(error: StepError) -> Self {
        Self::Refused(error)
    }
}

fn request(message: EachMessage, can_ask: bool) -> EachRequest {
    EachRequest {
        // An item that was done without its value has none: that is another each.
        fingerprint: Fingerprint::of_command(
            message.argv.iter().map(|argument| argument.as_bytes()),
            message.values.then_some("values"),
        ),
        command: Some(command_line(&message.argv)),
        name: message.name,
        key: message.key,
        on_unknown: message.if_unknown,
        on_change: message.on_change,
        can_ask,
        jobs: message.jobs.clamp(1, MAX_JOBS),
        max_failures: message.max_failures.unwrap_or(u64::MAX).max(1),
        retries: message.retries,
        backoff: Duration::from_millis(message.backoff_ms),
        questions: None,
    }
}
