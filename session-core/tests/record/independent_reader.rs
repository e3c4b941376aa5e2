//! A reader written from `docs/format.md` alone, without this code: the page is right if it can be followed literally.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use session_core::{EventKind, Head, SessionId, limits};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::fixtures::kept;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md");
    fs::read_to_string(path).expect("the page is in the docs folder")
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Chapter "Reading", steps 1 to 4 and the first half of 5. Returns for each record: what was hashed before the line,
/// how many of its bytes, the sum, the kind and the payload.
fn read(id: &str, log: &[u8]) -> Vec<(Vec<u8>, usize, String, String, Value)> {
    let mut before = hex(id);
    let mut records = Vec::new();
    for (at, line) in log.split(|byte| *byte == 0x0a).enumerate() {
        if line.is_empty() {
            assert_eq!(at, records.len(), "only behind the last line feed");
            break;
        }
        assert!(line.len() < 1_048_576);
        let (covered, ending) = line.split_at(line.len() - 26);
        let ending = str::from_utf8(ending).unwrap();
        assert!(ending.starts_with(",\"sum\":\"") && ending.ends_with("\"}"), "{ending}");
        let sum = &ending[8..24];
        let found = xxh3_64_with_seed(&[before.as_slice(), covered].concat(), 0);
        assert_eq!(format!("{found:016x}"), sum, "record {}", at + 1);
        assert!(covered.starts_with(b"{\"seq\":"));
        let value: Value = serde_json::from_slice(line).unwrap();
        let members: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members.len(), 6, "{members:?}");
        let order = ["{\"seq\":", ",\"at\":\"", "\",\"attempt\":", ",\"flushed\":", ",\"event\":{\""];
        let text = str::from_utf8(covered).unwrap();
        let places: Vec<usize> = order.iter().map(|member| text.find(member).expect("a member")).collect();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(value["seq"], at as u64 + 1);
        assert!(value["flushed"].as_u64() < value["seq"].as_u64());
        assert_eq!(value["at"].as_str().unwrap().len(), 24);
        let event = value["event"].as_object().unwrap();
        assert_eq!(event.len(), 1);
        let (kind, payload) = event.iter().next().unwrap();
        records.push((before, covered.len(), sum.to_owned(), kind.clone(), payload.clone()));
        before = hex(sum);
    }
    records
}

#[test]
fn the_worked_example_is_right() {
    let page = page();
    let (_, example) = page.split_once("\n## A worked example\n").expect("the chapter");
    let id = example.split('`').nth(1).expect("the id");
    let (_, block) = example.split_once("```jsonl\n").expect("the log");
    let (log, table) = block.split_once("```").expect("the end of the log");
    let records = read(id, log.as_bytes());
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| record"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    assert_eq!(records.len(), rows.len(), "a row for each record");
    for ((before, covered, sum, ..), row) in records.iter().zip(&rows) {
        assert_eq!(hex(row[2].trim_matches('`')), *before, "{row:?}");
        assert_eq!(row[3].parse::<usize>().unwrap(), *covered, "{row:?}");
        assert_eq!(row[4].trim_matches('`'), sum, "{row:?}");
    }
    let id: SessionId = id.parse().unwrap();
    let kept = kept().into_values().find(|(kept, ..)| *kept == id).expect("the example is a fixture");
    assert_eq!(kept.1, log, "the page shows another log than the fixture");
}

#[test]
fn the_page_suffices_to_read_every_fixture() {
    for (name, (id, text, records)) in kept() {
        let read = read(&id.to_string(), text.as_bytes());
        assert_eq!(read.len(), records.len(), "{name}");
        for ((.., kind, _), record) in read.iter().zip(records) {
            assert_eq!(*kind, record.event.kind().name());
        }
    }
}

/// Returns the members that the table under a heading of the page names.
fn documented_members(page: &str, heading: &str) -> BTreeSet<String> {
    let (_, chapter) =
        page.split_once(&format!("\n### {heading}\n")).unwrap_or_else(|| panic!("no chapter `{heading}`"));
    let chapter = chapter.split("\n#").next().unwrap();
    chapter
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(member, _)| member.to_owned()))
        .collect()
}

#[test]
fn the_page_names_exactly_the_existing_members() {
    let page = page();
    let mut written = BTreeMap::<String, BTreeSet<String>>::new();
    let mut note = |heading: &str, value: &Value| {
        let members = value.as_object().unwrap_or_else(|| panic!("{heading} is no object")).keys().cloned();
        written.entry(heading.to_owned()).or_default().extend(members);
    };
    for (id, text, _) in kept().into_values() {
        for (.., kind, payload) in read(&id.to_string(), text.as_bytes()) {
            note(&kind, &payload);
            for (member, heading) in [
                ("config", "config"),
                ("creator", "owner"),
                ("owner", "owner"),
                ("origin", "origin"),
                ("changes", "changes"),
                ("summary", "summary"),
                ("error", "failure"),
            ] {
                // The error of a step is a text.
                if let Some(inner) = payload.get(member)
                    && kind != "step_failed"
                {
                    note(&format!("Object: {heading}"), inner);
                }
            }
            if let Some(end) = payload.pointer("/outcome/completed") {
                note("Object: step end", end);
            }
            for (path, heading) in [
                ("/inputs", "input file"),
                ("/failed", "item failure"),
                ("/begun", "item start"),
                ("/outcome/items/items", "inherited item"),
            ] {
                let list = payload.pointer(path).and_then(Value::as_array);
                list.into_iter().flatten().for_each(|item| note(&format!("Object: {heading}"), item));
            }
            for (list, heading) in [("files", "file change"), ("commit_list", "commit")] {
                let list = payload.get("changes").and_then(|changes| changes.get(list)?.as_array());
                list.into_iter().flatten().for_each(|item| note(&format!("Object: {heading}"), item));
            }
            for heading in ["options", "worktree"] {
                if let Some(inner) = payload.pointer(&format!("/config/{heading}")) {
                    note(&format!("Object: {heading}"), inner);
                }
            }
        }
    }
    for kind in EventKind::ALL {
        assert!(written.contains_key(kind.name()), "{kind} is in no fixture");
    }
    for (heading, members) in written {
        assert_eq!(documented_members(&page, &heading), members, "`{heading}`");
    }
}

/// Returns the members that the first column of the head's table names; one row may name several.
fn documented_head_members(page: &str) -> BTreeSet<String> {
    let (_, chapter) = page.split_once("\n## The head\n").expect("the chapter");
    let chapter = chapter.split("\n## ").next().unwrap();
    let cells =
        chapter.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').nth(1).unwrap());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn the_page_names_exactly_the_members_of_a_head() {
    let mut written = BTreeSet::new();
    for (id, _, records) in kept().into_values() {
        let mut head = None;
        // After each record: some members exist only until the session starts or ends.
        for record in &records {
            Head::fold(&mut head, id, record).unwrap();
            let value = serde_json::to_value(&head).unwrap();
            written.extend(value.as_object().unwrap().keys().cloned());
        }
    }
    assert_eq!(documented_head_members(&page()), written);
}

#[test]
fn the_page_names_the_limits_of_the_code() {
    let page = page();
    let (_, limits_chapter) = page.split_once("\n## Limits\n").unwrap();
    let limits_chapter = limits_chapter.split("\n## ").next().unwrap();
    for (what, limit) in [
        ("a record with its line feed", limits::RECORD_BYTES),
        ("nested arrays and objects", limits::NESTING),
        ("`name`, `operation`", limits::NAME_CHARS),
        ("labels |", limits::LABELS),
        ("labels as JSON", limits::LABEL_BYTES),
        ("`step`, `phase`", limits::STEP_BYTES),
        ("a step's key or fingerprint", limits::STEP_KEY_BYTES),
        ("`command` of a step", limits::STEP_TEXT_BYTES),
        ("`inputs` of a step", limits::NAMED_FILES),
        ("their paths and digests", limits::INPUT_BYTES),
        ("`part` of a step's", limits::VALUE_PART_BYTES),
        ("`arg` of an item", limits::VALUE_PART_BYTES),
        ("`question`", limits::STEP_TEXT_BYTES),
        ("`choices`", limits::CHOICES),
        ("a choice", limits::STEP_BYTES),
        ("`answer`, `default`", limits::VALUE_PART_BYTES),
        ("a step's value", limits::VALUE_BYTES),
        ("`files` of an iteration", limits::NAMED_FILES),
        ("their paths, previous ones", limits::NAMED_FILES_BYTES),
        ("`commit_list`", limits::NAMED_COMMITS),
        ("`id` of a commit", limits::COMMIT_ID_BYTES),
        ("`subject` of a commit", limits::SUBJECT_BYTES),
        ("a head as JSON", limits::HEAD_BYTES),
    ] {
        let row = limits_chapter.lines().find(|line| line.starts_with(&format!("| {what}"))).expect(what);
        let found = row.split('|').nth(2).unwrap().split_whitespace().next().unwrap();
        assert_eq!(found.parse::<usize>().unwrap(), limit, "{row}");
    }
}

/// Derives an id from a key by following the page.
#[test]
fn the_page_describes_how_ids_derive_from_keys() {
    let page = page();
    let (_, rest) = page.split_once("in the namespace\n`").expect("the namespace");
    let namespace = uuid::Uuid::parse_str(rest.split('`').next().unwrap()).unwrap();
    let made = |key: &str| uuid::Uuid::new_v5(&namespace, key.as_bytes()).to_string();
    assert_eq!(SessionId::from_key("k").to_string(), made("k"));
    // `retries` 2 is the third try.
    assert_eq!(SessionId::from_key_try("k", 3).to_string(), made("k\n3"));
    assert_eq!(kept().values().filter(|(id, ..)| id.to_string() == made("import-2026-11-21")).count(), 1);
}
