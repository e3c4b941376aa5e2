//! A disk whose flushes take as long as one says, and do nothing else: a fast one hides how often it is flushed.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use session_core::FileSystem;
use session_storage_file::{Disk, DiskFile, Identity, Kind, LockMode, Open, RealDisk};

/// What flushes. It does one flush at a time; those who ask meanwhile share the next one, as the block layer of Linux
/// lets them.
#[derive(Debug)]
pub(crate) struct Device {
    takes: Duration,
    state: Mutex<Flushes>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Flushes {
    under_way: bool,
    begun: u64,
    ended: u64,
}

impl Device {
    pub(crate) fn new(takes: Duration) -> Arc<Self> {
        Arc::new(Self { takes, state: Mutex::default(), changed: Condvar::new() })
    }

    /// One that flushes nothing, for what is only made to be looked at.
    pub(crate) fn idle() -> Arc<Self> {
        Self::new(Duration::ZERO)
    }

    /// Returns after a flush that began after this was called.
    pub(crate) fn flush(&self) {
        if self.takes.is_zero() {
            return;
        }
        let mut state = self.state.lock().expect("nobody panics in here");
        let needed = state.begun + 1;
        while state.ended < needed {
            if state.under_way {
                state = self.changed.wait(state).expect("nobody panics in here");
                continue;
            }
            state.under_way = true;
            state.begun += 1;
            drop(state);
            std::thread::sleep(self.takes);
            state = self.state.lock().expect("nobody panics in here");
            state.under_way = false;
            state.ended += 1;
            self.changed.notify_all();
        }
    }
}

/// The system's disk, with the flushes of a device.
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
        // As for files, only a folder that is there can be flushed.
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
        // The files are in memory, or need not last.
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
