//! Serves the steps of other programs over a connection, on behalf of the owner of their session.

mod client;
mod connection;
mod each;
mod program;
mod step;
mod time_limit;
mod wait;

use std::io;

use session_core::{ErrorCode, Session};
use tokio::io::{AsyncBufRead, AsyncWrite};

use self::client::Client;
use self::connection::Connection;
pub use self::program::{EndedProcesses, NoProgram, Program};
use crate::fingerprint::InputDigest;
use crate::protocol::{ClientMessage, Part, VERSION};

/// Serves the steps of one client until it closes the connection. `first` is its first line, which was read already.
///
/// # Errors
/// Those of the connection. The processes of a step that ran are ended then, too.
pub async fn serve<R, W>(
    session: &Session,
    program: &dyn Program,
    first: Vec<u8>,
    read: &mut R,
    write: &mut W,
) -> io::Result<()>
where
    R: AsyncBufRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let mut connection = Connection::new(read, write, first);
    let mut input = InputDigest::default();
    loop {
        let message = match connection.next_message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData || error.get_ref().is_some() => {
                return connection.refuse(ErrorCode::InvalidArgument, error.to_string()).await;
            }
            Err(error) => return Err(error),
        };
        if let Some(version) = message.version().filter(|version| *version != VERSION) {
            let message = format!(
                "the owner of the session speaks version {VERSION} of the step protocol, not {version}"
            );
            return connection.refuse(ErrorCode::UnsupportedFormat, message).await;
        }
        let client = Client { session, program, connection: &mut connection };
        // Each future is boxed: a connection needs the room of one of them only while it serves it.
        let continues = match message {
            ClientMessage::Input(Part(bytes)) => {
                input.add(&bytes);
                true
            }
            ClientMessage::Step(step) => {
                let input = std::mem::take(&mut input);
                Box::pin(client.serve_step(&step, &input)).await?
            }
            ClientMessage::Each(each) => Box::pin(client.serve_each(*each)).await?,
            ClientMessage::Ask(ask) => Box::pin(client.serve_ask(*ask)).await?,
            ClientMessage::Sleep(sleep) => Box::pin(client.serve_sleep(*sleep)).await?,
            ClientMessage::Part(_)
            | ClientMessage::End(_)
            | ClientMessage::Items(_)
            | ClientMessage::ItemsEnd {}
            | ClientMessage::EachStop {}
            | ClientMessage::ItemPart(_)
            | ClientMessage::ItemEnd(_) => {
                return connection
                    .refuse(ErrorCode::InvalidArgument, "no step runs on this connection")
                    .await;
            }
        };
        if !continues {
            return Ok(());
        }
    }
}
