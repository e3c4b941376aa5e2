//! Notifies people of the questions that the program asks: at the viewers of its terminal, and by the hook of the session.

use serde_json::json;
use session_core::{Head, Question, Result, Session, SessionEvent, StepOccurrence, Timestamp};
use tokio::sync::mpsc;

use crate::ask_hook::AskHook;
use crate::terminal::handle::TerminalHandle;

/// Kind of the note that the hook for a question has failed; its data has the `question` and the `problem`.
pub const ASK_HOOK_FAILED: &str = "session.ask_hook_failed";

/// Version of the input of a hook.
const SCHEMA: u32 = 1;

/// Announces each question once for each time that it is asked. Nothing here delays the session.
#[derive(Debug)]
pub(super) struct QuestionAnnouncer {
    session: Session,
    terminal: Option<TerminalHandle>,
    hook: Option<AskHook>,
    /// The revision up to which questions were announced.
    announced: u64,
    failures: mpsc::UnboundedSender<HookFailure>,
    failed: mpsc::UnboundedReceiver<HookFailure>,
}

/// A hook that has failed.
#[derive(Debug)]
pub(super) struct HookFailure {
    pub(super) question: String,
    pub(super) problem: String,
}

/// A question that is open, with the time at which it was first asked.
#[derive(Debug, Clone)]
struct OpenQuestion {
    question: Question,
    at: Timestamp,
}

impl QuestionAnnouncer {
    pub(super) fn new(session: Session, terminal: Option<TerminalHandle>) -> Self {
        let (failures, failed) = mpsc::unbounded_channel();
        Self { session, terminal, hook: None, announced: 0, failures, failed }
    }

    pub(super) fn set_hook(&mut self, hook: Option<AskHook>) {
        self.hook = hook;
    }

    /// Returns the next failure of a hook.
    pub(super) async fn next_failure(&mut self) -> Option<HookFailure> {
        self.failed.recv().await
    }

    /// Announces the open questions that were asked since the last time.
    pub(super) fn announce(&mut self, head: &Head) {
        let waits = &head.waits;
        // What former attempts asked was announced by them.
        let after = self.announced.max(waits.attempt);
        if waits.changed <= after {
            return;
        }
        self.announced = waits.changed;
        if waits.questions == 0 || (self.terminal.is_none() && self.hook.is_none()) {
            return;
        }
        let (head, session) = (head.clone(), self.session.clone());
        let (terminal, hook, failures) = (self.terminal.clone(), self.hook.clone(), self.failures.clone());
        tokio::spawn(async move {
            let questions = match read(&session, &head, after).await {
                Ok(questions) => questions,
                Err(error) => {
                    tracing::warn!(session = %session.id(), %error, "could not read a question to notify of it");
                    return;
                }
            };
            for open in questions {
                if let Some(terminal) = &terminal {
                    let text = format!("asks `{}`: {}", open.question.identity, open.question.text);
                    terminal.announce(&head.name, &text);
                }
                if let Some(hook) = hook.clone() {
                    tokio::spawn(run(hook, input(&head, &open), head.clone(), open, failures.clone()));
                }
            }
        });
    }
}

async fn run(
    hook: AskHook,
    input: Vec<u8>,
    head: Head,
    open: OpenQuestion,
    failures: mpsc::UnboundedSender<HookFailure>,
) {
    let question = open.question.identity.to_string();
    if let Err(problem) = hook.run(input).await {
        tracing::warn!(session = %head.id, question, problem, "the hook for a question failed");
        // Nothing is recorded any more after the end of the session.
        let _ = failures.send(HookFailure { question, problem });
    }
}

/// Reads the questions that are open in a head and were asked after a revision.
async fn read(session: &Session, head: &Head, after: u64) -> Result<Vec<OpenQuestion>> {
    let waits = &head.waits;
    let mut open = Vec::new();
    if u64::try_from(waits.oldest.len()).is_ok_and(|named| named == waits.questions) {
        for known in waits.oldest.iter().filter(|known| known.revision > after) {
            let records = session.read_log(known.revision.saturating_sub(1)).await?;
            if let Some(SessionEvent::Asked { question }) =
                records.into_iter().next().map(|record| record.event)
            {
                open.push(OpenQuestion { question: *question, at: known.at });
            }
        }
        return Ok(open);
    }
    // A head does not name more than a few.
    let (mut read, mut asked) = (after, Vec::new());
    while read < waits.changed {
        let records = session.read_log(read).await?;
        let Some(last) = records.last().map(|record| record.envelope.seq) else { break };
        read = last;
        for record in records.into_iter().filter(|record| record.envelope.seq <= waits.changed) {
            #[expect(clippy::wildcard_enum_match_arm, reason = "only records of questions matter")]
            match record.event {
                SessionEvent::Asked { question } => {
                    let at = record.envelope.at;
                    asked.push((record.envelope.seq, OpenQuestion { question: *question, at }));
                }
                SessionEvent::Answered { answer, .. } => {
                    asked.retain(|(revision, _)| answer.asked != Some(*revision));
                }
                SessionEvent::QuestionWithdrawn { asked: withdrawn } => {
                    asked.retain(|(revision, _)| withdrawn != *revision);
                }
                _ => {}
            }
        }
    }
    Ok(asked.into_iter().map(|(_, open)| open).collect())
}

/// Returns the input of the hook for a question, as `answers --json` names its parts.
fn input(head: &Head, open: &OpenQuestion) -> Vec<u8> {
    let OpenQuestion { question, at } = open;
    let (n, key) = match &question.identity.occurrence {
        StepOccurrence::Number(number) => (Some(number), None),
        StepOccurrence::Key(key) => (None, Some(key)),
    };
    let input = json!({
        "schema": SCHEMA,
        "id": head.id,
        "session": head.name,
        "name": question.identity.name,
        "n": n,
        "key": key,
        "question": question.text,
        "choices": question.choices,
        "default": question.default,
        "default_at": question.default_at,
        "asked_at": at,
    });
    format!("{input}\n").into_bytes()
}
