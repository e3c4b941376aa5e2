//! A client that has sent a request.

use session_core::Session;
use session_core::backend::Sharing;

use super::connection::Connection;
use super::program::Program;

/// A client that has sent a request.
pub(super) struct Client<'a, 'c, R, W> {
    pub(super) session: &'a Session,
    pub(super) program: &'a dyn Program,
    pub(super) connection: &'a mut Connection<'c, R, W>,
}

/// Returns `true` if another process can answer a question of the session.
pub(super) fn can_ask(session: &Session) -> bool {
    session.profile().sharing != Sharing::Process
}
