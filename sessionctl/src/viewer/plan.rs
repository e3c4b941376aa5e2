//! The plan of a run: whether the program gets a terminal of its own, who owns its session, and who views it.

use std::io;
use std::os::fd::AsFd as _;

use rustix::termios::{isatty, tcgetpgrp};
use sessionkit::log::PersistedSession;
use sessionkit::runner::{Command, SESSION_VARIABLE, Terminal, TerminalSize, check_terminal};
use sessionkit::{ErrorCode, SessionId, SessionManager};

use super::last_size::set_last_size;
use crate::args::{TerminalOptions, Terminals};
use crate::config::{Config, OnHangup, TtyWhen};
use crate::context::Context;
use crate::display::{display, is_in_foreground};
use crate::error::{Failure, Result};
use crate::render::short;

/// The kind of a terminal whose kind is not known: what most terminals understand.
const USUAL_TERM: &str = "xterm-256color";

/// The viewer of a program's terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Viewing {
    /// The terminal of this process, while another process owns the session: the viewer may leave.
    OtherOwner,
    /// The terminal of this process, which owns the session.
    ThisOwner,
    /// None: the output goes to stdout, which is no terminal.
    Stdout,
    /// None.
    Nobody,
}

/// The plan of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The terminal that the program gets, if it gets one.
    pub(crate) terminal: Option<Terminal>,
    pub(crate) viewing: Viewing,
    pub(crate) options: TerminalOptions,
    /// `true` if the command was started in the foreground of its terminal.
    in_foreground: bool,
}

impl Plan {
    /// Decides for a new command.
    pub(crate) fn new(terminals: &Terminals, detach: bool, context: &Context) -> Result<Self> {
        let options = terminals.resolve(&Config::load()?);
        let wanted = match options.tty {
            TtyWhen::Never => None,
            TtyWhen::Always => Some(new_terminal([true; 3])),
            TtyWhen::Auto => automatic(detach, context),
        };
        Self::with(wanted, options, detach, context)
    }

    /// Decides for a recorded command: a terminal is part of it, unless the command line says otherwise.
    pub(crate) fn again(
        recorded: Option<&Terminal>,
        terminals: &Terminals,
        detach: bool,
        context: &Context,
    ) -> Result<Self> {
        let options = terminals.resolve(&Config::load()?);
        let wanted = match terminals.typed_tty() {
            Some(TtyWhen::Never) => None,
            Some(TtyWhen::Always) => Some(recorded.cloned().unwrap_or_else(|| new_terminal([true; 3]))),
            Some(TtyWhen::Auto) | None => recorded.cloned(),
        };
        Self::with(wanted, options, detach, context)
    }

    fn with(
        wanted: Option<Terminal>,
        options: TerminalOptions,
        detach: bool,
        context: &Context,
    ) -> Result<Self> {
        let mut terminal = wanted;
        // An owner that was started for this has checked it before.
        if terminal.is_some()
            && context.caller.is_none()
            && let Err(error) = check_terminal()
        {
            if options.tty == TtyWhen::Always {
                let text = format!("cannot create a terminal: {error}");
                return Err(Failure::new(ErrorCode::SystemLimit, text).with_exit_code(125));
            }
            let text = format!("cannot create a terminal ({error}): the program gets pipes");
            context.hint(&text, &[], &["run", "--no-tty", "--", "CMD"]);
            terminal = None;
        }
        let is_viewed = context.caller.as_ref().is_some_and(crate::detach::Caller::is_viewer);
        // What the program prints to its standard output goes where that of this process goes.
        let shown = if terminal.as_ref().is_some_and(|terminal| terminal.stdout && !isatty(io::stdout())) {
            None
        } else {
            display()
        };
        let viewing = match (&terminal, shown) {
            (None, _) => Viewing::Nobody,
            (Some(_), _) if is_viewed => Viewing::OtherOwner,
            (Some(_), _) if detach || context.term.json => Viewing::Nobody,
            (Some(_), Some(_)) if may_leave() => Viewing::OtherOwner,
            (Some(_), Some(_)) => Viewing::ThisOwner,
            (Some(_), None) => Viewing::Stdout,
        };
        let in_foreground = match &context.caller {
            Some(caller) => caller.was_in_foreground(),
            None => is_in_foreground(),
        };
        Ok(Self { terminal, viewing, options, in_foreground })
    }

    /// Without a viewer of this command, the terminal begins with the size that the one of a session had last.
    ///
    /// # Errors
    /// The log of the session cannot be read.
    pub(crate) async fn use_last_size(
        &mut self,
        manager: &dyn SessionManager,
        stored: &PersistedSession,
    ) -> Result<()> {
        match (self.viewing, &mut self.terminal) {
            (Viewing::Stdout | Viewing::Nobody, Some(terminal)) => {
                set_last_size(terminal, manager, stored).await
            }
            _ => Ok(()),
        }
    }

    /// Prints that a session has started or resumed, and how to reach it. At a terminal that it outlives, also how to
    /// leave it.
    pub(crate) fn hint_start(&self, context: &Context, id: SessionId, began: &str) {
        let typed = id.to_string();
        if context.caller.as_ref().is_none_or(|caller| !caller.is_viewer()) {
            let place = if context.caller.is_some() { " in the background" } else { "" };
            let next =
                if self.terminal.is_some() && self.viewing == Viewing::Nobody { "attach" } else { "logs" };
            context.hint(&format!("session {id} {began}{place}"), &[id], &[next, &typed]);
            return;
        }
        let leave = match self.options.on_hangup {
            _ if !self.options.detach_keys.is_disabled() => {
                format!("; {} leaves it running", self.options.detach_keys)
            }
            OnHangup::Leave => "; it runs on if this terminal is closed".to_owned(),
            OnHangup::Interrupt => String::new(),
        };
        // In one line of most terminals.
        context.hint(&format!("session {} {began}{leave}", short(id)), &[id], &["attach", &typed]);
    }

    /// Gives a command its terminal, with size and modes of the one that shows it.
    pub(crate) fn apply(&self, command: Command) -> Command {
        let Some(mut terminal) = self.terminal.clone() else { return command.terminal(None) };
        let command = match self.viewing {
            Viewing::OtherOwner | Viewing::ThisOwner => match display() {
                Some(display) => {
                    let display = display.as_fd();
                    let size = TerminalSize::of(display);
                    (terminal.rows, terminal.columns) = (size.rows, size.columns);
                    // In the background, the modes are those of a shell that edits its next line, or of another program.
                    if self.in_foreground {
                        command.terminal_modes_of(display)
                    } else {
                        command.terminal_keys_of(display)
                    }
                }
                None => command,
            },
            Viewing::Stdout | Viewing::Nobody => command,
        };
        command.terminal(Some(terminal))
    }
}

/// Returns the terminal of a program whose caller has one.
fn automatic(detach: bool, context: &Context) -> Option<Terminal> {
    if detach || context.term.json {
        return None;
    }
    // An owner that was started for this has a terminal of its caller only as its outputs.
    let stdin = match &context.caller {
        Some(caller) => !caller.has_stdin(),
        None => isatty(io::stdin()),
    };
    let (stdout, stderr) = (isatty(io::stdout()), isatty(io::stderr()));
    (stdout || stderr).then(|| new_terminal([stdin, stdout, stderr]))
}

fn new_terminal([stdin, stdout, stderr]: [bool; 3]) -> Terminal {
    let term = std::env::var("TERM").ok().filter(|term| !term.is_empty() && term != "dumb");
    let size = display().map_or_else(TerminalSize::default, |display| TerminalSize::of(&display));
    let terminal = Terminal::new(term.unwrap_or_else(|| USUAL_TERM.to_owned()), size.rows, size.columns);
    Terminal { stdin, stdout, stderr, ..terminal }
}

/// Returns `true` if a session may run on after its terminal is closed: a person sits at it, and it does not run inside
/// another session, with which it ends.
fn may_leave() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    // An error means that it is not the controlling terminal.
    isatty(io::stdout()) && tcgetpgrp(io::stdout()).is_ok() && !is_set("CI") && !is_set(SESSION_VARIABLE)
}
