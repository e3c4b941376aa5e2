//! Notifications of questions at the viewers of a terminal, and by the hook of the session.

use serde_json::Value;
use session_core::{
    Head, Question, Session, SessionConfig, SessionEvent, SessionManager as _, StepIdentity, Terminal,
};
use session_runner::{ASK_HOOK_FAILED, Command, OutputStream, ViewerEvent};

use crate::{Fixture, shown_until, within};

async fn ask(session: &Session, name: &str, text: &str) -> u64 {
    let known = session.head().waits.changed;
    let mut question = Question::new(StepIdentity::nth(name, 1), text);
    question.choices = vec!["yes".to_owned(), "no".to_owned()];
    let asked = SessionEvent::Asked { question: Box::new(question) };
    session.change_questions(known, asked).await.unwrap().unwrap().revision
}

#[tokio::test]
#[expect(clippy::wildcard_enum_match_arm, reason = "every other event is a failure")]
async fn a_viewer_is_notified_of_a_question_between_sequences() {
    let fixture = Fixture::new();
    // A sequence is half printed when the question is asked.
    let script = r"printf 'ready\n\033[3'; read line; printf '1mred\n'; read line";
    let folder = tempfile::tempdir().unwrap();
    let command = Command::new("bash").args(["-c", script]).terminal(Some(Terminal::new("vt100", 24, 80)));
    let hooked = folder.path().join("hooked");
    let command = command.on_ask(format!("cat >>'{}'", hooked.display()));
    let (running, mut viewer) = fixture.start_command(command).await;
    let mut shown = shown_until(&mut viewer, "\x1b[3").await;
    ask(running.session(), "deploy", "Deploy\x1b]0;owned\x07 1.4.0?").await;
    // The hook is started after the viewers are notified.
    lines(&hooked, 1).await;
    running.terminal().unwrap().notify("asked", false);
    let notice = ViewerEvent::Notice { text: "asked".into(), now: false };
    assert_eq!(within(viewer.next()).await, Some(notice), "it waits for the end of the sequence");
    viewer.type_input(b"\r");
    let notification = loop {
        match within(viewer.next()).await.unwrap() {
            ViewerEvent::Notification(bytes) => break String::from_utf8(bytes).unwrap(),
            ViewerEvent::Output(bytes) => shown.push_str(&String::from_utf8(bytes).unwrap()),
            other => panic!("neither output nor a notification: {other:?}"),
        }
    };
    let name = running.session().head().name;
    let text = "asks `deploy`: Deploy ]0;owned 1.4.0?";
    assert_eq!(
        notification,
        format!("\x1b]9;Session {name} {text}\x07\x1b]777;notify;Session {name};{text}\x07")
    );
    let stored = fixture.stored(&running, OutputStream::Terminal);
    assert!(stored.contains("ready") && !stored.contains("asks"), "{stored:?}");
    assert!(!shown.contains("asks"), "{shown:?}");
}

/// Waits for a number of lines that hooks have written.
async fn lines(path: &std::path::Path, count: usize) -> Vec<Value> {
    within(async {
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if text.lines().count() >= count {
                return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test]
async fn the_hook_runs_once_for_each_time_a_question_is_asked() {
    let fixture = Fixture::new();
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let command = Command::new("sleep").arg("60").cwd(folder.path()).on_ask("cat >>seen");
    let running = fixture.runner.spawn(SessionConfig::new("release"), command).await.unwrap();
    let session = running.session();
    for number in 0..6 {
        // More than a head names.
        ask(session, &format!("ask-{number}"), "Deploy?").await;
    }
    let mut asked = lines(&seen, 6).await;
    asked.sort_by_key(|asked| asked["name"].to_string());
    let head: Head = session.head();
    assert_eq!(asked.len(), 6);
    for (number, asked) in asked.iter().enumerate() {
        assert_eq!(asked["name"], format!("ask-{number}"));
        assert_eq!((&asked["question"], &asked["choices"]), (&"Deploy?".into(), &vec!["yes", "no"].into()));
        assert_eq!(
            (&asked["id"], &asked["session"]),
            (&head.id.to_string().into(), &head.name.clone().into())
        );
        assert_eq!((&asked["schema"], &asked["n"], &asked["default"]), (&1.into(), &1.into(), &Value::Null));
    }
    // Other records announce nothing again.
    session.note("a.test", Value::Null, session_core::Durability::Flushed).await.unwrap();
    ask(session, "last", "Deploy?").await;
    assert_eq!(lines(&seen, 7).await.len(), 7);
}

#[tokio::test]
async fn a_failed_hook_is_noted_and_harmless() {
    let fixture = Fixture::new();
    let command = Command::new("sh").args(["-c", "read line"]).on_ask("exit 3");
    let command = command.terminal(Some(Terminal::new("vt100", 24, 80)));
    let running = fixture.runner.spawn(SessionConfig::new("release"), command).await.unwrap();
    ask(running.session(), "deploy", "Deploy?").await;
    let note = within(async {
        let mut after = 0;
        loop {
            let page = running.session().read_log(after).await.unwrap();
            for record in page {
                after = record.envelope.seq;
                if let SessionEvent::Noted { kind, data } = record.event
                    && kind == ASK_HOOK_FAILED
                {
                    return data;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(note, serde_json::json!({ "question": "deploy", "problem": "exit code 3" }));
    assert!(!fixture.manager.get_head(running.id()).await.unwrap().state().is_final());
}
