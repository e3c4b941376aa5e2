//! The form of a line, and how a reader treats lines of newer or other writers.

use serde_json::json;
use session_core::backend::{Chain, ChainError, DecodeError};
use session_core::text::is_unsafe_char;
use session_core::{EventKind, ProgressReport, SessionEvent, StepIdentity, StoredRecord};

use crate::support::{draft, forge, id, instant, log, note};

/// Returns record 6 with this event, sealed by another writer.
fn foreign(event: &str) -> StoredRecord {
    let tip = log(id(1), 5)[4].tip();
    let body =
        format!(r#"{{"seq":6,"at":"2026-11-21T09:30:06.000Z","attempt":1,"flushed":5,"event":{event}"#);
    let line = forge(&tip.sum.as_u64().to_be_bytes(), &body);
    let record = Chain::at(id(1), tip).check(line.as_bytes()).expect("the sum is right");
    assert_eq!(record.line(), line, "kept byte for byte");
    record
}

fn begun(event: &str) -> StoredRecord {
    let body =
        format!(r#"{{"seq":1,"at":"2026-11-21T09:30:06.000Z","attempt":0,"flushed":0,"event":{event}"#);
    Chain::start(id(1)).check(forge(id(1).as_bytes(), &body).as_bytes()).expect("the sum is right")
}

#[test]
fn a_line_holds_no_character_that_a_terminal_acts_on() {
    for c in (0..=0x1_0ffff).filter_map(char::from_u32).filter(|c| is_unsafe_char(*c)) {
        let text = format!("a{c}\\{c}b");
        let mut chain = Chain::start(id(1));
        let (stored, record) = chain.seal(draft(1, note(json!({ &text: &text })))).unwrap();
        assert!(!stored.line().chars().any(is_unsafe_char), "{c:?}: {}", stored.line());
        assert_eq!(stored.decode().unwrap(), record, "{c:?} does not come back");
        // Nor does a foreign line introduce one, even with a valid sum.
        let body = stored.line().split(",\"sum\"").next().unwrap().replacen("a\\", &format!("{c}\\"), 1);
        let raw = forge(id(1).as_bytes(), &body);
        assert_eq!(Chain::start(id(1)).check(raw.as_bytes()), Err(ChainError::Form), "{c:?}");
    }
    // All other characters are written as they are.
    let mut chain = Chain::start(id(1));
    let (stored, _) = chain.seal(draft(1, note(json!("ä日😀\u{2028}\u{ad}/<>&")))).unwrap();
    assert!(stored.line().contains("\"ä日😀\u{2028}\u{ad}/<>&\""), "{}", stored.line());
}

#[test]
fn the_form_is_fixed_by_the_format() {
    let lines = log(id(1), 3);
    for (record, seq) in lines.iter().zip(1..) {
        let start = format!(
            r#"{{"seq":{seq},"at":"{}","attempt":{},"flushed":{},"event":{{""#,
            instant(seq),
            u32::from(seq > 1),
            seq - 1
        );
        assert!(record.line().starts_with(&start), "{}", record.line());
        assert!(record.line().ends_with(&format!(",\"sum\":\"{}\"}}", record.tip().sum)));
        assert_eq!(record.revision(), seq);
        assert_eq!(record.tip().to_string(), format!("{seq}:{}", record.tip().sum), "as conflicts name it");
        serde_json::from_str::<serde_json::Value>(record.line()).expect("a line is JSON");
        let envelope = record.envelope().unwrap();
        assert_eq!((envelope.seq, envelope.at, envelope.flushed), (seq, instant(seq), seq - 1));
    }
}

#[test]
fn an_invalid_record_is_distinguished_from_damage() {
    let good = log(id(1), 1).remove(0);
    let line = good.line();
    let check = |line: &[u8]| Chain::start(id(1)).check(line).unwrap_err();
    for form in [
        &b""[..],
        b"{}",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        &line.as_bytes()[..line.len() - 1],
        format!("{line}\r").as_bytes(),
        format!("{line} ").as_bytes(),
        line.replace(r#","sum":""#, r#", "sum":""#).as_bytes(),
        line.to_uppercase().as_bytes(),
        &[line.as_bytes(), b"\xff"].concat(),
    ] {
        assert_eq!(check(form), ChainError::Form, "{}", String::from_utf8_lossy(form));
    }
    assert_eq!(check(line.replace("name", "mane").as_bytes()), ChainError::Sum);
    assert_eq!(check(format!(" {line}").as_bytes()), ChainError::Sum);
    // A valid sum over something other than a record.
    assert_eq!(check(forge(id(1).as_bytes(), "[1").as_bytes()), ChainError::Form);
    assert_eq!(check(forge(id(1).as_bytes(), "{\"seq\":1,\n\"x\":1").as_bytes()), ChainError::Form);
    let nonsense = forge(id(1).as_bytes(), "{\"seq\":1");
    let record = Chain::start(id(1)).check(nonsense.as_bytes()).unwrap();
    assert!(matches!(record.decode(), Err(DecodeError::Malformed(_))));
    assert!(matches!(record.envelope(), Err(DecodeError::Malformed(_))));
}

#[test]
fn an_unknown_kind_is_stored_but_not_decoded() {
    let record = foreign(r#"{"teleported":{"to":"mars"}}"#);
    assert_eq!(record.envelope().unwrap().seq, 6);
    let Err(DecodeError::UnknownKind { kind }) = record.decode() else { panic!("{:?}", record.decode()) };
    assert_eq!(kind, "teleported");
}

#[test]
fn a_newer_format_is_stored_but_not_decoded() {
    // Everything else about the payload may have changed.
    for event in [r#"{"created":{"format":2,"plan":[1,2]}}"#, r#"{"created":{"config":7,"format":2}}"#] {
        let record = begun(event);
        assert_eq!(record.envelope().unwrap().seq, 1);
        assert!(matches!(record.decode(), Err(DecodeError::NewerFormat { format: 2 })), "{event}");
    }
    for wrong in [r#"{"created":{"format":0}}"#, r#"{"created":{}}"#, r#"{"created":{"format":"1"}}"#] {
        assert!(matches!(begun(wrong).decode(), Err(DecodeError::Malformed(_))), "{wrong}");
    }
}

#[test]
fn unknown_members_are_stored_and_ignored() {
    let record = foreign(r#"{"cancelled":{"reason":"r","mood":"good"}}"#);
    assert_eq!(record.decode().unwrap().event, SessionEvent::Cancelled { reason: "r".to_owned() });
    let record = foreign(r#"{"progress_reported":{"percent":50,"mood":{"a":[1]}}}"#);
    let report = ProgressReport::new().percent(50.0);
    assert_eq!(record.decode().unwrap().event, SessionEvent::ProgressReported { report });
    let record = foreign(
        r#"{"step_started":{"mood":1,"name":"s","n":2,"x":{"n":3},"fingerprint":"f","because":"age","o":[]}}"#,
    );
    let SessionEvent::StepStarted { step, .. } = record.decode().unwrap().event else { panic!() };
    assert_eq!(step, StepIdentity::nth("s", 2));
    let record = foreign(r#"{"progress_reported":{}}"#);
    let report = ProgressReport::new();
    assert_eq!(record.decode().unwrap().event, SessionEvent::ProgressReported { report });
}

#[test]
fn an_impossible_event_is_malformed() {
    for event in [
        "null",
        "[]",
        "{}",
        r#""completed""#,
        r#"{"cancelled":{"reason":"r"},"noted":{"kind":"a.b","data":1}}"#,
        r#"{"cancelled":{}}"#,
        r#"{"cancelled":{"reason":7}}"#,
        r#"{"iteration_started":{"number":-1}}"#,
        r#"{"iteration_started":{"number":18446744073709551616}}"#,
        r#"{"paused":{"reason":{"sulking":"x"}}}"#,
        r#"{"progress_reported":{"percent":101}}"#,
        r#"{"step_started":{"name":"s","fingerprint":"f","because":"first"}}"#,
        r#"{"step_started":{"name":"s","n":1,"key":"k","fingerprint":"f","because":"first"}}"#,
        r#"{"step_started":{"name":"s","n":1,"n":2,"fingerprint":"f","because":"first"}}"#,
        r#"{"step_started":{"name":"s","n":1,"fingerprint":"f","because":"mood"}}"#,
        r#"{"step_value":{"start":1,"part":{"base64":"dGV4dA=="}}}"#,
        r#"{"step_value":{"start":1,"part":{"base64":"!"}}}"#,
    ] {
        let decoded = foreign(event).decode();
        assert!(matches!(decoded, Err(DecodeError::Malformed(_))), "{event}: {decoded:?}");
    }
    let error = foreign(r#"{"progress_reported":{"percent":101}}"#).decode().unwrap_err();
    assert_eq!(error.to_string(), "not a record: percent is not between 0 and 100", "the cause is reported");
    let cause = foreign("7").decode().unwrap_err().to_string();
    assert!(cause.contains("expected an event: an object with one member"), "{cause}");
}

#[test]
fn every_kind_is_written_under_its_name() {
    for kind in EventKind::ALL {
        assert_eq!(EventKind::parse(kind.name()), Some(*kind));
        assert!(kind.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    }
    assert_eq!(EventKind::parse("teleported"), None);
}

/// Every bit of a percentage survives, through the flattened payload too.
#[test]
fn numbers_read_back_to_the_last_bit() {
    let mut state = 0x5e55_1011_u64;
    for _ in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let percent = f64::from_bits((state >> 1) % 100.0_f64.to_bits());
        let event = SessionEvent::ProgressReported { report: ProgressReport::new().percent(percent) };
        let (stored, _) = Chain::start(id(1)).seal(draft(1, event)).unwrap();
        let SessionEvent::ProgressReported { report } = stored.decode().unwrap().event else { panic!() };
        assert_eq!(report.percent.map(f64::to_bits), Some(percent.to_bits()), "{percent:e}");
        let any = f64::from_bits(state);
        if any.is_finite() {
            let (stored, record) = Chain::start(id(1)).seal(draft(1, note(json!(any)))).unwrap();
            assert_eq!(stored.decode().unwrap(), record, "{any:e}");
        }
    }
}
