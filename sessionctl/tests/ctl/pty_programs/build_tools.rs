//! Compilers, build tools and small utilities.

use crate::pty_comparison::program;

#[test]
fn cargo_builds_with_a_progress_bar() {
    let manifest = "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n";
    let build = program("RUN cargo build --offline 2>&3; test -x target/debug/tiny").needs("cargo");
    let build =
        build.setup("mkdir src; echo 'fn main() { let x = 1; }' >src/main.rs").file("Cargo.toml", manifest);
    // The time differs.
    build.lines(|line| {
        Some(line.split(" target(s) in").next()?.to_owned()).filter(|line| !line.contains("Building"))
    });
}

#[test]
fn make_writes_its_errors_to_a_file() {
    let makefile = "all:\n\t@echo compiling\n\t@echo warning >&2\n\t@false\n";
    program("RUN make 2>err").needs("make").file("Makefile", makefile).exact();
}

#[test]
fn make_sends_its_output_to_a_file() {
    let makefile = "all:\n\t@echo compiling\n\t@echo warning >&2\n\t@test -t 2\n\t@test ! -t 1\n";
    program("RUN make >out 2>&3").needs("make").file("Makefile", makefile).exact();
}

#[test]
fn xargs_starts_the_program_for_each_line() {
    program("seq 3 | xargs -n1 RUN echo").needs("xargs").exact();
}

#[test]
fn xargs_gives_the_terminal_back_as_input() {
    let xargs = program("echo name | xargs -o RUN sh -c 'echo ready; read x; echo \"$0 $x\"'").needs("xargs");
    xargs.wait("ready\r\n").types("typed\r").wait("name typed").exact();
}

#[test]
fn ls_prints_columns_in_colours() {
    let files = "mkdir folder; ln -s folder link; touch run; chmod +x run; for i in $(seq 60); do touch file-$i; done";
    program("RUN ls --color=auto").setup(files).exact();
    program("RUN ls --color=auto | cat").setup(files).exact();
}

#[test]
fn stty_and_tput_read_the_terminal() {
    program("RUN sh -c 'stty -a; stty size; stty speed'").exact();
    program("stty -ixon erase ^H rows 33; RUN sh -c 'stty -a; stty size'; stty ixon erase ^? rows 24")
        .exact();
    program("RUN sh -c 'tput cols; tput lines; tput colors; tput setaf 1; tput sgr0; tput clear'")
        .needs("tput")
        .exact();
}

#[test]
fn pipelines_with_a_program_print_alike() {
    program("RUN yes | head -n 3").exact();
    program("RUN echo through | cat").exact();
    program("seq 5 | RUN tee copy | tail -n 1").exact();
    program("RUN sh -c 'echo out; echo err >&2' 2>&1 | sort").exact();
    program("RUN sh -c 'test -t 0; echo $?; test -t 1; echo $?' >out").exact();
}

#[test]
fn an_empty_input_ends_the_program() {
    program("RUN cat </dev/null").exact();
    program("RUN sh -c 'read x; echo $?' </dev/null").exact();
    program("RUN sh -c 'read x; echo $?' <&-").exact();
}

#[test]
fn gdb_and_sqlite_have_prompts() {
    let sql = program("RUN sqlite3")
        .needs("sqlite3")
        .wait("sqlite> ")
        .types("select 6*7;\r")
        .wait("42\r\n")
        .wait("sqlite> ");
    sql.types(".exit 3\r").screens();
    let gdb = program("RUN gdb -q -nx")
        .needs("gdb")
        .wait("(gdb) ")
        .types("print 6*7\r")
        .wait("= 42")
        .wait("(gdb) ");
    gdb.types("quit\r").screens();
}
