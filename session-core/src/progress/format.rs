//! Progress as lines for a terminal: one session on one line, or several sessions on aligned lines. Both are rows of
//! one table whose columns are left out, or cut, until it fits.

use std::cmp::Reverse;

use super::SessionProgress;
use crate::machine::SessionState;
use crate::text::{columns, cut_columns, visible};

/// Width of the bar.
const CELLS: usize = 10;
/// Minimum width to which a text is cut; below that it is omitted.
const LEAST_TEXT: usize = 4;
/// Width to which names and operations are cut.
const MOST_NAME: usize = 24;

/// Formats the progress of a session as one line, for example
/// `import [######----] 60% 3/5 compiling (build) ETA 2m 10s`: operation, bar, percentage, steps, current step with the
/// phase, and remaining time. A session that is not running shows its state in place of the remaining time; an unknown
/// percentage is `--%` after a bar of dots.
///
/// The line is at most `width` columns wide, as terminals display it, and control characters are escaped. If it is too
/// long, first the text is cut, then parts are omitted, the percentage last. An empty operation is omitted.
///
/// ```
/// use session_core::{InMemorySessionManager, SessionConfig, SessionManager as _, format_progress};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
/// let manager = InMemorySessionManager::new();
/// let id = manager.create_session(SessionConfig::new("import")).await?;
/// let session = manager.start_session(id).await?;
/// session.progress().start(5);
/// session.progress().complete_step("a.csv");
/// assert_eq!(format_progress(&session.progress().snapshot(), 80), "import [##--------] 20% 1/5 a.csv");
/// # Ok(()) }
/// ```
#[must_use]
pub fn format_progress(progress: &SessionProgress, width: usize) -> String {
    table(&[&SessionProgress { name: String::new(), ..progress.clone() }], width).concat()
}

/// Formats the progress of several sessions as aligned lines like those of [`format_progress`], with the names of the
/// sessions after their operations. Each line is at most `width` columns wide.
///
/// Running sessions come first, then paused ones, those that have not started, and ended ones; among equals the newest
/// is first. There are at most `lines` lines: if there are more sessions, the last line is `and N more`.
///
/// ```
/// use session_core::{
///     InMemorySessionManager, ProgressReport, SessionConfig, SessionManager as _, format_sessions,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
/// let manager = InMemorySessionManager::new();
/// let mut sessions = Vec::new();
/// for (name, done) in [("monday", 9), ("tuesday", 1), ("wednesday", 0)] {
///     let id = manager.create_session(SessionConfig::new("import").name(name)).await?;
///     let session = manager.start_session(id).await?;
///     session.progress().start(10);
///     session.progress().report(ProgressReport::new().completed_steps(done))?;
///     sessions.push(session.progress().snapshot());
/// }
/// let lines = format_sessions(&sessions, 80, 2);
/// assert_eq!(lines.len(), 2);
/// assert_eq!(lines[1], "and 2 more");
/// # Ok(()) }
/// ```
#[must_use]
pub fn format_sessions(sessions: &[SessionProgress], width: usize, lines: usize) -> Vec<String> {
    let mut sorted: Vec<&SessionProgress> = sessions.iter().collect();
    sorted.sort_by_key(|progress| (rank(&progress.state), Reverse((progress.created_at, progress.id))));
    if sorted.len() <= lines {
        return table(&sorted, width);
    }
    let Some(shown) = lines.checked_sub(1) else { return Vec::new() };
    let more = sorted.split_off(shown).len();
    let mut formatted = table(&sorted, width);
    let rest = if shown == 0 { format!("{more} sessions") } else { format!("and {more} more") };
    formatted.push(shortened(&rest, width));
    formatted
}

/// Returns the position of a state in a list; active sessions come first.
const fn rank(state: &SessionState) -> u8 {
    match state {
        SessionState::Running { .. } => 0,
        SessionState::Paused { .. } => 1,
        SessionState::Created => 2,
        SessionState::Failed { .. } | SessionState::Cancelled { .. } | SessionState::Completed { .. } => 3,
    }
}

/// A column: one text for each session, left-aligned unless `right` is set.
struct Column {
    cells: Vec<String>,
    width: usize,
    right: bool,
}

impl Column {
    fn new(sessions: &[&SessionProgress], cell: impl Fn(&SessionProgress) -> String) -> Self {
        let cells: Vec<String> = sessions.iter().map(|progress| cell(progress)).collect();
        let width = cells.iter().map(|cell| columns(cell)).max().unwrap_or(0);
        Self { cells, width, right: false }
    }

    fn right(mut self) -> Self {
        self.right = true;
        self
    }

    /// Cuts the cells to `most` columns.
    fn cut(mut self, most: usize) -> Self {
        if self.width > most {
            self.cells.iter_mut().for_each(|cell| *cell = shortened(cell, most));
            self.width = self.cells.iter().map(|cell| columns(cell)).max().unwrap_or(0);
        }
        self
    }

    /// Takes the column's width and a blank from the room, or omits the column.
    fn fit(self, room: &mut usize) -> Option<Self> {
        if self.width == 0 {
            return None;
        }
        *room = room.checked_sub(self.width + 1)?;
        Some(self)
    }

    fn padded(&self, row: usize) -> String {
        let cell = self.cells.get(row).map_or("", String::as_str);
        let pad = " ".repeat(self.width.saturating_sub(columns(cell)));
        if self.right { pad + cell } else { cell.to_owned() + &pad }
    }
}

/// Formats one line for each session, at most `width` columns wide.
fn table(sessions: &[&SessionProgress], width: usize) -> Vec<String> {
    let column = |cell: fn(&SessionProgress) -> String| Column::new(sessions, cell);
    // In order of importance. Each column takes a blank for the one before it, which the first does not need.
    let mut room = width.saturating_add(1);
    let number = column(number).right().fit(&mut room);
    // A third at most, so that a long name leaves room for the rest.
    let names = MOST_NAME.min(room / 3).max(LEAST_TEXT);
    let operation = column(|progress| label(&progress.operation)).cut(names).fit(&mut room);
    let name = column(|progress| label(&progress.name)).cut(names).fit(&mut room);
    let steps = column(steps).fit(&mut room);
    let bar = column(bar).fit(&mut room);
    let end = column(ending).fit(&mut room);
    let text = column(text).cut(room.saturating_sub(1)).fit(&mut room);
    let shown: Vec<Column> = [operation, name, bar, number, steps, text, end].into_iter().flatten().collect();
    let line = |row| {
        let cells: Vec<String> = shown.iter().map(|column| column.padded(row)).collect();
        cells.join(" ").trim_end().to_owned()
    };
    (0..sessions.len()).map(line).collect()
}

fn label(text: &str) -> String {
    visible(text.trim()).into_owned()
}

fn number(progress: &SessionProgress) -> String {
    progress.whole_percent().map_or_else(|| "--%".to_owned(), |percent| format!("{percent}%"))
}

fn bar(progress: &SessionProgress) -> String {
    match progress.whole_percent() {
        None => format!("[{}]", ".".repeat(CELLS)),
        Some(percent) => {
            let done = usize::from(percent) * CELLS / 100;
            format!("[{}{}]", "#".repeat(done), "-".repeat(CELLS - done))
        }
    }
}

fn steps(progress: &SessionProgress) -> String {
    match (progress.completed_steps, progress.total_steps) {
        (None, None) => String::new(),
        (done, None) => format!("{}/?", done.unwrap_or(0)),
        (done, Some(total)) => format!("{}/{total}", done.unwrap_or(0)),
    }
}

fn text(progress: &SessionProgress) -> String {
    let part = |text: &Option<String>| label(text.as_deref().unwrap_or_default());
    match (part(&progress.step), part(&progress.phase)) {
        (step, phase) if phase.is_empty() => step,
        (step, phase) if step.is_empty() => format!("({phase})"),
        (step, phase) => format!("{step} ({phase})"),
    }
}

fn ending(progress: &SessionProgress) -> String {
    match (&progress.state, progress.eta_seconds) {
        (SessionState::Running { .. }, Some(eta)) => format!("ETA {}", duration(eta)),
        (SessionState::Running { .. }, None) => String::new(),
        (state, _) => state.name().to_string(),
    }
}

/// Formats a duration with its two largest units: `2m 10s`, `3d 4h`.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// Cuts a text to at most `room` columns. Returns an empty text if too few columns would be left.
fn shortened(text: &str, room: usize) -> String {
    if room < LEAST_TEXT && columns(text) > room {
        String::new()
    } else {
        cut_columns(text, room).into_owned()
    }
}
