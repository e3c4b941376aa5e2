//! What a child and its owner say to each other, over any stream: for tests that say what no child should.

use std::io;

use session_core::Session;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::run_loop::accept_report;

/// The most bytes of one request.
pub const REQUEST_BYTES: u64 = crate::socket::REQUEST_BYTES;

/// Answers what is read as the owner of this session does on its socket.
///
/// # Errors
/// Those of the streams.
pub async fn serve_connection<R, W>(session: Session, read: R, write: W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    crate::socket::serve_connection(read, write, &|report| accept_report(session.clone(), report)).await
}
