//! When a size of the terminal is recorded: a later attempt without a viewer begins with it.

use std::time::{Duration, Instant};

use super::pty::TerminalSize;

/// Time since a change until it is recorded. While a window is dragged, its size changes many times a second.
const DELAY: Duration = Duration::from_secs(1);

/// The size that the log of a session has.
#[derive(Debug)]
pub(super) struct SizeRecord {
    /// The size that was recorded last, if one was.
    recorded: Option<TerminalSize>,
    /// The time at which the present size is recorded, if it is another one.
    due: Option<Instant>,
}

impl SizeRecord {
    pub(super) fn new(recorded: Option<TerminalSize>, present: TerminalSize, now: Instant) -> Self {
        let mut record = Self { recorded, due: None };
        record.set_present(present, now);
        record
    }

    /// Takes notice of the present size.
    pub(super) fn set_present(&mut self, present: TerminalSize, now: Instant) {
        if self.recorded == Some(present) {
            self.due = None;
        } else {
            self.due.get_or_insert(now + DELAY);
        }
    }

    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Returns the present size, if it has to be recorded by a time (`None`: by any).
    pub(super) fn take(&mut self, present: TerminalSize, now: Option<Instant>) -> Option<TerminalSize> {
        let due = self.due?;
        if now.is_some_and(|now| now < due) {
            return None;
        }
        (self.recorded, self.due) = (Some(present), None);
        Some(present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: TerminalSize = TerminalSize { rows: 24, columns: 80 };
    const WIDE: TerminalSize = TerminalSize { rows: 24, columns: 200 };

    #[test]
    fn a_size_is_recorded_once_and_late() {
        let start = Instant::now();
        let mut record = SizeRecord::new(Some(SMALL), SMALL, start);
        assert_eq!((record.due(), record.take(SMALL, None)), (None, None));
        record.set_present(WIDE, start);
        record.set_present(WIDE, start + DELAY / 2);
        assert_eq!(record.take(WIDE, Some(start + DELAY / 2)), None);
        assert_eq!(record.take(WIDE, Some(start + DELAY)), Some(WIDE));
        assert_eq!((record.due(), record.take(WIDE, None)), (None, None));
    }

    #[test]
    fn a_size_that_is_back_is_not_recorded() {
        let start = Instant::now();
        let mut record = SizeRecord::new(Some(SMALL), SMALL, start);
        record.set_present(WIDE, start);
        record.set_present(SMALL, start + DELAY / 2);
        assert_eq!(record.take(SMALL, None), None);
    }

    #[test]
    fn the_end_of_the_program_does_not_wait() {
        let start = Instant::now();
        let mut record = SizeRecord::new(None, WIDE, start);
        assert_eq!(record.take(WIDE, Some(start)), None);
        assert_eq!(record.take(WIDE, None), Some(WIDE));
    }
}
