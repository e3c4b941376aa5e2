//! Random mutation of valid inputs, at the level of bytes, JSON tokens and lines.

use session_testkit::random::Random;

use crate::repair::SLOT;
use crate::{REPAIR, corpus};

/// The largest size of an input, in bytes.
const LARGEST: usize = 200_000;

/// Returns a mutated input for a target. A seed always gives the same input.
///
/// # Panics
/// If the target is unknown.
#[must_use]
pub fn input(target: &str, seed: u64) -> Vec<u8> {
    let mut rng = Random::new(seed);
    let corpus = corpus::of(target);
    let mut input = rng.pick(corpus).expect("each target has valid inputs").clone();
    let head = match target {
        "record_line" => 3,
        "export_stream" | "names" => 1,
        _ => 2,
    };
    let mut rest = input.split_off(head.min(input.len()));
    if target == "slot" {
        rest = without_padding(&rest);
    }
    // Some inputs get no mutation, except of their first bytes.
    for _ in 0..rng.below(5) {
        let other = rng.pick(corpus).expect("as before").clone();
        let other = other.get(head..).unwrap_or_default();
        match target {
            "slot" => mutate_once(&mut rng, &mut rest, &without_padding(other)),
            _ => mutate_once(&mut rng, &mut rest, other),
        }
        rest.truncate(LARGEST);
    }
    if rng.one_in(3) {
        renumber(&mut rest);
    }
    if target == "slot" && !rng.one_in(8) {
        rest = with_padding(&rest);
    }
    input[0] = u8::try_from(rng.below(4)).unwrap_or(0) | if rng.one_in(2) { REPAIR } else { 0 };
    // Rarely selects another sample or another record.
    for byte in &mut input[1..] {
        if rng.one_in(12) {
            *byte = rng.number().to_be_bytes()[0];
        }
    }
    [input, rest].concat()
}

/// Turns slots into lines without padding, so that mutations change their content.
fn without_padding(slots: &[u8]) -> Vec<u8> {
    let line =
        |slot: &[u8]| slot.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end().to_vec();
    slots.chunks(SLOT).flat_map(|slot| [line(slot), b"\n".to_vec()].concat()).collect()
}

/// Turns lines into padded slots.
fn with_padding(lines: &[u8]) -> Vec<u8> {
    let slots = lines.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let mut slot = line.strip_suffix(b"\n").unwrap_or(line).to_vec();
        slot.resize(SLOT - 1, b' ');
        slot.push(b'\n');
        slot
    });
    slots.flatten().collect()
}

fn mutate_once(rng: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    match rng.below(16) {
        0 => {
            let at = rng.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        1 => {
            let at = rng.below(bytes.len());
            if let (Some(byte), Some(new)) =
                (bytes.get_mut(at), rng.pick(b"\0\n\r\"\\{}[],: \x1b\x7f\xff\xc2\xe2"))
            {
                *byte = *new;
            }
        }
        2 => {
            let token = *rng.pick(TOKENS).unwrap_or(&"");
            let at = rng.below(bytes.len() + 1);
            bytes.splice(at..at, token.bytes());
        }
        3 => drop(bytes.drain(range(rng, bytes.len()))),
        4 => {
            let piece = bytes[range(rng, bytes.len())].to_vec();
            let at = rng.below(bytes.len() + 1);
            bytes.splice(at..at, piece);
        }
        5 => bytes.truncate(rng.below(bytes.len() + 1)),
        6 => {
            let zeros = range(rng, bytes.len());
            bytes[zeros].fill(0);
        }
        7..=9 => lines(rng, bytes, other),
        10 | 11 => replace(rng, bytes, is_number, NUMBERS),
        12 | 13 => replace_text(rng, bytes),
        14 => {
            let member = *rng.pick(MEMBERS).unwrap_or(&"");
            insert_after(rng, bytes, b'{', member.as_bytes());
        }
        _ => {
            let deep = 1 + rng.below(200);
            let nested = format!("{}0{},", "[".repeat(deep), "]".repeat(deep));
            let piece = if rng.one_in(2) { " ".to_owned() } else { format!("\"x\":{nested}") };
            let mark = *rng.pick(b"{:,").unwrap_or(&b'{');
            insert_after(rng, bytes, mark, piece.as_bytes());
        }
    }
}

fn range(rng: &mut Random, length: usize) -> std::ops::Range<usize> {
    let from = rng.below(length + 1);
    // Mostly short, so that the input stays similar.
    let most = if rng.one_in(4) { length } else { 12 };
    from..(from + rng.below(most + 1)).min(length)
}

/// Removes, duplicates, swaps or splices lines.
fn lines(rng: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let split =
        |bytes: &[u8]| bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (mut lines, other) = (split(bytes), split(other));
    if lines.is_empty() {
        return;
    }
    let (one, two) = (rng.below(lines.len()), rng.below(lines.len()));
    match rng.below(5) {
        0 => drop(lines.remove(one)),
        1 => lines.insert(two, lines[one].clone()),
        2 => lines.swap(one, two),
        3 => lines.insert(one, rng.pick(&other).cloned().unwrap_or_default()),
        _ => lines[one] = rng.pick(&other).cloned().unwrap_or_default(),
    }
    *bytes = lines.concat();
}

fn is_number(byte: u8) -> bool {
    byte.is_ascii_digit() || b"+-.".contains(&byte)
}

/// Replaces a run of bytes of one kind.
fn replace(rng: &mut Random, bytes: &mut Vec<u8>, kind: fn(u8) -> bool, with: &[&str]) {
    let at = rng.below(bytes.len());
    let Some(from) = bytes.iter().skip(at).position(|byte| kind(*byte)).map(|found| at + found) else {
        return;
    };
    let end = bytes.iter().skip(from).position(|byte| !kind(*byte)).map_or(bytes.len(), |found| from + found);
    let new = *rng.pick(with).unwrap_or(&"");
    bytes.splice(from..end, new.bytes());
}

/// Replaces the contents of a JSON string.
fn replace_text(rng: &mut Random, bytes: &mut Vec<u8>) {
    let at = rng.below(bytes.len());
    let quote =
        |from: usize| bytes.iter().skip(from).position(|byte| *byte == b'"').map(|found| from + found);
    let Some(from) = quote(at) else { return };
    let Some(end) = quote(from + 1) else { return };
    let text = match rng.below(8) {
        0 => "x".repeat(rng.below(3000)),
        3 => "\\u0007".repeat(rng.below(11_000)),
        1 => "\\\"".repeat(rng.below(300)),
        2 => "ü日".repeat(rng.below(120)),
        _ => (*rng.pick(TEXTS).unwrap_or(&"")).to_owned(),
    };
    bytes.splice(from + 1..end, text.bytes());
}

/// Inserts a piece after an occurrence of a byte.
fn insert_after(rng: &mut Random, bytes: &mut Vec<u8>, byte: u8, piece: &[u8]) {
    let at = rng.below(bytes.len());
    if let Some(found) = bytes.iter().skip(at).position(|other| *other == byte) {
        let at = at + found + 1;
        bytes.splice(at..at, piece.iter().copied());
    }
}

/// Renumbers the records of a log, or of each log of an export, by their position.
fn renumber(bytes: &mut Vec<u8>) {
    let (mut out, mut place) = (Vec::with_capacity(bytes.len()), 0_u64);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if let Some(rest) = line.strip_prefix(b"{\"seq\":") {
            place += 1;
            let digits = rest.iter().take_while(|byte| is_number(**byte)).count();
            out.extend(format!("{{\"seq\":{place}").bytes());
            out.extend_from_slice(&rest[digits..]);
        } else {
            place = 0;
            out.extend_from_slice(line);
        }
    }
    // A single line keeps its number.
    if bytes.contains(&b'\n') {
        *bytes = out;
    }
}

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "4",
    "7",
    "-1",
    "-0",
    "1.5",
    "1e3",
    "1e308",
    "1e999",
    "100.0",
    "100.00001",
    "255",
    "4095",
    "4608",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551614",
    "18446744073709551615",
    "18446744073709551616",
    "00",
    "",
];

const TEXTS: &[&str] = &[
    "",
    "-",
    "@last",
    "a=b",
    "\\u0000",
    "\\u001b[2J",
    "\\u009b",
    "\\u202e",
    "\\ud800",
    "\\ud83d\\ude00",
    "\u{9b}",
    "\u{202e}x",
    "\u{7f}",
    "\u{1b}[31m",
    "2026-11-21T09:30:00.123Z",
    "9999-12-31T23:59:59.999Z",
    "+10000-01-01T00:00:00.000Z",
    "0000-01-01T00:00:00.000Z",
    "0000000000000000",
    "ffffffffffffffff",
    "FFFFFFFFFFFFFFFF",
    "created",
    "started",
    "running",
    "completed",
    "session.loss",
    "fuzz.note",
    "UPPER.case",
    "boot-2",
    "host",
    "stdout",
    "stderr",
    "00000000-0000-0000-0000-000000000000",
    "7F3A1C52-9E0B-4D86-A1F4-2C5B8E907D13",
    "QUJD",
    "====",
    "file:",
    "memory:",
];

const TOKENS: &[&str] = &[
    "null",
    "true",
    "false",
    "{}",
    "[]",
    "\"\"",
    ",",
    "{",
    "}",
    "\n",
    "\n\n",
    "\r\n",
    "\0",
    " ",
    "\u{feff}",
    "\u{85}",
    ",\"sum\":\"0000000000000000\"}",
    ",\"sum\":\"0000000000000000\"}\n",
    "{\"seq\":1,",
    "\u{2028}",
    "\u{ad}",
    "{\"session\":{\"id\":\"7f3a1c52-9e0b-4d86-a1f4-2c5b8e907d13\"}}\n",
    "{\"export\":{\"format\":1}}\n",
    "{\"output_cut\":{\"attempt\":1,\"at\":\"2026-11-21T09:31:00.000Z\"}}\n",
    "{\"report\":{}}\n",
    "{\"report\":null}\n",
];

const MEMBERS: &[&str] = &[
    "\"x\":1,",
    "\"seq\":1,",
    "\"flushed\":0,",
    "\"turn\":18446744073709551615,",
    "\"flushing\":true,",
    "\"format\":2,",
    "\"head\":null,",
    "\"mark\":null,",
    "\"id\":\"x\",",
    "\"percent\":0,",
    "\"event\":{},",
    "\"number\":1,",
    "\"after_gap\":false,",
    "\"after_gap\":true,",
    "\"name\":\"x\",",
    "\"newer_kind\":{},",
    "\"report\":{},",
    "\"recovery\":\"fail\",",
    "\"queued\":true,",
    "\"revision\":1,",
    "\"length\":0,",
    "\"boot\":\"boot-2\",",
];
