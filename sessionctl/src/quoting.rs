//! Arguments in the form in which a shell reads them back.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use sessionkit::text::{is_unsafe_char, visible};

/// Quotes an argument for a shell, with characters escaped that would control a terminal.
pub(crate) fn quoted(arg: &str) -> String {
    let arg = visible(arg);
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.into_owned()
    } else {
        format!("'{}'", arg.replace('\'', r"'\''"))
    }
}

/// Quotes an argument like [`quoted`], in a form that only bash and its relatives know where it is not UTF-8.
pub(crate) fn quoted_os(arg: &OsStr) -> String {
    if let Some(arg) = arg.to_str() {
        return quoted(arg);
    }
    let mut text = "$'".to_owned();
    for chunk in arg.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '\'' => text.extend(['\\', c]),
                c if is_unsafe_char(c) => {
                    let _ = write!(text, "\\u{:04x}", u32::from(c));
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text + "'"
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::{quoted, quoted_os};

    #[test]
    fn arguments_that_are_not_utf8_are_quoted_for_bash() {
        let odd = OsStr::from_bytes(b"it's \\ \x1b\xff");
        assert_eq!(quoted_os(odd), r"$'it\'s \\ \u001b\xff'");
        assert_eq!(quoted_os(OsStr::new("a b")), "'a b'");
    }

    #[test]
    fn quoted_arguments_survive_a_shell() {
        for arg in ["plain", "a b", "it's", "$(id)", "", "file:/srv/x", "*"] {
            let output = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(arg))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), arg);
        }
    }
}
