//! Input files of steps: a recorded end holds only for the content that they had.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use session_core::InputFile;
use session_core::text::escape_bytes;
use std::ffi::OsStr;

use crate::fingerprint::InputDigest;

/// Bytes that are read in one call.
const BLOCK: usize = 128 * 1024;

/// Reads a file and returns its digest, for [`StepRequest::inputs`](crate::StepRequest::inputs). Only a regular file is read: a
/// pipe or device has no content that could be compared.
///
/// # Errors
/// Those of opening and reading it; `InvalidInput` if it is not a regular file.
pub fn digest_input(path: &Path) -> io::Result<InputFile> {
    // A pipe without a writer would block the opening.
    let mut file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut digest = InputDigest::default();
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block) {
            Ok(0) => break,
            Ok(read) => digest.add(block.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(InputFile { path: path.as_os_str().as_bytes().to_vec(), digest: digest.to_string() })
}

const O_NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// Returns the first difference between the input files of a step and those of its recorded end, for people. A step without
/// input files does not compare them.
pub(crate) fn difference(now: &[InputFile], then: &[InputFile]) -> Option<String> {
    now.iter().find_map(|file| {
        let path = escape_bytes(OsStr::from_bytes(&file.path));
        match then.iter().find(|known| known.path == file.path) {
            Some(known) if known.digest == file.digest => None,
            Some(_) => Some(format!("its input `{path}` has changed")),
            None => Some(format!("its recorded end did not have the input `{path}`")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, digest: &str) -> InputFile {
        InputFile { path: path.as_bytes().to_vec(), digest: digest.to_owned() }
    }

    #[test]
    fn the_first_difference_is_named() {
        let then = [file("a", "1"), file("b", "2")];
        assert_eq!(difference(&[], &then), None);
        assert_eq!(difference(&[file("b", "2")], &then), None, "fewer files");
        let changed = difference(&[file("a", "1"), file("b", "3")], &then).unwrap();
        assert_eq!(changed, "its input `b` has changed");
        let added = difference(&[file("c", "1")], &then).unwrap();
        assert_eq!(added, "its recorded end did not have the input `c`");
    }

    #[test]
    fn digests_depend_on_the_content_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let long = vec![7; 3 * BLOCK + 1];
        std::fs::write(&a, &long).unwrap();
        std::fs::write(&b, &long).unwrap();
        assert_eq!(digest_input(&a).unwrap().digest, digest_input(&b).unwrap().digest);
        std::fs::write(&b, &long[1..]).unwrap();
        assert_ne!(digest_input(&a).unwrap().digest, digest_input(&b).unwrap().digest);
    }

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            assert_eq!(digest_input(path).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path:?}");
        }
        let missing = folder.path().join("missing");
        assert_eq!(digest_input(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
