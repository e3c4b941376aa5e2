//! The screens that output leaves at a real terminal: a window of tmux.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::pty_pair::SIZE;
use crate::support;

/// Shown as the title once all output before it was drawn. CAN ends a sequence that is cut off.
const MARK: &str = "\u{18}\u{1b}]2;replayed\u{7}";
/// The state that belongs to a screen besides its cells.
const STATE: &str = "cursor #{cursor_x},#{cursor_y} shown #{cursor_flag} alternate #{alternate_on} \
    mouse #{mouse_any_flag} keypad #{keypad_flag} keys #{keypad_cursor_flag} wrap #{wrap_flag} \
    insert #{insert_flag} origin #{origin_flag} region #{scroll_region_upper}-#{scroll_region_lower}";

/// Draws output on a fresh terminal. Returns the cells with their colours, the cursor and the modes; `None` without tmux.
pub(crate) fn screen(folder: &Path, output: &[u8]) -> Option<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if !crate::tmux::has(&["tmux"]) {
        return None;
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("replay-{number}"));
    std::fs::write(&path, [output, MARK.as_bytes()].concat()).unwrap();
    let server = Server { folder, socket: format!("replay-{}-{number}", std::process::id()) };
    let script = format!("stty raw -echo; cat '{}'; exec sleep 600", path.display());
    let (columns, rows) = (SIZE.1.to_string(), SIZE.0.to_string());
    let created = server.tmux(&["new-session", "-d", "-x", &columns, "-y", &rows, "--", "sh", "-c", &script]);
    assert!(created.status.success(), "{created:?}");
    let deadline = Instant::now() + support::TIMEOUT;
    while server.tmux(&["display-message", "-p", "#{pane_title}"]).stdout != b"replayed\n" {
        assert!(Instant::now() < deadline, "timed out waiting for the replay");
        std::thread::sleep(Duration::from_millis(10));
    }
    let cells = server.tmux(&["capture-pane", "-p", "-e"]).stdout;
    let state = server.tmux(&["display-message", "-p", STATE]).stdout;
    Some(format!("{}{}", String::from_utf8_lossy(&cells), String::from_utf8_lossy(&state)))
}

/// A private tmux server.
struct Server<'a> {
    folder: &'a Path,
    socket: String,
}

impl Server<'_> {
    fn tmux(&self, words: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.env("TMUX_TMPDIR", self.folder).env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::null()).args(["-L", &self.socket, "-f", "/dev/null"]).args(words);
        command.output().unwrap()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
