//! `docs/errors.md`: each code, its exit code, what it means and what to do next.

use session_core::ErrorCode;

use super::row;

const TOP: &str = "\
<!-- Made by `cargo xtask codegen` from session-core/src/code.rs: change that, not this. -->

# Errors

Every error has a stable code: the same in logs, in JSON, in messages and here, in every version. The exit code is that of
the verbs of `sessionctl` that pass on no program's own; `run`, `wait`, foreground `resume` and `retry` end with 125 for each of
these, and the code is on stderr.

";

const BOTTOM: &str = "
`Display` of an error says its own part only; what caused it is in `source()`, and `sessionctl` prints the whole chain once.
";

pub(super) fn page() -> String {
    let mut text = TOP.to_owned();
    text += &row(["code", "exit code", "what it means", "what to do"]);
    text += &row(["---"; 4]);
    for code in ErrorCode::ALL {
        text += &row([
            format!("`{code}`"),
            code.exit_code().to_string(),
            code.about().trim_end_matches('.').to_owned(),
            code.advice().to_owned(),
        ]);
    }
    text + BOTTOM
}
