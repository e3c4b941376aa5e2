//! The output of all programs of a store, as one stream.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use session_core::backend::{EventSink, SessionStorage, SessionStorageExt as _, blocking};
use session_core::{
    Clock as _, ErrorCode, EventContext, RecoveryReport, SessionEvent, SessionFilter, SessionId,
    SessionManager, StorageError, SystemClock, Timestamp,
};
use session_runner::{Chunk, OutputError, OutputStorage};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;

/// Interval of the search for sessions of other processes, and of reads while no program prints.
const POLL: Duration = Duration::from_millis(100);
/// Interval of the search for sessions of other processes that began and ended between two polls. It reads all
/// heads.
const SCAN: Duration = Duration::from_secs(2);
/// Age of the records that a search still reads again.
const OVERLAP: Duration = Duration::from_secs(10);
/// Bytes of one read.
const WINDOW: usize = 64 * 1024;
/// Started sessions that are remembered between two polls; beyond that, a search finds them.
const STARTS: usize = 1024;

/// A piece of output of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutputEvent {
    /// The session.
    pub session: SessionId,
    /// The bytes, with their stream, offset, time and attempt.
    pub chunk: Chunk,
}

/// The reason why output cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputsError {
    /// The sessions of the store cannot be listed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The output of one session cannot be read.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl OutputsError {
    /// Returns the stable error code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Storage(error) => error.code(),
            Self::Output(error) => error.code(),
        }
    }
}

/// The output of all programs of a store, from [`Store::outputs`](crate::Store::outputs) on.
///
/// - The chunks of a session come in order and without gaps, up to the limit of what is stored. Sessions take turns, so
///   that one that prints much hides no other.
/// - Output is read from the store: a slow reader slows down no program, loses nothing, and takes the memory of one read
///   (64 KiB) and some bytes for each active session.
/// - Sessions that this store runs are found as soon as they start, those of other processes within 100 ms, and within
///   2 s if they have ended by then.
#[derive(Debug)]
pub struct Outputs {
    storage: Arc<dyn SessionStorage>,
    output: Arc<dyn OutputStorage>,
    started: Started,
    followed: BTreeMap<SessionId, Followed>,
    /// The session that was read last: the next one takes its turn.
    last: Option<SessionId>,
    ready: VecDeque<OutputEvent>,
    /// Sessions that have ended and were read to their end, with the time of their last record. Only those that a scan
    /// can find again.
    ended: BTreeMap<SessionId, Timestamp>,
    /// Scans find sessions with a record since then.
    since: Timestamp,
    polled: Instant,
    scanned: Instant,
}

/// A session of a list.
struct Listed {
    id: SessionId,
    /// The time of its last record.
    updated: Timestamp,
    ended: bool,
}

/// A session that is followed.
#[derive(Debug, Clone, Copy, Default)]
struct Followed {
    /// The offset of the next byte.
    next: u64,
    /// `true` if its end was seen: what is stored by then is all.
    ended: bool,
    /// `true` after an error: its output is not read any more.
    failed: bool,
}

impl Outputs {
    pub(crate) async fn open(
        storage: Arc<dyn SessionStorage>,
        output: Arc<dyn OutputStorage>,
        started: Started,
    ) -> Result<Self, StorageError> {
        let since = SystemClock.now().before(OVERLAP);
        let now = Instant::now();
        let mut outputs = Self {
            storage,
            output,
            started,
            followed: BTreeMap::new(),
            last: None,
            ready: VecDeque::new(),
            ended: BTreeMap::new(),
            since,
            polled: now,
            scanned: now,
        };
        // In this order: a session that ends in between is followed, from here to its end.
        let active = outputs.list(SessionFilter::active()).await?;
        let recent = outputs.list(SessionFilter::all().updated_since(since)).await?;
        for session in active {
            let next = outputs.length(session.id).await;
            outputs.followed.insert(session.id, Followed { next, ..Followed::default() });
        }
        for session in recent.into_iter().filter(|session| session.ended) {
            if !outputs.followed.contains_key(&session.id) {
                outputs.ended.insert(session.id, session.updated);
            }
        }
        Ok(outputs)
    }

    /// Waits for the next piece of output of any session. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Errors of listing the store's sessions, after which the next call tries again. Errors of reading the output of
    /// one session are returned once; its output is not read any more, and the next call continues with the others.
    ///
    /// # Panics
    /// If the storage of output panics.
    pub async fn next(&mut self) -> Result<OutputEvent, OutputsError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            self.find_own();
            // Also while programs print: a session that always has output does not keep others from being found.
            if self.polled.elapsed() >= POLL {
                self.poll().await?;
            }
            if self.read().await? {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                Ok(id) = self.started.receiver.recv() => self.follow(id),
            }
        }
    }

    /// Follows the sessions that this store has started since the last call.
    fn find_own(&mut self) {
        loop {
            match self.started.receiver.try_recv() {
                Ok(id) => self.follow(id),
                // Polls and scans find the missed ones.
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Follows a session from its first byte, unless it is known.
    fn follow(&mut self, id: SessionId) {
        if !self.ended.contains_key(&id) {
            self.followed.entry(id).or_default();
        }
    }

    /// Finds sessions of other processes, and ends of sessions.
    async fn poll(&mut self) -> Result<(), StorageError> {
        let polled = Instant::now();
        let active = self.list(SessionFilter::active()).await?;
        if self.scanned.elapsed() >= SCAN {
            let now = SystemClock.now();
            let recent = self.list(SessionFilter::all().updated_since(self.since)).await?;
            // Active ones may be newer than the list of active ones; the next poll finds them.
            for session in recent.into_iter().filter(|session| session.ended) {
                self.follow(session.id);
            }
            // Never earlier than before: a clock that was set back must not show old sessions as new ones.
            self.since = self.since.max(now.before(OVERLAP));
            let since = self.since;
            self.ended.retain(|_, at| *at >= since);
            self.scanned = polled;
        }
        for followed in self.followed.values_mut() {
            followed.ended = true;
        }
        for session in active {
            self.followed.entry(session.id).or_default().ended = false;
        }
        let now = SystemClock.now();
        let is_over = |followed: &Followed| followed.ended && followed.failed;
        self.ended.extend(self.followed.iter().filter(|(_, each)| is_over(each)).map(|(id, _)| (*id, now)));
        self.followed.retain(|_, each| !is_over(each));
        self.polled = polled;
        Ok(())
    }

    /// Reads the output of the next session that has some; `false` if none has.
    async fn read(&mut self) -> Result<bool, OutputsError> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.followed.range((after, Bound::Unbounded));
        let others = self.last.map(|last| self.followed.range(..=last));
        let turns: Vec<(SessionId, u64)> = later
            .chain(others.into_iter().flatten())
            .filter(|(_, followed)| !followed.failed)
            .map(|(id, followed)| (*id, followed.next))
            .collect();
        let output = Arc::clone(&self.output);
        let read = move || {
            let mut silent = Vec::new();
            for (id, next) in turns {
                match output.read(id, next, WINDOW) {
                    Ok(page) if page.chunks.is_empty() => silent.push(id),
                    page => return (silent, Some((id, page))),
                }
            }
            (silent, None)
        };
        let (silent, found) = blocking(read).await;
        let now = SystemClock.now();
        for id in silent {
            if self.followed.get(&id).is_some_and(|followed| followed.ended) {
                self.followed.remove(&id);
                self.ended.insert(id, now);
            }
        }
        let Some((id, page)) = found else { return Ok(false) };
        self.last = Some(id);
        match page {
            Ok(page) => {
                if let (Some(followed), Some(last)) = (self.followed.get_mut(&id), page.chunks.last()) {
                    followed.next = last.end();
                }
                self.ready.extend(page.chunks.into_iter().map(|chunk| OutputEvent { session: id, chunk }));
                Ok(true)
            }
            Err(error) => {
                self.followed.entry(id).or_default().failed = true;
                Err(error.into())
            }
        }
    }

    /// Lists the sessions that match, in brief.
    async fn list(&self, filter: SessionFilter) -> Result<Vec<Listed>, StorageError> {
        let mut found = Vec::new();
        let mut pages = self.storage.heads(filter);
        while let Some(page) = pages.next_page().await? {
            found.extend(page.heads.iter().map(|head| Listed {
                id: head.id,
                updated: head.updated_at,
                ended: head.state().is_final(),
            }));
        }
        Ok(found)
    }

    /// Returns the length of a session's output; 0 if it cannot be read, so that reading it reports the error.
    async fn length(&self, id: SessionId) -> u64 {
        let output = Arc::clone(&self.output);
        blocking(move || output.length(id)).await.map_or(0, |length| length.bytes)
    }
}

/// The starts of sessions by the manager of a store.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    sink: OnceLock<Arc<StartSink>>,
}

#[derive(Debug)]
struct StartSink(broadcast::Sender<SessionId>);

/// A receiver of the sessions that start.
#[derive(Debug)]
pub(crate) struct Started {
    receiver: broadcast::Receiver<SessionId>,
    /// Keeps the channel open, also after the store is gone.
    _sink: Arc<StartSink>,
}

impl Starts {
    /// Returns a receiver of the sessions that start from now on. One sink serves all receivers of a store.
    pub(crate) fn subscribe(&self, manager: &dyn SessionManager) -> Started {
        let sink = self.sink.get_or_init(|| {
            let sink = Arc::new(StartSink(broadcast::channel(STARTS).0));
            manager.add_sink(Arc::<StartSink>::clone(&sink));
            sink
        });
        Started { receiver: sink.0.subscribe(), _sink: Arc::clone(sink) }
    }
}

impl EventSink for StartSink {
    fn event(&self, context: &EventContext, event: &Arc<SessionEvent>) {
        if let SessionEvent::Started { .. } = &**event {
            // An error only says that there is no receiver.
            let _ = self.0.send(context.session);
        }
    }

    fn recovered(&self, _: &RecoveryReport) {}

    fn deleted(&self, _: SessionId) {}
}
