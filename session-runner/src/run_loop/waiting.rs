//! The wait after the end of the first process, as the main loop carries it out.

use tokio::time::Instant;

use super::RunLoop;
use crate::output::capture::Activity;
use crate::supervisor::messages::{ORPHAN_GRACE, Spare};

impl RunLoop {
    pub(super) async fn on_linger_timer(&mut self) {
        let now = Instant::now();
        let Some(linger) = &mut self.state.linger else { return };
        if linger.until().is_some_and(|until| now >= until) {
            if !linger.is_hurried() && !self.capture.is_drained() {
                // What waits for a slow reader is no silence.
                linger.on_output(now, true);
                return;
            }
            linger.set_over();
            self.lingering.send_replace(None);
            self.state.end_is_ordered = true;
            self.state.stops.lock().set_ending();
            let spare = if self.command.keep_background { Spare::Everything } else { Spare::Background };
            self.orders.end(ORPHAN_GRACE, spare).await;
        } else if linger.notify_at().is_some_and(|at| now >= at) {
            linger.set_notified();
            let processes = linger.background().iter().map(|found| found.process.clone()).collect();
            self.lingering.send_replace(Some(processes));
        }
    }

    /// Ends the wait after the end of the first process.
    pub(super) fn hurry_after_end(&mut self) {
        if self.state.ended.is_some() {
            self.capture.hurry();
            if let Some(linger) = &mut self.state.linger {
                linger.hurry();
            }
        }
    }

    pub(super) async fn on_activity(&mut self, activity: Activity) {
        for (place, gone) in activity.readers_gone.into_iter().enumerate() {
            if let Some(known) = self.state.readers_gone.get_mut(place)
                && gone
                && !std::mem::replace(known, true)
            {
                self.orders.close_output(place).await;
            }
        }
        if let Some(linger) = &mut self.state.linger {
            linger.on_output(Instant::now(), activity.open > 0);
        }
    }
}
