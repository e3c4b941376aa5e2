//! Interpreters with their prompts.

use crate::pty_comparison::program;

/// Prints a line, and goes on when a file exists: a line that is held back ends in a timeout.
const STEPS: &str = "import os, time
for step in range(3):
    print('step', step)
    while not os.path.exists(f'go{step}'):
        time.sleep(0.01)
print('end')
";

#[test]
fn python_lines_arrive_before_the_program_goes_on() {
    let steps = program("RUN python3 steps.py").needs("python3").file("steps.py", STEPS);
    let steps = steps.wait("step 0\r\n").create("go0").wait("step 1\r\n").create("go1");
    steps.wait("step 2\r\n").create("go2").exact();
}

#[test]
fn python_output_and_errors_keep_their_order() {
    let script = "import sys\nfor i in range(200):\n    print(i, file=(sys.stdout, sys.stderr)[i % 2])\n";
    program("RUN python3 both.py 2>&3").needs("python3").file("both.py", script).exact();
}

#[test]
fn python_edits_lines_and_has_a_history() {
    let repl = program("RUN python3 -q").needs("python3");
    let repl = repl.wait(">>> ").types("6 * 7\r").wait("42\r\n").wait(">>> ");
    // The line before by the arrow key, with an insertion at its beginning.
    let repl =
        repl.types("\x1b[A").wait("6 * 7").types("\x01").types("1").types("\r").wait("112").wait(">>> ");
    let repl =
        repl.types("impo\t").wait("import").types("\x15").types("1 +\x08- 1\r").wait("0\r\n").wait(">>> ");
    repl.look().types("exit(3)\r").screens();
}

#[test]
fn python_ends_a_loop_by_ctrl_c_and_itself_by_ctrl_d() {
    let repl = program("RUN python3 -q").needs("python3").wait(">>> ");
    let repl = repl.types("exec(\"print('in', 'loop')\\nwhile True: pass\")\r").wait("in loop\r\n");
    let repl = repl.types("\x03").wait("KeyboardInterrupt").wait(">>> ").types("\x04");
    // The key may come before the second line of the loop.
    repl.lines(|line| (!line.contains("File")).then(|| line.to_owned()));
}

#[test]
fn python_getpass_shows_nothing() {
    let script = "import getpass; print(repr(getpass.getpass()))";
    let asks = program(format!("RUN python3 -c \"{script}\"")).needs("python3");
    asks.wait("Password: ").types("secret\r").wait("'secret'").exact();
}

#[test]
fn python_knows_its_terminal() {
    let script = "import os, sys
print([os.isatty(fd) for fd in range(3)], os.get_terminal_size(), sys.stdout.line_buffering)
print(os.getpgrp() == os.getpid() == os.tcgetpgrp(0), os.ttyname(0) == os.ttyname(1) == os.ttyname(2))
print(os.getsid(0) != os.getpid(), os.open('/dev/tty', os.O_RDWR) > 2)
";
    program("RUN python3 knows.py").needs("python3").file("knows.py", script).exact();
}

#[test]
fn node_has_a_prompt_with_a_history() {
    let repl = program("RUN node").needs("node").wait("> ").types("6 * 7\r").wait("42").wait("> ");
    let repl = repl.types("\x1b[A").wait("6 * 7").types(" + 1").types("\r").wait("43").wait("> ");
    repl.look().types(".exit\r").screens();
}

#[test]
fn node_prints_in_colours() {
    let script =
        "console.log({ a: 1, b: 'two', c: [null, true] }, process.stdout.isTTY, process.stdout.columns,
        process.stdout.rows, process.stdout.getColorDepth()); console.error(new Error('red').message);
        process.exitCode = 7;";
    program("RUN node colours.js").needs("node").file("colours.js", script).exact();
}

#[test]
fn perl_and_bc_calculate() {
    program("RUN bc -q")
        .needs("bc")
        .wait("\x1b[?2004h")
        .types("2^70\n")
        .wait("1180591620717411303424\r\n")
        .wait("\x1b[?2004h")
        .types("quit\n")
        .exact();
    program("RUN perl -e '$| = 1; print \"a\\n\"; print STDERR \"b\\n\"; exit 4' 2>&3").needs("perl").exact();
}
