//! Small programs, run plainly and under `run -q`: exit code, output and files are the same, byte for byte.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Fixture, clean_command};

/// The input of each program.
const INPUT: &str = "one\ntwo\nthree\n";

/// A tool that the script needs besides a shell and the usual small programs, and the script.
const SCRIPTS: &[(&str, &str)] = &[
    ("", "exit 0"),
    ("", "exit 3"),
    ("", "exit 255"),
    ("", "kill -TERM $$"),
    ("", "kill -KILL $$"),
    ("", "ulimit -c 0; kill -SEGV $$"),
    ("", "kill -USR1 $$"),
    ("", "kill -PIPE $$"),
    ("", "( kill -INT $BASHPID ); echo $?"),
    ("", "trap 'echo term' TERM; kill -TERM $$; echo after"),
    ("", "trap 'echo bye' EXIT; exit 4"),
    ("", "set -e; false; echo not reached"),
    ("", "exec 1>&-; echo nowhere"),
    ("", "exec 2>&-; echo nowhere >&2; echo here"),
    ("", "exec 0<&-; cat"),
    ("", "cat"),
    ("", "read -r line; echo \"[$line]\"; cat"),
    ("", "cat </dev/null; echo empty"),
    ("", "while read -r line; do echo \"<$line>\"; done"),
    ("", "cat <<END\nhere $((1 + 1))\nEND"),
    ("", "cat <(echo a) <(echo b)"),
    ("", "exec > >(while read -r line; do echo \"$line\"; done | tee log) 2>&1; seq 1 500"),
    ("", "(sleep 0.2; echo late) & echo main"),
    ("", "yes | head -n 1"),
    ("", "seq 1 20 | xargs -P 4 -n 1 echo | sort -n"),
    ("", "find . -name none -print0 | xargs -0 -r echo"),
    ("", "head -c 3000000 /dev/zero | tr '\\0' x"),
    ("", "printf '\\000\\377\\001\\033[31m\\r'; printf 'no newline'"),
    ("", "seq 1 200000 | gzip -nc"),
    ("", "ls missing 2>err; cat err"),
    ("", "cat missing"),
    ("", "no-such-program-anywhere"),
    ("", "touch plain; ./plain"),
    ("", "sh -c 'exit 7' || echo caught $?"),
    ("", "sleep 0.1 & wait $!; echo $?"),
    ("", "mkfifo pipe; echo through >pipe & cat pipe"),
    ("", "exec 3>file; echo three >&3; cat file"),
    ("", "[ -t 0 ]; echo $?; [ -t 1 ]; echo $?; [ -t 2 ]; echo $?"),
    ("", "env | grep -c '^FOO=bar$'; pwd | wc -l; umask; ulimit -n"),
    ("", "nohup sh -c 'echo kept' 2>/dev/null"),
    ("setsid", "setsid -w sh -c 'echo session; exit 6'"),
    ("timeout", "timeout 0.2 sleep 5; echo $?"),
    ("flock", "exec 9>lock; flock 9; flock -n lock echo second || echo locked; echo done"),
    ("make", "printf 'all: a b\\na b:\\n\\t@echo made >$@\\n' >Makefile; make -s -j4 && cat a b"),
    (
        "git",
        "git init -q . && git -c user.name=n -c user.email=e commit --allow-empty -qm first && git log --format=%s",
    ),
    ("python3", "python3 -c 'import sys; print(1); print(2, file=sys.stderr); sys.exit(5)'"),
    ("python3", "ulimit -c 0; python3 -c 'import os; os.abort()'"),
    ("node", "node -e 'console.log(1); process.exit(9)'"),
    ("script", "script -qec 'echo terminal' /dev/null </dev/null | grep -o terminal"),
    ("tar", "mkdir d; touch d/a d/b; tar cf - d | tar tf - | sort"),
];

/// The observable results of a program.
#[derive(Debug, PartialEq, Eq)]
struct Observed {
    /// The exit code, as a shell gives it.
    code: i32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    files: BTreeMap<String, Vec<u8>>,
}

fn observe(mut command: Command, script: &str) -> Observed {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().with_extension("input");
    std::fs::write(&input, INPUT).unwrap();
    command
        .args(["bash", "-c", script])
        .current_dir(folder.path())
        .env("FOO", "bar")
        .env_remove("NODE_OPTIONS");
    let output = command.stdin(Stdio::from(File::open(&input).unwrap())).output().unwrap();
    std::fs::remove_file(input).unwrap();
    let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap();
    Observed { code, stdout: output.stdout, stderr: output.stderr, files: files(folder.path()) }
}

/// Returns the regular files of a folder with their contents, without what git stores.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()))
        .collect()
}

fn has(tool: &str) -> bool {
    tool.is_empty()
        || Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap().status.success()
}

#[test]
fn programs_behave_as_without_a_session() {
    let fixture = Fixture::new();
    let mut compared = 0;
    for (tool, script) in SCRIPTS {
        if !has(tool) {
            println!("not run, {tool} is missing: {script}");
            continue;
        }
        let plain = observe(clean_command("env"), script);
        let session = observe(fixture.command(["run", "-q", "--"]), script);
        assert!(plain == session, "{script}\nplain: {}\nunder run: {}", shown(&plain), shown(&session));
        compared += 1;
    }
    assert!(compared >= 40, "{compared} programs");
}

fn shown(observed: &Observed) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    let Observed { code, stdout, stderr, files } = observed;
    format!(
        "exit {code}, {} bytes of output: {:?}, errors: {:?}, files: {:?}",
        stdout.len(),
        text(stdout),
        text(stderr),
        files.keys().collect::<Vec<_>>()
    )
}
