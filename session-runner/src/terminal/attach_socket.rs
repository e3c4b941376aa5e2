//! The socket of an owner at which viewers attach to the terminal of its session.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use session_core::SessionId;

use crate::runtime_folder::{folders, is_listener_gone, listener_of, new_path};

/// The extension of a socket.
pub(crate) const ATTACH: &str = "attach";
/// The extension of the mark that a session has a viewer, next to its socket.
pub(crate) const VIEWED: &str = "viewed";

/// A listening socket. Dropping it removes its files.
#[derive(Debug)]
pub(crate) struct AttachSocket {
    path: PathBuf,
    pub(crate) listener: UnixListener,
}

impl AttachSocket {
    /// Listens for viewers of a session, at a path that only this user can reach.
    pub(crate) fn listen(id: SessionId) -> io::Result<Self> {
        let path = new_path(&id.to_string(), ATTACH)?;
        // An attempt before this one, of the same process.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let socket = Self { path, listener };
        // Other users cannot enter the folder anyway.
        std::fs::set_permissions(&socket.path, Permissions::from_mode(0o600))?;
        socket.listener.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Shows other processes whether the session has a viewer.
    pub(crate) fn show_viewed(&self, viewed: bool) {
        let mark = self.path.with_extension(VIEWED);
        // Without the mark, only `ls` shows less.
        let _ = if viewed { File::create(mark).map(drop) } else { std::fs::remove_file(mark) };
    }
}

impl Drop for AttachSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(self.path.with_extension(VIEWED));
    }
}

/// Returns the socket at which viewers attach to a session, if its owner listens on this machine.
pub(crate) fn socket_of(id: SessionId) -> Option<PathBuf> {
    sockets().into_iter().filter(|(found, _)| *found == id).map(|(_, path)| path).next_back()
}

/// Returns the sessions with a terminal that can be attached to on this machine, and whether each has a viewer.
#[must_use]
pub fn attachable_sessions() -> HashMap<SessionId, bool> {
    sockets().into_iter().map(|(id, path)| (id, path.with_extension(VIEWED).exists())).collect()
}

/// Returns the sockets of owners that are alive, a later owner of a session after an earlier one.
fn sockets() -> Vec<(SessionId, PathBuf)> {
    let mut found = Vec::new();
    for folder in folders() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if let Some(id) = session_of(&path)
                && !is_listener_gone(&path, ATTACH)
            {
                found.push((listener_of(&path, ATTACH).map(|(_, start_time)| start_time), id, path));
            }
        }
    }
    found.sort();
    found.dedup();
    found.into_iter().map(|(_, id, path)| (id, path)).collect()
}

fn session_of(path: &Path) -> Option<SessionId> {
    let name = path.file_name()?.to_str()?.strip_suffix(ATTACH)?.strip_suffix('.')?;
    name.splitn(3, '-').nth(2)?.parse().ok()
}

/// Returns `true` if the peer is this user or root.
pub(crate) fn is_allowed(peer: &std::os::unix::net::UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(peer).is_ok_and(|peer| peer.uid == geteuid() || peer.uid.is_root())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_its_session_while_it_listens() {
        let id = SessionId::random();
        assert_eq!(socket_of(id), None);
        let socket = AttachSocket::listen(id).unwrap();
        assert_eq!(socket_of(id).as_ref(), Some(&socket.path));
        let mode = std::fs::metadata(&socket.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let folder = std::fs::metadata(socket.path.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(folder & 0o777, 0o700);
        assert_eq!(attachable_sessions().get(&id), Some(&false));
        socket.show_viewed(true);
        assert_eq!(attachable_sessions().get(&id), Some(&true));
        socket.show_viewed(false);
        assert_eq!(attachable_sessions().get(&id), Some(&false));
        drop(socket);
        assert_eq!(socket_of(id), None);
    }

    #[test]
    fn the_socket_of_a_process_that_is_gone_is_not_found() {
        let id = SessionId::random();
        let socket = AttachSocket::listen(id).unwrap();
        let name = socket.path.file_name().unwrap().to_str().unwrap();
        let (_, rest) = name.split_once('-').unwrap();
        // The start time of this process, with the id of another one.
        let gone = socket.path.with_file_name(format!("1-{rest}"));
        std::fs::rename(&socket.path, &gone).unwrap();
        assert_eq!(socket_of(id), None);
        std::fs::remove_file(gone).unwrap();
    }
}
