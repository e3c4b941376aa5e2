//! Tests of the filter: each sequence, splits, and what must not be held back.

use proptest::prelude::*;

use super::*;

/// Sequences that terminals send by themselves.
const REPLIES: &[&str] = &[
    "\x1b[?62;22c",
    "\x1b[?6c",
    "\x1b[>1;10;0c",
    "\x1b[0n",
    "\x1b[?997;1n",
    "\x1b[12;40R",
    "\x1b[1;1R",
    "\x1b[1;9R",
    "\x1b[1;12R",
    "\x1b[2;5R",
    "\x1b[?1;1R",
    "\x1b[?12;40;1R",
    "\x1b[?2026;2$y",
    "\x1b[4;2$y",
    "\x1b[?0u",
    "\x1b[?31u",
    "\x1b[>4;2m",
    "\x1b[8;24;80t",
    "\x1b[48;24;80;480;800t",
    "\x1b[2;1;1;128;128;1;0x",
    "\x1b[?1;0;256S",
    "\x1b[I",
    "\x1b[O",
    "\x1b]11;rgb:0000/0000/0000\x07",
    "\x1b]11;rgb:0000/0000/0000\x1b\\",
    "\x1b]4;1;rgb:cdcd/0000/0000\x1b\\",
    "\x1b]52;c;SGVsbG8=\x07",
    "\x1b]lA title — ü\x1b\\",
    "\x1bP>|XTerm(390)\x1b\\",
    "\x1bP!|00000000\x1b\\",
    "\x1bP1+r544e=787465726d\x1b\\",
    "\x1bP0$r\x1b\\",
    "\x1b_Gi=31;OK\x1b\\",
];

/// Keys, mouse reports and text.
const TYPED: &[&str] = &[
    "text",
    "ü",
    "\r",
    "\x03",
    "\x1d",
    "\x1ba",
    "\x1bü",
    "\x1b\r",
    "\x1bOP",
    "\x1bOd",
    "\x1b[A",
    "\x1b[1;5A",
    "\x1b[Z",
    "\x1b[c",
    "\x1b[[A",
    "\x1b[R",
    "\x1b[1;2R",
    "\x1b[1;8R",
    "\x1b[1;2:3R",
    "\x1b[15~",
    "\x1b[3;5~",
    "\x1b[23$",
    "\x1b[27;5;93~",
    "\x1b[93;5u",
    "\x1b[97:65;2:3;65u",
    "\x1b[<0;12;40M",
    "\x1b[<35;12;40m",
    "\x1b[M !!",
    "\x1b[32;12;40M",
    "\x1b[201~",
    "\x1b[200~\x1b[?62c \x1b[I \x1b]11;rgb:0/0/0\x07 \x1b[12;40R \x1b\x1b[201\x1b[20\x1b[201~",
    "\x1b[200~\x1b[201~",
];

fn split(pieces: &[&[u8]]) -> (String, String) {
    let mut filter = ReplyFilter::default();
    let (mut typed, mut replies) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut out = filter.split(piece);
        typed.append(&mut out.typed);
        replies.append(&mut out.replies);
    }
    typed.append(&mut filter.flush());
    let text = |bytes: Vec<u8>| bytes.escape_ascii().to_string();
    (text(typed), text(replies))
}

fn escaped(typed: &str, replies: &str) -> (String, String) {
    (typed.as_bytes().escape_ascii().to_string(), replies.as_bytes().escape_ascii().to_string())
}

#[test]
fn answers_are_separated() {
    for reply in REPLIES {
        assert_eq!(split(&[reply.as_bytes()]), escaped("", reply));
        let around = format!("a{reply}b");
        assert_eq!(split(&[around.as_bytes()]), escaped("ab", reply));
    }
}

#[test]
fn keys_are_typed() {
    for typed in TYPED {
        assert_eq!(split(&[typed.as_bytes()]), escaped(typed, ""));
        let followed = format!("{typed}\x1b[?62c");
        assert_eq!(split(&[followed.as_bytes()]), escaped(typed, "\x1b[?62c"));
    }
}

#[test]
fn a_sequence_without_its_end_is_typed() {
    for (input, typed, replies) in [
        ("\x1b\x1b[?62c", "\x1b", "\x1b[?62c"),
        ("\x1b[\x1b[?62c", "\x1b[", "\x1b[?62c"),
        ("\x1b[?6\x1b[?62c", "\x1b[?6", "\x1b[?62c"),
        ("\x1b[?6\rc", "\x1b[?6\rc", ""),
        ("\x1b[?6üc", "\x1b[?6üc", ""),
        ("\x1b]\x1b[?62c", "\x1b]", "\x1b[?62c"),
        ("\x1b]1\x1b[?62c", "\x1b]1", "\x1b[?62c"),
        ("\x1b]1\r\x1b[?62c", "\x1b]1\r", "\x1b[?62c"),
        ("\x1bP1\x07\x1b[?62c", "\x1bP1\x07", "\x1b[?62c"),
        // Alt with a letter, and text.
        ("\x1b]text\x07", "\x1b]text\x07", ""),
        ("\x1bPtext\x1b\\", "\x1bPtext\x1b\\", ""),
        ("\x1b_text\x1b\\", "\x1b_text\x1b\\", ""),
        ("\x1b]\x07", "\x1b]\x07", ""),
    ] {
        assert_eq!(split(&[input.as_bytes()]), escaped(typed, replies), "{input:?}");
    }
}

#[test]
fn only_the_beginning_of_an_answer_is_held() {
    for (input, is_held) in [
        ("a", false),
        ("\x1b", false),
        ("\x1b[", false),
        ("\x1b[<", false),
        ("\x1b[<0;12", false),
        ("\x1bO", false),
        ("\x1b[M", false),
        ("\x1b[?", true),
        ("\x1b[>", true),
        ("\x1b[1", true),
        ("\x1b[12;4", true),
        ("\x1b]", true),
        ("\x1b]11;rgb", true),
        ("\x1b]11;rgb\x1b", true),
        ("\x1bP", true),
        ("\x1b_", true),
    ] {
        let mut filter = ReplyFilter::default();
        let out = filter.split(input.as_bytes());
        let flushed = filter.flush();
        assert_eq!(out.replies, b"", "{input:?}");
        let (expected, expected_flush) = if is_held { ("", input) } else { (input, "") };
        assert_eq!(out.typed, expected.as_bytes(), "{input:?}");
        assert_eq!(flushed, expected_flush.as_bytes(), "{input:?}");
        // After that, everything is as at the beginning.
        assert!(!filter.is_pending(), "{input:?}");
        assert_eq!(filter.split(b"\x1b[?62c").replies, b"\x1b[?62c", "{input:?}");
    }
}

#[test]
fn pending_sequences_are_reported() {
    for (input, is_pending) in
        [("", false), ("a", false), ("\x1b", true), ("\x1b[?6", true), ("\x1b[?6c", false)]
    {
        let mut filter = ReplyFilter::default();
        filter.split(input.as_bytes());
        assert_eq!(filter.is_pending(), is_pending, "{input:?}");
    }
}

#[test]
fn an_escape_that_is_passed_on_is_not_repeated() {
    for pieces in [
        &["\x1b", "[?62c"][..],
        &["\x1b", "\x1b"],
        &["\x1b", "]1", "\x1b", "[A"],
        &["\x1b", "]1", "\x1b", "\\"],
        &["\x1b", "]1", "\x1b", "\x1b", "a"],
        &["\x1b[", "12;40R"],
        &["\x1b[", "I"],
    ] {
        let bytes: Vec<_> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        assert_eq!(split(&bytes), escaped(&pieces.concat(), ""));
    }
}

#[test]
fn nothing_is_an_answer_in_a_paste_that_has_not_ended() {
    let mut filter = ReplyFilter::default();
    assert_eq!(filter.split(b"\x1b[200~\x1b[?62c").replies, b"");
    assert_eq!(filter.flush(), b"");
    assert_eq!(filter.split(b"\x1b[I\x1b[20").replies, b"");
    let end = filter.split(b"1~\x1b[I");
    assert_eq!((&*end.typed, &*end.replies), (&b"1~"[..], &b"\x1b[I"[..]));
}

#[test]
fn a_long_answer_is_passed_on_in_pieces() {
    let mut filter = ReplyFilter::default();
    let clipboard = [b"\x1b]52;c;".to_vec(), b"QUJD".repeat(500_000), b"\x1b\\".to_vec()].concat();
    let mut replies = Vec::new();
    for piece in clipboard.chunks(1000) {
        let mut out = filter.split(piece);
        assert!(out.typed.is_empty() && filter.sequence.len() <= MAX_HELD);
        // However slow it is, it does not become text.
        assert!(filter.flush().is_empty());
        replies.append(&mut out.replies);
    }
    assert!(replies == clipboard && filter.sequence.capacity() <= 4 * MAX_HELD);
    assert_eq!(filter.split(b"a").typed, b"a");
}

#[test]
fn a_key_ends_a_long_answer_that_has_no_end() {
    let mut filter = ReplyFilter::default();
    let clipboard = [b"\x1b]52;c;".to_vec(), b"QUJD".repeat(50_000)].concat();
    let begin = filter.split(&clipboard);
    let end = filter.split(b"\x03a");
    assert_eq!(end.typed, b"\x03a");
    assert!([begin.replies, end.replies].concat() == clipboard);
}

#[test]
fn endless_sequences_of_input_take_bounded_memory() {
    for (begin, piece) in
        [("\x1b[?", "1;"), ("\x1b[1", "1;"), ("\x1b[", "<"), ("\x1b]1", "a"), ("\x1bP>", "a")]
    {
        let mut filter = ReplyFilter::default();
        let mut received = filter.split(begin.as_bytes());
        for _ in 0..20 {
            let out = filter.split(piece.repeat(50_000).as_bytes());
            received.typed.extend(out.typed);
            received.replies.extend(out.replies);
            assert!(filter.sequence.capacity() <= 4 * MAX_HELD, "{begin:?}");
        }
        assert!(received.typed.is_empty() || received.replies.is_empty(), "{begin:?}");
        // A typed beginning does not become an answer.
        let mut filter = ReplyFilter::default();
        for piece in [begin.as_bytes().split_at(1).0, begin.as_bytes().split_at(1).1] {
            filter.split(piece);
        }
        for _ in 0..3 {
            let out = filter.split(piece.repeat(50_000).as_bytes());
            assert_eq!((out.typed.len(), out.replies.len()), (50_000 * piece.len(), 0), "{begin:?}");
        }
    }
}

/// Sequences in an order, `true` for answers.
fn units() -> impl Strategy<Value = Vec<(&'static str, bool)>> {
    let unit = prop_oneof![
        prop::sample::select(REPLIES).prop_map(|reply| (reply, true)),
        prop::sample::select(TYPED).prop_map(|typed| (typed, false)),
    ];
    prop::collection::vec(unit, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Only an answer that is split right after its ESC or CSI becomes typed.
    #[test]
    fn input_may_be_split_anywhere(units in units()) {
        let input: Vec<u8> = units.iter().flat_map(|(text, _)| text.bytes()).collect();
        for cut in 0..=input.len() {
            let (mut typed, mut replies, mut begin) = (String::new(), String::new(), 0);
            for (text, is_reply) in &units {
                let after_cut = cut.checked_sub(begin).and_then(|length| text.get(..length));
                let is_cut = after_cut.is_some_and(|start| matches!(start, "\x1b" | "\x1b[") && start != *text);
                if *is_reply && !is_cut { &mut replies } else { &mut typed }.push_str(text);
                begin += text.len();
            }
            let (first, second) = input.split_at(cut);
            prop_assert_eq!(split(&[first, second]), escaped(&typed, &replies), "cut at {}", cut);
        }
    }

    /// Byte by byte, each ESC is passed on as it comes, and with it all that follows.
    #[test]
    fn single_bytes_are_typed_in_their_order(units in units()) {
        let input: Vec<u8> = units.iter().flat_map(|(text, _)| text.bytes()).collect();
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(split(&bytes), (input.escape_ascii().to_string(), String::new()));
    }

    #[test]
    fn no_byte_of_random_input_is_lost(
        pieces in prop::collection::vec(prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"\x1b\x1b\x1b[[]P?>1;\\\x07$cRIty~".to_vec())],
            0..50,
        ), 0..8)
    ) {
        let mut filter = ReplyFilter::default();
        let mut out: Vec<u8> = Vec::new();
        for piece in &pieces {
            let split = filter.split(piece);
            out.extend(split.typed);
            out.extend(split.replies);
        }
        out.extend(filter.flush());
        let mut expected = pieces.concat();
        out.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(out, expected);
    }
}
