//! Checks of file types, the quarantine of damage, and the removal of session folders.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use session_core::ErrorCode;

use super::*;

#[test]
fn folders_are_created_once_for_this_user_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a/b/c");
    assert!(!Folders::is_folder(&path).unwrap());
    for _ in 0..2 {
        Folders::create(&path).unwrap();
        assert!(Folders::is_folder(&path).unwrap());
    }
    for folder in ["a", "a/b", "a/b/c"] {
        let mode = std::fs::metadata(place.path().join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}

#[test]
fn other_file_types_are_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let (file, folder, link) =
        (place.path().join("file"), place.path().join("folder"), place.path().join("link"));
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir(&folder).unwrap();
    symlink(&folder, &link).unwrap();
    for error in [
        Folders::is_folder(&file).unwrap_err(),
        Folders::is_file(&folder).unwrap_err(),
        Folders::is_folder(&link).unwrap_err(),
        Folders::create(&link).unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::StorageUnavailable);
        assert!(error.to_string().contains("move it elsewhere"), "{error}");
    }
    assert!(Folders::is_file(&file).unwrap());
}

#[test]
fn quarantined_bytes_stay_after_acknowledgement() {
    let place = tempfile::tempdir().unwrap();
    let folders = Folders::new(place.path().join("files"));
    let id = SessionId::random();
    let quarantine = |why: &str, line: &[u8]| -> PathBuf {
        folders.quarantine_lines::<StorageError>(id, why, 3, |lines| lines.add(line)).unwrap()
    };
    assert_eq!(folders.losses(id).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(folders.acknowledge(id).unwrap(), 0);
    let lost = quarantine("lost", b"what was lost");
    assert_eq!(quarantine("lost", b"what was lost"), lost, "the same bytes, kept once");
    let other = quarantine("degraded", b"something else");
    quarantine("torn", b"nothing to acknowledge");
    assert_eq!(std::fs::read(&lost).unwrap(), b"what was lost\n");
    assert_eq!(std::fs::metadata(&lost).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(folders.losses(id).unwrap(), [other, lost]);
    assert_eq!(folders.losses(SessionId::random()).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(folders.acknowledge(id).unwrap(), 2);
    assert_eq!(folders.losses(id).unwrap(), Vec::<PathBuf>::new());
    let kept = std::fs::read_dir(folders.quarantine().join(id.to_string())).unwrap().count();
    assert_eq!(kept, 3, "nothing is removed");
}

#[test]
fn removing_a_session_folder_follows_no_links() {
    let place = tempfile::tempdir().unwrap();
    let folders = Folders::new(place.path().join("files"));
    let id = SessionId::random();
    folders.remove_session(id).unwrap();
    let precious = place.path().join("precious");
    std::fs::create_dir_all(precious.join("inside")).unwrap();
    let folder = folders.sessions().join(id.to_string());
    std::fs::create_dir_all(folder.join("output")).unwrap();
    std::fs::write(folder.join("output/file"), "output").unwrap();
    symlink(&precious, folder.join("link")).unwrap();
    std::fs::write(folders.sessions().join("foreign"), "").unwrap();
    assert_eq!(folders.list_session_folders().unwrap(), (vec![id], vec!["foreign".to_owned()]));
    folders.remove_session(id).unwrap();
    assert!(!folder.exists() && precious.join("inside").exists());
    symlink(&precious, &folder).unwrap();
    folders.remove_session(id).unwrap();
    assert!(stat_path(&folder).unwrap().is_none() && precious.join("inside").exists());
    assert_eq!(folders.list_session_folders().unwrap().0, []);
}

#[test]
fn local_paths_are_accepted_before_they_exist() {
    let place = tempfile::tempdir().unwrap();
    refuse_remote(&place.path().join("not/there/yet")).unwrap();
    refuse_remote(Path::new("")).unwrap();
    refuse_remote(Path::new("not-there-either")).unwrap();
}
