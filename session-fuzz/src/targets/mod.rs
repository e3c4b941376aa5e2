//! The fuzz targets: one for each kind of untrusted input, with the properties that hold for every input.

mod export_stream;
mod legacy_store;
mod names;
mod record_line;
mod report_socket;
mod slot;
mod whole_log;

pub use self::export_stream::export_stream;
pub use self::legacy_store::legacy_store;
pub use self::names::names;
pub use self::record_line::record_line;
pub use self::report_socket::report_socket;
pub use self::slot::slot;
pub use self::whole_log::whole_log;

use crate::InputOutcome;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name, which is also that of its libFuzzer target.
    pub name: &'static str,
    /// Processes an input, and panics if an assertion fails.
    pub run: fn(&[u8]) -> InputOutcome,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "record_line", run: record_line },
    Target { name: "whole_log", run: whole_log },
    Target { name: "slot", run: slot },
    Target { name: "export_stream", run: export_stream },
    Target { name: "names", run: names },
    Target { name: "report_socket", run: report_socket },
    Target { name: "legacy_store", run: legacy_store },
];

/// Splits an input into its first bytes and the rest. Missing first bytes are zero.
fn head<const N: usize>(input: &[u8]) -> ([u8; N], &[u8]) {
    let (first, rest) = input.split_at(input.len().min(N));
    let mut head = [0; N];
    head[..first.len()].copy_from_slice(first);
    (head, rest)
}

/// Returns `true` if a text contains characters that are unsafe on a terminal, as `docs/format.md` lists them and not
/// as the code does.
fn is_unsafe(text: &str) -> bool {
    text.chars().any(|c| {
        c.is_control()
            || "\u{61c}\u{200e}\u{200f}".contains(c)
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    })
}
