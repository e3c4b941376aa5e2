//! Connections of a program to its owner that another part of the owner's process serves, such as those of steps.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use rustix::process::Pid;
use session_core::Session;
use session_core::async_trait::async_trait;
use tokio::io::BufReader;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::report::protocol::HandOver;
use crate::report::socket::OtherRequests;
use crate::stops::SharedStops;
use crate::supervisor::leftovers::{self, EndedProcesses};
use crate::supervisor::messages::Ended;

/// A handler of connections to the owner's socket, by the requests that they begin with. It serves as long as it takes.
#[async_trait]
pub trait ConnectionHandler: fmt::Debug + Send + Sync {
    /// Returns `true` if it serves connections that begin with a request of this kind: a JSON object with one member of this
    /// name, on one line of at most 1 MiB.
    fn handles(&self, kind: &str) -> bool;

    /// Returns the variables of its clients that a program must not inherit from a run around it.
    fn variables(&self) -> &[&str];

    /// Serves a connection to its end. The future is dropped when the session's program has ended.
    ///
    /// # Errors
    /// Those of the connection. They are ignored.
    async fn serve(&self, connection: Connection) -> io::Result<()>;
}

/// A connection of a process of the session's program.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connection {
    /// The session.
    pub session: Session,
    /// Its program.
    pub program: ProgramHandle,
    /// The first line, which was read already.
    pub first_line: Vec<u8>,
    /// The requests.
    pub read: BufReader<OwnedReadHalf>,
    /// The responses.
    pub write: OwnedWriteHalf,
}

/// The connections of one session's program, and their handler.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) handler: Arc<dyn ConnectionHandler>,
    pub(crate) session: Session,
    pub(crate) program: ProgramHandle,
}

impl OtherRequests for Connections {
    fn handles(&self, kind: &str) -> bool {
        self.handler.handles(kind)
    }

    fn serve(
        &self,
        session: Option<Pid>,
        connection: HandOver<OwnedReadHalf, OwnedWriteHalf>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let HandOver { line, read, write } = connection;
        let program = self.program.clone().of_client(session);
        let connection = Connection { session: self.session.clone(), program, first_line: line, read, write };
        // An error is a client that closed its connection early.
        Box::pin(async move { drop(self.handler.serve(connection).await) })
    }
}

/// The running program of a session, for the handlers of its connections.
#[derive(Debug, Clone)]
pub struct ProgramHandle {
    stops: SharedStops,
    complete_on_term: bool,
    /// Device and inode of its standard output and standard error, once they are open.
    outputs: Arc<OnceLock<Vec<(u64, u64)>>>,
    /// The session of the client's process.
    session: Option<Pid>,
}

impl ProgramHandle {
    pub(crate) fn new(stops: SharedStops, complete_on_term: bool) -> Self {
        Self { stops, complete_on_term, outputs: Arc::default(), session: None }
    }

    pub(crate) fn set_outputs(&self, outputs: [&impl AsFd; 2]) {
        let identities = outputs.iter().filter_map(|output| rustix::fs::fstat(output).ok());
        // Set once, before the program starts.
        let _ = self.outputs.set(identities.map(|found| (found.st_dev, found.st_ino)).collect());
    }

    /// Returns the handle for a client of this session of the kernel.
    pub(crate) fn of_client(mut self, session: Option<Pid>) -> Self {
        self.session = session;
        self
    }

    /// Ends every process that has a variable (`NAME=value`) in its environment, and their descendants: TERM, and KILL after a
    /// second. With `spare_separate`, those in another session of the kernel than the client are left running.
    pub async fn end_processes(&self, variable: &str, spare_separate: bool) -> EndedProcesses {
        let session = self.session.filter(|_| spare_separate);
        leftovers::end_with_variable(variable.as_bytes(), session).await
    }

    /// Returns `true` if an end of a command of the program, now, is the result of a stop of the session.
    pub async fn is_stopped(&self, ended: Ended) -> bool {
        self.stops.led_to(ended, self.complete_on_term).await
    }

    /// Returns `true` if this file, by device and inode, is the standard output or standard error of the session's program.
    #[must_use]
    pub fn is_output(&self, device: u64, inode: u64) -> bool {
        self.outputs.get().is_some_and(|outputs| outputs.contains(&(device, inode)))
    }
}
