//! Progress of a program: reported through its owner's socket, or in its output.

pub(crate) mod osc;
pub(crate) mod protocol;
mod sender;
pub(crate) mod socket;

pub use self::sender::{ReportError, report, report_detached};
pub use self::socket::sweep_sockets;
