//! Facts from the operating system about this process and about the file system of a folder. Linux only; other Unixes
//! are untested.

use std::fs;
use std::io;
use std::path::Path;

use crate::owner::Owner;
use crate::storage::StorageError;

/// The kind of a file system: whether its locks and flushes can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileSystem {
    /// A file system of this machine.
    Local,
    /// A file system that is, or may be, served by another machine or program, on which its locks and flushes depend.
    Remote {
        /// The name of the file system.
        name: &'static str,
    },
}

/// Returns the identity of this process under a new instance id.
///
/// # Errors
/// If the system does not provide it.
pub fn this_process() -> Result<Owner, StorageError> {
    let unavailable = |what: &str, error: io::Error| StorageError::Unavailable {
        what: format!("cannot read {what}"),
        source: Some(std::sync::Arc::new(error)),
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let boot = boot_id().map_err(|error| unavailable("the boot id", error))?;
    let pid = std::process::id();
    let start_time = process_start_time(pid)
        .map_err(|error| unavailable("the start time of this process", error))?
        .ok_or_else(|| unavailable("the start time of this process", io::ErrorKind::NotFound.into()))?;
    let mut owner = Owner::new(host.clone(), machine_id().unwrap_or(host), boot, pid, start_time);
    owner.pid_namespace = pid_namespace();
    Ok(owner)
}

/// Returns the id of the namespace of this process's id; `None` if `/proc` is not mounted for that namespace, because
/// then its process ids are others.
pub(crate) fn pid_namespace() -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;

    let me = fs::read_link("/proc/self").ok()?;
    let shown = me.to_str()?.parse::<u32>().ok()?;
    if shown != std::process::id() {
        return None;
    }
    fs::metadata("/proc/self/ns/pid").ok().map(|namespace| namespace.ino())
}

/// Returns the id of the current boot.
pub(crate) fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

/// Returns the id of this machine, if it has one.
pub(crate) fn machine_id() -> Option<String> {
    first_non_empty(&MACHINE_IDS)
}

const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// Returns the content of the first of these files that is not empty.
fn first_non_empty<P: AsRef<Path>>(files: &[P]) -> Option<String> {
    let texts = files.iter().filter_map(|path| fs::read_to_string(path).ok());
    texts.map(|id| id.trim().to_owned()).find(|id| !id.is_empty())
}

/// Returns the start time of a process in clock ticks since boot; `None` if there is no such process or it is a
/// zombie.
pub(crate) fn process_start_time(pid: u32) -> io::Result<Option<u64>> {
    start_time_of(fs::read_to_string(format!("/proc/{pid}/stat")))
}

fn start_time_of(stat: io::Result<String>) -> io::Result<Option<u64>> {
    let stat = match stat {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // The process ended while its file was being read.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // The second field is the program's name in parentheses and may contain any character, so search for the last `)`.
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let state = fields.next().ok_or(io::ErrorKind::InvalidData)?;
    if matches!(state, "Z" | "X") {
        return Ok(None);
    }
    // proc(5): the state is field 3, the start time field 22.
    fields
        .nth(18)
        .and_then(|ticks| ticks.parse().ok())
        .map(Some)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Returns the kind of file system that a folder is on.
///
/// # Errors
/// If the system call fails.
pub fn file_system(path: &Path) -> io::Result<FileSystem> {
    let found = rustix::fs::statfs(path)?;
    #[cfg(target_vendor = "apple")]
    {
        let name = found.f_fstypename.iter().map(|c| c.cast_unsigned()).take_while(|c| *c != 0);
        Ok(classify_name(&name.collect::<Vec<u8>>()))
    }
    #[cfg(not(target_vendor = "apple"))]
    {
        #[expect(clippy::useless_conversion, reason = "the field is 32 bits wide elsewhere")]
        let magic = i64::from(found.f_type);
        Ok(classify(magic))
    }
}

/// Classifies the name of a file system on systems of Apple, where numbers are given out when the system starts.
#[cfg(any(target_vendor = "apple", test))]
fn classify_name(name: &[u8]) -> FileSystem {
    let name = match name {
        b"nfs" => "NFS",
        b"smbfs" => "SMB",
        b"cifs" => "CIFS",
        b"afpfs" => "AFP",
        b"webdav" => "WebDAV",
        b"ftp" => "FTP",
        b"macfuse" | b"osxfuse" | b"fusefs" | b"fuse-t" => "FUSE",
        _ => return FileSystem::Local,
    };
    FileSystem::Remote { name }
}

/// Classifies a magic number from `linux/magic.h` or a file system's own header: 32 bits, possibly sign-extended.
#[cfg(any(not(target_vendor = "apple"), test))]
const fn classify(magic: i64) -> FileSystem {
    let name = match magic & 0xffff_ffff {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xff53_4d42 | 0xfe53_4d42 => "CIFS",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9P",
        0x00c3_6400 => "Ceph",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x564c => "NCP",
        _ => return FileSystem::Local,
    };
    FileSystem::Remote { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_fuse_file_systems_are_remote() {
        let remote = [
            (0x6969, "NFS"),
            (0x517b, "SMB"),
            (0xff53_4d42, "CIFS"),
            (i64::from(0xff53_4d42_u32.cast_signed()), "CIFS"),
            (0xfe53_4d42, "CIFS"),
            (0x6573_5546, "FUSE"),
            (0x0102_1997, "9P"),
            (0x00c3_6400, "Ceph"),
            (0x5346_414f, "AFS"),
            (0x6b41_4653, "AFS"),
            (0x7375_7245, "Coda"),
            (0x0bd0_0bd0, "Lustre"),
            (0x4750_4653, "GPFS"),
            (0x0116_1970, "GFS2"),
            (0x7461_636f, "OCFS2"),
            (0x564c, "NCP"),
        ];
        for (magic, name) in remote {
            assert_eq!(classify(magic), FileSystem::Remote { name }, "{magic:x}");
        }
        for (magic, name) in
            [(0xef53, "ext4"), (0x5846_5342, "xfs"), (0x9123_683e, "btrfs"), (0x0102_1994, "tmpfs")]
        {
            assert_eq!(classify(magic), FileSystem::Local, "{name}");
        }
    }

    #[test]
    fn network_file_systems_of_apple_have_names() {
        for (name, shown) in [("nfs", "NFS"), ("smbfs", "SMB"), ("macfuse", "FUSE"), ("webdav", "WebDAV")] {
            assert_eq!(classify_name(name.as_bytes()), FileSystem::Remote { name: shown });
        }
        for name in ["apfs", "hfs", ""] {
            assert_eq!(classify_name(name.as_bytes()), FileSystem::Local, "{name}");
        }
    }

    #[test]
    fn boot_and_machine_ids_come_from_the_system() {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert_eq!(boot_id().unwrap(), boot.trim_end());
        assert_eq!(boot_id().unwrap().len(), 36);
        let machine = MACHINE_IDS.iter().find_map(|path| fs::read_to_string(path).ok());
        assert_eq!(machine_id(), machine.map(|id| id.trim_end().to_owned()).filter(|id| !id.is_empty()));
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let files = [
            folder.path().join("missing"),
            file("empty", " \n"),
            file("id", "ab12\n"),
            file("other", "cd\n"),
        ];
        assert_eq!(first_non_empty(&files).as_deref(), Some("ab12"));
        assert_eq!(first_non_empty(&files[..2]), None);
    }

    #[test]
    fn a_missing_process_or_zombie_has_no_start_time() {
        let stat = |name: &str, state: &str| {
            Ok(format!("7 ({name}) {state} 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9\n"))
        };
        for name in ["sh", "a) Z (b", "new\nline"] {
            assert_eq!(start_time_of(stat(name, "S")).unwrap(), Some(4711), "{name}");
            assert_eq!(start_time_of(stat(name, "Z")).unwrap(), None, "{name}");
        }
        let failed = |errno: rustix::io::Errno| start_time_of(Err(errno.into()));
        assert_eq!(failed(rustix::io::Errno::NOENT).unwrap(), None);
        assert_eq!(failed(rustix::io::Errno::SRCH).unwrap(), None);
        assert_eq!(failed(rustix::io::Errno::ACCESS).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        for text in ["", "7 (sh)", "7 (sh) S 1 2 3"] {
            assert!(start_time_of(Ok(text.to_owned())).is_err(), "{text}");
        }
    }

    #[test]
    fn an_ended_process_has_no_start_time() {
        let me = this_process().unwrap();
        assert_eq!(process_start_time(me.pid).unwrap(), Some(me.start_time));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(process_start_time(pid).unwrap(), None);
    }
}
