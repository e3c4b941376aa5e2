//! Editors, pagers and other programs that draw the whole screen.

use crate::pty_comparison::program;

/// Commits of the same ids in both runs, more than fit on a screen.
const COMMITS: &str = "git init -q -b main .; for i in $(seq 30); do echo $i >file; git add file; git commit -qm \"commit $i\"; done";
const VI: &str = "vi -u NONE -i NONE";

#[test]
fn vi_writes_a_file() {
    let editor = program(format!("RUN {VI} notes"))
        .needs("vi")
        .wait("[New File]")
        .types("ihello\rworld")
        .wait("world");
    let editor = editor.types("\x1b").types("kA, there\x1b").wait("there");
    editor.types(":wq\r").wait("written").screens();
}

#[test]
fn vi_undoes_searches_and_is_left() {
    let lines: Vec<String> = (1..=100).map(|line| format!("line {line}\n")).collect();
    let lines = lines.concat();
    let editor = program(format!("RUN {VI} lines"))
        .needs("vi")
        .file("lines", lines)
        .wait("100 lines")
        .wait("line 23")
        .look();
    let editor =
        editor.types("/line 77\r").wait("H88").types("dd").wait("line 89").types("u").wait("before #1");
    editor.types(":%s/line/row/g\r").wait("100 substitutions").look().types(":q!\r").screens();
}

#[test]
fn vi_with_its_defaults_asks_the_terminal() {
    let editor =
        program("RUN vim -u DEFAULTS -i NONE notes").needs("vim").wait("[New]").types("i").wait("INSERT");
    editor.types("text\x1b").types(":wq\r").wait("written").screens();
}

#[test]
fn git_commit_opens_its_editor() {
    let commit = format!("export EDITOR='{VI}'; RUN git commit 2>&3 && git log --format=%s%ci >subjects");
    let commit =
        program(commit).needs("git").needs("vi").setup("git init -q -b main .; echo a >a; git add a");
    commit
        .wait("COMMIT_EDITMSG")
        .wait("new file")
        .types("isubject\x1b")
        .wait("subject")
        .types(":wq\r")
        .screens();
}

#[test]
fn git_log_has_a_pager() {
    let log = program("RUN git log").needs("git").needs("less").setup(COMMITS).wait(":\x1b[K").look();
    let log = log.types(" ").wait(":\x1b[K").look().types("G").wait("(END)").look();
    log.types("q").screens();
}

#[test]
fn git_diff_is_in_colours() {
    let diff = program("RUN git diff --color=auto").needs("git").needs("less");
    diff.setup("git init -q .; seq 5 >a; git add a; git commit -qm one; seq 2 6 >a").exact();
}

#[test]
fn git_add_patch_asks_for_each_part() {
    let add = program("RUN git add -p 2>&3; git diff --cached >staged").needs("git");
    let add = add.setup("git init -q .; seq 5 >a; git add a; git commit -qm one; seq 2 6 >a");
    add.wait("? ").types("s\n").wait("? ").types("y\n").wait("? ").types("n\n").exact();
}

#[test]
fn less_searches_and_moves() {
    let pager =
        program("RUN less numbers").needs("less").setup("seq 1000 >numbers").wait("numbers\x1b[27m").look();
    let pager = pager.types("/777\r").wait("799").wait(":\x1b[K").look().types("G").wait("(END)").look();
    pager.types("g").wait(":\x1b[K").look().types("q").screens();
}

#[test]
fn less_reads_a_pipe_of_the_program() {
    let pager = program("RUN sh -c 'seq 1 200 | less'").needs("less").wait(":\x1b[K").look();
    pager.types("G").wait("(END)").look().types("q").screens();
}

#[test]
fn less_reads_a_pipe_of_the_shell() {
    let pager = program("seq 1 200 | RUN less").needs("less").wait(":\x1b[K").look();
    pager.types("G").wait("(END)").look().types("q").screens();
}

#[test]
fn more_and_man_show_pages() {
    program("RUN more numbers")
        .needs("more")
        .setup("seq 100 >numbers")
        .wait("--More--")
        .types(" ")
        .wait("--More--")
        .types("q")
        .exact();
    let page = "man ./page.1";
    let text = ".TH PAGE 1\n.SH NAME\npage \\- a page\n.SH DESCRIPTION\n.B bold\nand\n.I underlined\n";
    let man = program(format!("RUN {page}")).needs("man").needs("less").file("page.1", text);
    man.wait("Manual page").wait("(END)").look().types("q").screens();
}

#[test]
fn top_is_left_by_a_key() {
    let top = program("RUN top -d 60").needs("top").wait("COMMAND").types("q");
    top.lines(|line| line.contains("PID USER").then(|| line.to_owned()));
}

#[test]
fn watch_is_ended_by_ctrl_c() {
    let watch = program("RUN watch -tn1 'echo shown'").needs("watch").wait("shown").look();
    watch.types("\x03").screens();
}

#[test]
fn tmux_works_inside() {
    let conf = "set -g status off
        set -g escape-time 0
        set -g assume-paste-time 0
        set -g default-command 'env PS1=\"$TMUX_PANE> \" bash --norc --noprofile -i'\n";
    let inner =
        program("RUN tmux -S $CONTROL/tmux -f conf new").needs("tmux").file("conf", conf).wait("%0> ");
    let inner = inner.types("echo in''side\r").wait("inside").wait("%0> ").types("\x02%").wait("%1> ");
    let inner = inner.types("stty size\r").wait("24 39").wait("%1> ").look().types("exit\r").wait("inside");
    inner.types("exit\r").wait("[exited]").screens();
}

#[test]
fn a_picker_reads_keys_while_its_input_is_a_pipe() {
    let picker = "import os, sys, termios, tty
items = sys.stdin.read().split('\\n')[:-1]
keys = os.open('/dev/tty', os.O_RDWR)
before = termios.tcgetattr(keys)
tty.setraw(keys)
at = 0
while True:
    os.write(keys, b'\\r\\x1b[K> ' + items[at].encode())
    key = os.read(keys, 8)
    if key == b'\\r':
        break
    at = (at + (key == b'\\x1b[B') - (key == b'\\x1b[A')) % len(items)
termios.tcsetattr(keys, termios.TCSADRAIN, before)
os.write(keys, b'\\r\\n')
print(items[at])
";
    let pick = program("git branch --format='%(refname:short)' | RUN python3 pick.py >picked")
        .needs("git")
        .needs("python3");
    let pick = pick
        .file("pick.py", picker)
        .setup("git init -q -b a .; git commit -q --allow-empty -m x; git branch b; git branch c");
    let pick =
        pick.wait("> a").types("\x1b[B").wait("> b").types("\x1b[B").wait("> c").types("\x1b[A").wait("> b");
    pick.types("\r").exact();
    let pick =
        program("git branch --format='%(refname:short)' | RUN python3 pick.py").needs("git").needs("python3");
    let pick = pick
        .file("pick.py", picker)
        .setup("git init -q -b a .; git commit -q --allow-empty -m x; git branch b");
    pick.wait("> a").types("\x1b[B").wait("> b").types("\r").exact();
}
