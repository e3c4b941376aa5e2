//! Runs the commands of the README and of the pages under `docs`, and compares their output with what the pages show.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{self, BINARY};

/// A block of shell commands, and the output shown after it.
struct Block {
    commands: String,
    output: Option<String>,
}

/// Returns the fenced `sh` blocks, each with the `text` block that follows it, if any.
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

/// Creates a `cargo` that runs the binary built for this test for `cargo run`, and does nothing for `cargo xtask test`.
fn cargo(folder: &Path) {
    let script = format!(
        "#!/bin/sh\nif [ \"$1 $2 $3 $4 $5\" = 'run -q -p sessionctl --' ]; then shift 5; exec {BINARY} \"$@\"; fi\n\
         test \"$*\" = 'xtask test'\n"
    );
    let path = folder.join("cargo");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Replaces the parts of a line that change from run to run: ids, ages, and the path of the command.
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

/// Runs a page's commands in an empty directory, and asserts that they print what the page shows.
fn check_page(page: &str, blocks: Vec<Block>) {
    let folder = tempfile::tempdir().unwrap();
    cargo(folder.path());
    std::os::unix::fs::symlink(BINARY, folder.path().join("sessionctl")).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    for Block { commands, output } in blocks {
        let mut shell = support::clean_command("sh");
        shell.env("PATH", &path).env("SESSIONCTL_STORE", "file:store").current_dir(folder.path());
        shell.args(["-c", &format!("exec 2>&1\nset -e\n{commands}")]);
        let ran = support::run(shell).exits(0);
        // The lines shown occur in order. Others, such as the shell's message about a killed job, may come in between.
        let mut printed = ran.stdout.lines().map(settled);
        for shown in output.iter().flat_map(|output| output.lines()).map(settled) {
            assert!(
                printed.any(|line| line == shown),
                "{page}: not printed, or out of order: {shown}\n{}",
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
    check_page("README.md", blocks);
}

#[test]
fn guide_commands_print_what_the_page_shows() {
    check_page("docs/guide.md", page("docs/guide.md"));
}

#[test]
fn steps_page_commands_print_what_the_page_shows() {
    check_page("docs/steps.md", page("docs/steps.md"));
}

#[test]
fn worktrees_page_commands_print_what_the_page_shows() {
    check_page("docs/worktrees.md", page("docs/worktrees.md"));
}

#[test]
fn format_page_commands_print_what_the_pages_show() {
    for name in ["docs/json.md", "docs/export.md", "docs/legacy.md"] {
        let blocks = page(name);
        assert!(!blocks.is_empty(), "{name}");
        check_page(name, blocks);
    }
}
