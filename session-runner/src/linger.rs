//! The wait after the end of the first process: how long its output and the processes that it left are waited for.

use std::time::Duration;

use tokio::time::Instant;

use crate::supervisor::messages::{Background, BackgroundKind};

/// Silence after which output is not waited for that only processes in a session of their own can still print.
const SEPARATE_SILENCE: Duration = Duration::from_secs(1);
/// Limit of the whole wait.
const TOTAL: Duration = Duration::from_secs(600);
/// Time after which the caller is notified of the wait.
const NOTIFY_AFTER: Duration = Duration::from_secs(1);

/// The wait after the end of the first process.
#[derive(Debug)]
pub(crate) struct Linger {
    since: Instant,
    /// Silence after which background processes are ended.
    silence: Duration,
    keep_background: bool,
    background: Vec<Background>,
    output_is_open: bool,
    last_output: Instant,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// The caller was notified of the wait.
    Notified,
    /// A stop signal has ended the wait.
    Hurried,
    /// The tree is being ended.
    Over,
}

impl Linger {
    pub(crate) fn new(
        now: Instant,
        silence: Duration,
        keep_background: bool,
        background: Vec<Background>,
    ) -> Self {
        Self {
            since: now,
            silence,
            keep_background,
            background,
            output_is_open: true,
            last_output: now,
            stage: Stage::Waiting,
        }
    }

    pub(crate) fn set_background(&mut self, background: Vec<Background>) {
        self.background = background;
    }

    pub(crate) fn background(&self) -> &[Background] {
        &self.background
    }

    /// Takes note of output, or of its end.
    pub(crate) fn on_output(&mut self, now: Instant, is_open: bool) {
        self.last_output = now;
        self.output_is_open = is_open;
    }

    /// Ends the wait.
    pub(crate) fn hurry(&mut self) {
        if self.stage != Stage::Over {
            self.stage = Stage::Hurried;
        }
    }

    pub(crate) fn is_hurried(&self) -> bool {
        self.stage == Stage::Hurried
    }

    /// Takes note that the tree is being ended.
    pub(crate) fn set_over(&mut self) {
        self.stage = Stage::Over;
    }

    /// Returns the time at which the wait is over if nothing changes before; `None` if it is over already.
    pub(crate) fn until(&self) -> Option<Instant> {
        (self.stage != Stage::Over).then(|| self.waits_until())
    }

    fn waits_until(&self) -> Instant {
        let is = |kind: BackgroundKind| {
            move |background: &Background| !self.keep_background && background.kind == kind
        };
        let any = |of: &dyn Fn(&Background) -> bool| self.background.iter().any(of);
        let hangup = is(BackgroundKind::IgnoresHangup);
        let silence = if self.is_hurried() {
            return self.since;
        } else if any(&is(BackgroundKind::Attached)) {
            self.silence
        } else if !self.output_is_open {
            return self.since;
        } else if any(&|background| background.holds_output && hangup(background)) {
            self.silence
        } else {
            // Or processes outside of the tree, to which the program passed its output.
            self.silence.min(SEPARATE_SILENCE)
        };
        (self.last_output + silence).min(self.since + TOTAL)
    }

    /// Returns the time at which the caller has to be notified of the wait; `None` if it was.
    pub(crate) fn notify_at(&self) -> Option<Instant> {
        (self.stage == Stage::Waiting).then(|| self.since + NOTIFY_AFTER)
    }

    pub(crate) fn set_notified(&mut self) {
        self.stage = Stage::Notified;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::messages::BackgroundProcess;

    const SECOND: Duration = Duration::from_secs(1);

    fn background(kind: BackgroundKind, holds_output: bool) -> Background {
        Background { process: BackgroundProcess::new(7, 1, "sleep".into()), kind, holds_output }
    }

    /// Returns the seconds that silence lasts until the wait is over.
    fn seconds(background: &[Background], output_is_open: bool, keep_background: bool) -> u64 {
        let now = Instant::now();
        let mut linger = Linger::new(now, 10 * SECOND, keep_background, background.to_vec());
        linger.on_output(now, output_is_open);
        (linger.until().unwrap() - now).as_secs()
    }

    #[test]
    fn each_kind_of_background_process_is_waited_for_in_its_way() {
        use BackgroundKind::{Attached, IgnoresHangup, OwnSession};
        for (kind, holds, open, expected) in [
            (Attached, false, true, 10),
            (Attached, false, false, 10),
            (IgnoresHangup, true, true, 10),
            (IgnoresHangup, false, true, 1),
            (IgnoresHangup, false, false, 0),
            (OwnSession, false, true, 1),
            (OwnSession, false, false, 0),
        ] {
            assert_eq!(seconds(&[background(kind, holds)], open, false), expected, "{kind:?} {holds} {open}");
            assert_eq!(seconds(&[background(kind, holds)], open, true), u64::from(open), "{kind:?} {open}");
        }
        assert_eq!(seconds(&[], true, false), 1, "held by a process outside of the tree");
        assert_eq!(seconds(&[], false, false), 0);
    }

    #[test]
    fn output_extends_the_wait_to_ten_minutes() {
        let start = Instant::now();
        let mut linger =
            Linger::new(start, 10 * SECOND, false, vec![background(BackgroundKind::Attached, false)]);
        for second in 0..2000 {
            linger.on_output(start + second * SECOND, true);
            assert_eq!(linger.until(), Some(start + TOTAL.min((second + 10) * SECOND)));
        }
    }

    #[test]
    fn a_stop_signal_ends_the_wait() {
        let start = Instant::now();
        let mut linger =
            Linger::new(start, 10 * SECOND, false, vec![background(BackgroundKind::Attached, false)]);
        linger.hurry();
        assert_eq!(linger.until(), Some(start));
        linger.set_over();
        assert_eq!((linger.until(), linger.notify_at()), (None, None));
    }
}
