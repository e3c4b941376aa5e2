//! The viewers of the program that this process runs, from the owner's side.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use sessionkit::ErrorCode;
use sessionkit::runner::{Runner, Running, TerminalEnd, TerminalHandle, ViewerConnection, ViewerOptions};
use tokio::task::JoinHandle;

use super::plan::{Plan, Viewing};
use super::{View, ViewOptions, notice, show};
use crate::context::Context;
use crate::detach::{Caller, release_terminal};
use crate::display::display;
use crate::error::{Failure, Result};

/// The viewers of one program.
#[derive(Debug)]
pub(crate) struct Viewers {
    plan: Plan,
    /// The end of the socket for the viewer in this process.
    own_end: Option<UnixStream>,
    handle: Option<TerminalHandle>,
    /// The viewer in this process.
    task: Option<JoinHandle<()>>,
}

impl Viewers {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { plan, own_end: None, handle: None, task: None }
    }

    /// Returns `true` if the program has a terminal of its own.
    pub(crate) const fn have_terminal(&self) -> bool {
        self.plan.terminal.is_some()
    }

    /// Returns a runner whose next program has the first viewer.
    pub(crate) fn connect(&mut self, context: &Context, runner: Runner) -> Result<Runner> {
        let failed = |error| Failure::chain(ErrorCode::SpawnFailed, &error);
        Ok(match self.plan.viewing {
            Viewing::OtherOwner => match context.caller.as_ref().map(Caller::viewer) {
                Some(viewer) => viewer.map_err(failed)?.into_iter().fold(runner, Runner::viewer),
                None => runner,
            },
            Viewing::ThisOwner | Viewing::Stdout => {
                let (ours, theirs) = UnixStream::pair().map_err(failed)?;
                self.own_end = Some(ours);
                runner.viewer(theirs)
            }
            Viewing::Nobody => runner,
        })
    }

    /// Begins to view the program, which was just started.
    pub(crate) fn begin(&mut self, context: &Context, running: &Running) {
        self.handle = running.terminal().cloned();
        let Some(handle) = &self.handle else { return };
        match self.plan.viewing {
            Viewing::OtherOwner => context.term.show_at(handle),
            Viewing::ThisOwner => {
                context.term.show_at(handle);
                let options = ViewOptions {
                    // This process cannot be left: it owns the session.
                    keys: None,
                    read_only: false,
                    on_hangup: self.plan.options.on_hangup,
                    passes_signals: false,
                };
                let (end, notice) = (self.own_end.take(), notice(context));
                self.task = Some(tokio::spawn(view_here(end, options, notice)));
            }
            Viewing::Stdout => self.task = Some(tokio::spawn(show_here(self.own_end.take()))),
            Viewing::Nobody => {}
        }
        if context.caller.as_ref().is_some_and(Caller::is_viewer) {
            release_terminal();
        }
    }

    /// Ends the viewers, and waits until they are gone.
    pub(crate) async fn end(self, end: TerminalEnd) {
        if let Some(handle) = self.handle {
            handle.end(end).await;
        }
        if let Some(task) = self.task {
            // An error is a viewer that panicked, which says so itself.
            let _ = task.await;
        }
    }
}

async fn view_here(end: Option<UnixStream>, options: ViewOptions, notice: String) {
    let (Some(end), Some(display)) = (end, display()) else { return };
    let terminal = Some(display.as_fd());
    let viewer = ViewerOptions { terminal, read_only: false, notice: &notice };
    if let Ok(Some(connection)) = ViewerConnection::first(end, viewer).await
        && let Ok(view) = View::new(connection, display.as_fd(), options)
    {
        view.run(None).await;
    }
}

async fn show_here(end: Option<UnixStream>) {
    let Some(end) = end else { return };
    let viewer = ViewerOptions { terminal: None, read_only: true, notice: "" };
    if let Ok(Some(connection)) = ViewerConnection::first(end, viewer).await {
        show(connection).await;
    }
}
