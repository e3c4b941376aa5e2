//! Calls into sled, which panics where it does not expect an error: the panic becomes a fault, and is reported by this
//! crate instead of the panic hook, whose text on stderr looks like a crash of the program.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::error::Fault;

/// The prefix of the names of sled's own threads.
const SLED_THREADS: &str = "sled-";

/// The number of panics of sled's threads in this process.
static LOST_THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// `true` while this thread is in a guarded call.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a call into sled. A panic is returned as a fault, and printed nowhere.
pub(crate) fn guard<T>(call: impl FnOnce() -> T) -> Result<T, Fault> {
    install_hook();
    let before = IS_GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    IS_GUARDED.set(before);
    result.map_err(|panic| Fault::panic(&*panic))
}

/// Installs a panic hook that logs the panics of guarded calls and of sled's threads, and passes on all others.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let next = take_hook();
        set_hook(Box::new(move |info| {
            let is_sled = is_sled_thread();
            LOST_THREADS.fetch_add(usize::from(is_sled), Ordering::Relaxed);
            if is_sled || is_guarded() { log(info) } else { next(info) }
        }));
    });
}

fn is_guarded() -> bool {
    // At the end of a thread its variable may be gone.
    IS_GUARDED.try_with(Cell::get).unwrap_or(false)
}

fn is_sled_thread() -> bool {
    thread::current().name().is_some_and(|name| name.starts_with(SLED_THREADS))
}

/// Returns the number of panics of sled's threads so far: the work of each is lost, and what waits for it may wait
/// forever.
pub(crate) fn lost_threads() -> usize {
    LOST_THREADS.load(Ordering::Relaxed)
}

fn log(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let panic = Fault::panic(info.payload());
    tracing::debug!(place, panic = panic.summary(), "sled panicked");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_panics_of_guarded_calls_bypass_the_hook() {
        static PRINTED: AtomicUsize = AtomicUsize::new(0);
        let next = take_hook();
        set_hook(Box::new(move |info| {
            let is_tested =
                info.payload().downcast_ref::<&str>().is_some_and(|text| text.starts_with("tested"));
            PRINTED.fetch_add(usize::from(is_tested), Ordering::Relaxed);
            if !is_tested {
                next(info);
            }
        }));
        let fault = guard(|| panic!("tested inside")).unwrap_err();
        assert_eq!(fault.summary(), "sled panicked: tested inside");
        // Its panic would end the waiting for sled in other tests of this process.
        let thread = thread::Builder::new().name("sled-io-7".to_owned()).spawn(is_sled_thread);
        assert!(thread.unwrap().join().unwrap());
        assert_eq!(PRINTED.load(Ordering::Relaxed), 0);
        assert!(catch_unwind(|| panic!("tested outside")).is_err());
        assert!(guard(|| 7).is_ok());
        assert_eq!(PRINTED.load(Ordering::Relaxed), 1);
    }
}
