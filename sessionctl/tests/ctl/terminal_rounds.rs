//! Terminals closed, viewers and owners killed, left and stopped at random moments: what the session is afterwards follows
//! from what was done. Nothing that was shown is missing in its output, the terminal is in order, and nothing survives
//! that should end.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use session_testkit::random::Random;

use crate::outer_terminal::{AS_JOB, OuterTerminal};
use crate::rounds::run_rounds;
use crate::stops::{children, pid};
use crate::support::{Fixture, TIMEOUT};
use crate::tmux::has;

/// Time between two signals that are meant to arrive together.
const TOGETHER: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Ignores HUP and TERM.
    Deaf,
    /// Uses the whole screen, with the mouse and pasted text reported, and reads keys unchanged.
    FullScreen,
}

/// The modes that a full-screen program sets.
const SCREEN_MODES: [&str; 3] = ["1049", "1000", "2004"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Close,
    KillViewer,
    KillOwner,
    KillBoth,
    TermViewer,
    TermOwner,
    /// To the viewer, the owner, the supervisor and the program.
    TermAll,
    /// Ctrl-] d.
    Detach,
    /// Ctrl-Z, and the terminal closed once the session is paused.
    StopAndClose,
    /// Ctrl-Z, and the terminal closed immediately.
    StopAndCloseQuickly,
}

impl Act {
    const ALL: [Self; 10] = [
        Self::Close,
        Self::KillViewer,
        Self::KillOwner,
        Self::KillBoth,
        Self::TermViewer,
        Self::TermOwner,
        Self::TermAll,
        Self::Detach,
        Self::StopAndClose,
        Self::StopAndCloseQuickly,
    ];
    /// Those that concern one viewer only.
    const OF_VIEWER: [Self; 4] = [Self::Close, Self::KillViewer, Self::TermViewer, Self::Detach];

    const fn stops(self) -> bool {
        matches!(self, Self::StopAndClose | Self::StopAndCloseQuickly)
    }

    const fn is_term(self) -> bool {
        matches!(self, Self::TermViewer | Self::TermOwner | Self::TermAll)
    }

    const fn closes(self) -> bool {
        matches!(self, Self::Close) || self.stops()
    }
}

/// The moment of the act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Milliseconds after the command was started: the program may not exist.
    Early(u64),
    /// Milliseconds after the program is ready. One that ends by itself takes 100 to 600.
    Running(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Second {
    None,
    /// Another viewer is attached.
    Attached,
    /// Another viewer is attached, and the act is done to it.
    Target,
}

/// One round, as drawn.
#[derive(Debug)]
struct Round {
    kind: Kind,
    act: Act,
    moment: Moment,
    second: Second,
    lines: usize,
    /// The exit code; `None` for a program that ends only if it is ended.
    code: Option<i32>,
    /// `true` if the viewer is the job of a shell.
    in_shell: bool,
}

impl Round {
    fn draw(random: &mut Random) -> Self {
        let kind = *random.pick(&[Kind::Plain, Kind::Deaf, Kind::FullScreen]).unwrap();
        let early = random.one_in(6);
        let second = match random.below(6) {
            0 if !early => Second::Attached,
            1 if !early => Second::Target,
            _ => Second::None,
        };
        let acts = if early || second == Second::Target { &Act::OF_VIEWER[..] } else { &Act::ALL };
        let act = *random.pick(acts).unwrap();
        let moment = if early {
            Moment::Early(random.below(300) as u64)
        } else {
            Moment::Running(random.below(600) as u64)
        };
        // A second viewer needs time to attach.
        let lines = if second == Second::None { 10 + random.below(40) } else { 80 + random.below(40) };
        let code = *random.pick(&[None, None, Some(0), Some(3)]).unwrap();
        Self { kind, act, moment, second, lines, code, in_shell: act.stops() || random.one_in(2) }
    }

    /// Returns the script for a shell that starts programs by `fork`. With `vfork`, as by dash, Ctrl-Z may stop a child that
    /// its parent waits for before the `exec`, and then the parent is not stopped.
    fn script(&self) -> String {
        let begin = match self.kind {
            Kind::Plain => String::new(),
            Kind::Deaf => "trap '' TERM HUP;".to_owned(),
            Kind::FullScreen => {
                let modes = SCREEN_MODES.map(|mode| format!("\\033[?{mode}h")).concat();
                format!("stty raw -echo; printf '{modes}';")
            }
        };
        let end = self.code.map_or_else(|| "exec sleep 600".to_owned(), |code| format!("exit {code}"));
        format!(
            "{begin} i=0; : >ready; while [ $i -lt {} ]; do i=$((i+1)); echo \"<$i>\"; sleep 0.01; done; \
             : >ended; {end}",
            self.lines
        )
    }

    /// Returns the status of a program that has come to its own end.
    fn result(&self) -> Option<&'static str> {
        self.code.map(|code| if code == 0 { "completed" } else { "failed" })
    }

    /// Returns the status that the act leads to, if the program has not come to its own end before.
    fn status(&self) -> &'static str {
        match self.act {
            // Nothing ends it.
            Act::TermViewer | Act::TermOwner | Act::TermAll
                if self.kind == Kind::Deaf && self.code.is_none() =>
            {
                "running"
            }
            _ if self.second == Second::Target => "running",
            Act::Close | Act::KillViewer | Act::Detach => "running",
            Act::KillOwner | Act::KillBoth => "crashed",
            Act::TermViewer | Act::TermOwner | Act::TermAll => "interrupted",
            // The key is a character for it.
            Act::StopAndClose | Act::StopAndCloseQuickly if self.kind == Kind::FullScreen => "running",
            Act::StopAndClose | Act::StopAndCloseQuickly => "paused",
        }
    }
}

/// The processes of a round. Dropping it ends all of them.
struct Running<'a> {
    fixture: &'a Fixture,
    round: &'a Round,
    first: Seat,
    second: Option<Seat>,
    follower: Option<Child>,
}

/// A terminal with a viewer.
struct Seat {
    terminal: OuterTerminal,
    process: Child,
    in_shell: bool,
    viewer: Option<Pid>,
}

impl Seat {
    fn start(fixture: &Fixture, in_shell: bool, args: &[&str]) -> Self {
        let terminal = OuterTerminal::new();
        let wrapper = if in_shell { &AS_JOB[..] } else { &[] };
        let process = terminal.start(fixture, wrapper, args);
        let mut seat = Self { terminal, process, in_shell, viewer: None };
        seat.find_viewer();
        seat
    }

    /// Looks for the viewer, which is not there yet if its shell has just started.
    fn find_viewer(&mut self) {
        let leader = pid(self.process.id());
        let found = if self.in_shell { children(leader).first().copied() } else { Some(leader) };
        self.viewer = self.viewer.or(found);
    }

    fn has_ended(&self) -> bool {
        self.viewer.is_some_and(|viewer| !is_alive(viewer))
    }

    fn lines(&self) -> Vec<usize> {
        lines_in(&String::from_utf8_lossy(&self.terminal.shown()))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        for id in processes_of(self.fixture) {
            let _ = kill_process(pid(id), Signal::KILL);
        }
        let seats = [Some(&mut self.first), self.second.as_mut()].into_iter().flatten();
        for child in seats.map(|seat| &mut seat.process).chain(self.follower.as_mut()) {
            let _ = (child.kill(), child.wait());
        }
    }
}

/// Runs one round. Returns `false` if nothing can be derived from it, or the description of what is wrong.
fn run(round: &Round) -> Result<bool, String> {
    let fixture = Fixture::new();
    let args = ["run", "-q", "--name", "it", "--grace", "1s", "--", "bash", "-c", &round.script()];
    let first = Seat::start(&fixture, round.in_shell, &args);
    let mut running = Running { fixture: &fixture, round, first, second: None, follower: None };
    match round.moment {
        Moment::Early(after) => {
            std::thread::sleep(Duration::from_millis(after));
            running.first.find_viewer();
            if running.first.viewer.is_some() {
                running.act_early()?;
            } else if running.file("ended") {
                // A short program is over before a late act.
                running.check_result()?;
            } else {
                return Ok(false);
            }
        }
        Moment::Running(after) => {
            running.until("a program", || fixture.dir.path().join("ready").exists())?;
            running.first.find_viewer();
            if !running.watch()? {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(after));
            if !running.act_and_judge()? {
                return Ok(false);
            }
        }
    }
    running.end()?;
    Ok(true)
}

impl Running<'_> {
    fn until(&self, what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + TIMEOUT;
        while !condition() {
            if Instant::now() > deadline {
                let why = self.fixture.ctl(["why", "it"]).stdout;
                let shown = String::from_utf8_lossy(&self.first.terminal.shown()).into_owned();
                let processes = self.processes().map(describe).collect::<Vec<_>>();
                return Err(format!("timed out waiting for {what}\n{why}{shown:?}\n{processes:#?}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn file(&self, name: &str) -> bool {
        self.fixture.dir.path().join(name).exists()
    }

    /// Returns the status, if there is a session.
    fn status(&self) -> Option<String> {
        let shown = self.fixture.ctl(["show", "--json", "it"]).stdout;
        let shown: serde_json::Value = serde_json::from_str(&shown).ok()?;
        shown["status"].as_str().map(str::to_owned)
    }

    /// Returns the processes besides the shells and the follower.
    fn processes(&self) -> impl Iterator<Item = u32> {
        let shells = [Some(&self.first), self.second.as_ref()].into_iter().flatten();
        let shells = shells.filter(|seat| seat.in_shell).map(|seat| seat.process.id());
        let left_out: Vec<u32> = shells.chain(self.follower.as_ref().map(Child::id)).collect();
        processes_of(self.fixture).into_iter().filter(move |pid| !left_out.contains(pid))
    }

    /// Follows the output in a file, and attaches the second viewer. Returns `false` if it is too late for that.
    fn watch(&mut self) -> Result<bool, String> {
        let mut follow = self.fixture.command(["logs", "it", "--follow"]);
        let shown = File::create(self.fixture.dir.path().join("followed")).unwrap();
        self.follower = Some(follow.stdout(shown).stderr(Stdio::null()).spawn().unwrap());
        if self.round.second == Second::None {
            return Ok(true);
        }
        let second = Seat::start(self.fixture, false, &["attach", "it"]);
        self.until("the second viewer", || !second.lines().is_empty() || second.has_ended())?;
        let is_there = !second.has_ended();
        self.second = Some(second);
        Ok(is_there)
    }

    /// Does the act. Returns `false` if signals that were to arrive together did not.
    fn act(&mut self) -> Result<bool, String> {
        let target = match (&self.second, self.round.second) {
            (Some(second), Second::Target) => second,
            _ => &self.first,
        };
        let child = |parent: Option<Pid>| parent.and_then(|parent| children(parent).first().copied());
        let viewer = target.viewer;
        let owner = child(self.first.viewer);
        let supervisor = child(owner);
        let (signal, targets) = match self.round.act {
            Act::KillViewer => (Signal::KILL, vec![viewer]),
            Act::KillOwner => (Signal::KILL, vec![owner]),
            Act::KillBoth => (Signal::KILL, vec![viewer, owner]),
            Act::TermViewer => (Signal::TERM, vec![viewer]),
            Act::TermOwner => (Signal::TERM, vec![owner]),
            Act::TermAll => (Signal::TERM, vec![viewer, owner, supervisor, child(supervisor)]),
            Act::Close | Act::Detach | Act::StopAndClose | Act::StopAndCloseQuickly => {
                (Signal::TERM, Vec::new())
            }
        };
        let before = Instant::now();
        // One that has ended gets none; its id is not in use again yet.
        for target in targets.into_iter().flatten() {
            let _ = kill_process(target, signal);
        }
        if before.elapsed() > TOGETHER {
            return Ok(false);
        }
        if self.round.act == Act::Detach {
            target.terminal.type_keys(b"\x1dd");
        }
        if self.round.act.stops() {
            target.terminal.type_keys(b"\x1a");
            if self.round.act == Act::StopAndClose && self.round.kind != Kind::FullScreen {
                self.until("the pause", || {
                    self.first.has_ended() || self.status().as_deref() == Some("paused")
                })?;
            }
        }
        if self.round.act.closes() {
            match (&mut self.second, self.round.second) {
                (Some(second), Second::Target) => second.terminal.close(),
                _ => self.first.terminal.close(),
            }
        }
        Ok(true)
    }

    fn target(&self) -> &Seat {
        self.second.as_ref().filter(|_| self.round.second == Second::Target).unwrap_or(&self.first)
    }

    /// Does the act while the program may not exist yet.
    fn act_early(&mut self) -> Result<(), String> {
        self.act()?;
        // Nothing ends a deaf program, nor its viewer then.
        let stays = self.round.act == Act::TermViewer && self.round.kind == Kind::Deaf;
        self.until("the end of the viewer", || self.first.has_ended() || stays && self.file("ready"))?;
        self.until("a program, or an end", || self.file("ready") || self.processes().next().is_none())?;
        let status = self.status();
        if status.as_deref() == Some("crashed") {
            return Err("it is crashed".to_owned());
        }
        if !self.first.has_ended() {
            return Ok(());
        }
        if self.round.act == Act::TermViewer && status.as_deref() == Some("running") && !self.file("ended") {
            return Err("it is running after TERM to its viewer".to_owned());
        }
        // The modes that a program leaves at its own end are meant.
        let is_own_end = status.is_some() && status.as_deref() == self.round.result();
        self.check_terminal(&self.first, self.round.act != Act::Close && !is_own_end)
    }

    /// Checks the end of a program to which nothing was done.
    fn check_result(&self) -> Result<(), String> {
        let status = self.status();
        if status.as_deref() != self.round.result() {
            return Err(format!("it is {status:?} after its own end"));
        }
        self.check_terminal(&self.first, false)
    }

    /// Does the act, and checks everything that follows. Returns `false` if nothing can be derived from it.
    fn act_and_judge(&mut self) -> Result<bool, String> {
        let shown = self.first.terminal.shown();
        let was_over = self.first.has_ended();
        if !self.act()? {
            return Ok(false);
        }
        let after_act = SystemTime::now();
        let expected = self.round.status();
        let is_live = ["running", "paused"].contains(&expected);
        let stays = is_live && self.round.second != Second::Target && self.round.act.is_term();
        if !stays {
            self.until("the end of the viewer", || self.target().has_ended())?;
        }
        if !is_live {
            self.until("the end of all processes", || self.processes().next().is_none())?;
        }
        let status = self.status().ok_or("there is no session")?;
        // It was not stopped by the act, or has ended before that had an effect.
        let ended_at =
            std::fs::metadata(self.fixture.dir.path().join("ended")).and_then(|file| file.modified());
        let ended = ended_at.is_ok_and(|ended| ended < after_act + TOGETHER || !self.round.act.is_term());
        let mut allowed: Vec<&str> = self.round.result().filter(|_| ended).into_iter().collect();
        if !was_over {
            allowed.push(expected);
        }
        // The keys may be lost with the terminal.
        if self.round.act == Act::StopAndCloseQuickly {
            allowed.push("running");
        }
        if !allowed.contains(&&*status) {
            let why = self.fixture.ctl(["why", "it"]).stdout;
            return Err(format!("it is {status}, and may be {allowed:?}\n{why}"));
        }
        self.check_seats(&status)?;
        if ["running", "paused"].contains(&&*status) {
            self.check_return(&status)?;
        }
        if !was_over && !self.round.in_shell {
            self.check_stored_bytes(&shown)?;
        }
        self.check_stored()?;
        Ok(true)
    }

    /// Checks the terminals after the act.
    fn check_seats(&self, status: &str) -> Result<(), String> {
        // It may have come to its own end at the moment of a stop signal.
        let has_ended = self.round.code.is_some() && self.fixture.dir.path().join("ended").exists();
        let is_own_end = has_ended || self.round.result() == Some(status);
        // Nobody is left to restore it.
        let both = self.round.act == Act::KillBoth && !is_own_end;
        if self.first.has_ended() && !both {
            self.check_terminal(&self.first, !is_own_end)?;
        }
        if let Some(second) = self.second.as_ref().filter(|second| second.has_ended()) {
            self.check_terminal(second, !is_own_end)?;
        }
        Ok(())
    }

    /// Checks that a terminal without a viewer has its modes of before, and, if it `was_left`, those of a screen.
    fn check_terminal(&self, seat: &Seat, was_left: bool) -> Result<(), String> {
        let is_reset = || {
            let shown = String::from_utf8_lossy(&seat.terminal.shown()).into_owned();
            SCREEN_MODES.iter().all(|mode| {
                let begin = shown.rfind(&format!("\x1b[?{mode}h"));
                begin.is_none_or(|begin| shown[begin..].contains(&format!("\x1b[?{mode}l")))
            })
        };
        self.until("the modes of the terminal", || seat.terminal.changed_modes().is_none())
            .map_err(|error| format!("{error}{:?}", seat.terminal.changed_modes()))?;
        if was_left && !seat.terminal.is_closed() {
            self.until("the modes of the screen", is_reset)?;
        }
        Ok(())
    }

    /// Attaches to a session that was left, continues a paused one, and ends it.
    fn check_return(&self, status: &str) -> Result<(), String> {
        let back = Seat::start(self.fixture, false, &["attach", "it"]);
        self.check_returned(&back, status).map_err(|error| {
            let shown = String::from_utf8_lossy(&back.terminal.shown()).into_owned();
            format!(
                "{error}\nthe viewer that returned has shown {shown:?}, and {:?} is stored",
                self.stored_lines()
            )
        })
    }

    fn check_returned(&self, back: &Seat, status: &str) -> Result<(), String> {
        if status == "paused" {
            let stored = self.stored_lines();
            self.until("the last lines", || back.lines().last() >= stored.last())?;
            // A key may have reached the program only now, and stop the job of this viewer, which nobody can continue.
            let is_late = self.round.act == Act::StopAndCloseQuickly;
            if self.status().as_deref() != Some("paused") && !is_late {
                let why = self.fixture.ctl(["why", "it"]).stdout;
                return Err(format!("it is not paused any more\n{why}"));
            }
            let resumed = self.fixture.ctl(["resume", "it"]);
            if !is_late {
                resumed.exits(0);
            }
        }
        // The keys of a terminal that was closed immediately may have an effect only now.
        let status = || {
            let status = self.status();
            if self.round.act == Act::StopAndCloseQuickly && status.as_deref() == Some("paused") {
                self.fixture.ctl(["resume", "it"]);
            }
            status
        };
        if let Some(result) = self.round.result() {
            self.until("its own end", || status().as_deref() == Some(result))?;
        } else {
            self.until("the last line", || {
                status().as_deref() == Some("running")
                    && self.stored_lines().last() == Some(&self.round.lines)
                    && match self.round.kind {
                        // It draws its screen by itself.
                        Kind::FullScreen => {
                            String::from_utf8_lossy(&back.terminal.shown()).contains(SCREEN_MODES[0])
                        }
                        Kind::Plain | Kind::Deaf => back.lines().last() == Some(&self.round.lines),
                    }
            })?;
            // A late key may stop it even now; a cancel ends it as well.
            let found = self.status();
            let is_late = self.round.act == Act::StopAndCloseQuickly && found.as_deref() == Some("paused");
            if back.has_ended() || (found.as_deref() != Some("running") && !is_late) {
                return Err(format!("it is {found:?} after a return"));
            }
            self.fixture.ctl(["cancel", "it"]).exits(0);
        }
        self.until("the end of all viewers", || {
            let others = [Some(&self.first), self.second.as_ref()].into_iter().flatten();
            back.has_ended() && others.fold(true, |all, seat| all & seat.has_ended())
        })?;
        self.check_terminal(back, self.round.code.is_none())?;
        let stored = self.stored_lines();
        check_lines("the viewer that returned", &back.lines(), &stored)?;
        if stored.last() != Some(&self.round.lines) {
            return Err("the last line is not stored".to_owned());
        }
        Ok(())
    }

    fn stored_lines(&self) -> Vec<usize> {
        lines_in(&self.fixture.ctl(["logs", "it"]).stdout)
    }

    /// Checks that the bytes which the viewer had shown before the act are stored as they are.
    fn check_stored_bytes(&self, shown: &[u8]) -> Result<(), String> {
        let stored = self.fixture.ctl(["logs", "it", "--raw"]).stdout;
        if stored.as_bytes().starts_with(shown) {
            return Ok(());
        }
        Err(format!("bytes were shown and are gone: {:?}, {stored:?}", String::from_utf8_lossy(shown)))
    }

    /// Checks that everything that any viewer showed is stored, in order.
    fn check_stored(&self) -> Result<(), String> {
        let stored = self.stored_lines();
        let gaps = stored.windows(2).filter(|lines| lines[0] + 1 != lines[1]).count();
        // With Ctrl-Z, the system discards output that the owner has not read yet.
        if stored.first() != Some(&1) && !stored.is_empty() || gaps > usize::from(self.round.act.stops()) {
            return Err(format!("lines are missing: {stored:?}"));
        }
        let shown = self.first.lines();
        if !stored.starts_with(&shown) {
            return Err(format!("lines were shown and are gone: {shown:?}, {stored:?}"));
        }
        if let Some(second) = &self.second {
            check_lines("the second viewer", &second.lines(), &stored)?;
        }
        let followed = std::fs::read_to_string(self.fixture.dir.path().join("followed")).unwrap();
        let logs = self.fixture.ctl(["logs", "it"]).stdout;
        if !logs.starts_with(&followed) {
            return Err(format!("output was followed and is gone: {followed:?}, {logs:?}"));
        }
        let verified = self.fixture.ctl(["verify", "it"]);
        if verified.code == Some(0) { Ok(()) } else { Err(format!("{verified:?}")) }
    }

    /// Ends what was left, and checks that nothing survives.
    fn end(mut self) -> Result<(), String> {
        // One that has come to its own end by now refuses.
        self.fixture.ctl(["cancel", "it", "--force"]);
        self.first.terminal.close();
        self.second.iter_mut().for_each(|second| second.terminal.close());
        if let Some(mut follower) = self.follower.take() {
            let _ = (follower.kill(), follower.wait());
        }
        self.until("the end of all processes", || processes_of(self.fixture).is_empty())
    }
}

/// Returns the numbers of the lines in what was shown or stored.
fn lines_in(text: &str) -> Vec<usize> {
    let ends = text.split('>').rev().skip(1);
    let mut lines: Vec<_> = ends.filter_map(|part| part.rsplit_once('<')?.1.parse().ok()).collect();
    lines.reverse();
    lines
}

/// Checks that a viewer that came later has shown lines that are stored, without a gap.
fn check_lines(who: &str, shown: &[usize], stored: &[usize]) -> Result<(), String> {
    if shown.is_empty() || stored.windows(shown.len()).any(|part| part == shown) {
        return Ok(());
    }
    Err(format!("{who} has shown {shown:?}, and {stored:?} is stored"))
}

fn state_of(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn is_alive(pid: Pid) -> bool {
    state_of(pid).is_some_and(|state| !['Z', 'X'].contains(&state))
}

/// Returns the processes with the store of a round in their environment.
fn processes_of(fixture: &Fixture) -> Vec<u32> {
    let variable = format!("SESSIONCTL_STORE={}", fixture.url());
    let ids = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_of_round = |pid: &u32| {
        let environment = std::fs::read(Path::new("/proc").join(pid.to_string()).join("environ"));
        environment.is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == variable.as_bytes()))
    };
    ids.filter(is_of_round).collect()
}

fn describe(pid: u32) -> String {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let (command, stat) = (read("cmdline"), read("stat"));
    format!("{} {}", String::from_utf8_lossy(&command).replace('\0', " "), String::from_utf8_lossy(&stat))
}

#[test]
fn acts_at_random_moments_lose_no_output_and_no_terminal() {
    if !has(&["setsid", "stty", "bash"]) {
        return;
    }
    run_rounds(24, Round::draw, run);
}
