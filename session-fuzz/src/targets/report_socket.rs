//! The owner's socket: what a child, or something that got hold of its environment, may say there.

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
use crate::{Fate, wait};

/// What is said never ends: after the input comes one line without an end.
const ENDLESS: u8 = 1;
/// The session has ended.
const ENDED: u8 = 2;
/// Bytes that may be read ahead.
const BUFFER: usize = 16 * 1024;

/// The rest is what is said, in pieces of as many bytes as byte 1 says.
///
/// Each line is answered, by one line that the other side takes; no line makes the owner hold more than a request; and all
/// that comes of it are reports of progress within their limits.
pub fn report_socket(input: &[u8]) -> Fate {
    let ([flags, pace], said) = head(input);
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
        let mut child = Child { said, at: 0, pace: usize::from(pace).max(1), endless, more: 0 };
        let mut answers = Vec::new();
        serve_connection(session.clone(), &mut child, &mut answers).await.expect("the streams hold");

        let answered = check_answers(&answers);
        let limit = usize::try_from(REQUEST_BYTES).unwrap();
        assert!(child.more <= limit + BUFFER, "{} bytes of one request were read", child.more);
        let lines: Vec<&[u8]> = said.split_inclusive(|byte| *byte == b'\n').collect();
        let too_long = lines.iter().position(|line| line.len() > limit || !line.ends_with(b"\n"));
        // The first one that is no line is answered, and ends it.
        let expected = too_long.map_or(lines.len() + usize::from(endless), |at| at + 1);
        assert_eq!(answered.len(), expected, "{} lines, {too_long:?}", lines.len());

        let accepted = answered.iter().filter(|ok| **ok).count();
        let log = manager.read_log(id, 0, 100).await.unwrap();
        if ended {
            assert!(accepted == 0 && log == before, "an ended session was written");
            return Fate::Refused;
        }
        // With what it does next, the owner makes its reports durable.
        session.checkpoint(&0).await.expect("the owner is not harmed");
        let log = manager.read_log(id, 0, 100).await.unwrap();
        assert_eq!(log[..before.len()], before);
        for stored in &log[before.len()..log.len() - 1] {
            let record = stored.decode().expect("it was sealed");
            assert_eq!(record.event.kind(), EventKind::ProgressReported, "{record:?}");
            record.event.check().expect("it is within its limits");
            assert!(!is_unsafe(stored.line()));
        }
        assert!(log.len() <= before.len() + 1 + accepted);
        let head = manager.get_head(id).await.unwrap();
        assert!(matches!(head.state(), SessionState::Running { .. }), "{head:?}");
        assert_eq!(head.lifecycle.requests, session_core::Requests::default());
        if accepted > 0 { Fate::Accepted } else { Fate::Refused }
    })
}

/// Whether each answer is a yes. Each is a line that the child's side reads whole.
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
            _ => panic!("neither yes nor no: {line}"),
        }
    };
    text.lines().map(check).collect()
}

/// Says its piece, then nothing, or one thing for ever.
struct Child<'a> {
    said: &'a [u8],
    at: usize,
    pace: usize,
    endless: bool,
    /// What was read of the line that never ends.
    more: usize,
}

impl AsyncRead for Child<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let child = self.get_mut();
        let rest = &child.said[child.at..];
        let count = buffer.remaining().min(child.pace * child.pace);
        if !rest.is_empty() {
            let piece = &rest[..rest.len().min(count)];
            buffer.put_slice(piece);
            child.at += piece.len();
        } else if child.endless {
            buffer.put_slice(&vec![b'['; count]);
            child.more += count;
        }
        Poll::Ready(Ok(()))
    }
}
