//! Progress as one line for a terminal.

use super::SessionProgress;
use crate::machine::SessionState;
use crate::text::visible;

/// Width of the bar in characters.
const CELLS: usize = 10;
/// Minimum number of characters to which a text is cut; below that it is omitted.
const LEAST_TEXT: usize = 4;

/// Formats progress as one line, for example `[######----] 60% 3/5 compiling (build) ETA 2m 10s`, of at most `width`
/// characters, with control characters escaped.
///
/// If the line is too long, first the text is cut, then parts are omitted, the percentage last. An unknown percentage
/// is shown as `--%` after a bar of dots. A session that is not running shows its state in place of the remaining time.
#[must_use]
pub fn format_progress(progress: &SessionProgress, width: usize) -> String {
    let percent = progress.percent.map(truncated);
    // Parts in order of importance, each with a separating blank except for the first.
    let mut room = width.saturating_add(1);
    let number = fit(percent.map_or("--%".to_owned(), |percent| format!("{percent}%")), &mut room);
    let steps = fit(steps(progress), &mut room);
    let bar = fit(bar(percent), &mut room);
    let end = fit(ending(progress), &mut room);
    let text = fit(shortened(&text(progress), room.saturating_sub(1)), &mut room);
    let line: Vec<String> = [bar, number, steps, text, end].into_iter().flatten().collect();
    line.join(" ")
}

fn fit(part: String, room: &mut usize) -> Option<String> {
    let left = room.checked_sub(part.chars().count() + 1)?;
    if part.is_empty() {
        return None;
    }
    *room = left;
    Some(part)
}

/// Truncates a percentage, so that 100 means complete.
fn truncated(percent: f64) -> usize {
    (1..=100u32).take_while(|n| f64::from(*n) <= percent).count()
}

fn bar(percent: Option<usize>) -> String {
    match percent {
        None => format!("[{}]", ".".repeat(CELLS)),
        Some(percent) => {
            let done = percent * CELLS / 100;
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
    let part = |text: &Option<String>| visible(text.as_deref().unwrap_or_default().trim()).into_owned();
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

/// Cuts a text to at most `room` characters, ending with `…`. Returns an empty text if too few characters would be
/// left.
fn shortened(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    if room < LEAST_TEXT {
        return String::new();
    }
    text.chars().take(room - 1).chain(['…']).collect()
}
