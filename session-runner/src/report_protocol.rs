//! The protocol of the report socket over any stream, for tests that send malformed requests.

use std::io;

use session_core::{ErrorCode, Session};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::report::protocol::{Refusal, Request, accept_report};

/// The maximum size of one request, in bytes.
pub const REQUEST_BYTES: u64 = crate::report::protocol::REQUEST_BYTES;

/// Serves the requests that are read, as the owner of this session does on its socket.
///
/// # Errors
/// Those of the streams.
pub async fn serve_connection<R, W>(session: Session, read: R, write: W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let handler = |request| {
        let session = session.clone();
        async move {
            match request {
                Request::Report(report) => accept_report(session, report).await,
                Request::Detached(_) => {
                    Err(Refusal::new(ErrorCode::InvalidArgument, "there is no supervisor"))
                }
            }
        }
    };
    crate::report::protocol::serve_connection(read, write, &handler, |_| false).await.map(drop)
}
