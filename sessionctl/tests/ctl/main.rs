//! End-to-end tests of the command: every test runs the real binary.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_value,
    reason = "in a test, a missing value is a failure, and copies are cheap"
)]

mod advice;
mod answers;
mod attach_security;
mod backends;
mod background;
mod config;
mod containers;
mod detach;
mod docs;
mod exchange;
mod follow;
mod hostile;
mod inspect;
mod job_pauses;
mod legacy;
mod log_memory;
mod logs;
mod manage;
mod memory;
mod migrate;
mod names;
mod nested;
mod on_ask;
mod outer_terminal;
mod output;
mod pipes;
mod plain;
mod plain_table;
mod progress;
mod pty;
mod pty_comparison;
mod pty_jobs;
mod pty_pair;
mod pty_programs;
mod pty_replay;
mod rejected_args;
mod requests;
mod rounds;
mod run;
mod schema;
mod screen;
mod status;
mod stop_rounds;
mod stops;
mod store_trust;
mod support;
mod terminal;
mod terminal_rounds;
mod tmux;
mod unbuffered;
mod verbs;
mod verify;
mod waiting;
mod worktrees;
