//! Starts programs as sessions, and runs them again. The `run_loop` module takes over once they run.

mod permit;
mod set_up;

pub use self::permit::RunPermit;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use session_core::backend::{HeldSessionLock, LocalPresence, blocking};
use session_core::{
    Durability, ErrorCode, Liveness, Session, SessionConfig, SessionError, SessionId, SessionManager,
    SessionState,
};
use tokio::sync::watch;

use crate::ask_hook::AskHook;
use crate::command::{Command, Forwarding};
use crate::connection::{ConnectionHandler, Connections, ProgramHandle};
use crate::output::capture::{Capture, CapturedStream, CapturedTerminal};
use crate::output::{
    OutputError, OutputInterceptor, OutputLimits, OutputStorage, OutputStorageExt as _, OutputStream,
    OutputWriter,
};
use crate::prepared::PreparedCommand;
use crate::report::protocol::{DetachedOwner, Refusal, Request, accept_report};
use crate::report::socket::{OtherRequests, ReportSocket};
use crate::run_error::RunError;
use crate::run_loop::RunLoop;
use crate::running::Running;
use crate::stops::SharedStops;
use crate::streams::Streams;
use crate::supervisor::client::{Launch, LaunchError, Orders, launch};
use crate::supervisor::leftovers;
use crate::supervisor::waiting::WaitingSupervisor;
use crate::terminal::pty::{Pty, TerminalSize};
use crate::variables::{ATTEMPT_VARIABLE, SESSION_VARIABLE, SOCKET_VARIABLE, STORE_VARIABLE};
use crate::workplace::{Place, Workplace};

/// Time to wait for another writer of the same output.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// A runner of programs, each as a session of a manager.
#[derive(Clone)]
pub struct Runner {
    manager: Arc<dyn SessionManager>,
    output: Option<Arc<dyn OutputStorage>>,
    locks: Option<LocalPresence>,
    store: Option<String>,
    interceptor: Option<Arc<dyn OutputInterceptor>>,
    viewer: Option<Arc<UnixStream>>,
    connections: Option<Arc<dyn ConnectionHandler>>,
    workplace: Option<Arc<dyn Workplace>>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { manager: _, output, locks, store, interceptor, viewer, connections, workplace } = self;
        f.debug_struct("Runner")
            .field("output", output)
            .field("locks", locks)
            .field("store", store)
            .field("interceptor", interceptor)
            .field("viewer", viewer)
            .field("connections", connections)
            .field("workplace", workplace)
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// Creates a runner for sessions of this manager. Output is forwarded if the command asks for it, and not stored.
    #[must_use]
    pub fn new(manager: &(impl SessionManager + ?Sized)) -> Self {
        let manager = manager.to_shared();
        Self {
            manager,
            output: None,
            locks: None,
            store: None,
            interceptor: None,
            viewer: None,
            connections: None,
            workplace: None,
        }
    }

    /// Stores the output of the programs.
    #[must_use]
    pub fn output(mut self, output: Arc<dyn OutputStorage>) -> Self {
        self.output = Some(output);
        self
    }

    /// Takes a lock for each session and holds it until no process of its program is left, so that a program is never
    /// run again while processes of a former run remain.
    #[must_use]
    pub fn locks(mut self, locks: LocalPresence) -> Self {
        self.locks = Some(locks);
        self
    }

    /// Passes the store's URL to the programs, in [`STORE_VARIABLE`].
    #[must_use]
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.store = Some(url.into());
        self
    }

    /// Serves requests that a program sends to its owner, other than reports, by this handler.
    #[must_use]
    pub fn connections(mut self, handler: Arc<dyn ConnectionHandler>) -> Self {
        self.connections = Some(handler);
        self
    }

    /// Prepares the place in which each program runs by this port.
    #[must_use]
    pub fn workplace(mut self, workplace: Arc<dyn Workplace>) -> Self {
        self.workplace = Some(workplace);
        self
    }

    /// Forwards output through an interceptor that writes to the same place.
    #[must_use]
    pub fn intercept_output(mut self, interceptor: Arc<dyn OutputInterceptor>) -> Self {
        self.interceptor = Some(interceptor);
        self
    }

    /// Connects the first viewer of the terminal that the next program has of its own: the other end of this socket is a
    /// [`ViewerConnection`](crate::ViewerConnection). It misses no output. Later viewers attach by themselves.
    ///
    /// ```no_run
    /// use std::io::Write as _;
    /// use std::os::unix::net::UnixStream;
    ///
    /// use session_core::{InMemorySessionManager, SessionConfig, Terminal};
    /// use session_runner::{Command, Runner, TerminalEnd, ViewerConnection, ViewerEvent, ViewerOptions};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let runner = Runner::new(&InMemorySessionManager::new()).viewer(theirs);
    /// let shell = Command::new("bash").terminal(Some(Terminal::new("xterm-256color", 24, 80)));
    /// let mut running = runner.spawn(SessionConfig::new("shell"), shell).await?;
    ///
    /// // Without a terminal of this process, the viewer only shows, and types what it is given.
    /// let options = ViewerOptions { terminal: None, read_only: false, notice: "" };
    /// let Some(mut viewer) = ViewerConnection::first(ours, options).await? else { return Ok(()) };
    /// viewer.type_input(b"exit\r");
    /// let shown = tokio::spawn(async move {
    ///     while let Some(event) = viewer.next().await {
    ///         match event {
    ///             ViewerEvent::Output(bytes) => std::io::stdout().write_all(&bytes)?,
    ///             ViewerEvent::End(_) => break,
    ///             _ => {}
    ///         }
    ///     }
    ///     viewer.leave().await;
    ///     std::io::Result::Ok(())
    /// });
    /// running.wait().await?;
    /// // The viewers get the rest of the output, and this end.
    /// if let Some(terminal) = running.terminal() {
    ///     terminal.end(TerminalEnd::new(0, false)).await;
    /// }
    /// shown.await??;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn viewer(mut self, viewer: UnixStream) -> Self {
        self.viewer = Some(Arc::new(viewer));
        self
    }

    /// Creates a session for a program and starts it.
    ///
    /// # Errors
    /// If the session cannot be created, or if the program cannot be started; then the session has failed.
    pub async fn spawn(&self, config: SessionConfig, command: Command) -> Result<Running, RunError> {
        let command = command.prepare();
        let id = self.create(config, command.command()).await?;
        let session = self.manager.start_session(id).await?;
        self.run(session, command).await
    }

    /// Creates a session for a program without starting it, for a caller that needs the id before the program prints
    /// anything. After the caller has started the session, [`run`](Self::run) starts the program.
    ///
    /// # Errors
    /// If the session cannot be created.
    pub async fn create(&self, config: SessionConfig, command: &Command) -> Result<SessionId, RunError> {
        self.create_inheriting(config, command, 0).await
    }

    /// Creates a session like [`create`](Self::create) that cannot start before this number of records with inherited steps
    /// was appended.
    ///
    /// # Errors
    /// If the session cannot be created.
    pub async fn create_inheriting(
        &self,
        config: SessionConfig,
        command: &Command,
        records: u64,
    ) -> Result<SessionId, RunError> {
        check_supervisor(command)?;
        let origin = command.origin().map_err(|error| RunError::Launch {
            program: command.shown_program(),
            session: None,
            error: LaunchError::Directory(error),
        })?;
        Ok(self.manager.create_session_inheriting(config, Some(origin), records).await?)
    }

    /// Takes over a session that has not started or whose owner is gone, and runs its program again. `with` may change
    /// input, output and grace period; the program is the one that the session recorded.
    ///
    /// # Errors
    /// `CONFLICT` if its owner is alive or may be; [`RunError::NoProgram`]; otherwise those of [`spawn`](Self::spawn).
    pub async fn resume(
        &self,
        id: SessionId,
        with: impl FnOnce(Command) -> Command,
    ) -> Result<Running, RunError> {
        let stored = self.manager.restore_session(id).await?;
        let command =
            stored.origin.as_ref().and_then(Command::from_origin).ok_or(RunError::NoProgram { id })?;
        let command = with(command);
        check_supervisor(&command)?;
        let command = command.prepare();
        let session = if stored.state == SessionState::Created {
            self.manager.start_session(id).await?
        } else {
            self.manager.resume_session(id).await?
        };
        self.run(session, command).await
    }

    /// Runs a program under a session that this process owns. It starts sooner with a command that was
    /// [prepared](Command::prepare) before the session was created.
    ///
    /// Dropping the future abandons the start. If the program has been started by then, it is ended in the background,
    /// and its session interrupted.
    ///
    /// # Errors
    /// Those of [`spawn`](Self::spawn).
    pub async fn run(
        &self,
        session: Session,
        command: impl Into<PreparedCommand>,
    ) -> Result<Running, RunError> {
        let command = command.into();
        check_supervisor(&command.command)?;
        let permit = self.permit(session).await?;
        let permit = self.set_up(permit, &command.command).await?;
        self.run_with(permit, command).await
    }

    /// Ends the processes that former runs of a session left behind, and returns their number. There are such processes
    /// only if an owner and its supervisor were both killed. Running a session again does this by itself; call it to
    /// end a session whose owner is dead.
    ///
    /// The processes get TERM, and KILL after a second; a supervisor that is still alive does that, and is waited for. Does
    /// nothing while their owner is alive, or may be and its supervisor is.
    ///
    /// # Errors
    /// `CONFLICT` if processes are left after a limited time; errors of the locks. Without [`locks`](Self::locks) no
    /// process is ever found.
    pub async fn end_leftovers(&self, id: SessionId) -> Result<usize, SessionError> {
        let Some(locks) = &self.locks else { return Ok(0) };
        match self.manager.liveness(id).await? {
            Some(Liveness::Alive) => Ok(0),
            // Its supervisor may rightly run.
            Some(Liveness::Unknown { .. }) if locks.session_lock(id).try_acquire()?.is_none() => Ok(0),
            Some(_) | None => leftovers::end_orphan(locks, id).await,
        }
    }

    async fn launch(
        &self,
        session: &Session,
        command: &Command,
        place: Option<Place>,
        supervisor: Option<WaitingSupervisor>,
        lock: Option<HeldSessionLock>,
    ) -> Result<RunLoop, LaunchError> {
        let own = LaunchError::own;
        let writer = match self.writer(session.id(), command.output_limits()).await {
            Ok(writer) => writer,
            Err(error) => {
                // Running without stored output is better than not running.
                let data = serde_json::json!({ "bytes": null, "reason": crate::chain(&error) });
                if let Err(error) = session.note("session.output_lost", data, Durability::Buffered).await {
                    tracing::warn!(session = %session.id(), %error, "could not record that output is not stored");
                }
                None
            }
        };
        let (orders, orders_of_program) = watch::channel(None);
        let reporting = session.clone();
        let handler = move |request| on_request(reporting.clone(), orders_of_program.clone(), request);
        let stops = SharedStops::default();
        let program = ProgramHandle::new(stops.clone(), command.complete_on_term);
        let others = self.connections.as_ref().map(|handler| {
            let (handler, session, program) = (Arc::clone(handler), session.clone(), program.clone());
            Arc::new(Connections { handler, session, program }) as Arc<dyn OtherRequests>
        });
        let socket = ReportSocket::listen(handler, others).map_err(own)?;
        // Variables that were set for the command come last, so that they hold.
        let (mut env, completion) =
            place.map_or_else(Default::default, |place| (place.variables, place.completion));
        env.extend(command.variables());
        env.extend(self.variables(session, &socket));
        let Streams { stdin, stdout, stderr, captured, terminal } =
            Streams::open(command).map_err(own)?.with_terminal(command)?;
        program.set_outputs([&stdout, &stderr]);
        let copy = |(stream, read): &(OutputStream, OwnedFd)| Ok((stream.place(), read.try_clone()?));
        let mut outputs = captured.iter().map(copy).collect::<io::Result<Vec<_>>>().map_err(own)?;
        if let Some(pty) = &terminal {
            outputs.push((OutputStream::Terminal.place(), pty.master.try_clone().map_err(own)?));
        }
        let (master, slave) = terminal.map(|Pty { master, slave }| (master, slave)).unzip();
        let device =
            slave.as_ref().and_then(|slave| rustix::fs::fstat(slave).ok()).map(|found| found.st_rdev);
        let order = Launch {
            argv: command.argv.clone(),
            cwd: command.directory().map_err(LaunchError::Directory)?,
            env,
            stdin,
            stdout,
            stderr,
            outputs,
            terminal: slave,
            lock: lock.map(|lock| lock.into_file().into()),
            own_session: command.own_session,
            umask: command.umask,
            socket: Some(socket.path().to_owned()),
        };
        let supervised = launch(order, supervisor).await?;
        orders.send_replace(Some(supervised.orders.clone()));
        let streams = captured.into_iter().map(|(stream, pipe)| self.captured_stream(stream, pipe, command));
        let streams = streams.collect::<io::Result<Vec<_>>>().map_err(own)?;
        let terminal = match master {
            Some(master) => Some(CapturedTerminal {
                session: session.id(),
                size: TerminalSize::of(&master),
                recorded_size: session
                    .origin()
                    .filter(|_| session.attempt() == 1)
                    .and_then(|origin| origin.terminal.as_ref())
                    .map(|terminal| TerminalSize { rows: terminal.rows, columns: terminal.columns }),
                master,
                device: device.unwrap_or_default(),
                first_viewer: self
                    .viewer
                    .as_ref()
                    .map(|viewer| viewer.try_clone())
                    .transpose()
                    .map_err(own)?,
            }),
            None => None,
        };
        let capture = Capture::start(streams, terminal, writer, session.attempt()).map_err(own)?;
        let lock = self.locks.as_ref().map(|locks| locks.session_lock(session.id()));
        let hook = match &command.on_ask {
            Some(hook) => Some(AskHook {
                command: hook.clone(),
                directory: command.directory().map_err(LaunchError::Directory)?,
                store: self.store.clone(),
            }),
            None => None,
        };
        let run_loop = RunLoop::new(session.clone(), command, supervised, capture, socket, lock, stops);
        Ok(run_loop.with_ask_hook(hook).with_completion(completion))
    }

    /// Returns the variables by which a program finds its session and its owner.
    fn variables(&self, session: &Session, socket: &ReportSocket) -> Vec<(OsString, Option<OsString>)> {
        let mut env = vec![
            (SESSION_VARIABLE.into(), Some(session.id().to_string().into())),
            (ATTEMPT_VARIABLE.into(), Some(session.attempt().to_string().into())),
            (SOCKET_VARIABLE.into(), Some(socket.path().into())),
            (STORE_VARIABLE.into(), self.store.as_ref().map(Into::into)),
        ];
        // Those of a run around this one.
        let of_clients = self.connections.iter().flat_map(|handler| handler.variables());
        env.extend(of_clients.map(|name| (name.into(), None)));
        env
    }

    fn captured_stream(
        &self,
        stream: OutputStream,
        pipe: OwnedFd,
        command: &Command,
    ) -> io::Result<CapturedStream> {
        let own = match (command.pass_on, stream) {
            (Forwarding::Nothing, _) => None,
            (Forwarding::Inherit, OutputStream::Stdout | OutputStream::Terminal) => {
                Some(open_forwarding_target(io::stdout().as_fd())?)
            }
            (Forwarding::Inherit, OutputStream::Stderr) => {
                Some(open_forwarding_target(io::stderr().as_fd())?)
            }
        };
        let (interceptor, close_with_reader) = (self.interceptor.clone(), !command.keep_running);
        Ok(CapturedStream { stream, pipe, pass_on: own, interceptor, close_with_reader })
    }

    async fn writer(
        &self,
        id: SessionId,
        limits: OutputLimits,
    ) -> Result<Option<Box<dyn OutputWriter>>, OutputError> {
        let Some(output) = self.output.clone() else { return Ok(None) };
        blocking(move || output.writer_within(id, limits, BUSY_TIMEOUT)).await.map(Some)
    }
}

/// Handles a request of the program.
async fn on_request(
    session: Session,
    mut orders: watch::Receiver<Option<Orders>>,
    request: Request,
) -> Result<(), Refusal> {
    match request {
        Request::Report(report) => accept_report(session, report).await,
        Request::Detached(DetachedOwner { pid, start_time }) => {
            // The program may be faster than its owner.
            let orders = orders.wait_for(Option::is_some).await.ok().and_then(|orders| orders.clone());
            let gone = || Refusal::new(ErrorCode::Fenced, "the program has ended");
            orders.ok_or_else(gone)?.exclude(pid, start_time).await;
            Ok(())
        }
    }
}

/// Checks, before anything is written, that this binary can supervise. One that cannot would start itself endlessly.
fn check_supervisor(command: &Command) -> Result<(), RunError> {
    if crate::supervisor::entry::supervisor_arguments().is_some() {
        return Ok(());
    }
    let program = command.shown_program();
    Err(RunError::Launch { program, session: None, error: LaunchError::NoSupervisor })
}

/// Opens the descriptor that output is forwarded to.
///
/// A terminal is reopened without blocking, so that writes never wait: poll reports it ready while it has room for a
/// single byte. A ready pipe has room for a whole write, and a reopened one could not be told apart from our own when
/// that is closed.
fn open_forwarding_target(output: BorrowedFd<'_>) -> io::Result<File> {
    if rustix::termios::isatty(output) {
        let path = format!("/proc/self/fd/{}", output.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if let Ok(terminal) = rustix::fs::open(path, flags, Mode::empty()) {
            return Ok(terminal.into());
        }
    }
    Ok(output.try_clone_to_owned()?.into())
}
