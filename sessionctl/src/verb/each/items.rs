//! The items of an each: the lines of standard input, read by a thread.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt as _;

use sessionkit::ErrorCode;
use sessionkit::workflow::protocol::{ClientMessage, PART_BYTES};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Failure, Result};
use crate::verb::client::item_name;

/// Bytes of items in one message. A longer item is sent alone.
const BATCH_BYTES: usize = 64 * 1024;
/// Maximum bytes of an item.
const ITEM_BYTES: usize = PART_BYTES;

/// The number of items, once the end of the input is reached. It is known before the owner hears of the end.
pub(super) type InputEnd = oneshot::Receiver<Result<u64>>;

/// Starts to read the standard input, and to send its items.
///
/// # Errors
/// If no thread can be started.
pub(super) fn read(null: bool, to: mpsc::Sender<ClientMessage>) -> Result<InputEnd> {
    let (end, input_end) = oneshot::channel();
    let read = move || {
        let mut items = Items::new(null, |batch| to.blocking_send(batch).is_ok());
        let count = items.read(&mut io::stdin().lock());
        let is_whole = matches!(count, Ok(Some(_)));
        // The other side is gone once the each has ended.
        if let Some(count) = count.transpose() {
            let _ = end.send(count);
        }
        if is_whole {
            items.end();
        }
    };
    std::thread::Builder::new()
        .name("items".to_owned())
        .spawn(read)
        .map(|_| input_end)
        .map_err(|error| Failure::new(ErrorCode::SystemLimit, format!("cannot start a thread: {error}")))
}

/// Waits for the end of the input, if it is read. It is returned once.
pub(super) async fn end_of(input: &mut Option<InputEnd>) -> Result<u64> {
    let Some(end) = input else { return std::future::pending().await };
    let result = end.await;
    *input = None;
    result.unwrap_or_else(|_| Err(reader_failed()))
}

/// Returns the end of the input if it was reached, and not returned before.
pub(super) fn reached_end_of(input: &mut Option<InputEnd>) -> Option<Result<u64>> {
    let result = input.as_mut()?.try_recv();
    match result {
        Ok(result) => Some(result),
        Err(oneshot::error::TryRecvError::Empty) => None,
        Err(oneshot::error::TryRecvError::Closed) => Some(Err(reader_failed())),
    }
}

fn reader_failed() -> Failure {
    Failure::new(ErrorCode::StorageIo, "the reader of the standard input has failed")
}

/// Divides the input into items, and items into messages.
struct Items<F> {
    end: u8,
    /// The beginning of the next item.
    item: Vec<u8>,
    batch: Vec<OsString>,
    batch_bytes: usize,
    count: u64,
    send: F,
}

impl<F: FnMut(ClientMessage) -> bool> Items<F> {
    const fn new(null: bool, send: F) -> Self {
        let end = if null { 0 } else { b'\n' };
        Self { end, item: Vec::new(), batch: Vec::new(), batch_bytes: 0, count: 0, send }
    }

    /// Reads the whole input, and sends what was read before it waits for more. Returns the number of items; `None` if the other
    /// side is gone.
    fn read(&mut self, input: &mut impl Read) -> Result<Option<u64>> {
        let mut block = vec![0; BATCH_BYTES];
        loop {
            match input.read(&mut block) {
                Ok(0) => break,
                Ok(read) => {
                    if !self.add(block.get(..read).unwrap_or_default())? || !self.send_batch() {
                        return Ok(None);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let text = format!("cannot read the items from standard input: {error}");
                    return Err(Failure::new(ErrorCode::StorageIo, text));
                }
            }
        }
        // The last one needs no end.
        let is_whole = self.item.is_empty() || self.end_item()?;
        Ok((is_whole && self.send_batch()).then_some(self.count))
    }

    /// Sends the end of the input.
    fn end(&mut self) {
        (self.send)(ClientMessage::ItemsEnd {});
    }

    /// Adds a part of the input. Returns `false` once the other side is gone.
    fn add(&mut self, mut part: &[u8]) -> Result<bool> {
        while let Some(end) = part.iter().position(|byte| *byte == self.end) {
            let (item, rest) = part.split_at(end);
            self.item.extend_from_slice(item);
            part = rest.get(1..).unwrap_or_default();
            if !self.end_item()? {
                return Ok(false);
            }
        }
        self.item.extend_from_slice(part);
        self.check_length().map(|()| true)
    }

    fn check_length(&self) -> Result<()> {
        if self.item.len() <= ITEM_BYTES {
            return Ok(());
        }
        let text = format!("item `{}` is longer than 128 KiB", item_name(&self.item));
        Err(Failure::new(ErrorCode::LimitExceeded, text))
    }

    fn end_item(&mut self) -> Result<bool> {
        self.check_length()?;
        let item = std::mem::take(&mut self.item);
        if item.contains(&0) {
            let text = format!(
                "item `{}` has a zero byte, which no argument can have: use --null",
                item_name(&item)
            );
            return Err(Failure::invalid(text));
        }
        let size = item.len() + 1;
        if self.batch_bytes + size > BATCH_BYTES && !self.send_batch() {
            return Ok(false);
        }
        self.batch_bytes += size;
        self.batch.push(OsString::from_vec(item));
        self.count += 1;
        Ok(true)
    }

    fn send_batch(&mut self) -> bool {
        self.batch_bytes = 0;
        self.batch.is_empty() || (self.send)(ClientMessage::Items(std::mem::take(&mut self.batch)))
    }
}

#[cfg(test)]
mod tests {
    use sessionkit::workflow::protocol::{LINE_BYTES, encode};

    use super::*;

    fn read(null: bool, input: &[u8]) -> (Vec<ClientMessage>, Result<Option<u64>>) {
        let mut sent = Vec::new();
        let result = Items::new(null, |message| {
            sent.push(message);
            true
        })
        .read(&mut &*input);
        (sent, result)
    }

    fn items(null: bool, input: &[u8]) -> Vec<Vec<u8>> {
        let (sent, result) = read(null, input);
        let bytes = |message| {
            let ClientMessage::Items(items) = message else { panic!("{message:?}") };
            items.into_iter().map(OsString::into_vec).collect::<Vec<_>>()
        };
        let items: Vec<Vec<u8>> = sent.into_iter().flat_map(bytes).collect();
        assert_eq!(result.unwrap(), Some(items.len() as u64));
        items
    }

    #[test]
    fn every_line_is_an_item() {
        assert_eq!(items(false, b""), Vec::<Vec<u8>>::new());
        assert_eq!(items(false, b"a\n\n b c\xff\nlast"), [&b"a"[..], b"", b" b c\xff", b"last"]);
        assert_eq!(items(false, b"\n"), [b""]);
        assert_eq!(items(true, b"a\nb\0\0c"), [&b"a\nb"[..], b"", b"c"]);
    }

    #[test]
    fn messages_of_items_fit_into_a_line() {
        let mut input = Vec::new();
        for byte in [1, b'"', 0xff, b'a'] {
            input.extend(vec![byte; ITEM_BYTES]);
            input.push(b'\n');
            input.extend(vec![b'\n'; 3 * BATCH_BYTES]);
            input.extend([byte, b'\n'].repeat(3 * BATCH_BYTES));
        }
        let (sent, result) = read(false, &input);
        assert!(result.is_ok() && sent.len() > 4);
        for message in sent {
            assert!(encode(&message).unwrap().len() as u64 <= LINE_BYTES);
        }
    }

    #[test]
    fn an_item_that_no_command_can_have_is_named() {
        let (sent, result) = read(false, b"a\nb\0c\nd\n");
        assert!(format!("{:?}", result.unwrap_err()).contains("has a zero byte"), "{sent:?}");
        let long = [b"short\n", vec![b'x'; ITEM_BYTES + 1].as_slice()].concat();
        let (_, result) = read(false, &long);
        assert!(format!("{:?}", result.unwrap_err()).contains("longer than 128 KiB"));
    }
}
