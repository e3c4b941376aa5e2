//! Tests of the grammar: complete sequences, incomplete ones, and what breaks them.

use proptest::prelude::*;

use super::*;

/// Writes the sequences that a piece of output completes, in a form to compare.
fn written(parser: &mut Parser, bytes: &[u8], out: &mut Vec<String>) {
    parser.advance(bytes, |sequence| {
        out.push(match sequence {
            Sequence::ShiftOut => "SO".to_owned(),
            Sequence::ShiftIn => "SI".to_owned(),
            Sequence::Escape(intermediate, last) => {
                format!("ESC {}", [intermediate, last].escape_ascii())
            }
            Sequence::Control(function) => {
                let params: Vec<_> = function.params().map(|param| param.to_string()).collect();
                let (prefix, intermediate, last) = function.name;
                format!("CSI {} {}", [prefix, intermediate, last].escape_ascii(), params.join(","))
            }
            Sequence::SystemCommand(command) => {
                let end = if command.ended_by_bel { "BEL" } else { "ST" };
                let cut = if command.is_cut { " cut" } else { "" };
                format!("OSC {} {end}{cut}", command.text.escape_ascii())
            }
            Sequence::DeviceControl((prefix, intermediate, last)) => {
                format!("DCS {}", [prefix, intermediate, last].escape_ascii())
            }
        });
    });
}

fn all(bytes: &[u8]) -> Vec<String> {
    let (mut parser, mut out) = (Parser::default(), Vec::new());
    written(&mut parser, bytes, &mut out);
    out
}

#[test]
fn each_kind_of_sequence_is_recognised() {
    for (output, expected) in [
        (&b"text \x07\r\n\t\x7f\x9b1m"[..], &[][..]),
        (b"\x0ea\x0f", &["SO", "SI"]),
        (b"\x1b7\x1b=\x1b\\", &[r"ESC \x007", r"ESC \x00=", r"ESC \x00\\"]),
        (b"\x1b(0\x1b%G\x1b A\x1b/A", &["ESC (0", "ESC %G", "ESC  A", "ESC /A"]),
        (b"\x1b[m\x1b[;5H", &[r"CSI \x00\x00m 0", r"CSI \x00\x00H 0,5"]),
        (b"\x1b[?1000;1006h", &[r"CSI ?\x00h 1000,1006"]),
        (b"\x1b[4:3m", &[r"CSI \x00\x00m 4,3"]),
        (b"\x1b[2 q\x1b[?25$p", &[r"CSI \x00 q 2", "CSI ?$p 25"]),
        (b"\x1b]2;a b\x07", &["OSC 2;a b BEL"]),
        ("\x1b]2;ä\x1b\\".as_bytes(), &[r"OSC 2;\xc3\xa4 ST"]),
        (b"\x1bP+q544e\x1b\\", &[r"DCS \x00+q"]),
        (b"\x1bP1;2|\x1b\\\x1bP|data\x07data\x1b\\", &[r"DCS \x00\x00|", r"DCS \x00\x00|"]),
        (b"\x1bXstart of string\x1b\\\x1b_Gapplication\x1b\\\x1b^privacy\x1b\\", &[]),
    ] {
        assert_eq!(all(output), expected, "{}", output.escape_ascii());
    }
}

#[test]
fn control_characters_do_not_end_a_control_sequence() {
    for (output, expected) in [
        (&b"\x1b[1\n;\x072\x7fH"[..], &[r"CSI \x00\x00H 1,2"][..]),
        (b"\x1b[1\x0f;2H", &["SI", r"CSI \x00\x00H 1,2"]),
        (b"\x1b\n(\r0", &["ESC (0"]),
        (b"\x1b]0;a\r\nb\tc\x07", &["OSC 0;abc BEL"]),
    ] {
        assert_eq!(all(output), expected, "{}", output.escape_ascii());
    }
}

#[test]
fn an_interrupted_sequence_is_dropped() {
    let after = [r"CSI \x00\x00K 1"];
    for output in [
        &b"\x1b[?100\x18\x1b[1K"[..],
        b"\x1b[?100\x1a\x1b[1K",
        b"\x1b[?100\x1b[1K",
        b"\x1b(\x1b[1K",
        b"\x1b\x1b[1K",
        "\x1b[?100äh\x1b[1K".as_bytes(),
        "\x1b(ä\x1b[1K".as_bytes(),
        b"\x1b]0;title\x18\x07\x1b[1K",
        b"\x1b]0;title\x1a\x07\x1b[1K",
        b"\x1b]0;title\x1b[1K",
        b"\x1b]0;title\x1b\x1b[1K",
        b"\x1bP+q\x18\x1b[1K",
        b"\x1bP+q\x1b[1K",
        b"\x1b_G\x1b[1K",
        "\x1bPä\x1b[1K".as_bytes(),
    ] {
        assert_eq!(all(output), after, "{}", output.escape_ascii());
    }
}

#[test]
fn a_sequence_that_breaks_the_grammar_is_dropped() {
    for output in [
        &b"\x1b[1?h"[..],
        b"\x1b[??h",
        b"\x1b[1 2q",
        b"\x1b[ $q",
        b"\x1b[4:1h",
        b"\x1b( 0",
        b"\x1bP1?+q\x1b\\",
    ] {
        assert_eq!(all(output), [""; 0], "{}", output.escape_ascii());
    }
}

#[test]
fn nothing_of_one_string_is_left_in_the_next() {
    assert_eq!(all(b"\x1bP+q41\x1b\\\x1b_G\x1b\\"), [r"DCS \x00+q"]);
    assert_eq!(all(b"\x1bP+q41\x1b\\\x1bP1?q\x1b\\"), [r"DCS \x00+q"]);
    let long = format!("\x1b]{}\x07\x1b]1\x07", "1".repeat(MAX_STRING + 1));
    assert_eq!(all(long.as_bytes()).last().unwrap(), "OSC 1 BEL");
}

#[test]
fn missing_parameters_are_zero() {
    for (output, params, is_default, has_none) in [
        (&b"\x1b[m"[..], [0, 0, 0], true, true),
        (b"\x1b[0m", [0, 0, 0], true, false),
        (b"\x1b[;m", [0, 0, 0], false, false),
        (b"\x1b[7m", [7, 0, 0], false, false),
        (b"\x1b[;8;9m", [0, 8, 9], false, false),
    ] {
        Parser::default().advance(output, |sequence| {
            let Sequence::Control(function) = sequence else { panic!("{sequence:?}") };
            assert_eq!([0, 1, 2].map(|index| function.param(index)), params);
            assert_eq!((function.is_default(), function.has_no_params()), (is_default, has_none));
        });
    }
}

#[test]
fn large_numbers_are_the_largest_one() {
    assert_eq!(all(b"\x1b[65535;65536;99999999999999999999m"), [r"CSI \x00\x00m 65535,65535,65535"]);
}

#[test]
fn only_complete_text_is_ground() {
    for (output, is_ground) in [
        (&b""[..], true),
        (b"text\n", true),
        (b"\x1b", false),
        (b"\x1b[", false),
        (b"\x1b[1;", false),
        (b"\x1b[1;2H", true),
        (b"\x1b(", false),
        (b"\x1b(0", true),
        (b"\x1b]0;title", false),
        (b"\x1b]0;title\x1b", false),
        (b"\x1b]0;title\x1b\\", true),
        (b"\x1bP+q", false),
        (b"\x1bP+q\x1b\\", true),
        (b"\x1b[1\x18", true),
        ("a–".as_bytes(), true),
        ("a–".as_bytes().split_last().unwrap().1, false),
        (&[b'a', 0xe2], false),
        (&[b'a', 0xf0, 0x9f, 0x98], false),
        ("a😀".as_bytes(), true),
        (&[0xe2, b'a'], true),
        (&[0xe2, 0x1b, b'7'], true),
        // No character begins so.
        (&[b'a', 0x80], true),
        (&[b'a', 0xff], true),
    ] {
        let (mut whole, mut bytewise) = (Parser::default(), Parser::default());
        whole.advance(output, |_| {});
        for byte in output {
            bytewise.advance(&[*byte], |_| {});
        }
        assert_eq!(whole.is_ground(), is_ground, "{}", output.escape_ascii());
        assert_eq!(bytewise.is_ground(), is_ground, "{} by bytes", output.escape_ascii());
    }
}

#[test]
fn endless_sequences_take_bounded_memory() {
    let mut parser = Parser::default();
    let mut out = Vec::new();
    for (begin, piece) in [
        ("\x1b[", "1;"),
        ("\x1b[", "$"),
        ("\x1b(", "  "),
        ("\x1bP", "1;"),
        ("\x1bP+q", "41"),
        ("\x1b]0;", "ab"),
        ("\x1b_", "ab"),
    ] {
        written(&mut parser, begin.as_bytes(), &mut out);
        for _ in 0..10 {
            written(&mut parser, piece.repeat(50_000).as_bytes(), &mut out);
        }
        assert!(parser.held.capacity() < 4096, "{begin:?}: {}", parser.held.capacity());
        assert!(out.is_empty(), "{begin:?}: {out:?}");
    }
}

#[test]
fn limits_are_exact() {
    let control = |length: usize| [b"\x1b[", "1".repeat(length).as_bytes(), b"m"].concat();
    assert_eq!(all(&control(MAX_CONTROL)).len(), 1);
    assert_eq!(all(&control(MAX_CONTROL + 1)).len(), 0);
    let command = |length: usize| [b"\x1b]", "1".repeat(length).as_bytes(), b"\x07"].concat();
    assert!(!all(&command(MAX_STRING))[0].ends_with("cut"));
    assert!(all(&command(MAX_STRING + 1))[0].ends_with("cut"));
}

/// Pieces of output that form sequences when they are concatenated, and also break them.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        &b"\x1b"[..],
        b"[",
        b"]",
        b"P",
        b"\\",
        b"?",
        b"1",
        b";",
        b":",
        b"$",
        b" ",
        b"h",
        b"m",
        b"q",
        b"_",
        b"\x07",
        b"\x18",
        b"\n",
        b"\x0e",
        b"text",
        b"\x1b[",
        b"\x1b]0;",
        b"\x1bP",
        b"\x1b\\",
        b"\xc3",
        b"\xa4",
        b"\xf0\x9f",
        b"\x7f",
        b"\xff",
    ];
    let piece = prop_oneof![
        8 => prop::sample::select(pieces.to_vec()).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..4),
        1 => (1..700_usize).prop_map(|length| vec![b'1'; length]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The pieces in which output arrives change nothing.
    #[test]
    fn output_may_be_split_anywhere(output in output()) {
        let mut whole = Parser::default();
        let mut expected = Vec::new();
        written(&mut whole, &output, &mut expected);
        let mut bytewise = (Parser::default(), Vec::new());
        for byte in &output {
            written(&mut bytewise.0, &[*byte], &mut bytewise.1);
        }
        prop_assert_eq!(&bytewise.1, &expected);
        prop_assert_eq!(bytewise.0.is_ground(), whole.is_ground());
        for cut in (0..=output.len()).take(100) {
            let (first, second) = output.split_at(cut);
            let mut split = (Parser::default(), Vec::new());
            written(&mut split.0, first, &mut split.1);
            written(&mut split.0, second, &mut split.1);
            prop_assert_eq!(&split.1, &expected, "cut at {}", cut);
            prop_assert_eq!(split.0.is_ground(), whole.is_ground(), "cut at {}", cut);
        }
    }
}
