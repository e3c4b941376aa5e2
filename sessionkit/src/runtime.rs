//! The runtime of `#[sessionkit::main]` and `#[sessionkit::test]`.

/// The flavor of a Tokio runtime.
#[derive(Debug, Clone, Copy)]
pub enum Flavor {
    /// A pool of threads.
    MultiThread,
    /// The calling thread.
    CurrentThread,
}

/// Runs a future on a new runtime.
///
/// # Panics
/// If the runtime cannot be created, as Tokio's attributes do.
pub fn block_on<F: Future>(flavor: Flavor, future: F) -> F::Output {
    let mut builder = match flavor {
        Flavor::MultiThread => tokio::runtime::Builder::new_multi_thread(),
        Flavor::CurrentThread => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build().expect("the runtime can be created").block_on(future)
}
