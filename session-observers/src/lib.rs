//! Ready-made observers for `session-core`, one feature each; none is on by default.
//!
//! An observer receives events after they are durable, in order for each session. Delivery belongs to
//! [`ObservableSessionManager`](session_core::ObservableSessionManager): each observer has a bounded queue and a thread
//! of its own, so no observer can delay, stop or crash a session, and each is notified of events that it missed.
//!
//! | feature | observer | for |
//! |---|---|---|
//! | `tracing` | `TracingObserver` | a line in the program's log for each event |
//! | `channel` | `BroadcastObserver` | async code that needs every event |
//! | `channel` | `WatchObserver` | async code that needs the latest event |
//! | `closure` | `ClosureObserver` | any other use, in a line |
//! | `progress` | `ProgressRenderer` | people at a terminal (a bar) and log files (lines) |
//!
//! # `tracing`
//!

// On docs.rs, shows the features that an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(feature = "tracing", doc = "```")]
#![cfg_attr(not(feature = "tracing"), doc = "```ignore")]
//! use std::sync::Arc;
//! use session_core::{ObservableSessionManager, SessionManager};
//! use session_observers::TracingObserver;
//!
//! fn logged(manager: Arc<dyn SessionManager>) -> ObservableSessionManager {
//!     ObservableSessionManager::new(manager).observe("log", Arc::new(TracingObserver::new()))
//! }
//! ```
//!
//! # `channel`
//!
#![cfg_attr(feature = "channel", doc = "```")]
#![cfg_attr(not(feature = "channel"), doc = "```ignore")]
//! use std::num::NonZeroUsize;
//! use std::sync::Arc;
//! use session_core::{ObservableSessionManager, SessionManager};
//! use session_observers::{BroadcastObserver, Notice};
//! use tokio::sync::broadcast::error::RecvError;
//!
//! async fn print_all(manager: Arc<dyn SessionManager>) {
//!     let events = Arc::new(BroadcastObserver::new(NonZeroUsize::MIN.saturating_add(1023)));
//!     let mut notices = events.subscribe();
//!     let manager = ObservableSessionManager::new(manager).observe("events", events);
//!     loop {
//!         match notices.recv().await {
//!             Ok(Notice::Event { context, event }) => println!("{} {}", context.session, event.kind()),
//!             Ok(other) => println!("{other:?}"),
//!             Err(RecvError::Lagged(missed)) => println!("this loop is too slow: {missed} notices missed"),
//!             Err(RecvError::Closed) => break,
//!         }
//!     }
//! #   drop(manager);
//! }
//! ```
//!
//! # `closure`
//!
#![cfg_attr(feature = "closure", doc = "```")]
#![cfg_attr(not(feature = "closure"), doc = "```ignore")]
//! use std::sync::Arc;
//! use session_core::{ObservableSessionManager, SessionEvent, SessionManager};
//! use session_observers::ClosureObserver;
//!
//! fn warned(manager: Arc<dyn SessionManager>) -> ObservableSessionManager {
//!     let observer = ClosureObserver::new(|context, event| {
//!         if let SessionEvent::Failed { error } = event {
//!             eprintln!("session {} failed: {}", context.session, error.message);
//!         }
//!     });
//!     ObservableSessionManager::new(manager).observe("failures", Arc::new(observer))
//! }
//! ```

//!
//! # `progress`
//!
//! Progress is written to the log in the background, so observers receive it with a delay. A renderer therefore reads
//! the session's progress tracker instead.
//!
#![cfg_attr(feature = "progress", doc = "```")]
#![cfg_attr(not(feature = "progress"), doc = "```ignore")]
//! use session_core::{InMemorySessionManager, SessionConfig, SessionManagerExt as _};
//! use session_observers::ProgressRenderer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> session_core::Result<()> {
//! let manager = InMemorySessionManager::new();
//! let report = manager.run(SessionConfig::new("import"), async |session| {
//!     let renderer = ProgressRenderer::stderr();
//!     let work = async {
//!         session.progress().start(3);
//!         for row in ["one", "two", "three"] {
//!             session.progress().complete_step(row);
//!         }
//!     };
//!     tokio::select! {
//!         () = work => renderer.finish(),
//!         () = renderer.follow(session.progress().watch()) => {}
//!     }
//!     Ok(())
//! }).await?;
//! # assert!(report.is_completed());
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "channel")]
mod channel;
#[cfg(feature = "closure")]
mod closure;
#[cfg(feature = "progress")]
mod progress;
#[cfg(feature = "tracing")]
mod trace;

#[cfg(feature = "channel")]
pub use channel::{BroadcastObserver, Notice, WatchObserver};
#[cfg(feature = "closure")]
pub use closure::ClosureObserver;
#[cfg(feature = "progress")]
pub use progress::ProgressRenderer;
pub use session_core;
#[cfg(any(feature = "channel", feature = "progress"))]
pub use tokio;
#[cfg(feature = "tracing")]
pub use trace::TracingObserver;
