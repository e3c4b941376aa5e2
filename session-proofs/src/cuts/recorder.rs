//! A disk that records each write and flush: one file in a FUSE file system of our own, with a loop device upon it. The
//! protocol is spoken directly, so that no library is needed.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::mount::{MountFlags, mount};

use crate::outcome::Result;

/// An entry of the recording, in the order in which the disk received them.
#[derive(Debug)]
pub(super) enum Entry<M> {
    Write { offset: usize, bytes: Vec<u8> },
    Flush,
    Mark(M),
}

#[derive(Debug)]
struct State<M> {
    disk: Vec<u8>,
    entries: Vec<Entry<M>>,
}

/// A recording in progress.
#[derive(Debug)]
pub(super) struct Recorder<M>(Arc<Mutex<State<M>>>);

impl<M> Clone for Recorder<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

const DISK: u64 = 2;
const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;
const EOPNOTSUPP: i32 = 95;
/// Bytes of one write, the kernel's default.
const MAX_WRITE: u32 = 128 * 1024;

impl<M: Send + 'static> Recorder<M> {
    /// Mounts the file system, with the file `disk` of this size.
    pub(super) fn mount(folder: &Path, size: usize) -> Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let options = std::ffi::CString::new(options)?;
        mount("session-proofs", folder, "fuse", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?;
        let recorder = Self(Arc::new(Mutex::new(State { disk: vec![0; size], entries: Vec::new() })));
        let serving = recorder.clone();
        thread::Builder::new().name("recorder".to_owned()).spawn(move || serving.serve(device))?;
        Ok(recorder)
    }

    pub(super) fn mark(&self, mark: M) {
        self.state().entries.push(Entry::Mark(mark));
    }

    /// Returns what was recorded so far.
    pub(super) fn take(&self) -> Vec<Entry<M>> {
        std::mem::take(&mut self.state().entries)
    }

    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers requests until the file system is unmounted.
    fn serve(&self, mut device: File) {
        let mut buffer = vec![0; usize::try_from(MAX_WRITE).unwrap_or(0) + 4096];
        loop {
            let length = match device.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let request = Request(buffer.get(..length).unwrap_or_default());
            let Some(answer) = self.answer(&request) else { continue };
            let (error, body) = answer.map_or_else(|error| (-error, Vec::new()), |body| (0, body));
            let total = u32::try_from(16 + body.len()).unwrap_or(0);
            let mut out = Vec::with_capacity(16 + body.len());
            out.extend(total.to_ne_bytes());
            out.extend(error.to_ne_bytes());
            out.extend(request.long(8).to_ne_bytes());
            out.extend(body);
            // A request that was interrupted takes no answer.
            let _ = device.write_all(&out);
        }
    }

    /// Answers a request; `None` if it expects no answer.
    fn answer(&self, request: &Request<'_>) -> Option<std::result::Result<Vec<u8>, i32>> {
        let node = request.long(16);
        // The header has 40 bytes.
        Some(match request.int(4) {
            2 | 36 | 42 => return None, // FORGET, INTERRUPT, BATCH_FORGET
            26 => Ok(init()),
            1 if request.0.get(40..) == Some(b"disk\0") => Ok(self.lookup()), // LOOKUP
            1 => Err(ENOENT),
            3 | 4 => Ok(self.attributes(node)), // GETATTR, SETATTR
            14 | 27 => Ok(vec![0; 16]),         // OPEN, OPENDIR
            15 => Ok(self.read(request)),       // READ
            16 => Ok(self.write(request)),      // WRITE
            20 => {
                self.state().entries.push(Entry::Flush); // FSYNC
                Ok(Vec::new())
            }
            17 => Ok(vec![0; 80]),                    // STATFS
            18 | 25 | 28 | 29 | 38 => Ok(Vec::new()), // RELEASE, FLUSH, READDIR, RELEASEDIR, DESTROY
            43 => Err(EOPNOTSUPP),                    // FALLOCATE: the loop device does not discard then
            _ => Err(ENOSYS),
        })
    }

    fn lookup(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for number in [DISK, 0, 3600, 3600] {
            out.extend(number.to_ne_bytes());
        }
        out.extend(0_u64.to_ne_bytes());
        out.extend(self.file_attributes(DISK));
        out
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(3600_u64.to_ne_bytes());
        out.extend(0_u64.to_ne_bytes());
        out.extend(self.file_attributes(node));
        out
    }

    fn file_attributes(&self, node: u64) -> Vec<u8> {
        let size = if node == DISK { self.state().disk.len() as u64 } else { 0 };
        let (mode, links): (u32, u32) = if node == DISK { (0o100_600, 1) } else { (0o40_755, 2) };
        let mut out = Vec::new();
        for number in [node, size, size / 512, 0, 0, 0] {
            out.extend(number.to_ne_bytes());
        }
        for number in [0, 0, 0, mode, links, 0, 0, 0, 4096, 0] {
            out.extend(number.to_ne_bytes());
        }
        out
    }

    fn read(&self, request: &Request<'_>) -> Vec<u8> {
        let (offset, length) = (request.size(48), usize::try_from(request.int(56)).unwrap_or(0));
        let state = self.state();
        let end = offset.saturating_add(length).min(state.disk.len());
        state.disk.get(offset..end).unwrap_or_default().to_vec()
    }

    fn write(&self, request: &Request<'_>) -> Vec<u8> {
        let offset = request.size(48);
        let length = usize::try_from(request.int(56)).unwrap_or(0);
        let bytes = request.0.get(80..80 + length).unwrap_or_default().to_vec();
        let mut state = self.state();
        if let Some(place) = state.disk.get_mut(offset..offset + bytes.len()) {
            place.copy_from_slice(&bytes);
        }
        let written = u64::try_from(bytes.len()).unwrap_or(0);
        state.entries.push(Entry::Write { offset, bytes });
        written.to_ne_bytes().to_vec()
    }
}

/// The answer to INIT: version 7.31, no flags, writes of 128 KiB.
fn init() -> Vec<u8> {
    let mut out = Vec::new();
    for number in [7_u32, 31, MAX_WRITE, 0, 0, MAX_WRITE, 1, 0] {
        out.extend(number.to_ne_bytes());
    }
    out.resize(64, 0);
    out
}

/// A request of the kernel, in the byte order of the machine.
struct Request<'a>(&'a [u8]);

impl Request<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }

    fn int(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.bytes(at))
    }

    fn long(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.bytes(at))
    }

    fn size(&self, at: usize) -> usize {
        usize::try_from(self.long(at)).unwrap_or(usize::MAX / 2)
    }
}
