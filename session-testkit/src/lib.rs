//! The laws of the storage port as a test suite, for anyone who writes a backend.
//!
//! A backend tells how to make an empty store (a [`Harness`]) and runs all laws with one line:
//!
//! ```no_run
//! mod laws {
//!     use session_testkit::{MemorySubject, storage_laws};
//!
//!     storage_laws!(|| async { MemorySubject::default() });
//! }
//! # fn main() {}
//! ```
//!
//! Each law becomes a test under its own name. The list is here ([`LAWS`]), not in the backends: a law that is added
//! reaches all of them. A law that needs what cannot be done to a store, such as cutting its power, is reported as
//! skipped with the reason, on stderr, also by a test run that shows the output of failed tests only.

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
