//! Output: large, in other encodings, and with control bytes.

use crate::pty_comparison::program;

#[test]
fn twenty_megabytes_arrive_whole() {
    program("RUN seq 1 2700000").exact();
}

#[test]
fn output_without_a_newline_arrives() {
    program("RUN printf prompt").exact();
    program("RUN sh -c 'printf \"? \"; read x; printf \"%s\" \"$x\"'").wait("? ").types("y\n").exact();
}

#[test]
fn wide_and_combining_characters_arrive() {
    program("RUN printf '日本語 e\\u0301 👩‍👩‍👧 \\u200bé\\n'").exact();
    let cat =
        program("RUN sh -c 'echo ready; head -n 1'").wait("ready\r\n").types("日本 e\u{301} 👩\u{200d}👧\r");
    cat.exact();
}

#[test]
fn bytes_that_are_not_text_arrive() {
    program(r"RUN printf '\000a\000\377\376\200 \303( \342\202\n'").exact();
    program("RUN python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)) * 300)'")
        .needs("python3")
        .exact();
}

#[test]
fn control_sequences_arrive_unchanged() {
    let sequences = r"\033]0;title\007\033]8;;https://example.org\033\\link\033]8;;\033\\\033]52;c;aGk=\007\033[31;1mred\033[m\033Pq#0;2;0;0;0\033\\\033[38;2;1;2;3mx\033[0m\a\b\t\v\f\r\n";
    program(format!("RUN printf '{sequences}'")).exact();
    program(r"RUN printf 'cut off \033[3'").exact();
}

#[test]
fn a_bar_that_draws_over_itself_arrives() {
    program("RUN sh -c 'for i in 1 2 3 4 5; do printf \"\\r%d%%\" $((i * 20)); sleep 0.01; done; echo'")
        .exact();
}

#[test]
fn tabs_and_newlines_are_expanded_once() {
    program("stty -onlcr; RUN printf 'a\\nb\\r\\n'; stty onlcr").exact();
    program("stty tab3; RUN printf 'a\\tb\\n'; stty tab0").exact();
    program("stty -opost; RUN printf 'a\\nb\\n'; stty opost").exact();
    program("RUN sh -c 'stty -opost; printf \"a\\nb\\n\"; stty opost; echo c'").exact();
}

#[test]
fn both_outputs_keep_their_order() {
    program("RUN sh -c 'for i in $(seq 300); do echo out $i; echo err $i >&2; done' 2>&3").exact();
}
