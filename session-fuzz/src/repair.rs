//! Correction of the checksums in an input. It follows the documentation of the formats and does not use their code.

use session_core::SessionId;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes of `,"sum":"0123456789abcdef"}`.
const ENDING: usize = 26;
/// Bytes of one slot.
pub(crate) const SLOT: usize = 4608;

/// Returns the checksum of `bytes` chained to `before`.
pub(crate) fn sum_of(before: &[u8], bytes: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(before);
    hasher.update(bytes);
    hasher.digest()
}

/// Returns the part of a line before its checksum; `None` if the line does not end with a checksum.
fn body(line: &[u8]) -> Option<&[u8]> {
    let (body, ending) = line.split_at_checked(line.len().checked_sub(ENDING)?)?;
    (ending.starts_with(b",\"sum\":\"") && ending.ends_with(b"\"}")).then_some(body)
}

/// Returns a line with its correct checksum behind `before`, and that checksum.
pub(crate) fn line(before: &[u8], line: &[u8]) -> Option<(Vec<u8>, u64)> {
    let body = body(line)?;
    let sum = sum_of(before, body);
    Some(([body, format!(",\"sum\":\"{sum:016x}\"}}").as_bytes()].concat(), sum))
}

/// Corrects the checksum of every line that ends like a record, chained to the one before it.
pub(crate) fn log(id: SessionId, bytes: &[u8]) -> Vec<u8> {
    let mut before = id.as_bytes().to_vec();
    let mut out = Vec::with_capacity(bytes.len());
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        out.extend(record(&mut before, piece));
    }
    out
}

fn record(before: &mut Vec<u8>, piece: &[u8]) -> Vec<u8> {
    let content = piece.strip_suffix(b"\n").unwrap_or(piece);
    match line(before, content) {
        Some((mut line, sum)) => {
            *before = sum.to_be_bytes().to_vec();
            line.extend_from_slice(&piece[content.len()..]);
            line
        }
        None => piece.to_vec(),
    }
}

/// Pads both slots to their length and corrects their checksums.
pub(crate) fn slots(id: SessionId, bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len().min(SLOT));
    [first, second]
        .into_iter()
        .flat_map(|bytes| {
            let json = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
            let (mut slot, _) = line(id.as_bytes(), json).unwrap_or_else(|| (bytes.to_vec(), 0));
            slot.resize(SLOT - 1, b' ');
            slot.push(b'\n');
            slot
        })
        .collect()
}

/// Corrects the chains, counts and checksums of an export.
pub(crate) fn export(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut sessions) = (Vec::<u8>::new(), 0);
    let (mut before, mut begin, mut records, mut id) = (Vec::new(), 0, 0, None);
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(piece);
        if let Some(rest) = text.strip_prefix("{\"session\":{\"id\":\"") {
            id = rest.get(..36).and_then(|id| id.parse::<SessionId>().ok());
            before = id.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
            (begin, records) = (out.len(), 0);
            out.extend_from_slice(piece);
        } else if text.starts_with("{\"seq\":") {
            records += 1;
            out.extend(record(&mut before, piece));
        } else if text.starts_with("{\"end\":")
            && let Some(id) = id
        {
            sessions += 1;
            let sum = xxh3_64(&out[begin..]);
            out.extend(
                format!("{{\"end\":{{\"id\":\"{id}\",\"records\":{records},\"sum\":\"{sum:016x}\"}}}}\n")
                    .bytes(),
            );
        } else if text.starts_with("{\"export_end\":") {
            let sum = xxh3_64(&out);
            out.extend(
                format!("{{\"export_end\":{{\"sessions\":{sessions},\"sum\":\"{sum:016x}\"}}}}\n").bytes(),
            );
        } else {
            out.extend_from_slice(piece);
        }
    }
    out
}
