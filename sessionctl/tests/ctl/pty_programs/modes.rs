//! Queries to the terminal, and modes that programs switch on and off.

use crate::pty_comparison::program;

/// Sends a query in raw modes and prints the answer up to its last character.
const ASKS: &str = "import os, sys, termios, tty
before = termios.tcgetattr(0)
tty.setraw(0)
for query, last in ((b'\\x1b[c', b'c'), (b'\\x1b[6n', b'R'), (b'\\x1b]11;?\\x1b\\\\', b'\\\\'), (b'\\x1b[>q', b'\\\\')):
    os.write(1, query)
    answer = b''
    while not answer.endswith(last):
        answer += os.read(0, 1)
    os.write(1, repr(answer).encode() + b'\\r\\n')
termios.tcsetattr(0, termios.TCSADRAIN, before)
";

#[test]
fn queries_get_the_answers_of_the_terminal() {
    let asks = program("RUN python3 asks.py").needs("python3").file("asks.py", ASKS);
    let asks = asks
        .wait("\x1b[c")
        .types("\x1b[?62;1;22c")
        .wait("22c'")
        .wait("\x1b[6n")
        .types("\x1b[12;34R")
        .wait("34R'");
    let asks = asks.wait("\x1b]11;?").types("\x1b]11;rgb:1111/2222/3333\x1b\\").wait("3333");
    asks.wait("\x1b[>q").types("\x1bP>|Terminal(1)\x1b\\").wait("Terminal").exact();
}

#[test]
fn an_answer_in_parts_reaches_the_program() {
    let asks = program("RUN python3 asks.py").needs("python3").file("asks.py", ASKS);
    let asks = asks.wait("\x1b[c").types("\x1b").types("[?62").types(";1;22c").wait("22c'").wait("\x1b[6n");
    let asks =
        asks.types("\x1b[1").types("2;3").types("4Rtyped\x1b]11;x\x1b\\").wait("x\\x1b").wait("\x1b[>q");
    asks.types("\x1b\\").exact();
}

#[test]
fn modes_are_switched_on_and_off_by_the_program() {
    let on_and_off = r"\033[?1000h\033[?1006h\033[?2004h\033[?1004h\033[?1h\033=\033[>1u mode \033[<u\033>\033[?1l\033[?1004l\033[?2004l\033[?1006l\033[?1000l\n";
    program(format!("RUN printf '{on_and_off}'")).exact();
}

#[test]
fn modes_that_a_program_leaves_are_left() {
    program(r"RUN printf '\033[?1000h\033[?2004h\033[?25l\033[41mleft'").exact();
    program("RUN sh -c 'printf \"\\033[?1049h\\033[2Jscreen\"; exit 1'").exact();
}

#[test]
fn raw_modes_of_the_program_are_its_own() {
    let script = "old=$(stty -g); stty raw -echo; printf 'a\\nb'; head -c 1; stty $old; echo; stty -a | tr ';' '\\n' | grep -c icanon";
    program("RUN sh raw.sh").file("raw.sh", script).wait("a\nb").types("x").exact();
}

#[test]
fn clear_prints_its_sequence() {
    program("RUN clear").exact();
    program("RUN tput init").needs("tput").exact();
}
