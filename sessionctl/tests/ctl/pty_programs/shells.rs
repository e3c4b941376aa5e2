//! Shells with prompts, line editing and job control.

use crate::pty_comparison::program;

const BASH: &str = "RUN env PS1='$ ' bash --norc --noprofile -i";
/// A program that a key can stop or end, typed so that its echo is not its output.
const CAT: &str = "sh -c 'echo u''p; exec cat'\r";
const SLEEP: &str = "sh -c 'echo u''p; exec sleep 600'\r";

#[test]
fn bash_edits_a_line() {
    let shell =
        program(BASH).needs("bash").wait("$ ").types("echo two\x01").types("\x1b[C\x1b[C\x1b[C\x1b[C\x1b[C");
    let shell = shell.types("one ").types("\r").wait("one two\r\n").wait("$ ");
    let shell = shell.types("echo x\x17y\x7fz\r").wait("z\r\n").wait("$ ");
    shell.look().types("exit 9\r").screens();
}

#[test]
fn bash_searches_its_history() {
    let shell = program(BASH).needs("bash").wait("$ ").types("echo alpha\r").wait("alpha\r\n").wait("$ ");
    let shell = shell.types("echo beta\r").wait("beta\r\n").wait("$ ");
    let shell = shell.types("\x12").wait("search)").types("alp").wait("malp").types("\r").wait("alpha\r\n");
    shell.wait("$ ").look().types("\x04").wait("exit").screens();
}

#[test]
fn bash_completes_a_file_name() {
    let shell = program(BASH).needs("bash").file("a-long-name", "content\n").wait("$ ").types("cat a-l\t");
    shell.wait("a-long-name ").types("\r").wait("content\r\n").wait("$ ").types("exit\r").screens();
}

#[test]
fn bash_controls_its_jobs() {
    let shell =
        program(BASH).needs("bash").wait("$ ").types(CAT).wait("up\r\n").types("a\r").wait("a\r\na\r\n");
    let shell = shell.types("\x1a").wait("Stopped").wait("$ ").types("jobs\r").wait("Stopped").wait("$ ");
    let shell = shell.types("fg\r").wait("cat'\r\n").types("b\r").wait("b\r\nb\r\n").types("\x04").wait("$ ");
    let shell = shell.types(SLEEP).wait("up\r\n").types("\x1a").wait("Stopped").wait("$ ");
    let shell = shell.types("bg\r").wait("&\r\n").wait("$ ").types("jobs\r").wait("Running").wait("$ ");
    shell
        .types("kill %1; while kill -0 %1 2>/dev/null; do sleep 0.01; done\r")
        .wait("Terminated")
        .wait("$ ")
        .look()
        .types("exit\r")
        .screens();
}

#[test]
fn dash_has_a_prompt_and_jobs() {
    let shell = program("RUN env ENV=./rc dash -i").needs("dash").file("rc", "PS1='> '\n").wait("> ");
    let shell = shell.types("echo one; false\n").wait("one\r\n").wait("> ");
    let shell = shell.types("cat\n").types("x\n").wait("x\r\nx\r\n").types("\x1a").wait("Stopped").wait("> ");
    let shell = shell.types("fg\n").wait("cat\r\n").types("x\n").wait("x\r\nx\r\n");
    shell.types("\x03").wait("> ").types("exit 5\n").exact();
}

#[test]
fn a_password_prompt_of_bash_shows_nothing() {
    let asks = program("RUN bash -c 'read -rsp \"Password: \" x; echo; echo \"got $x\"'").needs("bash");
    asks.wait("Password: ").types("secret\r").wait("got secret").exact();
}

#[test]
fn a_single_key_is_read() {
    let asks = program("RUN bash -c 'read -rsn1 -p \"Go on? \" x; echo \"<$x>\"'").needs("bash");
    asks.wait("Go on? ").types("y").wait("<y>").exact();
}

#[test]
fn a_menu_of_bash_is_chosen_from() {
    let asks = program("RUN bash -c 'select x in red green; do echo \"got $x\"; break; done'").needs("bash");
    asks.wait("#? ").types("2\r").wait("got green").exact();
}

#[test]
fn output_of_a_job_follows_the_end_of_its_shell() {
    // The shell waits for a file, so that its job prints after its end. Under `run`, the session waits for that.
    let late = "RUN bash -c '(while test -e \"/proc/$$\"; do sleep 0.01; done; echo late) & echo first'";
    program(late).needs("bash").wait("first\r\n").wait("late\r\n").exact();
}

#[test]
fn a_script_command_records_a_terminal() {
    program("RUN script -qec 'test -t 1 && stty size && exit 6' typescript >&3; rm typescript")
        .needs("script")
        .exact();
}
