//! Tests of the search: each encoding of a key, what comes between the keys, and splits.

use proptest::prelude::*;

use super::*;

fn scanner(keys: &str) -> DetachScanner {
    DetachScanner::new(keys.parse().unwrap())
}

/// Scans pieces, flushes, and returns what was passed on, with `DETACH` where the session was left.
fn scan(keys: &str, pieces: &[&[u8]]) -> String {
    let mut scanner = scanner(keys);
    let mut pass = Vec::new();
    for piece in pieces {
        let Scanned { pass: bytes, detach } = scanner.scan(piece);
        pass.extend(bytes);
        if detach {
            return format!("{}DETACH", pass.escape_ascii());
        }
    }
    pass.append(&mut scanner.flush());
    pass.escape_ascii().to_string()
}

fn check(keys: &str, input: &str, expected: &str) {
    let expected = match expected.strip_suffix("DETACH") {
        Some(before) => format!("{}DETACH", before.as_bytes().escape_ascii()),
        None => expected.as_bytes().escape_ascii().to_string(),
    };
    assert_eq!(scan(keys, &[input.as_bytes()]), expected, "{keys}: {input:?}");
}

const DEFAULT: &str = "ctrl-],d";
/// The forms of `Ctrl-]`.
const FIRST: &[&str] = &[
    "\x1d",
    "\x1b[93;5u",
    "\x1b[93;5:1u",
    "\x1b[93;5:2u",
    "\x1b[93:125;5u",
    "\x1b[93:125:93;5:1u",
    "\x1b[1098::93;5u",
    "\x1b[93;69u",
    "\x1b[93;133u",
    "\x1b[93;197:1u",
    "\x1b[27;5;93~",
];
/// The forms of `d`.
const SECOND: &[&str] = &[
    "d",
    "\x1b[100u",
    "\x1b[100;1u",
    "\x1b[100;1:1u",
    "\x1b[100:68;1;100u",
    "\x1b[100;;100u",
    "\x1b[100;65u",
    "\x1b[100;129:2u",
    "\x1b[1074::100u",
    "\x1b[27;1;100~",
];
/// Sequences that are no key presses.
const NEUTRAL: &[&str] = &[
    "\x1b[93;5:3u",
    "\x1b[57442;5:1u",
    "\x1b[57442;1:3u",
    "\x1b[57358;65u",
    "\x1b[1;1:3A",
    "\x1b[3;1:3~",
    "\x1b[<35;12;40M",
    "\x1b[<0;12;40m",
    "\x1b[M#dd",
    "\x1b[M #~",
    "\x1b[32;12;40M",
    "\x1b[I",
    "\x1b[O",
    "\x1b[12;40R",
    "\x1b[?62;22c",
    "\x1b[0n",
    "\x1b[8;24;80t",
    "\x1b[?2026;2$y",
    "\x1b]11;rgb:dddd/dddd/dddd\x07",
    "\x1b]11;rgb:dddd/dddd/dddd\x1b\\",
    "\x1bP>|dvtm\x1b\\",
    "\x1b_Gi=31;d\x1b\\",
];
/// Other keys.
const OTHER: &[&str] = &[
    "a",
    "D",
    "ü",
    "\r",
    "\x03",
    "\x1b",
    "\x1bd",
    "\x1b]",
    "\x1bO",
    "\x1bOd",
    "\x1b[A",
    "\x1b[1;5A",
    "\x1b[d",
    "\x1b[15~",
    "\x1b[27u",
    "\x1b[93u",
    "\x1b[93;7u",
    "\x1b[94;5u",
    "\x1b[100;5u",
    "\x1b[100:68;2u",
    "\x1b[27;6;100~",
    "\x1b[200~text\x1b[201~",
];

#[test]
fn each_form_of_the_keys_detaches() {
    for first in FIRST {
        for second in SECOND {
            check(DEFAULT, &format!("a{first}{second}b"), "aDETACH");
        }
    }
}

#[test]
fn what_is_no_key_press_does_not_interrupt() {
    for neutral in NEUTRAL {
        for first in ["\x1d", "\x1b[93;5u"] {
            check(DEFAULT, &format!("{first}{neutral}d"), &format!("{neutral}DETACH"));
        }
        check(DEFAULT, &format!("\x1d{neutral}{neutral}a"), &format!("{neutral}{neutral}\x1da"));
    }
}

#[test]
fn another_key_sends_both() {
    for other in OTHER {
        for first in FIRST {
            check(DEFAULT, &format!("{first}{other}\x1b[d"), &format!("{first}{other}\x1b[d"));
        }
        check(DEFAULT, &format!("\x1d{other}\x1dd"), &format!("\x1d{other}DETACH"));
    }
}

#[test]
fn keys_alone_are_passed_on() {
    for input in OTHER.iter().chain(NEUTRAL).chain(SECOND) {
        check(DEFAULT, &format!("{input}\x1b[d"), &format!("{input}\x1b[d"));
        check(DEFAULT, input, input);
    }
}

#[test]
fn the_first_key_twice_sends_it_once() {
    for first in FIRST {
        for again in FIRST {
            check(DEFAULT, &format!("{first}{again}a"), &format!("{first}a"));
            check(DEFAULT, &format!("{first}{again}d"), &format!("{first}d"));
            check(DEFAULT, &format!("{first}{again}{first}d"), &format!("{first}DETACH"));
        }
    }
    check(DEFAULT, "\x1d\x1d\x1d\x1da", "\x1d\x1da");
    check(DEFAULT, "\x1b[93;5u\x1b[93;5:3u\x1b[93;5u\x1b[93;5:3ua", "\x1b[93;5:3u\x1b[93;5u\x1b[93;5:3ua");
}

#[test]
fn the_first_key_is_withheld_until_the_next_one() {
    for first in FIRST {
        let mut scanner = scanner(DEFAULT);
        assert_eq!(scanner.scan(first.as_bytes()), Scanned::default(), "{first:?}");
        assert_eq!(scanner.flush(), b"", "{first:?}");
        assert_eq!(scanner.scan(b""), Scanned::default(), "{first:?}");
        assert!(scanner.scan(b"d").detach, "{first:?}");
    }
}

#[test]
fn what_follows_the_keys_is_dropped() {
    let mut scanner = scanner(DEFAULT);
    assert_eq!(scanner.scan(b"a\x1ddrm -r\r"), Scanned { pass: b"a".to_vec(), detach: true });
    assert_eq!(scanner.scan(b"\x1b[?62c\x1dd\r"), Scanned { pass: Vec::new(), detach: true });
    assert!(!scanner.is_pending() && scanner.flush().is_empty());
}

#[test]
fn nothing_is_a_key_in_a_paste() {
    for inside in ["\x1dd", "\x1b[93;5u\x1b[100u", "\x1b[201\x1dd\x1b\x1b[20\x1dd"] {
        let paste = format!("\x1b[200~{inside}\x1b[201~");
        check(DEFAULT, &format!("{paste}\x1dd"), &format!("{paste}DETACH"));
        check(DEFAULT, &format!("\x1d{paste}d"), &format!("\x1d{paste}d"));
    }
}

#[test]
fn an_incomplete_sequence_does_not_hide_the_keys() {
    for begin in
        ["\x1b", "\x1b[", "\x1b[1;", "\x1b[?1", "\x1b]", "\x1b]1;text", "\x1bP>", "\x1bO", "\x1b]1\x1b"]
    {
        check(DEFAULT, &format!("{begin}\x1dd"), &format!("{begin}DETACH"));
        let mut scanner = scanner(DEFAULT);
        scanner.scan(begin.as_bytes());
        assert!(scanner.scan(b"\x1dd").detach, "{begin:?}");
        check(DEFAULT, &format!("{begin}\x1b[93;5ud"), &format!("{begin}DETACH"));
    }
    check(DEFAULT, "\x1b[1;ü\x1dd", "\x1b[1;üDETACH");
    check(DEFAULT, &format!("\x1b[{}\x1dd", "1;".repeat(1000)), &format!("\x1b[{}DETACH", "1;".repeat(1000)));
}

#[test]
fn only_what_may_become_a_key_is_held() {
    for (input, is_held) in [
        ("a", false),
        ("\x1b", false),
        ("\x1b[", false),
        ("\x1bO", false),
        ("\x1b]", false),
        ("\x1b]11;r", false),
        ("\x1b]11;r\x1b", false),
        ("\x1b[?62", false),
        ("\x1b[<0;1", false),
        ("\x1b[M d", false),
        ("\x1b[200~a\x1b[20", false),
        ("\x1b[9", true),
        ("\x1b[93;5", true),
    ] {
        let mut scanner = scanner(DEFAULT);
        let pass = scanner.scan(input.as_bytes()).pass;
        let flushed = scanner.flush();
        let (expected, expected_flush) = if is_held { ("", input) } else { (input, "") };
        assert_eq!(pass, expected.as_bytes(), "{input:?}");
        assert_eq!(flushed, expected_flush.as_bytes(), "{input:?}");
    }
}

#[test]
fn a_flush_sends_the_first_key_before_a_sequence() {
    let mut scanner = scanner(DEFAULT);
    assert_eq!(scanner.scan(b"\x1d\x1b[9").pass, b"");
    assert!(scanner.is_pending());
    assert_eq!(scanner.flush(), b"\x1d\x1b[9");
    assert!(!scanner.is_pending());
    assert_eq!(scanner.scan(b"d"), Scanned { pass: b"d".to_vec(), detach: false });
}

#[test]
fn escape_after_the_first_key_sends_both_immediately() {
    for escape in [&b"\x1b"[..], b"\x1b["] {
        let mut scanner = scanner(DEFAULT);
        scanner.scan(b"\x1d");
        assert_eq!(scanner.scan(escape).pass, [b"\x1d", escape].concat());
        scanner.flush();
        assert!(!scanner.scan(b"d").detach);
    }
}

#[test]
fn an_escape_alone_is_not_the_begin_of_a_key_later() {
    let mut scanner = scanner("~,.");
    assert_eq!(scanner.scan(b"\x1b").pass, b"\x1b");
    assert_eq!(scanner.scan(b"~").pass, b"");
    assert!(scanner.scan(b".").detach);
}

#[test]
fn one_key_detaches_immediately() {
    for first in FIRST {
        check("ctrl-]", &format!("a{first}b"), "aDETACH");
    }
    check("~", "a~b", "aDETACH");
    check("~", "\x1b~", "\x1b~");
    check("d", "\x1bOd", "\x1bOd");
}

#[test]
fn without_keys_everything_is_passed_on() {
    for input in FIRST.iter().chain(SECOND).chain(NEUTRAL).chain(OTHER) {
        check("none", input, input);
    }
    check("none", "\x1dd\x1b[9", "\x1dd\x1b[9");
}

#[test]
fn several_keys_are_pressed_in_their_order() {
    check("ctrl-a,b,c", "\x01bc", "DETACH");
    check("ctrl-a,b,c", "\x01bd", "\x01bd");
    check("ctrl-a,b,c", "\x01\x01bc", "\x01bc");
    check("ctrl-a,b,c", "\x01b\x01bc", "\x01bDETACH");
    check("ctrl-a,ctrl-a", "\x01\x01", "DETACH");
    check("ctrl-a,ctrl-a", "\x01b\x01\x01", "\x01bDETACH");
}

#[test]
fn each_allowed_key_is_recognised_in_all_encodings() {
    for (key, forms) in [
        ("ctrl-a", &["\x01", "\x1b[97;5u", "\x1b[27;5;97~"][..]),
        ("ctrl-A", &["\x01", "\x1b[97;5u"]),
        ("ctrl-@", &["\0", "\x1b[64;5u", "\x1b[50:64;6u", "\x1b[27;6;64~"]),
        ("ctrl-\\", &["\x1c", "\x1b[92;5u"]),
        ("ctrl-^", &["\x1e", "\x1b[54:94;6u", "\x1b[27;6;94~"]),
        ("ctrl-_", &["\x1f", "\x1b[45:95;6u", "\x1b[27;6;95~"]),
        ("D", &["D", "\x1b[100;2u", "\x1b[100:68;2u", "\x1b[27;2;68~", "\x1b[100;66u"]),
        ("~", &["~", "\x1b[126u", "\x1b[96:126;2u", "\x1b[96;2;126u", "\x1b[27;2;126~"]),
    ] {
        for form in forms {
            check(key, form, "DETACH");
        }
    }
    for (key, others) in [
        ("ctrl-a", &["a", "A", "\x1b[97u", "\x1b[97;6u", "\x1b[97;7u", "\x1b[65;6u", "\x1b[27;6;65~"][..]),
        ("d", &["D", "\x04", "\x1b[100;2u", "\x1b[100;2;68u", "\x1b[100;3u", "\x1b[27;2;68~"]),
        ("D", &["d", "\x1b[100u", "\x1b[100;6u"]),
    ] {
        for other in others {
            check(key, other, other);
        }
    }
}

#[test]
fn endless_input_takes_bounded_memory() {
    for (begin, piece) in [
        ("\x1b[1", "1;"),
        ("\x1b[?", "1;"),
        ("\x1b]1;", "a"),
        ("\x1b[200~", "\x1d"),
        ("\x1d\x1d", "\x1d\x1d"),
    ] {
        let mut scanner = scanner(DEFAULT);
        let mut length = scanner.scan(begin.as_bytes()).pass.len();
        for _ in 0..20 {
            length += scanner.scan(piece.repeat(10_000).as_bytes()).pass.len();
            assert!(scanner.sequence.capacity() + scanner.withheld.capacity() < 1024, "{begin:?}");
        }
        assert!(length >= 200_000, "{begin:?}");
    }
}

/// Input in an order of forms, among which the keys are frequent.
fn units() -> impl Strategy<Value = Vec<&'static str>> {
    let unit = prop_oneof![
        2 => prop::sample::select(FIRST),
        1 => prop::sample::select(SECOND),
        1 => prop::sample::select(NEUTRAL),
        1 => prop::sample::select(OTHER),
    ];
    // Escape as the last byte of a unit would join the next one.
    prop::collection::vec(
        unit.prop_filter("complete", |unit| !["\x1b", "\x1b]", "\x1bO"].contains(unit)),
        0..8,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Except right after an ESC and `ESC [`, which are keys of their own at the end of a piece.
    #[test]
    fn input_may_be_split_anywhere(units in units()) {
        let input = units.concat().into_bytes();
        let expected = scan(DEFAULT, &[&input]);
        for cut in 0..=input.len() {
            let (first, second) = input.split_at(cut);
            if !first.ends_with(b"\x1b") && !first.ends_with(b"\x1b[") && !first.ends_with(b"\x1b]")
                && !first.ends_with(b"\x1bO") && !first.ends_with(b"\x1bP") && !first.ends_with(b"\x1b_")
            {
                prop_assert_eq!(scan(DEFAULT, &[first, second]), expected.as_str(), "cut at {}", cut);
            }
        }
    }

    /// A first key whose ESC comes alone is recognised.
    #[test]
    fn a_first_key_may_be_split_after_its_escape(
        first in prop::sample::select(FIRST), second in prop::sample::select(SECOND), cut in 1..3_usize,
    ) {
        let (begin, end) = first.as_bytes().split_at(cut.min(first.len()));
        let all = scan(DEFAULT, &[begin, end, second.as_bytes()]);
        let begin = if first.len() == 1 { String::new() } else { begin.escape_ascii().to_string() };
        prop_assert_eq!(all, format!("{begin}DETACH"));
    }

    /// Until the session is left, no byte is lost except repeated first keys, which this input does not have.
    #[test]
    fn no_byte_of_random_input_is_lost(
        pieces in prop::collection::vec(prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"\x1b\x1b\x1b[[]P_OM?<1;:\\\x07$u~y".to_vec())],
            0..50,
        ), 0..8)
    ) {
        let mut scanner = scanner("ctrl-],ctrl-^,ctrl-],ctrl-^,ctrl-],ctrl-^");
        let mut out = Vec::new();
        let mut input: Vec<u8> = Vec::new();
        for piece in &pieces {
            let piece: Vec<u8> = piece.iter().copied().filter(|byte| *byte != 0x1d && *byte != b'5').collect();
            input.extend(&piece);
            let Scanned { pass, detach } = scanner.scan(&piece);
            prop_assert!(!detach);
            out.extend(pass);
        }
        out.extend(scanner.flush());
        prop_assert_eq!(out, input);
    }
}
