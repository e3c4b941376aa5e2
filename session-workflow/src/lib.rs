//! Durable steps: parts of a session's work that run once, and never again in a later attempt.
//!
//! [`SessionSteps::step`] runs a closure as a step. [`server`] serves steps of other programs over a connection, with the
//! messages of [`protocol`]; the command `sessionctl step` is its client. Both use the same [`Steps`] of a session, so they
//! mix. [`StepTable`] is what a log says about its steps, and [`Inheritance`] what a retry takes over.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod decisions;
mod error;
mod fingerprint;
mod idempotency_key;
mod inheritance;
pub mod protocol;
pub mod server;
mod step;
mod steps;
mod table;

pub use self::decisions::{Decisions, InvalidDecision, OnChange, OnUnknown};
pub use self::error::StepError;
pub use self::fingerprint::Fingerprint;
pub use self::idempotency_key::idempotency_key;
pub use self::inheritance::{Inheritance, TakeOver};
pub use self::step::{SessionSteps, Step, backoffs};
pub use self::steps::{BegunStep, OpenStep, RecordedEnd, StepRequest, Steps, ValueReader};
pub use self::table::{StepRefusal, StepState, StepStatus, StepTable};
