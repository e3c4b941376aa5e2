//! Which things are taken for ours, what is kept of damage, and what goes with a session.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use session_core::ErrorCode;

use super::*;

#[test]
fn folders_are_made_for_this_user_alone_and_only_once() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a/b/c");
    assert!(!Folders::is_folder(&path).unwrap());
    for _ in 0..2 {
        Folders::make(&path).unwrap();
        assert!(Folders::is_folder(&path).unwrap());
    }
    for folder in ["a", "a/b", "a/b/c"] {
        let mode = std::fs::metadata(place.path().join(folder)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}

#[test]
fn what_stands_in_the_place_of_ours_is_refused_and_named() {
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
        Folders::make(&link).unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::StorageUnavailable);
        assert!(error.to_string().contains("put it away"), "{error}");
    }
    assert!(Folders::is_file(&file).unwrap());
}

#[test]
fn what_was_cut_is_kept_until_and_after_somebody_knows_of_it() {
    let place = tempfile::tempdir().unwrap();
    let folders = Folders::new(place.path().join("files"));
    let id = SessionId::random();
    assert_eq!(folders.losses(id).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(folders.acknowledge(id).unwrap(), 0);
    let lost = folders.keep(id, "lost", 3, b"what was lost").unwrap();
    assert_eq!(folders.keep(id, "lost", 3, b"what was lost").unwrap(), lost, "the same, kept once");
    let other = folders.keep(id, "degraded", 3, b"something else").unwrap();
    folders.keep(id, "torn", 3, b"nothing that anybody has to know of").unwrap();
    assert_eq!(std::fs::read(&lost).unwrap(), b"what was lost");
    assert_eq!(std::fs::metadata(&lost).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(folders.losses(id).unwrap(), [other, lost]);
    assert_eq!(folders.losses(SessionId::random()).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(folders.acknowledge(id).unwrap(), 2);
    assert_eq!(folders.losses(id).unwrap(), Vec::<PathBuf>::new());
    let kept = std::fs::read_dir(folders.quarantine().join(id.to_string())).unwrap().count();
    assert_eq!(kept, 3, "nothing of it is removed");
}

#[test]
fn a_session_takes_its_folder_along_and_nothing_that_a_link_leads_to() {
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
    std::fs::write(folders.sessions().join("stranger"), "").unwrap();
    assert_eq!(folders.session_folders().unwrap(), (vec![id], vec!["stranger".to_owned()]));
    folders.remove_session(id).unwrap();
    assert!(!folder.exists() && precious.join("inside").exists());
    symlink(&precious, &folder).unwrap();
    folders.remove_session(id).unwrap();
    assert!(identity_at(&folder).unwrap().is_none() && precious.join("inside").exists());
    assert_eq!(folders.session_folders().unwrap().0, []);
}

#[test]
fn local_places_are_taken_also_where_nothing_is_yet() {
    let place = tempfile::tempdir().unwrap();
    refuse_remote(&place.path().join("not/there/yet")).unwrap();
    refuse_remote(Path::new("")).unwrap();
    refuse_remote(Path::new("not-there-either")).unwrap();
}
