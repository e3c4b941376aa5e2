//! Tests with trees of real processes.

use std::io::{BufRead, BufReader, PipeReader};
use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::supervise_test;
use crate::supervisor::messages::{BackgroundProcess, Ended};

/// Not a test: the entry point of the supervisor. The test binary, started again with the hidden verb, runs only this.
#[test]
fn __supervise() {
    supervise_test(module_path!(), "__supervise");
}

/// Not a test unless another test starts it: an owner in a process of its own, which waits to be killed.
#[test]
fn __owner() {
    let Ok(mark) = std::env::var("TEST_OWNER_MARK") else { return };
    runtime().block_on(async {
        let mut program = Program::new(&mark, &std::env::var("TEST_OWNER_SCRIPT").unwrap());
        program.launch.stdout = std::fs::OpenOptions::new().write(true).open("/dev/fd/2").unwrap().into();
        let mut supervised = program.start().await.0;
        while supervised.reports.next().await.is_some() {}
    });
}

fn runtime() -> tokio::runtime::Runtime {
    supervise_test(module_path!(), "__supervise");
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

struct Program {
    launch: Launch,
    output: PipeReader,
}

impl Program {
    /// Creates a shell script whose processes all have a mark in their environment.
    fn new(mark: &str, script: &str) -> Self {
        Self::of(mark, &["sh", "-c", script])
    }

    fn of(mark: &str, argv: &[&str]) -> Self {
        let (output, write) = std::io::pipe().unwrap();
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let outputs = vec![(0, output.try_clone().unwrap().into()), (1, null())];
        let launch = Launch {
            argv: argv.iter().map(OsString::from).collect(),
            cwd: std::env::current_dir().unwrap(),
            env: vec![("TEST_MARK".into(), Some(mark.into()))],
            stdin: null(),
            stdout: write.into(),
            stderr: std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap().into(),
            outputs,
            terminal: None,
            lock: None,
            own_session: false,
            umask: None,
            socket: None,
        };
        Self { launch, output }
    }

    async fn start(self) -> (Supervised, BufReader<PipeReader>) {
        (launch(self.launch, None).await.unwrap(), BufReader::new(self.output))
    }

    async fn start_error(self) -> LaunchError {
        launch(self.launch, None).await.unwrap_err()
    }
}

fn waiting() -> WaitingSupervisor {
    WaitingSupervisor::start(false).expect("this binary can act as one").unwrap()
}

fn mark() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Returns every process that has the mark in its environment.
fn marked(mark: &str) -> Vec<u32> {
    let needle = format!("TEST_MARK={mark}\0").into_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ.windows(needle.len()).any(|window| window == needle) {
            found.push(pid);
        }
    }
    found
}

fn eventually(condition: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "not reached in time: {condition}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn all(mut reports: Reports) -> Vec<Report> {
    let mut received = Vec::new();
    while let Some(report) = reports.next().await {
        received.push(report);
    }
    received
}

fn lines(output: &mut impl BufRead, count: usize) -> Vec<String> {
    output.lines().take(count).map(Result::unwrap).collect()
}

fn ended(reports: &[Report]) -> Vec<Ended> {
    let ended =
        |report: &Report| if let Report::Ended { status, .. } = report { Some(*status) } else { None };
    reports.iter().filter_map(ended).collect()
}

/// Returns the reports until the program has ended, its end last.
async fn until_ended(reports: &mut Reports) -> Vec<Report> {
    let mut received = Vec::new();
    while !matches!(received.last(), Some(Report::Ended { .. })) {
        received.push(reports.next().await.expect("the program ends"));
    }
    received
}

/// Returns the marked processes without those that have a session of their own.
fn attached(mark: &str) -> Vec<u32> {
    // 0 for a session whose leader is outside this PID namespace, so not rustix, whose ids cannot be 0.
    let session = |pid: Option<u32>| {
        nix::unistd::getsid(pid.map(|pid| nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()))).ok()
    };
    let ours = session(None);
    let is_ours = |pid: &u32| session(Some(*pid)) == ours;
    marked(mark).into_iter().filter(is_ours).collect()
}

fn kill_marked(mark: &str) {
    for pid in marked(mark) {
        let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL);
    }
    eventually("the marked processes are gone", || marked(mark).is_empty());
}

/// A tree with a process that ignores TERM, one in a session of its own, and one that was forked twice. All hold the
/// pipe.
const TREE: &str = r#"
    sh -c 'trap "" TERM; echo deaf; while :; do sleep 60; done' &
    setsid sh -c 'echo own session; sleep 60; :' &
    sh -c '(sh -c "trap \"\" TERM HUP; echo forked twice; while :; do sleep 60; done" &)' &
    echo root
    while :; do sleep 60; done
"#;
const TREE_LINES: usize = 4;

#[test]
fn the_end_is_reported_with_the_exit_code_or_signal() {
    for (script, expected) in [
        ("exit 0", Ended::Exited(0)),
        ("exit 7", Ended::Exited(7)),
        ("exit 255", Ended::Exited(255)),
        ("kill -9 $$", Ended::Signalled(9)),
        ("kill -TERM $$", Ended::Signalled(15)),
        // Nothing is inherited as ignored or blocked.
        ("kill -PIPE $$", Ended::Signalled(13)),
        ("kill -INT $$", Ended::Signalled(2)),
    ] {
        runtime().block_on(async {
            let (supervised, _output) = Program::new(&mark(), script).start().await;
            let received = all(supervised.reports).await;
            assert_eq!(
                received,
                [Report::Ended { status: expected, background: vec![] }, Report::Empty],
                "{script}"
            );
        });
    }
}

#[test]
fn a_program_that_cannot_start_reports_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let garbage = folder.path().join("garbage");
    std::fs::write(&garbage, b"\x7fELF garbage").unwrap();
    std::fs::set_permissions(&garbage, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (program, code) in [
        ("/nonexistent/program", 127),
        ("no-such-program-anywhere", 127),
        (plain.to_str().unwrap(), 126),
        (garbage.to_str().unwrap(), 126),
        ("/", 126),
    ] {
        let error = runtime().block_on(Program::of(&mark(), &[program]).start_error());
        assert_eq!(error.exit_code(), code, "{program}: {error:?}");
    }
    let mut program = Program::of(&mark(), &["true"]);
    program.launch.cwd = folder.path().join("missing");
    let error = runtime().block_on(program.start_error());
    assert!(matches!(error, LaunchError::Directory(_)), "{error:?}");
}

#[test]
fn a_tree_that_ignores_term_is_killed_after_the_grace() {
    runtime().block_on(async {
        let mark = mark();
        let (supervised, mut output) = Program::new(&mark, TREE).start().await;
        assert_eq!(lines(&mut output, TREE_LINES).len(), TREE_LINES);
        assert!(marked(&mark).len() > TREE_LINES);
        supervised.orders.end(Duration::from_millis(100), Spare::Nothing).await;
        let received = all(supervised.reports).await;
        assert_eq!(marked(&mark), [0; 0], "no process is left when the supervisor reports it");
        let signals: Vec<i32> = received
            .iter()
            .filter_map(|report| if let Report::Signalled { signal } = report { Some(*signal) } else { None })
            .collect();
        assert_eq!(signals, [18, 15, 9], "continued, terminated, killed: {received:?}");
        assert_eq!(ended(&received), [Ended::Signalled(15)], "{received:?}");
        assert_eq!(received.last(), Some(&Report::Empty));
        assert_eq!(lines(&mut output, 1), [""; 0], "no process holds the pipe");
    });
}

#[test]
fn zero_grace_kills_without_term() {
    runtime().block_on(async {
        let mark = mark();
        let (supervised, mut output) =
            Program::new(&mark, "trap 'echo asked' TERM; echo ready; while :; do sleep 60; done")
                .start()
                .await;
        lines(&mut output, 1);
        supervised.orders.end(Duration::ZERO, Spare::Nothing).await;
        let received = all(supervised.reports).await;
        assert_eq!(ended(&received), [Ended::Signalled(9)], "{received:?}");
        assert_eq!(lines(&mut output, 1), [""; 0], "it got no TERM");
    });
}

/// Background processes of each kind: attached to the tree, ignoring HUP, and in a session of its own.
const BACKGROUND: &str = r#"
    sh -c 'trap "" TERM; echo left; sleep 60; :' &
    nohup sh -c 'echo left; sleep 60; :' &
    setsid sh -c 'echo left; sleep 60; :' &
    sleep 0.01; exit 3
"#;

/// Ends a program with three background processes, sparing some. Returns the reports from the order on.
async fn end_background(spare: Spare, mark: &str) -> Vec<Report> {
    let (mut supervised, mut output) = Program::new(mark, BACKGROUND).start().await;
    lines(&mut output, 3);
    let received = until_ended(&mut supervised.reports).await;
    assert_eq!(ended(&received), [Ended::Exited(3)]);
    supervised.orders.end(Duration::from_millis(50), spare).await;
    all(supervised.reports).await
}

fn left(reports: &[Report]) -> Vec<BackgroundProcess> {
    if let Some(Report::Left { processes }) = reports.last() { processes.clone() } else { Vec::new() }
}

#[test]
fn background_processes_wait_for_an_order() {
    runtime().block_on(async {
        let mark = mark();
        let received = end_background(Spare::Nothing, &mark).await;
        assert_eq!(received.last(), Some(&Report::Empty), "{received:?}");
        assert_eq!(marked(&mark), [0; 0]);
    });
}

#[test]
fn background_processes_that_are_spared_are_reported() {
    // Where HUP was ignored from the start, that separates no process.
    let background = if session_inherit::is_ignored(1) { 1 } else { 2 };
    for (spare, expected) in [(Spare::OwnSession, 1), (Spare::Background, background), (Spare::Everything, 3)]
    {
        runtime().block_on(async {
            let mark = mark();
            let received = end_background(spare, &mark).await;
            assert_eq!(left(&received).len(), expected, "{spare:?}: {received:?}");
            let alive = marked(&mark);
            for process in left(&received) {
                assert!(alive.contains(&process.pid), "{spare:?}: {process:?} of {alive:?}");
            }
            kill_marked(&mark);
        });
    }
}

#[test]
fn a_spared_process_can_still_print_without_an_owner() {
    runtime().block_on(async {
        let mark = mark();
        let folder = tempfile::tempdir().unwrap();
        let done = folder.path().join("done");
        // More than a pipe holds.
        let script = format!("setsid sh -c 'seq 1 100000 && touch {}' & exit 0", done.display());
        let (mut supervised, output) = Program::new(&mark, &script).start().await;
        until_ended(&mut supervised.reports).await;
        // The shell may have ended before `setsid` was started.
        eventually("a session of its own", || !marked(&mark).is_empty() && attached(&mark).is_empty());
        drop(output);
        supervised.orders.end(Duration::ZERO, Spare::OwnSession).await;
        let received = all(supervised.reports).await;
        assert_eq!(left(&received).len(), 1, "{received:?}");
        eventually("it has printed everything", || done.exists());
    });
}

#[test]
fn the_owners_death_leaves_sessions_of_their_own() {
    runtime().block_on(async {
        let mark = mark();
        let (mut supervised, mut output) = Program::new(&mark, BACKGROUND).start().await;
        lines(&mut output, 3);
        until_ended(&mut supervised.reports).await;
        drop(supervised);
        eventually("all others are gone", || attached(&mark).is_empty());
        assert_ne!(marked(&mark), [0; 0]);
        kill_marked(&mark);
    });
}

#[test]
fn an_excluded_process_is_left_alone_by_every_order() {
    runtime().block_on(async {
        let (mark, inner) = (mark(), mark());
        let script = format!("TEST_MARK={inner} setsid sh -c 'echo $$; sleep 60 & wait' & sleep 60; :");
        let (mut supervised, mut output) = Program::new(&mark, &script).start().await;
        let pid: u32 = lines(&mut output, 1)[0].parse().unwrap();
        let process = crate::procfs::Process::read(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap());
        supervised.orders.exclude(pid, process.unwrap().unwrap().start_time).await;
        supervised.orders.halt().await;
        while not_stopped(supervised.reports.next().await) != Report::Halted {}
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        assert!(!stat.contains(") T "), "{stat}");
        supervised.orders.end(Duration::ZERO, Spare::Nothing).await;
        let received = all(supervised.reports).await;
        assert_eq!(received.last(), Some(&Report::Empty), "{received:?}");
        assert_eq!(marked(&mark), [0; 0]);
        assert!(marked(&inner).contains(&pid));
        kill_marked(&inner);
    });
}

/// Checks that a report is not a stop. An owner would take a reported stop of its own for an external one.
#[track_caller]
fn not_stopped(report: Option<Report>) -> Report {
    assert!(!matches!(report, None | Some(Report::Stopped { .. })), "{report:?}");
    report.unwrap()
}

#[test]
fn a_halted_tree_is_stopped_until_it_is_resumed() {
    runtime().block_on(async {
        let mark = mark();
        let (mut supervised, mut output) = Program::new(&mark, TREE).start().await;
        lines(&mut output, TREE_LINES);
        supervised.orders.halt().await;
        while not_stopped(supervised.reports.next().await) != Report::Halted {}
        for pid in marked(&mark) {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            // Or in the kernel: a shell that waits in `vfork` for its stopped child is not stopped itself.
            assert!(stat.contains(") T ") || stat.contains(") D "), "{stat}");
        }
        supervised.orders.resume().await;
        // Not by its report: a program that waited in the kernel was never stopped and is not reported as continued.
        eventually("all continue", || {
            marked(&mark).iter().all(|pid| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                !stat.contains(") T ") && !stat.contains(") D ")
            })
        });
        // A stopped tree can be ended: it is continued first.
        supervised.orders.halt().await;
        while not_stopped(supervised.reports.next().await) != Report::Halted {}
        supervised.orders.end(Duration::from_millis(50), Spare::Nothing).await;
        all(supervised.reports).await;
        assert_eq!(marked(&mark), [0; 0]);
    });
}

#[test]
fn an_external_stop_is_reported_and_ended_by_wake() {
    runtime().block_on(async {
        let (mut supervised, mut output) = Program::new(&mark(), "echo ready; exec sleep 60").start().await;
        lines(&mut output, 1);
        let pid = i32::try_from(supervised.pid).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TSTP).unwrap();
        let signal = rustix::process::Signal::TSTP.as_raw();
        assert_eq!(supervised.reports.next().await, Some(Report::Stopped { signal }));
        supervised.orders.wake().await;
        assert_eq!(supervised.reports.next().await, Some(Report::Continued));
        supervised.orders.end(Duration::ZERO, Spare::Nothing).await;
        all(supervised.reports).await;
    });
}

#[test]
fn a_tree_that_forks_quickly_is_ended() {
    runtime().block_on(async {
        let mark = mark();
        // A chain in constant motion: each member starts the next one and exits.
        let script = "f() { echo x; sh -c \"$S\" & }; export S='trap \"\" TERM; sleep 0.001; sh -c \"$S\" & exit'; \
                      for i in 1 2 3 4 5 6; do sh -c \"$S\" & done; echo ready; wait; sleep 60";
        let (supervised, mut output) = Program::new(&mark, script).start().await;
        lines(&mut output, 1);
        supervised.orders.end(Duration::from_millis(50), Spare::Nothing).await;
        let received = all(supervised.reports).await;
        assert_eq!(received.last(), Some(&Report::Empty), "{received:?}");
        assert_eq!(marked(&mark), [0; 0]);
    });
}

#[test]
fn a_supervisor_survives_signals_to_its_group() {
    runtime().block_on(async {
        let mark = mark();
        let (supervised, mut output) = Program::new(&mark, "echo ready; exec sleep 60").start().await;
        lines(&mut output, 1);
        let supervisor = supervised.reports.process.id().unwrap();
        let pid = Pid::from_raw(i32::try_from(supervisor).unwrap()).unwrap();
        for signal in
            [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::PIPE, Signal::TSTP, Signal::USR1]
        {
            kill_process(pid, signal).unwrap();
        }
        supervised.orders.signal(Signal::INT.as_raw()).await;
        let received = all(supervised.reports).await;
        assert_eq!(ended(&received), [Ended::Signalled(2)], "{received:?}");
        assert_eq!(received.last(), Some(&Report::Empty));
    });
}

#[test]
fn a_lock_is_held_until_the_tree_is_empty() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let tidy = folder.path().join("tidy");
        std::fs::write(&tidy, "").unwrap();
        let file = std::fs::File::create(&path).unwrap();
        file.lock().unwrap();
        let mut program = Program::new(&mark(), "echo ready; sleep 60");
        program.launch.lock = Some(file.into());
        program.launch.socket = Some(tidy.clone());
        let (supervised, mut output) = program.start().await;
        lines(&mut output, 1);
        let probe = std::fs::File::open(&path).unwrap();
        assert!(probe.try_lock_shared().is_err(), "the supervisor holds it");
        // This has the effect of an owner's death.
        drop(supervised);
        eventually("the lock is free", || probe.try_lock_shared().is_ok());
        assert!(!tidy.exists());
    });
}

#[test]
fn descriptors_of_the_owner_are_not_inherited() {
    runtime().block_on(async {
        // Descriptors that this process inherited without CLOEXEC are inherited further.
        let inherited: Vec<String> = std::fs::read_dir("/proc/self/fdinfo")
            .unwrap()
            .flatten()
            .filter(|info| {
                let info = std::fs::read_to_string(info.path()).unwrap_or_default();
                let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim);
                flags.is_some_and(|flags| i64::from_str_radix(flags, 8).unwrap() & 0o2_000_000 == 0)
            })
            .map(|info| info.file_name().to_string_lossy().into_owned())
            .collect();
        let (supervised, output) = Program::of(&mark(), &["ls", "-l", "/proc/self/fd"]).start().await;
        let open: Vec<String> =
            output.lines().map(Result::unwrap).filter(|line| line.contains(" -> ")).collect();
        all(supervised.reports).await;
        let number =
            |line: &String| line.split(" -> ").next().unwrap().rsplit(' ').next().unwrap().to_owned();
        let own = ["0", "1", "2", "3"].map(str::to_owned);
        let foreign: Vec<&String> = open
            .iter()
            .filter(|line| !own.contains(&number(line)) && !inherited.contains(&number(line)))
            .collect();
        assert!(open.len() >= 3, "{open:?}");
        assert_eq!(foreign, [""; 0], "{open:?}");
    });
}

#[test]
fn consecutive_programs_leak_no_descriptors() {
    runtime().block_on(async {
        let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let open_sockets = || {
            std::fs::read_dir("/proc/self/fd")
                .unwrap()
                .flatten()
                .filter_map(|fd| std::fs::read_link(fd.path()).ok())
                .map(|link| link.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        let mut minimum = usize::MAX;
        let mut before = usize::MAX;
        for round in 0..30 {
            let (supervised, output) = Program::new(&mark(), "true").start().await;
            drop(output);
            all(supervised.reports).await;
            drop(supervised.orders);
            if round == 3 {
                before = count();
            }
            minimum = if round > 3 { minimum.min(count()) } else { usize::MAX };
        }
        // Other tests of this process open and close descriptors concurrently, so the minimum is compared.
        assert!(minimum <= before + 2, "{minimum} {before} {:?}", open_sockets());
    });
}

/// Regression: an owner died after its first order and before the first report. The supervisor noticed when it wrote
/// the report, and then waited for the next order forever.
#[test]
fn the_owners_death_before_the_first_report_is_noticed() {
    let mark = mark();
    runtime().block_on(async {
        let WaitingSupervisor { socket, mut process } = waiting();
        drop(order_start(Program::new(&mark, "sleep 60; :").launch, socket).unwrap());
        tokio::time::timeout(Duration::from_secs(20), process.wait())
            .await
            .expect("the supervisor exits")
            .unwrap();
    });
    assert_eq!(marked(&mark), [0; 0]);
}

#[test]
fn a_supervisor_without_a_program_exits_with_its_owner() {
    runtime().block_on(async {
        let WaitingSupervisor { socket, mut process } = waiting();
        drop(socket);
        let status = tokio::time::timeout(Duration::from_secs(20), process.wait()).await.expect("it exits");
        assert!(status.unwrap().success());
    });
}

#[test]
fn a_program_runs_whatever_ends_the_supervisor_that_waited() {
    runtime().block_on(async {
        let mut waiting = waiting();
        waiting.process.kill().await.unwrap();
        let Program { launch: order, output } = Program::new(&mark(), "echo printed");
        let mut supervised = launch(order, Some(waiting)).await.unwrap();
        assert_eq!(lines(&mut BufReader::new(output), 1), ["printed"]);
        while supervised.reports.next().await.is_some() {}
    });
}

/// Kills an owner in its own process at a random point: its tree, without sessions of their own, is gone soon after.
#[test]
fn kill_9_of_the_owner_ends_its_tree() {
    let rounds: u64 = std::env::var("KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let seed: u64 = std::env::var("KILL_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0x5eed);
    let mut random = seed;
    for round in 0..rounds {
        // xorshift64, Marsaglia 2003
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mark = mark();
        let mut owner = std::process::Command::new("/proc/self/exe")
            .args(["__owner", "--nocapture"])
            .env("TEST_OWNER_MARK", &mark)
            .env("TEST_OWNER_SCRIPT", TREE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut printed = BufReader::new(owner.stderr.take().unwrap());
        // From before the first process runs until all are running.
        let after = usize::try_from(random % (u64::try_from(TREE_LINES).unwrap() + 1)).unwrap();
        lines(&mut printed, after);
        std::thread::sleep(Duration::from_micros(random % 20_000));
        owner.kill().unwrap();
        owner.wait().unwrap();
        let killed = Instant::now();
        // The first program may not have set its mark yet.
        let mut quiet = 0;
        eventually(&format!("an end of round {round} of seed {seed}"), || {
            quiet = if attached(&mark).is_empty() { quiet + 1 } else { 0 };
            quiet > 20
        });
        kill_marked(&mark);
        eprintln!("round {round} of seed {seed}: after {after} lines, gone within {:?}", killed.elapsed());
    }
}
