//! Tests of the modes: what the viewer's terminal gets when it attaches and when it leaves.

use super::super::mode_sequences::{reset, restore};
use super::super::parser::Parser;
use super::*;

const LINES: u16 = 24;

fn after(output: &[u8]) -> Modes {
    let mut modes = Modes::default();
    follow(&mut modes, output);
    modes
}

fn follow(modes: &mut Modes, output: &[u8]) {
    Parser::default().advance(output, |sequence| modes.apply(sequence, LINES));
}

/// Checks the sequences for a viewer that attaches, and for one that leaves.
fn check(output: &str, expected_restore: &str, expected_reset: &str) {
    let modes = after(output.as_bytes());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(text(restore(&modes)), expected_restore, "restores {output:?}");
    assert_eq!(text(reset(&modes)), expected_reset, "resets {output:?}");
}

#[test]
fn nothing_is_written_for_default_modes() {
    check("", "", "");
    check("text\r\n\x1b[31mred\x1b[m\x1b[1;1H\x1b[2J", "", "");
    check(
        "\x1b[?1l\x1b[?7h\x1b[?25h\x1b[?1049l\x1b>\x1b[0 q\x1b[r\x1b[4l\x0f\x1b(B\x1b[<u\x1b[>4;0m",
        "",
        "",
    );
}

#[test]
fn private_modes_are_set_for_a_viewer() {
    for mode in
        [1, 5, 9, 12, 45, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2026, 2027, 2031, 2048]
    {
        check(&format!("\x1b[?{mode}h"), &format!("\x1b[?{mode}h"), &format!("\x1b[?{mode}l"));
        check(&format!("\x1b[?{mode}h\x1b[?{mode}l"), "", "");
    }
    for mode in [7, 25] {
        check(&format!("\x1b[?{mode}l"), &format!("\x1b[?{mode}l"), &format!("\x1b[?{mode}h"));
        check(&format!("\x1b[?{mode}l\x1b[?{mode}h"), "", "");
    }
}

#[test]
fn ansi_modes_are_set_for_a_viewer() {
    for mode in [4, 20] {
        check(&format!("\x1b[{mode}h"), &format!("\x1b[{mode}h"), &format!("\x1b[{mode}l"));
        check(&format!("\x1b[{mode}h\x1b[{mode}l"), "", "");
    }
}

#[test]
fn several_modes_keep_their_order() {
    check(
        "\x1b[?1003;1000h\x1b[?1006h",
        "\x1b[?1003h\x1b[?1000h\x1b[?1006h",
        "\x1b[?1003l\x1b[?1000l\x1b[?1006l",
    );
    check("\x1b[?1000h\x1b[?1003h\x1b[?1000h", "\x1b[?1003h\x1b[?1000h", "\x1b[?1003l\x1b[?1000l");
}

#[test]
fn unknown_modes_are_ignored() {
    check("\x1b[?2h\x1b[?3h\x1b[?1007h\x1b[?1034h\x1b[?9999h\x1b[12h\x1b[2h", "", "");
}

#[test]
fn the_keypad_has_two_switches() {
    check("\x1b=", "\x1b=", "\x1b>");
    check("\x1b[?66h", "\x1b=", "\x1b>");
    check("\x1b[?66h\x1b>", "", "");
}

#[test]
fn the_alternate_screen_is_left_as_it_was_entered() {
    for mode in [47, 1047, 1049] {
        let enter = format!("\x1b[?{mode}h");
        check(&enter, &enter, &format!("\x1b[?{mode}l"));
        assert!(after(enter.as_bytes()).alternate.is_some());
        for leave in [47, 1047, 1049] {
            check(&format!("{enter}\x1b[?{leave}l"), "", "");
        }
    }
}

#[test]
fn keyboard_flags_have_a_stack() {
    check("\x1b[>1u", "\x1b[>1u", "\x1b[<2u\x1b[=0;1u");
    check("\x1b[=5u\x1b[>u\x1b[>31u", "\x1b[=5;1u\x1b[>0u\x1b[>31u", "\x1b[<3u\x1b[=0;1u");
    check("\x1b[>1u\x1b[>3u\x1b[<u", "\x1b[>1u", "\x1b[<2u\x1b[=0;1u");
    check("\x1b[>1u\x1b[>3u\x1b[<2u", "", "");
    check("\x1b[=9u\x1b[>3u\x1b[<9u", "", "");
    check("\x1b[=1u\x1b[=4;2u", "\x1b[=5;1u", "\x1b[<1u\x1b[=0;1u");
    check("\x1b[=7;1u\x1b[=2;3u", "\x1b[=5;1u", "\x1b[<1u\x1b[=0;1u");
}

#[test]
fn each_screen_has_keyboard_flags_of_its_own() {
    check(
        "\x1b[>1u\x1b[?1049h\x1b[>5u",
        "\x1b[>1u\x1b[?1049h\x1b[>5u",
        "\x1b[<2u\x1b[=0;1u\x1b[?1049l\x1b[<2u\x1b[=0;1u",
    );
    check("\x1b[?1049h\x1b[>5u\x1b[<u\x1b[?1049l", "", "");
    let modes = after(b"\x1b[=1u\x1b[?1049h\x1b[=2u");
    assert_eq!(modes.keyboard().current(), 2);
    let modes = after(b"\x1b[=1u\x1b[?1049h\x1b[=2u\x1b[?1049l");
    assert_eq!(modes.keyboard().current(), 1);
}

#[test]
fn modify_other_keys_has_levels() {
    check("\x1b[>4;2m", "\x1b[>4;2m", "\x1b[>4m");
    check("\x1b[>4;1m", "\x1b[>4;1m", "\x1b[>4m");
    for off in ["\x1b[>4;0m", "\x1b[>4m", "\x1b[>4;m", "\x1b[>4n", "\x1b[>m"] {
        check(&format!("\x1b[>4;2m{off}"), "", "");
    }
    // Other resources of xterm.
    check("\x1b[>4;2m\x1b[>1;3m\x1b[>2n", "\x1b[>4;2m", "\x1b[>4m");
}

#[test]
fn the_cursor_has_a_shape() {
    for shape in 1..=6 {
        check(&format!("\x1b[{shape} q"), &format!("\x1b[{shape} q"), "\x1b[0 q");
        check(&format!("\x1b[{shape} q\x1b[ q"), "", "");
    }
    check("\x1b[7 q", "", "");
}

#[test]
fn a_scroll_region_does_not_move_the_cursor() {
    check("\x1b[2;10r", "\x1b7\x1b[2;10r\x1b8", "\x1b7\x1b[r\x1b8");
    check("\x1b[;10r", "\x1b7\x1b[1;10r\x1b8", "\x1b7\x1b[r\x1b8");
    check("\x1b[5r", "\x1b7\x1b[5r\x1b8", "\x1b7\x1b[r\x1b8");
    check("\x1b[5;24r", "\x1b7\x1b[5r\x1b8", "\x1b7\x1b[r\x1b8");
    check("\x1b[5;99r", "\x1b7\x1b[5r\x1b8", "\x1b7\x1b[r\x1b8");
    // The whole screen, and what is no region.
    for whole in ["\x1b[r", "\x1b[;r", "\x1b[1;24r", "\x1b[0;0r", "\x1b[1;99r"] {
        check(&format!("\x1b[2;10r{whole}"), "", "");
    }
    check("\x1b[2;10r\x1b[10;10r\x1b[12;3r\x1b[24r", "\x1b7\x1b[2;10r\x1b8", "\x1b7\x1b[r\x1b8");
}

#[test]
fn a_screen_without_a_size_has_a_scroll_region() {
    let mut modes = Modes::default();
    Parser::default().advance(b"\x1b[2;10r", |sequence| modes.apply(sequence, 0));
    assert_eq!(modes.region, Some((2, 10)));
}

#[test]
fn margins_at_the_sides_are_switched_off() {
    check("\x1b[?69h", "\x1b7\x1b[?69h\x1b8", "\x1b7\x1b[?69l\x1b8");
    check("\x1b[?69h\x1b[2;10r", "\x1b7\x1b[2;10r\x1b[?69h\x1b8", "\x1b7\x1b[r\x1b[?69l\x1b8");
}

#[test]
fn the_end_of_the_origin_mode_leaves_the_last_line() {
    check("\x1b[?6h", "\x1b[?6h", "\x1b[?6l\x1b[9999;1H");
    check("\x1b[2;9r\x1b[?6h", "\x1b7\x1b[2;9r\x1b8\x1b[?6h", "\x1b7\x1b[r\x1b8\x1b[?6l\x1b[9999;1H");
}

#[test]
fn character_sets_are_followed() {
    check("\x1b(0", "\x1b(0", "\x1b(B");
    check("\x1b)0\x0e", "\x1b)0\x0e", "\x0f\x1b)B");
    check("\x1b)0\x0elines\x0f", "\x1b)0", "\x1b)B");
    check("\x1b(0lines\x1b(B", "", "");
    // G2 and G3, and the encoding.
    check("\x1b*0\x1b+0\x1b%G", "", "");
}

#[test]
fn attributes_are_only_reset() {
    for output in ["\x1b[31m", "\x1b[0;1m", "\x1b[38;5;0m", "\x1b[4:3m", "\x1b[0m\x1b[7m"] {
        check(output, "", "\x1b[0m");
        check(&format!("{output}\x1b[m"), "", "");
        check(&format!("{output}\x1b[0m"), "", "");
    }
}

#[test]
fn a_restored_cursor_has_the_attributes_that_were_saved() {
    for (save, restore) in [("\x1b7", "\x1b8"), ("\x1b[s", "\x1b[u"), ("\x1b[?1048h", "\x1b[?1048l")] {
        check(&format!("{save}\x1b[31m\x1b)0\x0e{restore}"), "", "");
        check(&format!("\x1b[31m\x1b)0{save}\x1b[m\x1b)B{restore}"), "\x1b)0", "\x1b)B\x1b[0m");
        check(&format!("\x1b[?6h{save}\x1b[?6l{restore}"), "\x1b[?6h", "\x1b[?6l\x1b[9999;1H");
        check(&format!("\x1b[31m{restore}"), "", "");
    }
    // With margins at the sides, this sets them.
    check("\x1b[?69h\x1b[31m\x1b[s\x1b[m\x1b[u\x1b[?69l", "", "");
}

#[test]
fn the_alternate_screen_saves_the_cursor() {
    check("\x1b[31m\x1b[?1049h\x1b[m\x1b[?1049l", "", "\x1b[0m");
    check("\x1b[31m\x1b[?1049h\x1b[m", "\x1b[?1049h", "\x1b[?1049l\x1b[0m");
    check("\x1b[?1049h\x1b[31m", "\x1b[?1049h", "\x1b[?1049l");
    check("\x1b[?1047h\x1b[31m", "\x1b[?1047h", "\x1b[?1047l\x1b[0m");
    // What is saved on one screen is not restored on the other.
    check("\x1b[31m\x1b7\x1b[m\x1b[?1047h\x1b8", "\x1b[?1047h", "\x1b[?1047l");
}

#[test]
fn a_title_is_repeated_for_a_viewer() {
    for output in ["\x1b]0;make\x07", "\x1b]2;make\x1b\\", "\x1b]2;old\x07\x1b]0;make\x07"] {
        check(output, "\x1b]2;make\x1b\\", "");
    }
    check("\x1b]2;a;b ü\x07", "\x1b]2;a;b ü\x1b\\", "");
    check("\x1b]2;\x07", "\x1b]2;\x1b\\", "");
    // An icon's title, a colour, and what could end the title.
    check("\x1b]1;icon\x07\x1b]11;#000\x07\x1b]2;a\u{9c}b\x07", "", "");
    assert_eq!(after(b"\x1b]2;\xff\x07").title, None);
}

#[test]
fn a_long_title_is_cut_between_characters() {
    for begin in ["", "a"] {
        let title = format!("{begin}{}", "ü".repeat(10_000));
        let kept = after(format!("\x1b]2;{title}\x07").as_bytes()).title.unwrap();
        assert!(kept.len() < 1024 && kept.len() > 1000 && title.starts_with(&kept));
    }
}

#[test]
fn an_open_link_is_ended() {
    for open in ["\x1b]8;;https://example.org/\x07", "\x1b]8;id=1;file:///a;b\x1b\\"] {
        check(open, "", "\x1b]8;;\x1b\\");
        check(&format!("{open}link\x1b]8;;\x07"), "", "");
        check(&format!("{open}\x1bc"), "", "");
    }
    check("\x1b]8;\x07", "", "");
}

#[test]
fn a_progress_display_is_removed() {
    for on in ["\x1b]9;4;1;50\x07", "\x1b]9;4;3\x1b\\", "\x1b]9;4;2;\x07"] {
        check(on, "", "\x1b]9;4;0\x1b\\");
        check(&format!("{on}\x1b]9;4;0\x07"), "", "");
        check(&format!("{on}\x1b]9;4;0;0\x07"), "", "");
    }
    check("\x1b]9;a notification\x07", "", "");
}

const MANY: &str = "\x1b]2;t\x07\x1b[?1;6;66;1003;1006;2004h\x1b[?7;25l\x1b[4h\x1b[2;9r\x1b[5 q\x1b[>4;2m\x1b[>5u\x1b(0\x0e\x1b[1m";

#[test]
fn a_hard_reset_leaves_only_the_title() {
    check(&format!("{MANY}\x1b[?1049h\x1bc"), "\x1b]2;t\x1b\\", "");
}

#[test]
fn a_soft_reset_leaves_what_the_manual_does_not_name() {
    let kept = "\x1b[?1003h\x1b[?1006h\x1b[?2004h";
    check(
        &format!("{MANY}\x1b[!p"),
        &format!("\x1b]2;t\x1b\\\x1b[>5u{kept}\x1b[>4;2m\x1b[5 q"),
        &format!("\x1b[<2u\x1b[=0;1u{}\x1b[>4m\x1b[0 q", kept.replace('h', "l")),
    );
}

#[test]
fn endless_changes_take_bounded_memory() {
    let mut modes = Modes::default();
    for number in 0..=u16::MAX {
        follow(
            &mut modes,
            format!("\x1b[?{number}h\x1b[{number}h\x1b[>{number}u\x1b[?{number}l\x1b[?{number}h").as_bytes(),
        );
    }
    assert!(modes.changed.len() <= KNOWN.len());
    assert!(restore(&modes).len() < 1024);
    assert!(reset(&modes).len() < 1024);
}
