//! A program that parses its arguments before it calls `supervise_main`: the verb of a supervisor is an unknown argument
//! to it. Without libtest, whose `main` is not such a program.

use session_core::{InMemorySessionManager, SessionConfig};
use session_runner::{Command, LaunchError, RunError, Runner, supervise_main};

fn main() {
    if std::env::args().nth(1).is_some_and(|argument| argument == "__supervise") {
        eprintln!("error: unknown argument");
        std::process::exit(2);
    }
    supervise_main();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let error = runtime.block_on(async {
        let runner = Runner::new(&InMemorySessionManager::new());
        runner.spawn(SessionConfig::new("run"), Command::new("true")).await.expect_err("it cannot supervise")
    });
    let RunError::Launch { error: source @ LaunchError::Unanswered { .. }, .. } = error else {
        panic!("{error:?}");
    };
    let message = source.to_string();
    assert!(message.contains("exit status: 2") && message.contains("the first call in `main`"), "{message}");
}
