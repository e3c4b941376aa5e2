//! The state that all handles of a store share: absent, open, or closed for good; and the registry of this process,
//! since sled can open a database only once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;

use session_core::StorageError;
use tokio::sync::{Notify, oneshot};

use crate::error::unavailable;
use crate::format;
use crate::layout::Layout;
use crate::options::SledStorageOptions;
use crate::worker::{CreateIfMissing, Worker};

/// The state that all handles on one folder share.
#[derive(Debug)]
pub(crate) struct Store {
    options: SledStorageOptions,
    pub(crate) layout: Layout,
    state: Mutex<State>,
    /// Held while the store is being opened.
    opening: Mutex<()>,
    pub(crate) changes: Arc<Notify>,
}

#[derive(Debug)]
enum State {
    /// No store existed at the last check.
    Absent,
    Open(Arc<Worker>),
    /// The error of all further requests.
    Closed(StorageError),
}

/// Returns the stores that are open in this process, by folder.
fn registry() -> MutexGuard<'static, HashMap<PathBuf, Weak<Store>>> {
    static STORES: OnceLock<Mutex<HashMap<PathBuf, Weak<Store>>>> = OnceLock::new();
    STORES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Returns the store in a folder: shared if this process has it open already, else opened now. Creates nothing.
    pub(crate) fn open(mut options: SledStorageOptions) -> Result<Arc<Self>, StorageError> {
        let layout = Layout::new(options.path.clone());
        format::identify(&layout, options.purpose)?;
        let path = canonical(&options.path);
        options.path.clone_from(&path);
        let store = {
            let mut stores = registry();
            stores.retain(|_, store| store.strong_count() > 0);
            let existing = stores.get(&path).and_then(Weak::upgrade).filter(|store| !store.is_closed());
            existing.unwrap_or_else(|| {
                let store = Arc::new(Self {
                    layout: Layout::new(path.clone()),
                    options,
                    state: Mutex::new(State::Absent),
                    opening: Mutex::default(),
                    changes: Arc::default(),
                });
                stores.insert(path, Arc::downgrade(&store));
                store
            })
        };
        store.worker(CreateIfMissing::No)?;
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.current().is_err()
    }

    /// Returns the open worker; `None` if there is no store. After a fault of sled this releases the worker, once.
    fn current(&self) -> Result<Option<Arc<Worker>>, StorageError> {
        let mut state = self.lock();
        let closed = match &*state {
            State::Absent => return Ok(None),
            State::Closed(error) => return Err(error.clone()),
            State::Open(worker) => match worker.engine.closed() {
                None => return Ok(Some(Arc::clone(worker))),
                Some(closed) => closed,
            },
        };
        let closed_worker = std::mem::replace(&mut *state, State::Closed(closed.clone()));
        drop(state);
        // Releases the store's lock, so that it can be opened again.
        drop(closed_worker);
        Err(closed)
    }

    /// Returns the open worker, and opens the store if necessary, which blocks.
    fn worker(&self, create_if_missing: CreateIfMissing) -> Result<Option<Arc<Worker>>, StorageError> {
        if let Some(worker) = self.current()? {
            return Ok(Some(worker));
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(worker) = self.current()? {
            return Ok(Some(worker));
        }
        let Some(worker) = Worker::open(&self.options, create_if_missing, &self.changes)? else {
            return Ok(None);
        };
        let worker = Arc::new(worker);
        *self.lock() = State::Open(Arc::clone(&worker));
        Ok(Some(worker))
    }

    /// Returns the same as [`worker`](Self::worker) without blocking the calling thread.
    pub(crate) async fn get(
        self: &Arc<Self>,
        create_if_missing: CreateIfMissing,
    ) -> Result<Option<Arc<Worker>>, StorageError> {
        if let Some(worker) = self.current()? {
            return Ok(Some(worker));
        }
        // The check of a path without a store is short enough to run here.
        if create_if_missing == CreateIfMissing::No
            && format::identify(&self.layout, self.options.purpose)?.is_none()
        {
            return Ok(None);
        }
        let (reply, replied) = oneshot::channel();
        let store = Arc::clone(self);
        let open = move || drop(reply.send(store.worker(create_if_missing)));
        thread::Builder::new().name("session-sled-open".to_owned()).spawn(open).map_err(|error| {
            StorageError::Unavailable {
                what: "cannot start a thread to open the store".to_owned(),
                source: Some(Arc::new(error)),
            }
        })?;
        replied.await.unwrap_or_else(|_| Err(unavailable("the thread that opens the store has ended")))
    }
}

/// Resolves the links in the existing part of a path, so that each store has one path.
fn canonical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest = Vec::new();
    let mut existing = absolute.as_path();
    loop {
        if let Ok(mut canonical) = existing.canonicalize() {
            canonical.extend(rest.iter().rev());
            return canonical;
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name.to_owned());
                existing = parent;
            }
            _ => return absolute,
        }
    }
}
