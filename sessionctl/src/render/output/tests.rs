//! Tests of the output of programs on a terminal.

use super::*;

const HOSTILE: &[u8] =
    b"ok\ttab\r\n\x1b[31mred\x1b[m clear\x1b[2J bell\x07 back\x08 c1\xc2\x9b bad\xff\xfe \xe2\x80\xae \
    title\x1b]0;x\x07 twice\x1b\x1b[32mgreen \xe6\x97\xa5\xe6";

fn shown(bytes: &[u8], cuts: &[usize]) -> String {
    let mut visible = Visible::new(Styles::Keep);
    let mut text = String::new();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        text.push_str(&visible.show(&bytes[from..cut]));
        from = cut;
    }
    text + &visible.finish()
}

fn stripped(text: &str) -> String {
    let mut visible = Visible::new(Styles::Strip);
    visible.show(text.as_bytes()) + &visible.finish()
}

#[test]
fn tabs_expand_to_terminal_tab_stops() {
    for (text, expected) in [
        ("\ta", "        a"),
        ("1234567\ta", "1234567 a"),
        ("12345678\ta\n\tb", "12345678        a\n        b"),
        ("日本\ta", "日本    a"),
        ("123\r\ta", "        a"),
    ] {
        let cuts: Vec<usize> = (0..text.len()).collect();
        assert_eq!(shown(text.as_bytes(), &cuts), expected);
    }
}

#[test]
fn control_bytes_are_escaped_at_every_chunk_boundary() {
    let whole = shown(HOSTILE, &[]);
    let expected = "ok      tab\n\u{1b}[31mred\u{1b}[m clear\\u{1b}[2J bell\\u{7} back\\u{8} c1\\u{9b} bad\\xff\\xfe \\u{202e} \
        title\\u{1b}]0;x\\u{7} twice\\u{1b}\u{1b}[32mgreen 日\\xe6\u{1b}[0m";
    assert_eq!(whole, expected);
    for first in 0..=HOSTILE.len() {
        for second in first..=HOSTILE.len() {
            assert_eq!(shown(HOSTILE, &[first, second]), whole, "cut at {first} and {second}");
        }
    }
}

#[test]
fn styles_and_links_end_with_their_line() {
    let link = "\u{1b}]8;;https://example.org\u{7}";
    for (text, expected) in [
        ("\u{1b}[1;31mred\nplain", "\u{1b}[1;31mred\u{1b}[0m\nplain".to_owned()),
        ("\u{1b}[31mred\u{1b}[0m\n", "\u{1b}[31mred\u{1b}[0m\n".to_owned()),
        ("\u{1b}[31m\n", "\n".to_owned()),
        ("a\u{1b}[31m", "a\u{1b}[31m\u{1b}[0m".to_owned()),
        (&format!("{link}here\nthere"), format!("{link}here{LINK_END}\nthere")),
        (&format!("{link}here{LINK_END}\n"), format!("{link}here{LINK_END}\n")),
    ] {
        assert_eq!(shown(text.as_bytes(), &[]), expected, "{text:?}");
    }
}

#[test]
fn an_overwritten_line_is_shown_as_it_was_last() {
    for (text, expected) in [
        (" 1%\r 2%\r100%\ndone\n", "100%\ndone\n"),
        (" 1%\r 2%\r", " 2%"),
        ("crlf\r\nagain\r\r\n", "crlf\nagain\n"),
        ("\r\u{1b}[2K 1%\r\u{1b}[2K 2%\n", " 2%\n"),
        ("counting\u{1b}[K\rcounted\u{1b}[K\n", "counted\n"),
        ("gone\r\u{1b}[K\n", "\n"),
        ("bell\u{7}\rover\r\n", "bell\\u{7}\\u{d}over\n"),
        ("bell\u{7}\r\u{1b}[2Kover\n", "bell\\u{7}\\u{d}over\n"),
        ("\u{1b}[32m1%\r2%\u{1b}[0m\n", "\u{1b}[32m2%\u{1b}[0m\n"),
        ("\u{1b}[32m1%\r\u{1b}[0m\n", "\u{1b}[32m1%\u{1b}[0m\n"),
        ("\u{1b}[32m1%\r\u{1b}[0m2%\n", "2%\n"),
    ] {
        for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            assert_eq!(shown(text.as_bytes(), &[cut]), expected, "{text:?} cut at {cut}");
        }
    }
}

#[test]
fn controls_of_a_terminal_are_overwritten() {
    let mut visible = Visible::new(Styles::Keep).overwriting_controls();
    assert_eq!(visible.show(b"\x1b[?25l 1%\r 2%\r\n\x1b[?25hdone\r\n"), " 2%\n\\u{1b}[?25hdone\n");
}

#[test]
fn stripped_output_has_no_styles_and_no_links() {
    let text = "\u{1b}[31mred\u{1b}[0m \u{1b}]8;;https://example.org\u{7}link\u{1b}]8;;\u{7} \u{1b}[2J\n";
    assert_eq!(stripped(text), "red link \\u{1b}[2J\n");
}

#[test]
fn a_line_continues_after_a_pause_or_is_rewritten() {
    let mut visible = Visible::new(Styles::Keep);
    assert_eq!(visible.show(b"\x1b[31mname? "), "");
    assert_eq!(visible.pause(), "\u{1b}[31mname? \u{1b}[0m");
    assert_eq!(visible.pause(), "");
    assert_eq!(visible.show(b"Ada\n"), "\u{1b}[31mAda\u{1b}[0m\n");
    assert_eq!(visible.show(b" 1%") + &visible.pause(), " 1%");
    assert_eq!(visible.show(b"\r 2%") + &visible.pause(), "\r\u{1b}[K 2%");
    assert_eq!(visible.show(b"\r") + &visible.pause(), "");
    assert_eq!(visible.show(b"\nnext\n"), "\nnext\n");
}

#[test]
fn endless_lines_and_styles_are_not_collected() {
    let mut visible = Visible::new(Styles::Keep);
    let chunk = [b"\x1b[31m".repeat(100), vec![b'x'; 1000]].concat();
    let mut length = 0;
    for _ in 0..1000 {
        length += visible.show(&chunk).len();
        assert!(visible.line.text.len() <= LINE && visible.style.len() <= STYLE + 16);
    }
    assert!(length > 900_000);
}
