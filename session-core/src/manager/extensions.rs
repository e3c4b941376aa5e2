//! Values of other crates that belong to the ownership of a session, one of each type.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Values by their type.
#[derive(Default)]
pub(crate) struct Extensions {
    values: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extensions").finish_non_exhaustive()
    }
}

impl Extensions {
    /// Returns the value of this type, which the first call creates.
    pub(crate) fn get_or_create<T: Send + Sync + 'static>(&self, create: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let known = values.get(&TypeId::of::<T>()).map(Arc::clone).and_then(|known| known.downcast().ok());
        known.unwrap_or_else(|| {
            let value = Arc::new(create());
            let shared: Arc<dyn Any + Send + Sync> = Arc::clone(&value) as _;
            values.insert(TypeId::of::<T>(), shared);
            value
        })
    }
}
