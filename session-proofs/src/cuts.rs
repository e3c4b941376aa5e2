//! Power cuts of a real file system: the writes and flushes of a disk are recorded, and the disk is built again as a
//! power cut could have left it. Each image is mounted, under another boot id, and checked.

mod check;
mod image;
mod recorder;
mod workload;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, mount_bind, unmount};

use self::image::{Kept, Replay};
use self::recorder::{Entry, Recorder};
use self::workload::{Act, Lie, Mark, Workload};
use crate::calls::{BACKENDS, Shim};
use crate::command::Place;
use crate::outcome::{End, Result, binary, print, scratch, setting};
use session_testkit::random::Random;

/// A file system and the way in which it is mounted.
#[derive(Debug, Clone, Copy)]
struct System {
    kind: &'static str,
    options: &'static str,
    mkfs: &'static [&'static str],
    size_mib: usize,
    /// Images of each backend without `SESSION_PROOF_IMAGES`.
    images: usize,
}

const EXT4: &[&str] = &["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0"];
const SYSTEMS: [System; 4] = [
    System { kind: "ext4", options: "data=ordered", mkfs: EXT4, size_mib: 64, images: 160 },
    System { kind: "ext4", options: "data=writeback", mkfs: EXT4, size_mib: 64, images: 160 },
    System { kind: "xfs", options: "", mkfs: &["mkfs.xfs", "-q", "-f", "-K"], size_mib: 320, images: 100 },
    System {
        kind: "btrfs",
        options: "",
        mkfs: &["mkfs.btrfs", "-q", "-f", "-K"],
        size_mib: 128,
        images: 100,
    },
];

/// A recording of its own: a control, in which flushes of some paths are not done, or one act without anything else that
/// could flush it.
#[derive(Debug, Clone, Copy)]
struct Variant {
    backend: &'static str,
    /// The part of the paths that are not flushed, `DIR` for those of all folders: images must show it. `None` if all are.
    unflushed: Option<&'static str>,
    /// The only act; `None` for the commands of a crowd.
    act: Option<Act>,
    title: &'static str,
    images: usize,
    /// The share of the images that must be seen as wrong, in percent.
    share: usize,
}

const VARIANTS: [Variant; 15] = [
    Variant::crowd("file", "", "control: every acknowledgement before its flush"),
    Variant::crowd("sqlite", "", "control: every acknowledgement before its flush"),
    Variant::crowd("sled", "", "control: every acknowledgement before its flush"),
    Variant::crowd("sled", "/db/db", "control: the data file of sled is not flushed"),
    Variant::alone("file", Act::Remove, "deletions alone"),
    Variant::alone("file", Act::Remove, "control: deletions, without a flush of their folder").without("DIR"),
    Variant::alone("file", Act::Import, "imports alone"),
    Variant::alone("file", Act::Import, "control: imports, without a flush of their folder").without("DIR"),
    Variant::alone("sqlite", Act::Remove, "deletions alone"),
    Variant::alone("sqlite", Act::Remove, "control: deletions that are not flushed").without(""),
    Variant::alone("sqlite", Act::Import, "imports alone"),
    Variant::alone("sled", Act::Remove, "deletions alone"),
    Variant::alone("sled", Act::Remove, "control: deletions, without a flush of sled's data file")
        .without("/db/db"),
    Variant::alone("sled", Act::Import, "imports alone"),
    Variant::alone("sled", Act::Import, "control: imports, without a flush of sled's data file")
        .without("/db/db"),
];

impl Variant {
    /// A later flush can repair what was not flushed.
    const fn crowd(backend: &'static str, unflushed: &'static str, title: &'static str) -> Self {
        Self { backend, unflushed: Some(unflushed), act: None, title, images: 24, share: 50 }
    }

    const fn alone(backend: &'static str, act: Act, title: &'static str) -> Self {
        Self { backend, unflushed: None, act: Some(act), title, images: 8, share: 75 }
    }

    const fn without(self, unflushed: &'static str) -> Self {
        Self { unflushed: Some(unflushed), ..self }
    }
}

/// Set in the process that has mounts of its own.
const INSIDE: &str = "SESSION_PROOF_INSIDE";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Runs the proof of one file system: `ext4`, `xfs` or `btrfs`.
pub(crate) fn run(kind: &str, seed: u64, probe: bool) -> Result<End> {
    let systems: Vec<_> = SYSTEMS.into_iter().filter(|system| system.kind == kind).collect();
    let Some(first) = systems.first() else {
        return Err(format!("`{kind}` is no file system of this proof").into());
    };
    if let Some(reason) = missing(first) {
        return Ok(End::NotRun(reason));
    }
    if probe {
        return Ok(End::Passed);
    }
    if std::env::var_os(INSIDE).is_none() {
        // Mounts, and another boot id, only for this process and its children; they end with it.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe()?);
        return Err(command.args(std::env::args_os().skip(1)).env(INSIDE, "1").exec().into());
    }
    let folder = scratch("spp-")?;
    let begin = Instant::now();
    let mut recordings = Vec::new();
    for system in &systems {
        for backend in BACKENDS {
            recordings.push(Recording::new(*system, backend, None, folder.path(), seed)?);
        }
    }
    if kind == "ext4" {
        let shim = Shim::build(folder.path())?
            .map_err(|reason| format!("the controls need the filter: {reason}"))?;
        for variant in VARIANTS {
            let with = Some((variant, shim.path()));
            recordings.push(Recording::new(*first, variant.backend, with, folder.path(), seed)?);
        }
    }
    print(&format!("{} recordings in {} s", recordings.len(), begin.elapsed().as_secs()));
    let boot = folder.path().join("boot-id");
    fs::write(&boot, "11111111-2222-4333-8444-555555555555\n")?;
    mount_bind(&boot, BOOT_ID)?;
    let mut failed = Vec::new();
    let mut total = 0;
    for recording in &recordings {
        let (images, wrong) = recording.replay(folder.path(), seed)?;
        total += images;
        if let Some(failure) = recording.verdict(images, wrong) {
            failed.push(failure);
        }
    }
    print(&format!("tally: images={total} recordings={}", recordings.len()));
    print(&format!("{total} images in {} s", begin.elapsed().as_secs()));
    if failed.is_empty() { Ok(End::Passed) } else { Err(failed.join("; ").into()) }
}

/// Returns the reason for which the proof cannot run here.
fn missing(system: &System) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounts need root".to_owned());
    }
    if !Path::new("/dev/fuse").exists() || !Path::new("/dev/loop-control").exists() {
        return Some("no FUSE or no loop devices".to_owned());
    }
    let mkfs = system.mkfs.first().copied().unwrap_or_default();
    for tool in ["unshare", "losetup", "mount", mkfs] {
        if Command::new(tool).arg("--version").output().is_err()
            && Command::new(tool).arg("-V").output().is_err()
        {
            return Some(format!("`{tool}` is not installed"));
        }
    }
    // A module that is not loaded yet is not listed: the attempt to mount decides.
    None
}

/// The recording of a disk.
#[derive(Debug)]
struct Recording {
    system: System,
    backend: &'static str,
    variant: Option<Variant>,
    entries: Vec<Entry<Mark>>,
    binary: PathBuf,
}

impl Recording {
    fn new(
        system: System,
        backend: &'static str,
        variant: Option<(Variant, &Path)>,
        folder: &Path,
        seed: u64,
    ) -> Result<Self> {
        let (disk, mounted) = (folder.join("disk"), folder.join("mounted"));
        let place = Place {
            binary: binary()?,
            backend,
            store: mounted.join("store"),
            folder: folder.join("place"),
            tag: format!("cuts-{}", std::process::id()),
        };
        for folder in [&disk, &mounted, &place.folder] {
            fs::create_dir_all(folder)?;
        }
        place.prepare()?;
        let recorder = Recorder::mount(&disk, system.size_mib << 20)?;
        let device = tool("losetup", &["--find", "--show", &disk.join("disk").display().to_string()])?;
        let device = device.trim();
        let seconds = setting("SESSION_PROOF_SECONDS", if variant.is_some() { 3 } else { 5 });
        let result = (|| {
            let (mkfs, options) = system.mkfs.split_first().unwrap_or((&"", &[]));
            tool(mkfs, &[options, &[device]].concat())?;
            // In a variant, the kernel does not commit by itself what was not flushed.
            let own = ["defaults", system.options, if variant.is_some() { "commit=300" } else { "" }];
            let own = own.into_iter().filter(|option| !option.is_empty()).collect::<Vec<_>>().join(",");
            tool("mount", &["-t", system.kind, "-o", &own, device, &mounted.display().to_string()])?;
            rustix::fs::sync();
            recorder.mark(Mark::Base);
            let lie = variant.and_then(|(variant, filter)| {
                variant.unflushed.map(|path| Lie { filter: filter.to_owned(), path })
            });
            let length = Duration::from_secs(seconds.try_into().unwrap_or(5));
            let workload = Workload { place, recorder: recorder.clone(), lie, length };
            let done = match variant.and_then(|(variant, _)| variant.act) {
                Some(act) => workload.run_alone(act),
                None => workload.run(seed),
            };
            let entries = recorder.take();
            unmount_when_free(&mounted)?;
            done.map(|()| entries)
        })();
        tool("losetup", &["--detach", device])?;
        unmount_when_free(&disk)?;
        let variant = variant.map(|(variant, _)| variant);
        Ok(Self { system, backend, variant, entries: result?, binary: binary()? })
    }

    fn title(&self) -> String {
        let System { kind, options, .. } = self.system;
        let variant = self.variant.map_or_else(String::new, |variant| format!(", {}", variant.title));
        format!("{} on {kind} {options}{variant}", self.backend)
    }

    /// Chooses cuts by the seed: most of them directly behind a mark, in a variant all of them behind an
    /// acknowledgement.
    fn cuts(&self, count: usize, seed: u64) -> Vec<(usize, u64)> {
        let mut random = Random::new(seed);
        let is_variant = self.variant.is_some();
        let base =
            self.entries.iter().rposition(|entry| matches!(entry, Entry::Mark(Mark::Base))).unwrap_or(0);
        let marks: Vec<usize> = self
            .entries
            .iter()
            .enumerate()
            .skip(base + 1)
            .filter_map(|(at, entry)| match entry {
                Entry::Mark(Mark::Changing(_)) if is_variant => None,
                Entry::Mark(_) => Some(at + 1),
                Entry::Write { .. } | Entry::Flush => None,
            })
            .collect();
        let behind = if is_variant { 100 } else { 60 };
        let mut cuts: Vec<_> = (0..count)
            .map(|_| {
                let any = base + 1 + random.below(self.entries.len() - base);
                let mark = random.pick(&marks).copied().unwrap_or(any);
                (if random.percent(behind) { mark } else { any }, random.number())
            })
            .collect();
        cuts.sort_unstable();
        cuts
    }

    /// Builds and checks the images. Returns how many there were, and how many were wrong.
    fn replay(&self, folder: &Path, seed: u64) -> Result<(usize, usize)> {
        let count = self
            .variant
            .map_or_else(|| setting("SESSION_PROOF_IMAGES", self.system.images), |variant| variant.images);
        let cuts = self.cuts(count, seed);
        // btrfs takes disks with one id for one file system.
        let parallel = thread::available_parallelism().map_or(2, usize::from);
        let workers = if self.system.kind == "btrfs" { 1 } else { parallel };
        let wrong = Mutex::new(0);
        let results = thread::scope(|scope| {
            let threads: Vec<_> = (0..workers)
                .map(|worker| {
                    let share: Vec<_> = cuts.iter().skip(worker).step_by(workers).copied().collect();
                    let (wrong, folder) = (&wrong, folder.join(format!("replay{worker}")));
                    scope.spawn(move || self.replay_share(&share, &folder, wrong))
                })
                .collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        for result in results {
            result.map_err(|_| "a replay panicked")??;
        }
        let wrong = wrong.into_inner().unwrap_or_default();
        let (writes, flushes) = self.entries.iter().fold((0, 0), |(writes, flushes), entry| match entry {
            Entry::Write { .. } => (writes + 1, flushes),
            Entry::Flush => (writes, flushes + 1),
            Entry::Mark(_) => (writes, flushes),
        });
        let marks = self.entries.len() - writes - flushes;
        let title = self.title();
        print(&format!(
            "{title}: {wrong} of {count} images wrong; {writes} writes, {flushes} flushes, {marks} marks"
        ));
        Ok((count, wrong))
    }

    fn replay_share(&self, cuts: &[(usize, u64)], folder: &Path, wrong: &Mutex<usize>) -> Result<()> {
        let (image, mounted) = (folder.join("image"), folder.join("mounted"));
        fs::create_dir_all(&mounted)?;
        let place = Place {
            binary: self.binary.clone(),
            backend: self.backend,
            store: mounted.join("store"),
            folder: folder.join("place"),
            tag: format!("cuts-{}", std::process::id()),
        };
        let mut replay = Replay::new(&self.entries, self.system.size_mib << 20);
        for (cut, seed) in cuts {
            let mut random = Random::new(*seed);
            replay.advance(*cut);
            let kept = match random.below(10) {
                _ if self.variant.is_some() => Kept::None,
                0..=3 => Kept::None,
                4 => Kept::All,
                5 => Kept::Prefix,
                6..=8 => Kept::Some,
                _ => Kept::Torn,
            };
            let (had, of) = replay.write(&image, kept, &mut random)?;
            // Nothing of an earlier image may be left.
            let _ = fs::remove_dir_all(&place.folder);
            fs::create_dir_all(&place.folder)?;
            place.prepare()?;
            // Images of one disk have one id, by which xfs would refuse the second of two at a time.
            let options = if self.system.kind == "xfs" { "loop,nouuid" } else { "loop" };
            tool("mount", &["-t", self.system.kind, "-o", options, &path(&image), &path(&mounted)])?;
            let found = check::check(&place, &replay.marks);
            unmount_when_free(&mounted)?;
            let found = found?;
            if found.is_empty() {
                continue;
            }
            if let Ok(mut wrong) = wrong.lock() {
                *wrong += 1;
            }
            if !self.is_control() {
                let title = self.title();
                print(&format!(
                    "WRONG {title}, cut {cut}, {kept:?} ({had} of {of}):\n  {}",
                    found.join("\n  ")
                ));
            }
        }
        Ok(())
    }

    /// Returns the failure: an image that is wrong, or a control that is not seen.
    fn verdict(&self, images: usize, wrong: usize) -> Option<String> {
        let title = self.title();
        match self.variant {
            Some(variant) if self.is_control() => (wrong * 100 < images * variant.share)
                .then(|| format!("{title}: only {wrong} of {images} images show it")),
            Some(_) | None => (wrong > 0).then(|| format!("{title}: {wrong} of {images} images are wrong")),
        }
    }

    /// Returns `true` if something was not flushed on purpose.
    fn is_control(&self) -> bool {
        self.variant.is_some_and(|variant| variant.unflushed.is_some())
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// Runs a tool and returns what it prints.
fn tool(name: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(name).args(args).output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("`{name} {}`: {error}", args.join(" ")).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Unmounts a file system once nothing uses it, for at most 10 s.
fn unmount_when_free(folder: &Path) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match unmount(folder, UnmountFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::BUSY) if Instant::now() < end => thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(format!("unmounting {}: {error}", folder.display()).into()),
        }
    }
}
