//! Questions and sleeps of a client.

use std::io;
use std::time::Duration;

use session_core::{ErrorCode, StepIdentity, Timestamp};
use tokio::io::{AsyncBufRead, AsyncWrite};

use super::client::{Client, can_ask};
use crate::ask::{AskRequest, Asking, begin_ask};
use crate::attempt::Attempt;
use crate::protocol::{
    Answered, AskMessage, Asked, ServerMessage, SleepMessage, Sleeping as SleepingUntil, Slept,
};
use crate::questions::GivenAnswer;
use crate::sleep::{Sleeping, WakeUp, begin_sleep};

/// SIGTERM: the signal with which a session is stopped in an orderly way.
const TERM: i32 = 15;

impl<R, W> Client<'_, '_, R, W>
where
    R: AsyncBufRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    /// Serves a question. Returns `false` once the client is gone.
    pub(super) async fn serve_ask(self, message: AskMessage) -> io::Result<bool> {
        let Self { session, program, connection } = self;
        let default = match (message.default, message.after_ms) {
            (Some(default), Some(after)) => Some((default, Duration::from_millis(after))),
            (None, None) => None,
            _ => {
                let problem = "a default and the time after which it holds belong together";
                return connection.refuse(ErrorCode::InvalidArgument, problem).await.map(|()| false);
            }
        };
        let request = AskRequest {
            name: message.name,
            key: message.key,
            text: message.question,
            choices: message.choices,
            default,
        };
        let attempt = Attempt::of(session);
        let asking = tokio::select! {
            asking = begin_ask(&attempt, session, &request, can_ask(session)) => asking,
            gone = connection.wait_for_end() => return gone.map(|()| false),
        };
        let mut open = match asking {
            Ok(Asking::Answered(answer)) => {
                connection.send(&ServerMessage::Answer(answered(answer, true))).await?;
                return Ok(true);
            }
            Ok(Asking::Open(open)) => open,
            Err(error) => return connection.send_error(&error).await.map(|()| true),
        };
        let asked = asked(&session.id().to_string(), open.identity(), open.default_at());
        let sent = connection.send(&ServerMessage::Asked(asked)).await;
        let answer = tokio::select! {
            answer = open.answer() => Some(answer),
            gone = connection.wait_for_end_or_message(), if sent.is_ok() => { drop(gone); None }
            () = std::future::ready(()), if sent.is_err() => None,
        };
        match answer {
            Some(Ok(answer)) => connection.send(&ServerMessage::Answer(answered(answer, false))).await?,
            Some(Err(error)) => {
                // The session has ended, or is about to.
                open.leave_open();
                connection.send_error(&error).await?;
            }
            None => {
                if program.is_stopped(None, Some(TERM)).await {
                    open.leave_open();
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Serves a sleep. Returns `false` once the client is gone.
    pub(super) async fn serve_sleep(self, message: SleepMessage) -> io::Result<bool> {
        let Self { session, program, connection } = self;
        let wake_up = match (message.after_ms, message.until) {
            (Some(after), None) => WakeUp::After(Duration::from_millis(after)),
            (None, Some(until)) => WakeUp::At(until),
            _ => {
                let problem = "a sleep has either a time to sleep or a time to wake up";
                return connection.refuse(ErrorCode::InvalidArgument, problem).await.map(|()| false);
            }
        };
        let attempt = Attempt::of(session);
        let begun = tokio::select! {
            begun = begin_sleep(&attempt, session, &message.name, message.key.as_deref(), wake_up) => begun,
            gone = connection.wait_for_end() => return gone.map(|()| false),
        };
        let mut open = match begun {
            Ok(Sleeping::Over) => {
                connection.send(&ServerMessage::Slept(Slept { recorded: true })).await?;
                return Ok(true);
            }
            Ok(Sleeping::Until(open)) => open,
            Err(error) => return connection.send_error(&error).await.map(|()| true),
        };
        let sent = connection.send(&ServerMessage::Sleeping(SleepingUntil { until: open.until() })).await;
        let woken = tokio::select! {
            woken = open.wait() => Some(woken),
            gone = connection.wait_for_end_or_message(), if sent.is_ok() => { drop(gone); None }
            () = std::future::ready(()), if sent.is_err() => None,
        };
        match woken {
            Some(Ok(())) => connection.send(&ServerMessage::Slept(Slept::default())).await?,
            Some(Err(error)) => {
                open.leave_open();
                connection.send_error(&error).await?;
            }
            None => {
                if program.is_stopped(None, Some(TERM)).await {
                    open.leave_open();
                }
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Returns the message about a question that waits.
pub(super) fn asked(session: &str, question: &StepIdentity, default_at: Option<Timestamp>) -> Asked {
    Asked { session: session.to_owned(), name: question.name.clone(), default_at }
}

fn answered(answer: GivenAnswer, recorded: bool) -> Answered {
    let GivenAnswer { value, by, is_default, .. } = answer;
    Answered { answer: value, by, default: is_default, recorded }
}
