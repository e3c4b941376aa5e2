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
use crate::running::{Make, Running};

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
    Open(Arc<Running>),
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
        format::look(&layout)?;
        let path = full(&options.path);
        options.path.clone_from(&path);
        let store = {
            let mut stores = registry();
            stores.retain(|_, store| store.strong_count() > 0);
            let there = stores.get(&path).and_then(Weak::upgrade).filter(|store| !store.is_closed());
            there.unwrap_or_else(|| {
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
        store.running(Make::Nothing)?;
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.now().is_err()
    }

    /// What is open; `None` where nothing is. A store that sled failed in is closed here, once.
    fn now(&self) -> Result<Option<Arc<Running>>, StorageError> {
        let mut state = self.lock();
        let closed = match &*state {
            State::Absent => return Ok(None),
            State::Closed(error) => return Err(error.clone()),
            State::Open(running) => match running.engine.closed() {
                None => return Ok(Some(Arc::clone(running))),
                Some(closed) => closed,
            },
        };
        let ended = std::mem::replace(&mut *state, State::Closed(closed.clone()));
        drop(state);
        // Lets go of the store's lock, so that it can be opened anew.
        drop(ended);
        Err(closed)
    }

    /// What is open, once it is; blocks while it is opened.
    fn running(&self, make: Make) -> Result<Option<Arc<Running>>, StorageError> {
        if let Some(running) = self.now()? {
            return Ok(Some(running));
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = self.now()? {
            return Ok(Some(running));
        }
        let Some(running) = Running::open(&self.options, make, &self.changes)? else { return Ok(None) };
        let running = Arc::new(running);
        *self.lock() = State::Open(Arc::clone(&running));
        Ok(Some(running))
    }

    /// As [`running`](Self::running), without blocking whoever awaits it.
    pub(crate) async fn get(self: &Arc<Self>, make: Make) -> Result<Option<Arc<Running>>, StorageError> {
        if let Some(running) = self.now()? {
            return Ok(Some(running));
        }
        // The look at a path that is no store is short.
        if make == Make::Nothing && format::look(&self.layout)?.is_none() {
            return Ok(None);
        }
        let (answer, answered) = oneshot::channel();
        let store = Arc::clone(self);
        let open = move || drop(answer.send(store.running(make)));
        thread::Builder::new().name("session-sled-open".to_owned()).spawn(open).map_err(|error| {
            StorageError::Unavailable {
                what: "no thread can be started to open the store with".to_owned(),
                source: Some(Arc::new(error)),
            }
        })?;
        answered.await.unwrap_or_else(|_| Err(unavailable("the thread that opens the store has ended")))
    }
}

/// One spelling of a path, as far as it exists.
fn full(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest = Vec::new();
    let mut there = absolute.as_path();
    loop {
        if let Ok(mut full) = there.canonicalize() {
            full.extend(rest.iter().rev());
            return full;
        }
        match (there.parent(), there.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name.to_owned());
                there = parent;
            }
            _ => return absolute,
        }
    }
}
