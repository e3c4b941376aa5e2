//! A client in memory, and the program of its session.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use session_core::Session;
use session_workflow::protocol::FileIdentity;
use session_workflow::server::{EndedProcesses, Program, serve};
use tokio::io::{
    AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf, split,
};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Only a failing test waits for so long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A program that takes note of what is ended.
#[derive(Debug)]
pub(crate) struct TestProgram {
    pub(crate) is_stopped: AtomicBool,
    pub(crate) ended: Mutex<Vec<String>>,
    /// A permit for each time that processes can be ended.
    pub(crate) endings: Semaphore,
}

impl TestProgram {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            is_stopped: AtomicBool::new(false),
            ended: Mutex::default(),
            endings: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    /// Creates a program whose processes are ended only with a permit.
    pub(crate) fn slow() -> Arc<Self> {
        Arc::new(Self {
            is_stopped: AtomicBool::new(false),
            ended: Mutex::default(),
            endings: Semaphore::new(0),
        })
    }

    pub(crate) fn ended(&self) -> Vec<String> {
        self.ended.lock().unwrap().clone()
    }
}

#[async_trait]
impl Program for TestProgram {
    async fn end_processes(&self, variable: &str, _spare_separate: bool) -> EndedProcesses {
        self.endings.acquire().await.unwrap().forget();
        self.ended.lock().unwrap().push(variable.to_owned());
        EndedProcesses::default()
    }

    async fn is_stopped(&self, _exit_code: Option<i32>, _signal: Option<i32>) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    fn is_own_output(&self, _file: FileIdentity) -> bool {
        false
    }
}

/// A client of the owner of a session.
pub(crate) struct Client {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    write: WriteHalf<DuplexStream>,
    server: JoinHandle<io::Result<()>>,
}

impl Client {
    /// Connects to the owner.
    pub(crate) fn new(session: &Session) -> Self {
        Self::of_program(session, TestProgram::new())
    }

    pub(crate) fn of_program(session: &Session, program: Arc<TestProgram>) -> Self {
        let (client, owner) = tokio::io::duplex(64 * 1024);
        let session = session.clone();
        let server = tokio::spawn(async move {
            let (read, mut write) = split(owner);
            serve(&session, &*program, Vec::new(), &mut BufReader::new(read), &mut write).await
        });
        let (read, write) = split(client);
        Self { lines: BufReader::new(read).lines(), write, server }
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.write.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn next_line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(TIMEOUT, self.lines.next_line()).await;
        line.expect("the owner sends nothing").unwrap()
    }

    /// Returns the next message and its kind.
    pub(crate) async fn receive(&mut self) -> (String, Value) {
        let line = self.next_line().await.expect("the owner closed the connection");
        let message: serde_json::Map<String, Value> = serde_json::from_str(&line).unwrap();
        message.into_iter().next().unwrap()
    }

    #[track_caller]
    fn check(kind: &str, (found, body): (String, Value)) -> Value {
        assert_eq!(found, kind, "{body}");
        body
    }

    /// Returns the next message, which is of this kind.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        Self::check(kind, self.receive().await)
    }

    /// Expects an error, and returns its code.
    pub(crate) async fn error(&mut self) -> String {
        self.expect("error").await["code"].as_str().unwrap().to_owned()
    }

    /// Expects that the owner ends the connection without another message.
    pub(crate) async fn closed(mut self) {
        assert_eq!(self.next_line().await, None);
        self.server.await.unwrap().unwrap();
    }

    /// Closes the connection, and waits until the owner has dealt with that.
    pub(crate) async fn close(self) {
        let Self { lines, write, server } = self;
        drop((lines, write));
        // It may have met the end of the connection while it wrote.
        let _ = server.await.unwrap();
    }
}
