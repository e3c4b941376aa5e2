//! The state shared by a source and its tokens: a node in the tree of parents and children.
//!
//! The order of steps matters. A cancellation first settles the reason of every node that it reaches, each under its
//! node's lock; then it fires the signals, children before parents; then it runs the callbacks, outside all locks.
//! Invariant: a fired signal has a reason that never changes, and all children of its node have fired (guard:
//! `session-core/src/cancellation/tests.rs::the_first_reason_stays`,
//! `session-core/src/cancellation/tests.rs::a_waiter_woken_by_a_parent_sees_the_children_cancelled`).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken as Signal;

use crate::callback::isolated;

pub(super) type Callback = Box<dyn FnOnce(&str) + Send>;

pub(super) struct Node {
    /// Set once, under the lock of `links`, before `signal` fires.
    reason: OnceLock<Arc<str>>,
    signal: Signal,
    /// A strong reference, while children are weak: an intermediate node without other references still propagates a
    /// cancellation.
    parent: Option<(Arc<Self>, u64)>,
    links: Mutex<Links>,
    timer: OnceLock<AbortHandle>,
}

#[derive(Default)]
struct Links {
    next_key: u64,
    children: HashMap<u64, Weak<Node>>,
    /// In order of registration.
    callbacks: BTreeMap<u64, Callback>,
}

impl Links {
    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }
}

impl Node {
    pub(super) fn root() -> Arc<Self> {
        Arc::new(Self::new(None))
    }

    fn new(parent: Option<(Arc<Self>, u64)>) -> Self {
        Self {
            reason: OnceLock::new(),
            signal: Signal::new(),
            parent,
            links: Mutex::default(),
            timer: OnceLock::new(),
        }
    }

    pub(super) fn child(self: &Arc<Self>) -> Arc<Self> {
        let mut links = self.links();
        let key = links.key();
        let child = Arc::new(Self::new(Some((Arc::clone(self), key))));
        // Linked even if the parent's reason is settled: that cancellation may not have reached the children yet.
        links.children.insert(key, Arc::downgrade(&child));
        drop(links);
        if let Some(reason) = self.reason.get() {
            child.cancel(Arc::clone(reason));
        }
        child
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.signal.is_cancelled()
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.is_cancelled().then(|| self.settled_reason())
    }

    pub(super) async fn cancelled(&self) -> &str {
        self.signal.cancelled().await;
        self.settled_reason()
    }

    fn settled_reason(&self) -> &str {
        self.reason.get().expect("a reason is settled before the signal fires")
    }

    /// Cancels the node with its children. Returns `true` if this call was the first. A concurrent second call repeats
    /// the work, so that the node is cancelled on return, however far the first call has come.
    pub(super) fn cancel(self: &Arc<Self>, reason: Arc<str>) -> bool {
        if self.is_cancelled() {
            return false;
        }
        let mut callbacks = Vec::new();
        let mut first = None;
        // A list instead of recursion: users decide how deep the tree is.
        let mut nodes = vec![(Arc::clone(self), reason)];
        let mut settled = 0;
        while let Some((node, reason)) = nodes.get(settled).cloned() {
            let (won, reason) = node.settle(reason, &mut nodes, &mut callbacks);
            first.get_or_insert(won);
            if let Some(entry) = nodes.get_mut(settled) {
                entry.1 = reason;
            }
            settled += 1;
        }
        for (node, _) in nodes.iter().rev() {
            node.signal.cancel();
        }
        for (reason, callback) in callbacks {
            isolated("cancellation", || callback(&reason));
        }
        first == Some(true)
    }

    /// Settles the reason, unless it is settled, and adds the children to the nodes to be cancelled.
    fn settle(
        &self,
        reason: Arc<str>,
        nodes: &mut Vec<(Arc<Self>, Arc<str>)>,
        callbacks: &mut Vec<(Arc<str>, Callback)>,
    ) -> (bool, Arc<str>) {
        let mut links = self.links();
        let won = self.reason.set(Arc::clone(&reason)).is_ok();
        let reason = self.reason.get().map_or(reason, Arc::clone);
        let children = links.children.values().filter_map(Weak::upgrade);
        nodes.extend(children.map(|child| (child, Arc::clone(&reason))));
        let taken = std::mem::take(&mut links.callbacks);
        drop(links);
        callbacks.extend(taken.into_values().map(|callback| (Arc::clone(&reason), callback)));
        (won, reason)
    }

    /// Registers a callback and returns its key; `None` if it has already run.
    pub(super) fn register(self: &Arc<Self>, callback: Callback) -> Option<u64> {
        let mut links = self.links();
        if let Some(reason) = self.reason.get().cloned() {
            drop(links);
            // The reason is settled but the signal may not have fired: fire it before the callback runs.
            self.cancel(Arc::clone(&reason));
            isolated("cancellation", || callback(&reason));
            return None;
        }
        let key = links.key();
        links.callbacks.insert(key, callback);
        Some(key)
    }

    pub(super) fn unregister(&self, key: u64) {
        let callback = self.links().callbacks.remove(&key);
        // Dropped outside the lock: a value that the callback owns may call back here.
        drop(callback);
    }

    pub(super) fn cancel_after(self: &Arc<Self>, timeout: Duration) {
        let (node, signal) = (Arc::downgrade(self), self.signal.clone());
        let timer = tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(timeout) => {
                    if let Some(node) = node.upgrade() {
                        node.cancel(format!("timed out after {timeout:?}").into());
                    }
                }
                () = signal.cancelled() => {}
            }
        });
        if let Err(second) = self.timer.set(timer.abort_handle()) {
            second.abort();
        }
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn children(&self) -> usize {
        self.links().children.len()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.get() {
            timer.abort();
        }
        if let Some((parent, key)) = &self.parent {
            parent.links().children.remove(key);
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("reason", &self.reason.get()).finish_non_exhaustive()
    }
}
