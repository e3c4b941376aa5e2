//! The terminal of a session.
//!
//! The output of the program reaches the viewers' terminals unchanged, and their input reaches the program. No screen is
//! kept: [`terminal_state`] follows the modes that the program sets and answers its queries while there is no viewer,
//! [`replies`] separates the answers of the viewers' terminals from what a person typed. [`server`] is the thread that
//! reads and writes.

pub(crate) mod attach_socket;
pub(crate) mod client;
pub(crate) mod frame;
pub(crate) mod handle;
mod keyboard;
mod keyboard_input;
mod mode_sequences;
mod modes;
pub(crate) mod notification;
mod parser;
pub(crate) mod pty;
mod queries;
mod recent;
mod replies;
pub(crate) mod server;
mod size_record;
mod terminal_state;
mod viewer;
mod viewers;
