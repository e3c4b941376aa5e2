//! Typed input: editing keys of the terminal, flow control, large pastes.

use crate::pty_comparison::program;

/// Sets raw modes, prints `ready`, and copies a number of bytes into the file `got`.
const RAW_READER: &str = "import os, sys, termios, tty
before = termios.tcgetattr(0)
tty.setraw(0)
os.write(1, b'ready')
left = int(sys.argv[1])
with open('got', 'wb') as got:
    while left:
        read = os.read(0, min(left, 65536))
        got.write(read)
        left -= len(read)
termios.tcsetattr(0, termios.TCSADRAIN, before)
print('end')
";

fn raw_reader(bytes: usize) -> crate::pty_comparison::Comparison {
    let reader = program(format!("RUN python3 raw.py {bytes}")).needs("python3").file("raw.py", RAW_READER);
    reader.wait("ready")
}

#[test]
fn ctrl_d_ends_the_input_of_cat() {
    let cat = program("RUN sh -c 'echo ready; cat; echo end'")
        .wait("ready\r\n")
        .types("one\r")
        .wait("one\r\none\r\n");
    // The first one only ends a line without its newline.
    cat.types("two\x04").wait("twotwo").types("\x04").wait("end").exact();
}

#[test]
fn editing_keys_of_a_line_work() {
    let cat = program("RUN sh -c 'echo ready; cat -v; echo end'").wait("ready\r\n");
    let cat = cat
        .types("onex\x7f two\x17three\r")
        .wait("one three\r\n")
        .types("gone\x15kept\r")
        .wait("kept\r\nkept\r\n");
    let cat = cat
        .types("\x16\x03\x16\x1b\r")
        .wait("^[\r\n^C^[\r\n")
        .types("again\x12\r")
        .wait("again\r\nagain\r\n");
    cat.types("é\x7fü\r").wait("M-CM-<\r\n").types("\x04").exact();
}

#[test]
fn ctrl_s_stops_output_until_ctrl_q() {
    let script = "echo ready; read x; echo one; echo two; read y; echo three";
    let program = program(format!("RUN sh -c '{script}'")).wait("ready\r\n");
    program.types("\x13a\n\x11").wait("one\r\ntwo\r\n").types("b\n").exact();
}

#[test]
fn stopped_output_stays_stopped() {
    let script = "echo ready; read x; touch before; echo one; touch after";
    let program = program(format!("RUN sh -c '{script}'")).wait("ready\r\n").types("\x13a\n");
    // Nothing of it is seen while it is stopped: the program stays in its call.
    program.wait_for_file("before").types("\x11").wait("one\r\n").exact();
}

#[test]
fn a_paste_of_a_megabyte_reaches_a_file_in_lines() {
    let lines: Vec<String> = (0..16_384).map(|line| format!("{line:063}\n")).collect();
    let lines = lines.concat();
    let cat =
        program("RUN sh -c 'stty -echo; echo ready; cat >pasted; stty echo'").wait("ready\r\n").types(lines);
    cat.types("\x04").exact();
}

#[test]
fn a_paste_of_a_megabyte_reaches_a_raw_reader() {
    let bytes: Vec<u8> =
        (0_u32..1_048_576).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    // Not the keys that leave a session, which are meant to be taken.
    let bytes: Vec<u8> = bytes.into_iter().map(|byte| if byte == 0x1d { 0 } else { byte }).collect();
    raw_reader(bytes.len()).types(bytes).wait("end").exact();
}

#[test]
fn each_byte_reaches_a_raw_reader() {
    let bytes: Vec<u8> = (0..=255).filter(|byte| *byte != 0x1d).collect();
    raw_reader(bytes.len()).types(bytes).wait("end").exact();
}

#[test]
fn the_first_detach_key_alone_reaches_the_program() {
    raw_reader(4).types("\x1d").wait_for_file("got").types("x\x1d").types(":").wait("end").exact();
}

#[test]
fn reports_of_mouse_focus_and_paste_reach_the_program() {
    let reports = "\x1b[<0;10;5M\x1b[<0;10;5m\x1b[I\x1b[O\x1b[200~pasted\rtext\x1b[201~\x1b[M !!\x1b[1;5A\x1bOP\x1b[15~";
    raw_reader(reports.len()).types(reports).wait("end").exact();
}

#[test]
fn a_program_that_opens_its_terminal_asks_there() {
    let script =
        "echo input | { read x; stty -echo </dev/tty; printf 'Password: ' >/dev/tty; read y </dev/tty;
        stty echo </dev/tty; echo >/dev/tty; echo \"$x $y\"; }";
    let asks = program("RUN sh ask.sh </dev/null >out 2>&3").file("ask.sh", script);
    asks.wait("Password: ").types("secret\r").exact();
}

#[test]
fn a_terminal_of_errors_alone_is_asked_too() {
    let asks =
        program("echo | RUN sh -c 'printf \"? \" >/dev/tty; read y </dev/tty; echo \"got $y\"' >out 2>&3");
    asks.wait("? ").types("yes\r").exact();
}

#[test]
fn line_feeds_are_translated_as_the_modes_say() {
    let modes =
        "stty -icrnl; echo ready; head -c 2 | od -An -c; stty icrnl inlcr; echo again; head -c 2 | od -An -c";
    let modes =
        program(format!("RUN sh -c '{modes}; stty -inlcr'")).wait("ready\r\n").types("\r\n").wait("\\r");
    modes.wait("again\r\n").types("\n\r").wait("\\n").exact();
}
