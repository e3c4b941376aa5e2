//! Tests of the answers.

use super::super::terminal_state::TerminalState;
use super::*;

const SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

fn replies(output: &[u8]) -> String {
    let mut replies = Vec::new();
    TerminalState::new(SIZE).advance(output, Some(&mut replies));
    String::from_utf8(replies).unwrap()
}

#[test]
fn each_query_has_its_answer() {
    let version = concat!("\x1bP>|session-runner(", env!("CARGO_PKG_VERSION"), ")\x1b\\");
    for (query, answer) in [
        ("\x1b[c", "\x1b[?62;22c"),
        ("\x1b[0c", "\x1b[?62;22c"),
        ("\x1b[>c", "\x1b[>1;10;0c"),
        ("\x1b[>0c", "\x1b[>1;10;0c"),
        ("\x1b[=c", "\x1bP!|00000000\x1b\\"),
        ("\x1b[5n", "\x1b[0n"),
        ("\x1b[6n", "\x1b[1;1R"),
        ("\x1b[?6n", "\x1b[?1;1R"),
        ("\x1b[>q", version),
        ("\x1b[>0q", version),
        ("\x1b[18t", "\x1b[8;24;80t"),
        ("\x1bP+q544e\x1b\\", "\x1bP0+r\x1b\\"),
        ("\x1bP$qm\x1b\\", "\x1bP0$r\x1b\\"),
        ("\x1b]10;?\x07", "\x1b]10;rgb:d0d0/d0d0/d0d0\x07"),
        ("\x1b]11;?\x1b\\", "\x1b]11;rgb:0000/0000/0000\x1b\\"),
        ("\x1b]12;?\x07", "\x1b]12;rgb:d0d0/d0d0/d0d0\x07"),
        ("\x1b]10;?;?\x07", "\x1b]10;rgb:d0d0/d0d0/d0d0\x07\x1b]11;rgb:0000/0000/0000\x07"),
        ("\x1b]11;#fff;?\x07", "\x1b]12;rgb:d0d0/d0d0/d0d0\x07"),
    ] {
        assert_eq!(replies(query.as_bytes()), answer, "{query:?}");
    }
}

#[test]
fn what_is_no_query_has_no_answer() {
    for output in [
        "text\x05\r\n",
        "\x1b[1c",
        "\x1b[0;0c",
        "\x1b[?62;22c",
        "\x1b[>1;10;0c",
        "\x1b[0n",
        "\x1b[?15n",
        "\x1b[5;6n",
        "\x1b[1;1R",
        "\x1b[14t",
        "\x1b[16t",
        "\x1b[21t",
        "\x1b[8;24;80t",
        "\x1b[18;18t",
        "\x1b[2 q",
        "\x1b[u",
        "\x1b[>1u",
        "\x1b]4;1;?\x07",
        "\x1b]11;#fff\x07",
        "\x1b]52;c;?\x07",
        "\x1b]13;?\x07",
        "\x1bP1$r0m\x1b\\",
        "\x1bPq#0;2;0;0;0\x1b\\",
        "\x1b_Gi=1,a=q;AAAA\x1b\\",
        "\x1b[!p",
    ] {
        assert_eq!(replies(output.as_bytes()), "", "{output:?}");
    }
}

#[test]
fn a_query_is_answered_when_it_is_complete() {
    for query in ["\x1b[c", "\x1b[?2004$p", "\x1b]11;?\x07", "\x1b]11;?\x1b\\", "\x1bP+q544e\x1b\\"] {
        let mut state = TerminalState::new(SIZE);
        let mut replies = Vec::new();
        let (last, begin) = query.as_bytes().split_last().unwrap();
        for byte in begin {
            state.advance(&[*byte], Some(&mut replies));
        }
        assert!(replies.is_empty(), "{query:?}");
        state.advance(&[*last], Some(&mut replies));
        assert!(!replies.is_empty(), "{query:?}");
    }
}

#[test]
fn settings_of_modes_are_reported() {
    for (output, answer) in [
        ("\x1b[?1$p", "\x1b[?1;2$y"),
        ("\x1b[?1h\x1b[?1$p", "\x1b[?1;1$y"),
        ("\x1b[?25$p", "\x1b[?25;1$y"),
        ("\x1b[?25l\x1b[?25$p", "\x1b[?25;2$y"),
        ("\x1b[?2026$p", "\x1b[?2026;2$y"),
        ("\x1b[?1049$p", "\x1b[?1049;2$y"),
        ("\x1b[?1047h\x1b[?1049$p", "\x1b[?1049;1$y"),
        ("\x1b[4h\x1b[4$p", "\x1b[4;1$y"),
        ("\x1b[20$p", "\x1b[20;2$y"),
        ("\x1b[12$p", "\x1b[12;0$y"),
        ("\x1b[?9999$p", "\x1b[?9999;0$y"),
        ("\x1b[?2027$p", "\x1b[?2027;0$y"),
        ("\x1b[?2048$p", "\x1b[?2048;0$y"),
        ("\x1b[?2031h\x1b[?2031$p", "\x1b[?2031;1$y"),
    ] {
        assert_eq!(replies(output.as_bytes()), answer, "{output:?}");
    }
}

#[test]
fn keyboard_flags_of_the_current_screen_are_reported() {
    for (output, answer) in [
        ("\x1b[?u", "\x1b[?0u"),
        ("\x1b[>5u\x1b[?u", "\x1b[?5u"),
        ("\x1b[>5u\x1b[?1049h\x1b[?u", "\x1b[?0u"),
        ("\x1b[>5u\x1b[?1049h\x1b[=3u\x1b[?1049l\x1b[?u", "\x1b[?5u"),
    ] {
        assert_eq!(replies(output.as_bytes()), answer, "{output:?}");
    }
}

#[test]
fn the_size_is_the_current_one() {
    let mut state = TerminalState::new(SIZE);
    state.set_size(TerminalSize { rows: 50, columns: 132 });
    let mut replies = Vec::new();
    state.advance(b"\x1b[18t", Some(&mut replies));
    assert_eq!(replies, b"\x1b[8;50;132t");
}

#[test]
fn answers_to_one_piece_are_bounded() {
    let mut state = TerminalState::new(SIZE);
    let mut replies = Vec::new();
    let queries = b"\x1b[c".repeat(100_000);
    state.advance(&queries, Some(&mut replies));
    let answer = b"\x1b[?62;22c";
    assert_eq!(replies, answer.repeat(MAX_REPLIES / answer.len()));
    // The bound is for the piece, not for the buffer.
    state.advance(b"\x1b[5n", Some(&mut replies));
    assert!(replies.ends_with(b"\x1b[?62;22c\x1b[0n"));
}

#[test]
fn a_viewer_answers_itself() {
    let mut state = TerminalState::new(SIZE);
    state.advance(b"\x1b[c\x1b[5", None);
    let mut replies = Vec::new();
    state.advance(b"n", Some(&mut replies));
    assert_eq!(replies, b"\x1b[0n");
}
