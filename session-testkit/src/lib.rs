//! A conformance test suite for backends: the laws of the storage port.
//!
//! A backend implements [`Harness`], which creates an empty store, and runs all laws with one line:
//!
//! ```no_run
//! mod laws {
//!     use session_testkit::{MemoryHarness, storage_laws};
//!
//!     storage_laws!(|| async { MemoryHarness::default() });
//! }
//! # fn main() {}
//! ```
//!
//! Each law becomes a test under its own name. The list ([`LAWS`]) is kept here, so that a new law reaches every
//! backend. If a store does not support what a law needs, such as a power loss, the law is reported as skipped with the
//! reason. The report goes directly to stderr, so that it also appears in a test run that hides the output of passed
//! tests.

pub mod faulty_storages;
mod harness;
mod law;
#[doc(hidden)]
pub mod laws;
mod list;
pub mod logs;
mod memory;
pub mod random;
mod tiered;
mod transcript;

pub use harness::{Crash, Damage, Harness, Kept, NotSupported};
pub use law::{Law, LawOutcome, test_law};
pub use list::LAWS;
pub use memory::MemoryHarness;
pub use tiered::TieredHarness;
pub use transcript::compare_backends;
