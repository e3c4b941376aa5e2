//! Serves the steps of other programs over a connection, on behalf of the owner of their session.

mod connection;
mod each;
mod program;
mod step;
mod time_limit;
mod wait;

use std::io;
use std::pin::pin;

use session_core::backend::Sharing;
use session_core::{ErrorCode, Session, StepIdentity};
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::sync::mpsc;

use self::connection::Connection;
pub use self::program::{EndedProcesses, NoProgram, Program};
use crate::fingerprint::InputDigest;
use crate::protocol::{ClientMessage, Part, ServerMessage, StepMessage, VERSION};
use crate::steps::{BegunStep, Steps};

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

/// A client that has sent a request.
struct Client<'a, 'c, R, W> {
    session: &'a Session,
    program: &'a dyn Program,
    connection: &'a mut Connection<'c, R, W>,
}

impl<R, W> Client<'_, '_, R, W>
where
    R: AsyncBufRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    /// Serves a step. Returns `false` once the client is gone.
    async fn serve_step(self, step: &StepMessage, input: &InputDigest) -> io::Result<bool> {
        let Self { session, program, connection } = self;
        let has_value =
            step.value.unwrap_or_else(|| !step.stdout.is_some_and(|stdout| program.is_own_output(stdout)));
        let steps = Steps::of(session);
        let (questions, mut asked_about) = mpsc::unbounded_channel();
        let asked = |question: &StepIdentity| drop(questions.send(question.clone()));
        let begun = {
            let mut begun = pin!(steps.begin_asking(session, step::request(session, step, input), &asked));
            loop {
                tokio::select! {
                    begun = &mut begun => break begun,
                    // A client that goes while the session is paused does not start its step.
                    gone = connection.wait_for_end() => return gone.map(|()| false),
                    Some(question) = asked_about.recv() => {
                        let message = wait::asked(&session.id().to_string(), &question, None);
                        connection.send(&ServerMessage::Asked(message)).await?;
                    }
                }
            }
        };
        match begun {
            Ok(BegunStep::Replay(recorded)) => {
                // The value of a former run is passed on wherever standard output goes.
                step::replay(connection, session, &recorded, step.value != Some(false)).await?;
            }
            Ok(BegunStep::Run(open)) => {
                let running = step::Running { session, program, step, has_value };
                return running.run(open, connection).await;
            }
            Err(error) => connection.send_error(&error).await?,
        }
        Ok(true)
    }
}

/// Returns `true` if another process can answer a question of the session.
fn can_ask(session: &Session) -> bool {
    session.profile().sharing != Sharing::Process
}
