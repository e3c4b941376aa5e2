//! A store as its handles see it: nothing, open, or closed for good; and which of them are open in this process, since sled
//! can be open only once.

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

/// What all handles on one folder share.
#[derive(Debug)]
pub(crate) struct Store {
    options: SledStorageOptions,
    pub(crate) layout: Layout,
    state: Mutex<State>,
    /// Held by whoever opens.
    opening: Mutex<()>,
    pub(crate) changes: Arc<Notify>,
}

#[derive(Debug)]
enum State {
    /// There was no store at the last look.
    Absent,
    Open(Arc<Worker>),
    /// Why nothing can be done any more.
    Closed(StorageError),
}

/// The stores that are open in this process, by their folders.
fn registry() -> MutexGuard<'static, HashMap<PathBuf, Weak<Store>>> {
    static STORES: OnceLock<Mutex<HashMap<PathBuf, Weak<Store>>>> = OnceLock::new();
    STORES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// The store in a folder: the one that is open in this process already, or one that is opened now. Where there is
    /// none, none is made.
    pub(crate) fn open(mut options: SledStorageOptions) -> Result<Arc<Self>, StorageError> {
        let layout = Layout::new(options.path.clone());
        format::detect(&layout)?;
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

    /// What is open; `None` where nothing is. A store that sled failed in is closed here, once.
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
        // Lets go of the store's lock, so that it can be opened anew.
        drop(closed_worker);
        Err(closed)
    }

    /// What is open, once it is; blocks while it is opened.
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

    /// As [`worker`](Self::worker), without blocking whoever awaits it.
    pub(crate) async fn get(
        self: &Arc<Self>,
        create_if_missing: CreateIfMissing,
    ) -> Result<Option<Arc<Worker>>, StorageError> {
        if let Some(worker) = self.current()? {
            return Ok(Some(worker));
        }
        // The look at a path that is no store is short.
        if create_if_missing == CreateIfMissing::No && format::detect(&self.layout)?.is_none() {
            return Ok(None);
        }
        let (reply, replied) = oneshot::channel();
        let store = Arc::clone(self);
        let open = move || drop(reply.send(store.worker(create_if_missing)));
        thread::Builder::new().name("session-sled-open".to_owned()).spawn(open).map_err(|error| {
            StorageError::Unavailable {
                what: "no thread can be started to open the store with".to_owned(),
                source: Some(Arc::new(error)),
            }
        })?;
        replied.await.unwrap_or_else(|_| Err(unavailable("the thread that opens the store has ended")))
    }
}

/// One spelling of a path, as far as it exists.
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
