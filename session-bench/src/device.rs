//! A simulated disk whose flushes only take a fixed time. On a fast disk, the number of flushes would hardly matter.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use session_core::backend::FileSystem;
use session_storage_file::{Disk, DiskFile, Identity, Kind, LockMode, Open, RealDisk};

/// A simulated device. It performs one flush at a time. Callers that ask during a flush share the next one, as in the
/// block layer of Linux.
#[derive(Debug)]
pub(crate) struct Device {
    flush_time: Duration,
    state: Mutex<Flushes>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Flushes {
    in_progress: bool,
    started: u64,
    finished: u64,
}

impl Device {
    pub(crate) fn new(flush_time: Duration) -> Arc<Self> {
        Arc::new(Self { flush_time, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Creates a device whose flushes take no time, for preparing stores.
    pub(crate) fn instant() -> Arc<Self> {
        Self::new(Duration::ZERO)
    }

    /// Waits for a flush that started after this call.
    pub(crate) fn flush(&self) {
        if self.flush_time.is_zero() {
            return;
        }
        let mut state = self.state.lock().expect("no thread panics with the lock held");
        let needed = state.started + 1;
        while state.finished < needed {
            if state.in_progress {
                state = self.changed.wait(state).expect("no thread panics with the lock held");
                continue;
            }
            state.in_progress = true;
            state.started += 1;
            drop(state);
            std::thread::sleep(self.flush_time);
            state = self.state.lock().expect("no thread panics with the lock held");
            state.in_progress = false;
            state.finished += 1;
            self.changed.notify_all();
        }
    }
}

/// The real disk, with its flushes replaced by those of a simulated device.
#[derive(Debug)]
pub(crate) struct SlowDisk(pub(crate) Arc<Device>);

#[derive(Debug)]
struct SlowFile(Box<dyn DiskFile>, Arc<Device>);

impl Disk for SlowDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SlowFile(RealDisk.open(path, how)?, Arc::clone(&self.0))))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename_new(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // Only an existing folder can be flushed, as on a real disk.
        RealDisk.kind(path)?.ok_or(io::ErrorKind::NotFound)?;
        self.0.flush();
        Ok(())
    }

    fn kind(&self, path: &Path) -> io::Result<Option<(Kind, Identity)>> {
        RealDisk.kind(path)
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        RealDisk.file_system(path)
    }

    fn boot(&self) -> io::Result<String> {
        RealDisk.boot()
    }
}

impl DiskFile for SlowFile {
    fn identity(&self) -> io::Result<Identity> {
        self.0.identity()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        // Not flushed for real: the files are in memory, or need not survive.
        self.1.flush();
        Ok(())
    }

    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        self.0.try_lock(mode)
    }

    fn unlock(&self) -> io::Result<()> {
        self.0.unlock()
    }
}
