//! Durable steps: parts of a session's work that run once, and never again in a later attempt.
//!
//! [`SessionSteps::step`] runs a closure as a step. [`server`] serves steps of other programs over a connection, with the
//! messages of [`protocol`]; the command `sessionctl step` is its client. Both use the same [`Steps`] of a session, so they
//! mix. [`WorkflowState`] is what a log says about all of it, and [`Inheritance`] what a retry takes over.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod ask;
mod attempt;
mod backoff;
mod decisions;
mod each;
mod each_work;
mod error;
mod fingerprint;
mod idempotency_key;
mod inheritance;
mod inputs;
mod items;
mod names;
pub mod protocol;
mod questions;
pub mod server;
mod sleep;
mod sleeps;
mod start;
mod step;
mod steps;
mod table;
mod workflow_state;

pub use self::answer::{AnswerError, AnswerTo, answer};
pub use self::ask::Ask;
pub use self::backoff::backoffs;
pub use self::decisions::{Decisions, InvalidDecision, OnChange, OnUnknown};
pub use self::each_work::{Each, Item};
pub use self::error::StepError;
pub use self::fingerprint::Fingerprint;
pub use self::idempotency_key::idempotency_key;
pub use self::inheritance::{Inheritance, TakeOver};
pub use self::inputs::digest_input;
pub use self::items::{EachStatus, EachTable, ItemState, ItemStatus};
pub use self::questions::{AskedQuestion, GivenAnswer, QuestionStatus, QuestionTable};
pub use self::sleep::Sleep;
pub use self::sleeps::{SleepStatus, SleepTable};
pub use self::step::{SessionSteps, Step};
pub use self::steps::{BegunStep, OpenStep, RecordedEnd, StepRequest, Steps, ValueReader};
pub use self::table::{StepState, StepStatus, StepTable};
pub use self::workflow_state::{StepRefusal, WorkflowState};
