//! The commands of items that run: each is a child, followed by a task that reports its end to the owner.

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::process::Stdio;

use nix::sys::signal::Signal;
use sessionkit::limits::VALUE_BYTES;
use sessionkit::workflow::protocol::{
    ClientMessage, ItemEnded, ItemPart, ItemRun, KEY_VARIABLE, PART_BYTES, Part, RUN_VARIABLE,
};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use super::signals::passed_on;
use crate::args::Each;
use crate::verb::client::{Named, TROUBLE, item_name, shown};
use crate::verb::step::{Ended, ended, keep_signals, launch_code};

/// Failed items that are named.
const MAX_NAMES: usize = 10;
/// The part of an argument that is replaced by the item.
const PLACE: &[u8] = b"{}";

/// The commands that run.
pub(super) struct Jobs<'a> {
    args: &'a Each,
    /// Value of the variable by which the owner finds their processes; empty without an owner.
    run: String,
    sender: mpsc::Sender<ClientMessage>,
    running: JoinSet<ItemResult>,
    /// The items that run.
    names: HashMap<u64, Vec<u8>>,
    /// Items for whose processes the system has no room now.
    waiting: VecDeque<ItemRun>,
    signals: broadcast::Sender<Signal>,
    is_stopped: bool,
    /// Failures of items that may be run again.
    tries: HashMap<u64, usize>,
    failed: usize,
}

/// The end of an item's command.
#[derive(Debug)]
pub(super) struct ItemResult {
    item: u64,
    ended: Ended,
}

impl<'a> Jobs<'a> {
    pub(super) fn new(args: &'a Each, sender: mpsc::Sender<ClientMessage>) -> Self {
        Self {
            args,
            run: String::new(),
            sender,
            running: JoinSet::new(),
            names: HashMap::new(),
            waiting: VecDeque::new(),
            signals: broadcast::channel(4).0,
            is_stopped: false,
            tries: HashMap::new(),
            failed: 0,
        }
    }

    pub(super) fn set_run(&mut self, run: String) {
        self.run = run;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Lets no further command start.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
        self.waiting.clear();
    }

    /// Passes a signal on to all commands that run, if it may have reached this process alone.
    pub(super) fn pass_on(&self, signal: i32) {
        if let Some(signal) = passed_on(signal) {
            // Without commands, nothing receives it.
            let _ = self.signals.send(signal);
        }
    }

    /// Starts the command of an item, or reports that it could not be started.
    pub(super) fn start(&mut self, item: ItemRun) {
        if self.is_stopped {
            // Its start is recorded. It has not happened, so that it is a failure, and not unknown.
            return self.not_started(
                &item,
                TROUBLE,
                "was not started: this each is being stopped".to_owned(),
            );
        }
        match self.spawn(&item) {
            Ok(child) => {
                self.names.insert(item.item, item.arg);
                let (sender, signals) = (self.sender.clone(), self.signals.subscribe());
                self.running.spawn(follow(item.item, child, sender, signals));
            }
            Err(error) if is_full(&error) && !self.running.is_empty() => self.waiting.push_back(item),
            Err(error) => {
                let command = shown(self.args.command.get(..1).unwrap_or_default());
                self.not_started(&item, launch_code(&error), format!("cannot run `{command}`: {error}"));
            }
        }
    }

    fn not_started(&mut self, item: &ItemRun, code: u8, error: String) {
        self.names.insert(item.item, item.arg.clone());
        let (number, sender) = (item.item, self.sender.clone());
        self.running.spawn(async move {
            let ended = Ended::NotStarted { code, error };
            report(number, &ended, &sender).await;
            ItemResult { item: number, ended }
        });
    }

    fn spawn(&self, item: &ItemRun) -> io::Result<Child> {
        let mut words = words(&self.args.command, &item.arg).into_iter();
        let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = std::process::Command::new(program);
        command.args(words).stdin(Stdio::null());
        if !self.run.is_empty() {
            command.env(KEY_VARIABLE, &item.key).env(RUN_VARIABLE, &self.run);
        }
        if self.args.values {
            command.stdout(Stdio::piped());
        }
        keep_signals(&mut command);
        Command::from(command).spawn()
    }

    /// Returns the next end; `None` if nothing runs. The future can be dropped without loss.
    pub(super) async fn next_end(&mut self) -> Option<ItemResult> {
        loop {
            // A task that panics has lost its end: the owner takes that as unknown when the connection closes.
            if let Ok(result) = self.running.join_next().await? {
                return Some(result);
            }
        }
    }

    /// Names an item that has failed, and starts one for which there is room now.
    pub(super) fn on_end(&mut self, ItemResult { item, ended }: &ItemResult) {
        let arg = self.names.remove(item).unwrap_or_default();
        if ended.exit_code() != Some(0) {
            let tries = self.tries.entry(*item).or_insert(0);
            *tries += 1;
            let is_last = *tries > self.args.retries || ended.signal().is_some() || self.is_stopped;
            if is_last {
                self.failed += 1;
                if self.failed <= MAX_NAMES {
                    Named::from(self.args).note(&format!("item `{}` {ended}", item_name(&arg)));
                }
                if self.failed == MAX_NAMES + 1 {
                    Named::from(self.args).note("further items that fail are not named");
                }
            }
        }
        for item in std::mem::take(&mut self.waiting) {
            self.start(item);
        }
    }
}

/// Returns `true` if the system has no room for a further process now.
fn is_full(error: &io::Error) -> bool {
    let full = [nix::errno::Errno::EAGAIN, nix::errno::Errno::EMFILE, nix::errno::Errno::ENFILE];
    error.raw_os_error().is_some_and(|code| full.iter().any(|full| *full as i32 == code))
}

/// Waits for the end of a command, and reports it.
async fn follow(
    item: u64,
    mut child: Child,
    sender: mpsc::Sender<ClientMessage>,
    mut signals: broadcast::Receiver<Signal>,
) -> ItemResult {
    let mut pipe = child.stdout.take();
    let mut block = vec![0; if pipe.is_some() { 16 * 1024 } else { 0 }];
    let mut output = Vec::new();
    let ended = loop {
        tokio::select! {
            Ok(signal) = signals.recv() => send_signal(&child, signal),
            // To its end: until no process holds it, as a shell does.
            read = read(&mut pipe, &mut block), if pipe.is_some() => match read {
                Ok(bytes) if bytes > 0 => {
                    // One byte more than a value may have is enough to know that it is too long.
                    let room = (VALUE_BYTES + 1).saturating_sub(output.len());
                    output.extend(block.iter().take(bytes.min(room)));
                }
                Ok(_) | Err(_) => pipe = None,
            },
            status = child.wait(), if pipe.is_none() => {
                break status.map_or(Ended::Signalled(Signal::SIGKILL as i32), ended);
            }
        }
    };
    if ended.exit_code() == Some(0) {
        for part in output.chunks(PART_BYTES) {
            let part = ItemPart { item, part: Part(part.to_vec()) };
            let _ = sender.send(ClientMessage::ItemPart(part)).await;
        }
    }
    report(item, &ended, &sender).await;
    ItemResult { item, ended }
}

async fn read(pipe: &mut Option<ChildStdout>, block: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(block).await,
        None => Ok(0),
    }
}

/// Sends a signal to a child. Only its task reaps it, so that the id is its own.
fn send_signal(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
    }
}

/// Reports an end. An owner that is gone is noticed where its messages are received.
async fn report(item: u64, ended: &Ended, sender: &mpsc::Sender<ClientMessage>) {
    let end = ItemEnded { item, exit_code: ended.exit_code(), signal: ended.signal() };
    let _ = sender.send(ClientMessage::ItemEnd(end)).await;
}

/// Returns the command of an item: it takes every place that is for it, else it is the last argument.
fn words(command: &[OsString], item: &[u8]) -> Vec<OsString> {
    let mut has_place = false;
    let mut words: Vec<OsString> = command
        .iter()
        .map(|word| {
            let (word, replaced) = replaced(word, item);
            has_place |= replaced;
            word
        })
        .collect();
    if !has_place {
        words.push(OsString::from_vec(item.to_vec()));
    }
    words
}

fn replaced(word: &OsStr, item: &[u8]) -> (OsString, bool) {
    let mut left = word.as_bytes();
    let mut text = Vec::new();
    let mut has_place = false;
    while let Some(at) = left.windows(PLACE.len()).position(|window| window == PLACE) {
        let (before, rest) = left.split_at(at);
        text.extend_from_slice(before);
        text.extend_from_slice(item);
        left = rest.get(PLACE.len()..).unwrap_or_default();
        has_place = true;
    }
    text.extend_from_slice(left);
    (OsString::from_vec(text), has_place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(command: &[&str], item: &str) -> String {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        shown(&words(&command, item.as_bytes()))
    }

    #[test]
    fn an_item_takes_its_places_or_is_the_last_argument() {
        assert_eq!(joined(&["cp", "{}", "to/{}.{}"], "a"), "cp a to/a.a");
        assert_eq!(joined(&["echo", "x"], "a b"), "echo x a b");
        // What an item contains is not replaced again.
        assert_eq!(joined(&["echo", "{}", "{{}}"], "{}"), "echo {} {{}}");
        assert_eq!(joined(&["./{}"], "tool"), "./tool");
    }
}
