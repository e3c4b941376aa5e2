//! The owner's socket for its own children, which report progress here, independent of the storage. `sender` is the
//! other side.

use std::ffi::OsStr;
use std::fmt;
use std::fs::Permissions;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, geteuid};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use session_core::ErrorCode;

use super::protocol::{HandOver, REQUEST_BYTES, Refusal, Request, refuse, serve_connection};
use crate::limit_error::{is_limit, limit_text};
use crate::procfs::{Process, environ, variables};
use crate::runtime_folder::{self, folders, is_listener_gone, new_path};
use crate::terminal::attach_socket::{ATTACH, VIEWED};
use crate::variables::SOCKET_VARIABLE;

/// Connections that are served concurrently; others wait to be accepted.
const MAX_CONNECTIONS: usize = 128;
/// Connections that are held while work runs, such as those of steps: beyond them, an error is returned.
const MAX_OTHER_CONNECTIONS: usize = 1024;
/// The extension of a socket.
const SOCKET: &str = "sock";
/// The extension of the record of processes that stay running, next to the socket.
const LEFT: &str = "left";
/// Delay before accepting again when no descriptors are left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A server of connections that begin with requests of other kinds than reports.
pub(crate) trait OtherRequests: fmt::Debug + Send + Sync {
    /// Returns `true` if it serves connections that begin with a request of this kind.
    fn handles(&self, kind: &str) -> bool;

    /// Serves a connection to its end. `session` is that of the client's process.
    fn serve(
        &self,
        session: Option<Pid>,
        connection: HandOver<OwnedReadHalf, OwnedWriteHalf>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// A listening socket. Dropping it ends all connections and removes its file.
#[derive(Debug)]
pub(crate) struct ReportSocket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl ReportSocket {
    /// Listens at a new path that only this user can reach, and answers each request with the result of `handler`.
    /// Connections with requests of other kinds are served by `others`.
    pub(crate) fn listen<F, Fut>(handler: F, others: Option<Arc<dyn OtherRequests>>) -> io::Result<Self>
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let path = new_socket_path()?;
        let listener = UnixListener::bind(&path)?;
        let task = tokio::spawn(serve(listener, Arc::new(handler), others));
        let socket = Self { path, task };
        // Other users cannot enter the folder anyway.
        std::fs::set_permissions(&socket.path, Permissions::from_mode(0o600))?;
        Ok(socket)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets that processes stay running: the session has ended, so it never runs again.
    pub(crate) fn forget_left(&self) {
        let _ = std::fs::remove_file(record_of_left(&self.path));
    }

    /// Ends all connections and removes the file.
    pub(crate) fn close(&self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for ReportSocket {
    fn drop(&mut self) {
        self.close();
    }
}

/// Removes the sockets of owners that are gone, and returns their number. An owner that was killed together with its
/// supervisor leaves one behind. A record of processes that stay running is removed once they have ended.
///
/// # Errors
/// If a folder cannot be read.
pub fn sweep_sockets() -> io::Result<usize> {
    let mut swept = 0;
    for folder in folders() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let socket = entry.path().with_extension(SOCKET);
            let gone = is_listener_gone(&socket, SOCKET);
            let unused = match entry.path().extension().and_then(OsStr::to_str) {
                Some(SOCKET | ATTACH | VIEWED) => gone,
                Some(LEFT) => gone && !is_inherited(&socket),
                _ => false,
            };
            if unused && std::fs::remove_file(entry.path()).is_ok() {
                swept += 1;
            }
        }
    }
    Ok(swept)
}

/// Returns `true` if a process was started with this socket in its environment.
fn is_inherited(socket: &Path) -> bool {
    let variable = [SOCKET_VARIABLE.as_bytes(), b"=", socket.as_os_str().as_bytes()].concat();
    Process::all().unwrap_or_default().iter().any(|process| {
        !process.has_ended() && variables(&environ(process.pid)).any(|found| found == variable)
    })
}

/// Returns an unused path in the first folder that is usable.
fn new_socket_path() -> io::Result<PathBuf> {
    let random = uuid::Uuid::new_v4().simple().to_string();
    new_path(random.get(..8).unwrap_or(&random), SOCKET)
}

/// Returns the path of the record that processes with this socket in their environment stay running on purpose. It is
/// written when the supervision of their tree has ended.
pub(crate) fn record_of_left(socket: &Path) -> PathBuf {
    socket.with_extension(LEFT)
}

/// Returns id and start time of the process that listens, or listened, at a path.
pub(crate) fn listener_of(path: &[u8]) -> Option<(Pid, u64)> {
    runtime_folder::listener_of(Path::new(OsStr::from_bytes(path)), SOCKET)
}

async fn serve<F, Fut>(listener: UnixListener, handler: Arc<F>, others: Option<Arc<dyn OtherRequests>>)
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let permits_of_others = Arc::new(Semaphore::new(MAX_OTHER_CONNECTIONS));
    let mut reserve = open_reserve();
    // Dropped with this task, which ends all connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) if is_allowed_peer(&stream) => {
                let (handler, others) = (Arc::clone(&handler), others.clone());
                let permits_of_others = Arc::clone(&permits_of_others);
                connections.spawn(async move {
                    let client = stream.peer_cred().ok().and_then(|peer| peer.pid());
                    let (read, write) = stream.into_split();
                    let is_other =
                        |member: &str| others.as_ref().is_some_and(|others| others.handles(member));
                    // An error is a child that closed its connection early.
                    let served = serve_connection(read, write, &*handler, is_other).await;
                    // These connections are held as long as their work takes.
                    drop(permit);
                    let (Ok(Some(connection)), Some(others)) = (served, &others) else { return };
                    let Ok(_permit) = permits_of_others.try_acquire() else {
                        let message =
                            format!("at most {MAX_OTHER_CONNECTIONS} steps of a session run concurrently");
                        let refusal = Refusal::new(ErrorCode::LimitExceeded, message);
                        let _ = refuse(connection.write, refusal).await;
                        return;
                    };
                    let client = client.and_then(Pid::from_raw).map(Process::read);
                    let session =
                        client.and_then(|client| client.ok().flatten()).and_then(|client| client.session);
                    others.serve(session, connection).await;
                });
            }
            Ok(_) => {}
            Err(error) if is_limit(&error) => {
                // The reserve is the only descriptor that is left: with it, the client hears why.
                drop(reserve.take());
                let refused = tokio::time::timeout(ACCEPT_RETRY_DELAY, refuse_next(&listener, &error)).await;
                reserve = open_reserve();
                if refused.is_err() {
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_RETRY_DELAY).await,
        }
    }
}

/// Opens a descriptor that is closed to accept a connection where none is left.
fn open_reserve() -> Option<std::fs::File> {
    std::fs::File::open("/dev/null").ok()
}

/// Answers the next connection with the limit that is reached, and closes it.
async fn refuse_next(listener: &UnixListener, limit: &io::Error) {
    let Ok((stream, _)) = listener.accept().await else { return };
    let (read, write) = stream.into_split();
    // A connection that is closed before its request was read is broken for the other side.
    let mut line = Vec::new();
    let _ = BufReader::new(read).take(REQUEST_BYTES).read_until(b'\n', &mut line).await;
    let _ = refuse(write, Refusal::new(ErrorCode::SystemLimit, limit_text(limit))).await;
}

/// Returns `true` if the peer is this user or root.
fn is_allowed_peer(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw() || peer.uid() == 0)
}

#[cfg(test)]
mod tests;
