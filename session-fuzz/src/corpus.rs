//! The valid inputs of each target, which mutation starts from.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::InputOutcome;
use crate::repair;
use crate::samples::{self, Sample};
use crate::targets::{TARGETS, legacy_store};

/// Returns the valid inputs of a target; none for an unknown target.
pub fn of(target: &str) -> &'static [Vec<u8>] {
    static ALL: OnceLock<Vec<Vec<Vec<u8>>>> = OnceLock::new();
    let all = ALL.get_or_init(|| TARGETS.iter().map(|target| build(target.name)).collect());
    TARGETS.iter().position(|known| known.name == target).map_or(&[], |at| &all[at])
}

fn build(target: &str) -> Vec<Vec<u8>> {
    let each = |build: &dyn Fn(u8, &Sample) -> Vec<u8>| {
        samples::all()
            .iter()
            .enumerate()
            .map(|(at, sample)| build(u8::try_from(at).unwrap(), sample))
            .collect()
    };
    match target {
        "record_line" => record_lines(),
        "whole_log" => each(&|at, sample| [&[0, at][..], &sample.log()].concat()),
        "slot" => each(&|at, sample| [&[0, at][..], &sample.slots()].concat()),
        "export_stream" => exports(),
        "names" => names(),
        "report_socket" => report_requests(),
        "legacy_store" => legacy_stores(),
        other => panic!("unknown target {other}"),
    }
}

fn record_lines() -> Vec<Vec<u8>> {
    let lines = |(at, sample): (usize, &'static Sample)| {
        sample.records.iter().enumerate().map(move |(place, record)| {
            let head = [0, u8::try_from(at).unwrap(), u8::try_from(place).unwrap()];
            [&head[..], record.line().as_bytes()].concat()
        })
    };
    samples::all().iter().enumerate().flat_map(lines).collect()
}

fn exports() -> Vec<Vec<u8>> {
    let session = |sample: &Sample, output: &str| {
        let begin = format!("{{\"session\":{{\"id\":\"{}\"}}}}\n", sample.id);
        [begin.as_bytes(), &sample.log(), output.as_bytes(), b"{\"end\":{}}\n"].concat()
    };
    let stream = |sessions: Vec<Vec<u8>>| {
        let stream = [&b"\0{\"export\":{\"format\":1}}\n"[..], &sessions.concat(), b"{\"export_end\":{}}\n"];
        let stream = stream.concat();
        [&stream[..1], &repair::export(&stream[1..])].concat()
    };
    let all = samples::all();
    let (mut output, mut offset) = (String::new(), 0);
    for (at, bytes) in [&b"compiled\n"[..], b"\x1b[31mwarning\x1b[m\n", b"linked\n\0\xff"].iter().enumerate()
    {
        let (name, gap) = [("stdout", ""), ("stderr", ",\"after_gap\":true"), ("stdout", "")][at];
        writeln!(
            output,
            "{{\"output\":{{\"offset\":{offset},\"stream\":\"{name}\",\"attempt\":1,\"at\":\"2026-11-21T09:30:0{at}.000Z\"{gap},\"base64\":\"{}\"}}}}",
            STANDARD.encode(bytes)
        ).expect("writing to a string cannot fail");
        offset += bytes.len();
    }
    let cut = format!("{output}{{\"output_cut\":{{\"attempt\":1,\"at\":\"2026-11-21T09:31:00.000Z\"}}}}\n");
    let mut streams = vec![stream(Vec::new())];
    streams.extend(all.iter().map(|sample| stream(vec![session(sample, "")])));
    streams.push(stream(all[..3].iter().map(|sample| session(sample, "")).collect()));
    streams.push(stream(vec![session(&all[1], &output), session(&all[3], "")]));
    streams.push(stream(vec![session(&all[2], &cut)]));
    streams
}

/// Returns the fixtures that can be read completely, and a file with all sessions.
fn legacy_stores() -> Vec<Vec<u8>> {
    const ALL: &str = r#"{"version":"1.0","sessions":[
        {"id":"20000000-0000-4000-8000-000000000001","name":"fix-login","status":"active","branch":"main","worktreePath":"/w/1",
         "ptyPid":4711,"createdAt":"2026-11-20T08:00:00.000Z","lastActivity":"2026-11-20T08:05:00.000Z","currentPhase":"plan"},
        {"id":"20000000-0000-4000-8000-000000000002","name":"tidy","status":"stopped","branch":"b","worktreePath":"/w/2",
         "createdAt":"2026-11-20T08:00:00.000Z","lastActivity":"2026-11-20T09:00:00.000Z","metadata":{"issue":7}}]}"#;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../session-legacy/tests/fixtures");
    let mut inputs = vec![[&[0, 1], ALL.as_bytes()].concat()];
    for (format, name) in [(0, "msw"), (2, "prodigy")] {
        let files = fixtures.join(name).read_dir().unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        inputs.extend(files.iter().map(|file| [&[0, format][..], &std::fs::read(file).unwrap()].concat()));
    }
    inputs.retain(|input| legacy_store(input) == InputOutcome::Accepted);
    inputs
}

fn names() -> Vec<Vec<u8>> {
    let input = |texts: &[&str]| {
        let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        [&[0][..], &texts.join(&0xff)].concat()
    };
    let long = "ü".repeat(128);
    let quotes = "\"\\".repeat(64);
    vec![
        input(&["nightly-import", "import"]),
        input(&[
            "a name with \"quotes\" and 日本語",
            "run",
            "tree",
            "team",
            "data",
            "key-1",
            "step",
            "phase",
            "lunch",
        ]),
        input(&[&long, &long, &long, "k", "v", &long, &long, &long, &long]),
        input(&[&quotes, &quotes, &quotes, &quotes[..16], &quotes[..16], &quotes, &quotes, &quotes, &quotes]),
        input(&["file:/a/store", "memory:", "7f3a1c52-9e0b-4d86-a1f4-2c5b8e907d13"]),
    ]
}

fn report_requests() -> Vec<Vec<u8>> {
    let input = |pace: u8, lines: &[&str]| {
        let lines: String = lines.iter().flat_map(|line| [*line, "\n"]).collect();
        [&[0, pace][..], lines.as_bytes()].concat()
    };
    vec![
        input(3, &[r#"{"report":{"percent":42.5,"step":"linking"}}"#]),
        input(
            90,
            &[
                r#"{"report":{}}"#,
                r#"{"report":{"completed_steps":3,"total_steps":7,"phase":"build"}}"#,
                r#"{"report":{"eta":60}}"#,
            ],
        ),
        input(30, &[r#"{"report":{"percent":101}}"#, r#"{"delete":{}}"#, "", r#"{"report":{"percent":1}}"#]),
        input(200, &["{\"report\":{\"step\":\"caf\\u00e9 \\u009b1m\"}}"]),
    ]
}
