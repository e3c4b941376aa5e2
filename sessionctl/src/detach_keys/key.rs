//! One key, and the forms in which a terminal sends it.

use std::fmt;

/// A modifier in the encodings of keys, where the parameter is the sum of the pressed ones, plus 1.
const SHIFT: u32 = 1;
const CONTROL: u32 = 4;
/// Caps lock and num lock, which change no key here.
const LOCKS: u32 = 64 | 128;
const RELEASE: u32 = 3;
/// The functional keys that are modifiers: caps, scroll and num lock; left and right shift to level 5 shift.
const MODIFIER_KEYS: [std::ops::RangeInclusive<u32>; 2] = [57358..=57360, 57441..=57454];

/// A key of ASCII, with or without Ctrl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// Lower case if it is a letter with Ctrl.
    character: char,
    control: bool,
}

/// A key press as a terminal sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Press {
    /// A character, or a control character.
    Byte(u8),
    Encoded(EncodedPress),
    /// A key that is no detach key, such as an arrow.
    Other,
}

/// A key press with its modifiers. A code that is not known is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EncodedPress {
    /// The Unicode code point of the key, without Shift in the kitty protocol.
    code: u32,
    /// With Shift.
    shifted: u32,
    /// At the same place of a keyboard with the layout of the United States.
    base: u32,
    modifiers: u32,
    /// The first character that the key produces.
    text: u32,
}

impl Key {
    pub(super) const fn control(character: char) -> Self {
        Self { character, control: true }
    }

    pub(super) const fn plain(character: char) -> Self {
        Self { character, control: false }
    }

    /// Parses one key of a specification.
    ///
    /// `ctrl-[` is none: it is Escape, with which the sequences of most other keys begin.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut characters = text.chars();
        if let (Some(character), None) = (characters.next(), characters.next()) {
            return character.is_ascii_graphic().then_some(Self::plain(character));
        }
        let (modifier, key) = text.split_at_checked(5)?;
        let mut characters = key.chars();
        let (Some(character), None) = (characters.next(), characters.next()) else { return None };
        let is_allowed = character.is_ascii_alphabetic() || "@\\]^_".contains(character);
        (modifier.eq_ignore_ascii_case("ctrl-") && is_allowed)
            .then_some(Self::control(character.to_ascii_lowercase()))
    }

    /// Returns `true` if this key was pressed.
    pub(super) fn is(self, press: Press) -> bool {
        match press {
            Press::Byte(byte) if self.control => {
                // The lower five bits: Ctrl-A is 1, Ctrl-] is 29.
                u32::from(byte) == u32::from(self.character) & 0x1f
            }
            Press::Byte(byte) => char::from(byte) == self.character,
            Press::Encoded(press) => self.is_encoded(press),
            Press::Other => false,
        }
    }

    fn is_encoded(self, press: EncodedPress) -> bool {
        let key = u32::from(self.character);
        let is_letter = self.character.is_ascii_alphabetic();
        let control = if self.control { CONTROL } else { 0 };
        let modifiers = press.modifiers & !LOCKS;
        if modifiers == control {
            press.code == key || press.base == key
        } else if modifiers != control | SHIFT {
            false
        } else if self.control {
            // Characters that need Shift on some keyboards. A letter with Shift is another key.
            !is_letter && (press.code == key || press.shifted == key)
        } else {
            // A capital letter has the code of the small one.
            let small = u32::from(self.character.to_ascii_lowercase());
            let is_same = press.code == key && !self.character.is_ascii_lowercase();
            is_same || press.shifted == key || press.text == key || (press.code == small && small != key)
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modifier = if self.control { "Ctrl-" } else { "" };
        // As keys are usually written, and as they are labelled.
        let character = if self.control { self.character.to_ascii_uppercase() } else { self.character };
        write!(f, "{modifier}{character}")
    }
}

impl Press {
    /// Parses the parameters and the final byte of a control sequence. `None` if a key was released, or is a modifier.
    ///
    /// - `CSI code:shifted:base ; modifiers:event ; text u` in the kitty protocol, and other final bytes for functional keys;
    /// - `CSI 27 ; modifiers ; code ~` with `modifyOtherKeys`, in which the code is that of the character with Shift.
    pub(super) fn parse(params: &[u8], last: u8) -> Option<Self> {
        let mut params = params.split(|byte| *byte == b';');
        let [first, second, third] = [(); 3].map(|()| numbers(params.next()));
        let ([code, shifted, base], [modifiers, event, _], [text, ..]) = (first, second, third);
        let modifiers = modifiers.saturating_sub(1);
        if event == RELEASE || (last == b'u' && MODIFIER_KEYS.iter().any(|keys| keys.contains(&code))) {
            return None;
        }
        Some(match (last, code) {
            (b'u', _) => Self::Encoded(EncodedPress { code, shifted, base, modifiers, text }),
            (b'~', 27) => Self::Encoded(EncodedPress { code: text, shifted: 0, base: 0, modifiers, text: 0 }),
            _ => Self::Other,
        })
    }
}

/// Returns the first numbers of a parameter. One that is missing is 0.
fn numbers(param: Option<&[u8]>) -> [u32; 3] {
    let mut parts = param.unwrap_or_default().split(|byte| *byte == b':').map(|digits| {
        digits.iter().fold(0_u32, |number, digit| {
            number.saturating_mul(10).saturating_add(u32::from(digit.wrapping_sub(b'0')))
        })
    });
    [(); 3].map(|()| parts.next().unwrap_or(0))
}
