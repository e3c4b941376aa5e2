//! Fuzz target for requests on the owner's socket, from a child or from another process that knows its environment.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde_json::Value;
use session_core::{
    ErrorCode, EventKind, InMemorySessionManager, SessionConfig, SessionManager as _, SessionState,
    SessionSummary,
};
use session_runner::report_protocol::{REQUEST_BYTES, serve_connection};
use tokio::io::{AsyncRead, ReadBuf};

use super::{head, is_unsafe};
use crate::{InputOutcome, wait};

/// The flag for a line that never ends, after the input.
const ENDLESS: u8 = 1;
/// The flag for a session that has ended.
const ENDED: u8 = 2;
/// Bytes that the owner may read ahead.
const BUFFER: usize = 16 * 1024;

/// Sends the rest of the input to the owner, in pieces whose size byte 1 determines.
///
/// Each line gets an answer of one valid line. The owner never buffers more than one request. The only effect is
/// progress reports within their limits.
pub fn report_socket(input: &[u8]) -> InputOutcome {
    let ([flags, pace], sent) = head(input);
    let endless = flags & ENDLESS != 0;
    wait(async {
        let manager = InMemorySessionManager::new();
        let id = manager.create_session(SessionConfig::new("fuzz").name("fuzz")).await.unwrap();
        let session = manager.start_session(id).await.unwrap();
        let ended = flags & ENDED != 0;
        if ended {
            session.complete(SessionSummary::new()).await.unwrap();
        }
        let before = manager.read_log(id, 0, 100).await.unwrap();
        let mut child = Child { sent, at: 0, pace: usize::from(pace).max(1), endless, endless_bytes: 0 };
        let mut answers = Vec::new();
        serve_connection(session.clone(), &mut child, &mut answers).await.expect("the streams do not fail");

        let answered = check_answers(&answers);
        let limit = usize::try_from(REQUEST_BYTES).unwrap();
        assert!(
            child.endless_bytes <= limit + BUFFER,
            "{} bytes of one request were read",
            child.endless_bytes
        );
        let lines: Vec<&[u8]> = sent.split_inclusive(|byte| *byte == b'\n').collect();
        let too_long = lines.iter().position(|line| line.len() > limit || !line.ends_with(b"\n"));
        // The first invalid line is answered and ends the conversation.
        let expected = too_long.map_or(lines.len() + usize::from(endless), |at| at + 1);
        assert_eq!(answered.len(), expected, "{} lines, {too_long:?}", lines.len());

        let accepted = answered.iter().filter(|ok| **ok).count();
        let log = manager.read_log(id, 0, 100).await.unwrap();
        if ended {
            assert!(accepted == 0 && log == before, "an ended session was written");
            return InputOutcome::Refused;
        }
        // The owner's next event makes its progress reports durable.
        session.checkpoint(&0).await.expect("the session is unaffected");
        let log = manager.read_log(id, 0, 100).await.unwrap();
        assert_eq!(log[..before.len()], before);
        for stored in &log[before.len()..log.len() - 1] {
            let record = stored.decode().expect("the record was sealed");
            assert_eq!(record.event.kind(), EventKind::ProgressReported, "{record:?}");
            record.event.check().expect("the report is within its limits");
            assert!(!is_unsafe(stored.line()));
        }
        assert!(log.len() <= before.len() + 1 + accepted);
        let head = manager.get_head(id).await.unwrap();
        assert!(matches!(head.state(), SessionState::Running { .. }), "{head:?}");
        assert_eq!(head.lifecycle.requests, session_core::Requests::default());
        if accepted > 0 { InputOutcome::Accepted } else { InputOutcome::Refused }
    })
}

/// Checks each answer, and returns `true` for the accepted requests.
fn check_answers(answers: &[u8]) -> Vec<bool> {
    let text = std::str::from_utf8(answers).expect("an answer is text");
    assert!(text.is_empty() || text.ends_with('\n'));
    let check = |line: &str| {
        assert!(line.len() < usize::try_from(REQUEST_BYTES).unwrap(), "an answer of {} bytes", line.len());
        let answer: Value = serde_json::from_str(line).expect("an answer is JSON");
        let members = answer.as_object().expect("an answer is an object");
        assert_eq!(members.len(), 1, "{line}");
        match (members.get("ok"), members.get("error")) {
            (Some(Value::Bool(true)), None) => true,
            (None, Some(error)) => {
                let code = error["code"].as_str().unwrap();
                assert!(ErrorCode::ALL.iter().any(|known| known.as_str() == code), "{code}");
                assert!(!error["message"].as_str().unwrap().is_empty());
                false
            }
            _ => panic!("neither ok nor error: {line}"),
        }
    };
    text.lines().map(check).collect()
}

/// A child that sends its input, and then nothing or an endless line.
struct Child<'a> {
    sent: &'a [u8],
    at: usize,
    pace: usize,
    endless: bool,
    /// The bytes that were read of the endless line.
    endless_bytes: usize,
}

impl AsyncRead for Child<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let child = self.get_mut();
        let rest = &child.sent[child.at..];
        let count = buffer.remaining().min(child.pace * child.pace);
        if !rest.is_empty() {
            let piece = &rest[..rest.len().min(count)];
            buffer.put_slice(piece);
            child.at += piece.len();
        } else if child.endless {
            buffer.put_slice(&vec![b'['; count]);
            child.endless_bytes += count;
        }
        Poll::Ready(Ok(()))
    }
}
