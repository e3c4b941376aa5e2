//! A plain run of the items, without a session: the orders that an owner would give, and no record.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use sessionkit::limits::VALUE_BYTES;
use sessionkit::workflow::backoffs;
use sessionkit::workflow::protocol::{
    ClientMessage, EachEnd, EachMessage, EachRun, ItemEnded, ItemPart, ItemRun, PART_BYTES, Part,
    ServerMessage,
};
use tokio::time::Instant;

use super::channels::Channels;

/// Answers a client as an owner without records does.
pub(super) async fn serve(each: EachMessage, mut channels: Channels) {
    let send = |message| channels.replies.send(Ok(message)).is_ok();
    let mut items = Items { each, ..Items::default() };
    if !send(ServerMessage::Each(EachRun::default())) {
        return;
    }
    loop {
        while let Some(item) = items.next_order() {
            send(ServerMessage::Item(item));
        }
        if items.has_ended() {
            break;
        }
        let message = tokio::select! {
            message = channels.messages.recv() => message,
            message = channels.items.recv(), if items.needs_input() => message,
            () = items.retry_is_due() => continue,
        };
        let Some(message) = message else { return };
        items.on_message(message);
    }
    let (end, values) = items.end();
    send(ServerMessage::EachEnd(end));
    for part in values.chunks(PART_BYTES) {
        send(ServerMessage::Part(Part(part.to_vec())));
    }
}

/// The items of a plain run.
#[derive(Default)]
struct Items {
    each: EachMessage,
    total: u64,
    pending: VecDeque<(u64, Vec<u8>)>,
    delayed: Vec<(Instant, u64, Vec<u8>)>,
    open: HashMap<u64, Vec<u8>>,
    tries: HashMap<u64, usize>,
    values: BTreeMap<u64, Vec<u8>>,
    done: u64,
    failed: u64,
    input_has_ended: bool,
    is_stopped: bool,
}

impl Items {
    fn may_begin(&self) -> bool {
        !self.is_stopped && self.each.max_failures.is_none_or(|limit| self.failed < limit)
    }

    /// Returns `true` if an item is missing: the others of the input are read when they can run.
    fn needs_input(&self) -> bool {
        !self.input_has_ended && self.may_begin() && self.pending.is_empty()
    }

    fn has_ended(&self) -> bool {
        let is_done = self.input_has_ended && self.pending.is_empty() && self.delayed.is_empty();
        self.open.is_empty() && (is_done || !self.may_begin())
    }

    fn next_order(&mut self) -> Option<ItemRun> {
        let now = Instant::now();
        let due = self.delayed.extract_if(.., |(at, ..)| *at <= now).map(|(_, item, arg)| (item, arg));
        self.pending.extend(due);
        if !self.may_begin() || self.open.len() >= self.each.jobs {
            return None;
        }
        let (item, arg) = self.pending.pop_front()?;
        self.open.insert(item, arg.clone());
        Some(ItemRun { item, arg, key: String::new() })
    }

    async fn retry_is_due(&self) {
        match self.delayed.iter().map(|(at, ..)| *at).min() {
            // One that is due already waits for a free slot.
            Some(at) if self.may_begin() && at > Instant::now() => tokio::time::sleep_until(at).await,
            _ => std::future::pending().await,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "this client sends no other message")]
    fn on_message(&mut self, message: ClientMessage) {
        match message {
            ClientMessage::Items(items) => {
                for item in items {
                    self.total += 1;
                    self.pending.push_back((self.total, item.into_vec()));
                }
            }
            ClientMessage::ItemsEnd {} => self.input_has_ended = true,
            ClientMessage::EachStop {} => self.is_stopped = true,
            ClientMessage::ItemPart(ItemPart { item, part: Part(bytes) }) => {
                self.values.entry(item).or_default().extend(bytes);
            }
            ClientMessage::ItemEnd(end) => self.end_item(end),
            _ => {}
        }
    }

    fn end_item(&mut self, ItemEnded { item, exit_code, signal }: ItemEnded) {
        let arg = self.open.remove(&item).unwrap_or_default();
        if exit_code == Some(0) {
            self.done += 1;
            return;
        }
        let tries = self.tries.entry(item).or_insert(0);
        *tries += 1;
        let delays = backoffs(Duration::from_millis(self.each.backoff_ms), self.each.retries);
        match delays.into_iter().nth(*tries - 1).filter(|_| signal.is_none()) {
            Some(delay) => self.delayed.push((Instant::now() + delay, item, arg)),
            None => self.failed += 1,
        }
    }

    /// Returns the report, and the values in the order of the input.
    fn end(self) -> (EachEnd, Vec<u8>) {
        let not_run = u64::try_from(self.pending.len() + self.delayed.len()).unwrap_or(u64::MAX);
        let values: Vec<u8> = self.values.into_values().flatten().collect();
        let too_long = values.len() > VALUE_BYTES;
        let has_values = self.each.values && !too_long && self.failed == 0 && not_run == 0;
        let values = if has_values { values } else { Vec::new() };
        let end = EachEnd {
            total: self.total,
            done: self.done,
            failed: self.failed,
            not_run,
            value_bytes: has_values.then_some(values.len() as u64),
            too_long: too_long && self.each.values,
            ..EachEnd::default()
        };
        (end, values)
    }
}
