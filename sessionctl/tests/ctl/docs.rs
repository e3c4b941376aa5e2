//! The commands of the README and of the pages under `docs`, run as they stand, and the output that these show.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{self, BINARY};

/// One block of shell commands, and what is shown to follow.
struct Block {
    commands: String,
    output: Option<String>,
}

/// The fenced blocks of kind `sh`, each with the next one of kind `text` before another `sh`.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut fence: Option<(&str, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), fence.take()) {
            (Some(kind), None) => fence = Some((kind, String::new())),
            (Some(_), Some(("sh", commands))) => blocks.push(Block { commands, output: None }),
            (Some(_), Some(("text", shown))) => blocks.last_mut().unwrap().output = Some(shown),
            (Some(_), Some(_)) | (None, None) => {}
            (None, Some((kind, body))) => fence = Some((kind, body + line + "\n")),
        }
    }
    blocks
}

/// `cargo run` of the command is the command that was built for this test; the tests are not run within the tests.
fn cargo(folder: &Path) {
    let script = format!(
        "#!/bin/sh\nif [ \"$1 $2 $3 $4 $5\" = 'run -q -p sessionctl --' ]; then shift 5; exec {BINARY} \"$@\"; fi\n\
         test \"$*\" = 'xtask test'\n"
    );
    let path = folder.join("cargo");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A line without what is another one each time: ids, ages, and where the command is.
fn settled(line: &str) -> String {
    let word = |word: &str| {
        let hex = word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let unit = word.trim_start_matches(|c: char| c.is_ascii_digit());
        if hex {
            "ID".to_owned()
        } else if unit != word && ["ms", "s", "m"].contains(&unit) {
            "AGE".to_owned()
        } else if word.ends_with("/sessionctl") {
            "sessionctl".to_owned()
        } else {
            word.to_owned()
        }
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// Runs a page's commands in an empty folder, and looks for what it shows in what they print.
fn holds(page: &str, blocks: Vec<Block>) {
    let folder = tempfile::tempdir().unwrap();
    cargo(folder.path());
    std::os::unix::fs::symlink(BINARY, folder.path().join("sessionctl")).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    for Block { commands, output } in blocks {
        let mut shell = support::clean_command("sh");
        shell.env("PATH", &path).env("SESSIONCTL_STORE", "file:store").current_dir(folder.path());
        shell.args(["-c", &format!("exec 2>&1\nset -e\n{commands}")]);
        let ran = support::run(shell).exits(0);
        // The shell's own word on a killed job comes whenever it likes; everything else in its order.
        let mut said = ran.stdout.lines().map(settled);
        for shown in output.iter().flat_map(|output| output.lines()).map(settled) {
            assert!(
                said.any(|line| line == shown),
                "{page}: not said, or not there: {shown}\n{}",
                ran.stdout
            );
        }
    }
}

fn page(name: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    blocks(&std::fs::read_to_string(path).unwrap())
}

#[test]
fn readme_commands_print_what_the_page_shows() {
    let blocks = page("README.md");
    assert!(
        blocks[0].commands.contains("run --name") && blocks[0].output.is_some(),
        "a first success, with output"
    );
    assert_eq!(blocks.iter().filter(|block| block.commands.trim() == "cargo xtask test").count(), 1);
    holds("README.md", blocks);
}

#[test]
fn guide_commands_print_what_the_page_shows() {
    holds("docs/guide.md", page("docs/guide.md"));
}

#[test]
fn format_page_commands_print_what_the_pages_show() {
    for name in ["docs/json.md", "docs/export.md", "docs/legacy.md"] {
        let blocks = page(name);
        assert!(!blocks.is_empty(), "{name}");
        holds(name, blocks);
    }
}
