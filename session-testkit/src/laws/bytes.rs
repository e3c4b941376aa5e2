//! Law 5 for bytes: records and heads come back exactly as they were stored.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use session_core::backend::Sum;
use session_core::{Durability, SessionConfig, SessionEvent, StoredRecord, limits};

use super::{check_reads, open_handles, stored_log};
use crate::harness::Harness;
use crate::law::{Finding, Outcome, check_eq};
use crate::logs::Log;

/// Values that a storage changes if it parses JSON or normalizes text.
fn values() -> Vec<Value> {
    let numbers = "[1.0,1,-0.0,0.1,1e300,1.7976931348623157e308,5e-324,2.2250738585072014e-308,9007199254740993,\
        18446744073709551615,-9223372036854775808,0.30000000000000004,123456789012345680000.0]";
    let mut nested = json!("the innermost");
    // The record, the event and its payload take three levels around the value.
    for level in 0..limits::NESTING - 3 {
        nested = if level % 2 == 0 { json!([nested]) } else { json!({ "in": nested }) };
    }
    let mut values: Vec<Value> = [
        "",
        " ",
        "  leading and trailing  ",
        "\"quoted\" and \\backslashed\\ and /slashed/",
        "\u{0}\u{1}\u{7}\u{8}\t\n\u{b}\u{c}\r\u{1b}[31m\u{7f}\u{80}\u{85}\u{9b}\u{9f}",
        "\r\n\r\n\n\n",
        "\u{2028}\u{2029}\u{feff}\u{fffd}\u{ffff}\u{10ffff}",
        "\u{202e}reversed\u{202c}\u{200e}\u{2066}\u{2069}",
        "e\u{301} is not \u{e9}, \u{fb01} is not fi, \u{212b} is not \u{c5}",
        "日本語 עברית العربية ไทย 🦀👩‍👩‍👧‍👦",
        "</script><!-- ' ; DROP TABLE sessions; -- %s %n $1 ${HOME} `id` \\u0041 \\x00",
        "{\"seq\":1,\"at\":\"2026-11-21T09:30:00.123Z\",\"event\":{}},\"sum\":\"0123456789abcdef\"}",
        ",\"sum\":\"0123456789abcdef\"}",
        "null",
    ]
    .into_iter()
    .map(Value::from)
    .collect();
    values.extend([
        serde_json::from_str(numbers).expect("numbers are JSON"),
        json!({ "z": 1, "a": { "y": [], "b": {} }, "": null, "A": true, "\u{e4}": [null, [false]] }),
        nested,
        Value::from("\u{e4}".repeat(70_000)),
    ]);
    values
}

pub(crate) async fn law_5_records_come_back_byte_identical(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [writer, reader] = handles.as_slice() else { unreachable!("two were asked for") };
    let mut config =
        SessionConfig::new("ünïcode").name("e\u{301} ≠ é").label("k", "v=w\\\"").metadata(json!(1e300));
    config.idempotency_key = Some("key \\ \" 🔑".into());
    let mut log = Log::new(config);
    log.started();
    for value in values() {
        log.noted(value.clone()).checkpoint(value.clone());
        log.push(SessionEvent::AnalysisCompleted { results: value });
    }
    for step in log.take_each() {
        step.send(&**writer, Durability::Buffered).await?;
    }
    check_reads(&**writer, &log).await?;
    check_reads(&**reader, &log).await?;
    // Spellings that the core does not write but other writers may: the checksum covers exactly this spelling.
    let mut chained = log.clone();
    for text in
        [r#"{"testkit.x":1.0}"#, r#"{"testkit.x":  [1e2 , 100.00]}"#, r#"{"testkit.x":"\u0041\/\u00e9"}"#]
    {
        let record = spelled(&chained, text)?;
        let head = {
            let mut head = chained.head().clone();
            let decoded =
                record.decode().map_err(|error| Finding::violated(format!("our own record: {error}")))?;
            head.apply(&decoded).map_err(|error| Finding::violated(format!("our own record: {error}")))?;
            head
        };
        let batch = session_core::backend::Batch::new(vec![record.clone()], head);
        let expected = session_core::backend::Expected::At(chained.tip());
        writer.append(log.id(), expected, batch, Durability::Flushed).await?;
        chained = stored_log(&**reader, log.id()).await?;
        check_eq!(chained.records().last(), Some(&record), "a record with its own spelling");
    }
    check_reads(&**reader, &chained).await
}

/// Seals a `noted` with its data spelled exactly like this, as `docs/format.md` specifies.
fn spelled(log: &Log, data: &str) -> Result<StoredRecord, Finding> {
    let (seq, at, attempt) = (log.revision() + 1, log.head().updated_at, log.head().lifecycle.attempt);
    let event = format!(r#"{{"noted":{{"kind":"testkit.spelled","data":{data}}}}}"#);
    let body = format!(r#"{{"seq":{seq},"at":"{at}","attempt":{attempt},"flushed":0,"event":{event}"#);
    let sum = sum_after(log.tip().sum, body.as_bytes());
    StoredRecord::from_storage(seq, format!(r#"{body},"sum":"{sum:016x}"}}"#))
        .map_err(|error| Finding::violated(format!("our own record: {error}")))
}

/// Computes the checksum of a line as `docs/format.md` specifies, without the core.
fn sum_after(previous: Sum, body: &[u8]) -> u64 {
    let mut covered = previous.as_u64().to_be_bytes().to_vec();
    covered.extend_from_slice(body);
    xxhash_rust::xxh3::xxh3_64(&covered)
}

pub(crate) async fn law_5_a_record_may_be_as_large_as_the_format_allows(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [writer, reader] = handles.as_slice() else { unreachable!("two were asked for") };
    // Sizes around those of pages and buffers, and the largest allowed one.
    let mut sizes: Vec<usize> =
        [512, 4096, 8192, 65_536, 262_144].iter().flat_map(|size| [size - 1, *size, size + 1]).collect();
    sizes.push(limits::RECORD_BYTES);
    let mut log = Log::plain();
    log.started();
    for size in sizes {
        let empty = log.clone().noted("").last_line();
        log.noted("x".repeat(size - empty));
        check_eq!(log.last_line(), size, "the size of our own record");
        log.take().send(&**writer, Durability::Flushed).await?;
    }
    check_reads(&**writer, &log).await?;
    check_reads(&**reader, &log).await?;
    // Several of them in one batch.
    for _ in 0..3 {
        log.noted("\u{e4}".repeat(limits::RECORD_BYTES / 2 - 200));
    }
    log.take().send(&**writer, Durability::Buffered).await?;
    check_reads(&**reader, &log).await
}

impl Log {
    /// Returns the bytes of the last record's line, with its line feed.
    fn last_line(&self) -> usize {
        self.records().last().map_or(0, |record| record.line().len() + 1)
    }
}

pub(crate) async fn law_5_the_largest_head_comes_back_unchanged(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [writer, reader] = handles.as_slice() else { unreachable!("two were asked for") };
    for text in ["\"\\\"\\", "日本語", "e\u{301}", "x"] {
        let filler = text.repeat(1000);
        let name: String = filler.chars().take(limits::NAME_CHARS).collect();
        let mut config =
            SessionConfig::new(name.clone()).name(name).focus(filler.clone()).max_iterations(u64::MAX);
        config.labels = BTreeMap::new();
        for n in 0..limits::LABELS {
            config.labels.insert(format!("{n}"), text.repeat(16 / text.len().max(1)));
        }
        let mut log = Log::new(config);
        log.started().iteration().progress(u64::MAX, u64::MAX).checkpoint(filler.clone());
        let step: String = filler.chars().take(limits::STEP_BYTES / 4).collect();
        let report = session_core::ProgressReport::new()
            .percent(100.0 / 3.0)
            .step(step.clone())
            .phase(step)
            .eta(u64::MAX);
        log.push(SessionEvent::ProgressReported { report });
        log.push(SessionEvent::PauseRequested { reason: filler.clone(), by: filler.clone() });
        log.push(SessionEvent::CancelRequested { reason: filler.clone(), by: filler.clone(), force: true });
        log.paused(session_core::PauseReason::AwaitingInput(filler.clone()));
        log.push(SessionEvent::ResumeRequested { by: filler.clone() });
        log.push(SessionEvent::InputProvided { value: filler.clone().into(), by: filler });
        log.take().send(&**writer, Durability::Flushed).await?;
        check_reads(&**writer, &log).await?;
        check_reads(&**reader, &log).await?;
    }
    Ok(())
}
