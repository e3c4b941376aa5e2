//! Properties of the state: splits, and terminals that are brought into modes and back.

use proptest::prelude::*;

use super::super::keyboard::KeyboardFlags;
use super::super::modes::SIDE_MARGINS;
use super::*;

const SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

fn after(output: &[u8]) -> TerminalState {
    let mut state = TerminalState::new(SIZE);
    state.advance(output, None);
    state
}

#[test]
fn a_state_reports_screen_and_title() {
    let mut state = after(b"\x1b]2;make\x07\x1b[?1049h");
    assert!(state.is_alternate_screen() && state.is_ground());
    assert_eq!(state.modes.title.as_deref(), Some("make"));
    state.advance(b"\x1b[?1049", None);
    assert!(state.is_alternate_screen() && !state.is_ground());
    state.advance(b"l", None);
    assert!(!state.is_alternate_screen() && state.is_ground());
}

#[test]
fn a_reset_ends_what_is_half_received() {
    for output in ["\x1b[?25l\x1b", "\x1b[?25l\x1b[3", "\x1b[?25l\x1b]0;ti", "\x1b[?25l\x1bP"] {
        assert_eq!(after(output.as_bytes()).reset(), b"\x1b\\\x1b[?25h", "{output:?}");
    }
}

/// Output that changes modes and asks for them.
fn output() -> impl Strategy<Value = String> {
    let known = [
        1, 5, 6, 7, 9, 12, 25, 45, 47, 66, 69, 1000, 1002, 1003, 1004, 1006, 1047, 1048, 1049, 2004, 2026,
        2048, 3,
    ];
    let fixed = [
        "text",
        "ü",
        "\x1b=",
        "\x1b>",
        "\x1b7",
        "\x1b8",
        "\x1bc",
        "\x1b[!p",
        "\x1b(0",
        "\x1b(B",
        "\x1b)0",
        "\x0e",
        "\x0f",
        "\x1b[m",
        "\x1b[31m",
        "\x1b[s",
        "\x1b[u",
        "\x1b]2;title\x07",
        "\x1b]0;ü\x1b\\",
        "\x1b]9;4;1;5\x07",
        "\x1b]9;4;0\x07",
        "\x1b[c",
        "\x1b[>q",
        "\x1b]11;?\x07",
        "\x1bP+q41\x1b\\",
        "\x1b[?u",
        "\x1b[r",
        "\x1b[>4m",
        "\x1b]8;;file:///a\x07",
        "\x1b]8;;\x07",
    ];
    let piece = prop_oneof![
        4 => (prop::sample::select(known.to_vec()), any::<bool>())
            .prop_map(|(mode, on)| format!("\x1b[?{mode}{}", if on { 'h' } else { 'l' })),
        3 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        1 => (0..30_u16, 0..30_u16).prop_map(|(top, bottom)| format!("\x1b[{top};{bottom}r")),
        1 => (0..8_u16).prop_map(|shape| format!("\x1b[{shape} q")),
        1 => (0..4_u16).prop_map(|level| format!("\x1b[>4;{level}m")),
        2 => (prop::sample::select(&['=', '>', '<'][..]), 0..5_u16).prop_map(|(how, n)| format!("\x1b[{how}{n}u")),
        1 => (prop::sample::select(&[4, 20, 12][..]), any::<bool>())
            .prop_map(|(mode, on)| format!("\x1b[{mode}{}", if on { 'h' } else { 'l' })),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A terminal that a viewer brings along gets the modes of the program, except for what the program writes again.
    #[test]
    fn a_new_terminal_gets_all_modes(output in output()) {
        let state = after(output.as_bytes());
        let viewer = after(&state.restore());
        prop_assert!(viewer.is_ground());
        let (mut modes, mut restored) = (state.modes, viewer.modes);
        if modes.alternate.is_none() {
            modes.keyboard[1] = KeyboardFlags::default();
        }
        (modes.shows_progress, modes.is_link) = (false, false);
        let mut side_margins = Vec::new();
        for modes in [&mut modes, &mut restored] {
            modes.cursor.is_styled = false;
            modes.forget_saved_cursors();
            // Set together with the scroll region.
            side_margins.push(modes.mode(SIDE_MARGINS));
            modes.changed.retain(|mode| *mode != SIDE_MARGINS);
        }
        prop_assert_eq!(modes, restored);
        prop_assert_eq!(side_margins[0], side_margins[1]);
    }

    /// After a reset nothing is left to reset, and a new terminal gets nothing but the title.
    #[test]
    fn a_terminal_left_behind_has_default_modes(output in output()) {
        let mut state = after(output.as_bytes());
        let reset = state.reset();
        state.advance(&reset, None);
        prop_assert!(state.is_ground() && !state.is_alternate_screen());
        prop_assert_eq!(state.reset().escape_ascii().to_string(), "");
        state.modes.title = None;
        prop_assert_eq!(state.restore().escape_ascii().to_string(), "");
    }

    #[test]
    fn splits_change_neither_modes_nor_answers(output in output()) {
        let (mut whole, mut expected) = (TerminalState::new(SIZE), Vec::new());
        whole.advance(output.as_bytes(), Some(&mut expected));
        let (mut bytewise, mut replies) = (TerminalState::new(SIZE), Vec::new());
        output.bytes().for_each(|byte| bytewise.advance(&[byte], Some(&mut replies)));
        prop_assert_eq!(&replies, &expected);
        prop_assert_eq!(&bytewise.modes, &whole.modes);
        for cut in 0..=output.len() {
            let (first, second) = output.as_bytes().split_at(cut);
            let (mut split, mut replies) = (TerminalState::new(SIZE), Vec::new());
            split.advance(first, Some(&mut replies));
            split.advance(second, Some(&mut replies));
            prop_assert_eq!(&replies, &expected, "cut at {}", cut);
            prop_assert_eq!(&split.modes, &whole.modes, "cut at {}", cut);
        }
    }

    #[test]
    fn random_bytes_do_no_harm(output in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut state = TerminalState::new(SIZE);
        let mut replies = Vec::new();
        state.advance(&output, Some(&mut replies));
        prop_assert!(replies.len() <= MAX_REPLIES);
        let reset = state.reset();
        state.advance(&reset, None);
        prop_assert_eq!(state.reset().escape_ascii().to_string(), "");
    }
}
