//! Backends of other crates, by the scheme of their URLs. Kept for the whole process: a URL may come from anywhere in
//! it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use session_core::{Result, SessionError, text::visible};

use crate::backend::Backend;
use crate::schemes::claim;
use crate::url::StoreUrl;

type Opening = Pin<Box<dyn Future<Output = Result<Backend>> + Send>>;
type Opener = Arc<dyn Fn(StoreUrl) -> Opening + Send + Sync>;

static OPENERS: RwLock<BTreeMap<String, Opener>> = RwLock::new(BTreeMap::new());

/// Registers a backend, so that this process opens stores by its URLs: `register("mine", …)` and then
/// `open("mine:/srv/sessions")`. Call it at the beginning of `main`.
///
/// The opener is called for each store that is opened. It returns the [`Backend`]: the storage, and where files next to
/// it are. `sessionctl::main` in the same program then works on such stores as on any other, see `examples/own-backend`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sessionkit::Result<()> {
/// use std::sync::Arc;
/// use sessionkit::backend::{Backend, MemoryStorage};
///
/// sessionkit::register("mine", async |url| {
///     let _path = url.path();                                         // Some("/srv/sessions")
///     Ok(Backend::new(Arc::new(MemoryStorage::new())))
/// })?;
/// let manager = sessionkit::open("mine:/srv/sessions").await?;
/// # drop(manager);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `INVALID_ARGUMENT` if the scheme is not of the form `[a-z][a-z0-9+.-]*`, or is taken.
pub fn register<F, Fut>(scheme: &str, open: F) -> Result<()>
where
    F: Fn(StoreUrl) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Backend>> + Send + 'static,
{
    let invalid = |why: &str| SessionError::InvalidArgument {
        what: format!("the scheme `{}` cannot be registered: {why}", visible(scheme)),
    };
    // RFC 3986, without capital letters, so that a scheme has one spelling.
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+.-".contains(c);
    if !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.chars().all(rest) {
        return Err(invalid(
            "it has to begin with a letter from a to z, and has only letters, digits, `+`, `.`, `-`",
        ));
    }
    let mut openers = OPENERS.write().unwrap_or_else(PoisonError::into_inner);
    if !claim(scheme) {
        return Err(invalid("it is taken"));
    }
    openers.insert(scheme.to_owned(), Arc::new(move |url| Box::pin(open(url))));
    Ok(())
}

/// Opens a store of a registered backend.
pub(crate) async fn open(scheme: &str, url: &StoreUrl) -> Result<Backend> {
    let opener = OPENERS.read().unwrap_or_else(PoisonError::into_inner).get(scheme).cloned();
    match opener {
        Some(opener) => opener(url.clone()).await,
        // A value that was built by hand.
        None => Err(SessionError::InvalidArgument {
            what: format!("cannot open {url}: no backend is registered for `{}`", visible(scheme)),
        }),
    }
}
