//! Keys and calls that send signals, and the exit codes that follow.

use rustix::process::Signal;

use crate::pty_comparison::program;

/// Prints the name of each signal that it gets, and ends by TERM.
const TRAPS: &str = "import os, signal, time
def got(number, _):
    os.write(1, f'got {signal.Signals(number).name}\\n'.encode())
    if number == signal.SIGTERM:
        os._exit(3)
for name in 'INT', 'QUIT', 'USR1', 'USR2', 'TERM':
    signal.signal(signal.Signals['SIG' + name], got)
os.write(1, b'ready\\n')
while True:
    time.sleep(0.02)
";

/// Prints when it is continued. Sleeps shortly: a signal just before a call does not interrupt that.
const JOB: &str = "import os, select, signal
signal.signal(signal.SIGCONT, lambda *_: os.write(1, b'back\\n'))
os.write(1, b'begin\\n')
while not select.select([0], [], [], 0.02)[0]:
    pass
print('got', os.read(0, 100))
";

#[test]
fn ctrl_c_ends_a_program_with_130() {
    program("RUN sh -c 'echo ready; exec sleep 600'").wait("ready\r\n").types("\x03").exact();
    program("RUN sh -c 'trap \"echo trapped; exit 4\" INT; echo ready; while :; do sleep 0.02; done'")
        .wait("ready\r\n")
        .types("\x03")
        .wait("trapped")
        .exact();
}

#[test]
fn ctrl_backslash_ends_a_program_with_131() {
    program("RUN sh -c 'ulimit -c 0; echo ready; exec sleep 600'").wait("ready\r\n").types("\x1c").exact();
}

#[test]
fn exit_codes_are_passed_on() {
    for code in [0, 1, 2, 77, 125, 126, 127, 128, 255] {
        program(format!("RUN sh -c 'exit {code}'")).exact();
    }
}

#[test]
fn death_by_a_signal_is_passed_on() {
    for signal in ["HUP", "INT", "QUIT", "KILL", "SEGV", "PIPE", "TERM", "USR1"] {
        program(format!("RUN sh -c 'ulimit -c 0; echo now; kill -{signal} $$'")).exact();
    }
}

#[test]
fn ctrl_z_stops_the_job_and_fg_continues_it() {
    let job = "RUN python3 job.py 2>&3; echo code $?; fg >$CONTROL/fg; echo code $?";
    let job = program(job).needs("python3").file("job.py", JOB).wait("begin\r\n").types("\x1a");
    let job = job.wait("code 148\r\n").wait("back\r\n").types("hello\n");
    job.wait("got b'hello").wait("code 0\r\n").exact();
}

#[test]
fn ctrl_z_in_raw_modes_is_a_key() {
    let script = "old=$(stty -g); stty raw -echo; echo ready; head -c 3 | od -An -c; stty $old";
    program(format!("RUN sh -c '{script}'")).wait("ready").types("\x1a\x03\x1c").wait("003").exact();
}

#[test]
fn signals_to_the_job_reach_the_program() {
    let traps = program("RUN python3 traps.py")
        .needs("python3")
        .file("traps.py", TRAPS)
        .wait("ready\r\n")
        .types("\x03")
        .wait("got SIGINT\r\n");
    let traps =
        traps.signal(Signal::USR1).wait("got SIGUSR1\r\n").signal(Signal::USR2).wait("got SIGUSR2\r\n");
    let traps = traps.signal(Signal::QUIT).wait("got SIGQUIT\r\n").types("\x1c").wait("got SIGQUIT\r\n");
    traps.signal(Signal::TERM).wait("got SIGTERM\r\n").exact();
}

#[test]
fn a_new_size_reaches_the_program() {
    let traps = "trap 'stty size' WINCH; echo ready; while ! test -e end; do sleep 0.02; done";
    let traps = program("RUN sh traps.sh").file("traps.sh", traps).wait("ready\r\n");
    let traps = traps.resize(30, 100).wait("30 100\r\n").resize(10, 40).wait("10 40\r\n").resize(24, 80);
    traps.wait("24 80\r\n").create("end").exact();
}

#[test]
fn a_new_size_redraws_an_editor() {
    let lines: Vec<String> = (1..=100).map(|line| format!("line {line}\n")).collect();
    let lines = lines.concat();
    let editor = program("RUN vi -u NONE -i NONE lines")
        .needs("vi")
        .file("lines", lines)
        .wait("100 lines")
        .wait("line 23")
        .resize(40, 80);
    editor.wait("line 39").resize(24, 80).wait("line 23").types(":q!\r").screens();
}

#[test]
fn interrupts_reach_the_whole_pipeline_of_the_program() {
    let script = "trap 'wait; echo all; exit 7' INT; sh -c \"trap 'echo part; exit' INT; echo ready; \
        while :; do sleep 0.02; done\" & wait; wait";
    // A shell without job control lets its background ignore INT.
    let script = format!("set -m; {}", script.replace(" & wait; wait", "; exit 8"));
    program("RUN bash parts.sh")
        .needs("bash")
        .file("parts.sh", script)
        .wait("ready\r\n")
        .types("\x03")
        .wait("part")
        .exact();
}
