//! Tests of specifications.

use super::*;

#[test]
fn specifications_are_shown_as_people_read_them() {
    for (text, shown) in [
        ("ctrl-],d", "Ctrl-] d"),
        ("ctrl-p,ctrl-q", "Ctrl-P Ctrl-Q"),
        ("CTRL-P, Ctrl-Q", "Ctrl-P Ctrl-Q"),
        (" ctrl-\\ ", "Ctrl-\\"),
        ("ctrl-@,ctrl-^,ctrl-_", "Ctrl-@ Ctrl-^ Ctrl-_"),
        ("~,.", "~ ."),
        ("D", "D"),
        ("-", "-"),
        ("none", "none"),
        ("None", "none"),
        ("", "none"),
        ("  ", "none"),
    ] {
        assert_eq!(text.parse::<DetachKeys>().unwrap().to_string(), shown, "{text:?}");
    }
}

#[test]
fn the_default_is_ctrl_bracket_and_d() {
    assert_eq!(DetachKeys::default(), "ctrl-],d".parse().unwrap());
    assert!(!DetachKeys::default().is_disabled() && "none".parse::<DetachKeys>().unwrap().is_disabled());
}

#[test]
fn an_error_names_the_part_and_what_is_allowed() {
    for (text, part) in [
        ("ctrl-],dd", "dd"),
        ("ctrl-,d", "ctrl-"),
        ("ctrl-1", "ctrl-1"),
        ("ctrl-[", "ctrl-["),
        ("ctrl-aa", "ctrl-aa"),
        ("alt-a", "alt-a"),
        ("a,,b", ""),
        (",", ""),
        ("ctrl-a,none", "none"),
        ("ü", "ü"),
        ("ctrl-ü", "ctrl-ü"),
        ("äöüß€d", "äöüß€d"),
        ("\t,a", ""),
    ] {
        let error = text.parse::<DetachKeys>().unwrap_err();
        assert_eq!(error, DetachKeysError::NotAKey(part.to_owned()), "{text:?}");
    }
    let message = "x,ctrl-5".parse::<DetachKeys>().unwrap_err().to_string();
    assert_eq!(
        message,
        "`ctrl-5` is not a detach key: allowed are `ctrl-` followed by a letter or one of @\\]^_, single characters of \
         ASCII, several of them separated by commas, and `none`"
    );
    assert_eq!(
        "a,b,c,d,e,f,g,h,i".parse::<DetachKeys>().unwrap_err().to_string(),
        "9 detach keys are too many: at most 8 are allowed"
    );
}
