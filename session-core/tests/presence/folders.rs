//! Folders of lock files: a lock proves something only in the folder in which it was taken, not in another one and not in
//! a copy. Owners of several containers may share one.

use super::*;

/// Waits until a dropped owner is seen in some way. That is not immediate: a process that another test is starting holds
/// its lock until its exec.
async fn becomes(place: &Place, owner: &Owner, wanted: &Liveness) {
    let since = Instant::now();
    while place.liveness(owner).await != *wanted {
        assert!(since.elapsed() < PATIENCE, "{owner:?} is {:?}", place.liveness(owner).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Makes this process, as an owner, one of another container on the same kernel, without a machine id.
fn in_a_container(owner: &mut Owner) {
    (owner.host, owner.machine) = ("0a1b2c3d4e5f".into(), "0a1b2c3d4e5f".into());
    (owner.pid, owner.start_time) = (1, 5);
    owner.pid_namespace = owner.pid_namespace.map(|namespace| namespace + 1);
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[tokio::test]
async fn an_owner_of_another_folder_is_unknown() {
    let place = Place::new().await;
    let elsewhere = LocalPresence::new(place.root.path().join("elsewhere"));
    // A folder that does not exist, and one that has an id.
    for other in ["missing", "there"] {
        let mut process = place.start();
        let owner = process.owner();
        assert_eq!(elsewhere.liveness(&owner).await.unwrap(), unknown(None), "{other}");
        process.kill();
        assert_eq!(elsewhere.liveness(&owner).await.unwrap(), unknown(None), "{other}");
        assert_eq!(place.liveness(&owner).await, dead(Evidence::LockReleased), "{other}");
        let mut before = owner.clone();
        before.boot = "another".into();
        assert_eq!(elsewhere.liveness(&before).await.unwrap(), unknown(None), "{other}");
        elsewhere.announce(&mut me(|_| {})).await.unwrap().retire();
    }
}

#[tokio::test]
async fn an_owner_in_another_container_lives_while_it_holds_its_lock() {
    let place = Place::new().await;
    let mut owner = me(in_a_container);
    let guard = place.presence.announce(&mut owner).await.unwrap();
    assert_eq!(place.liveness(&owner).await, Liveness::Alive);
    drop(guard);
    becomes(&place, &owner, &dead(Evidence::LockReleased)).await;
}

#[tokio::test]
async fn a_process_id_of_another_namespace_proves_nothing() {
    let place = Place::new().await;
    let gone = place.me(|owner| owner.pid = gone_pid()).await;
    assert_eq!(place.liveness(&gone).await, dead(Evidence::ProcessGone));
    let mut contained = gone.clone();
    in_a_container(&mut contained);
    let mut unrecorded = gone;
    unrecorded.pid_namespace = None;
    for owner in [contained, unrecorded] {
        assert_eq!(place.liveness(&owner).await, unknown(None), "{owner:?}");
    }
}

#[tokio::test]
async fn an_owner_without_a_folder_is_unknown_unless_its_lock_is_held() {
    let place = Place::new().await;
    let mut owner = me(|_| {});
    let guard = place.presence.announce(&mut owner).await.unwrap();
    owner.lock_folder = None;
    assert_eq!(place.liveness(&owner).await, Liveness::Alive);
    guard.retire();
    owner.pid = gone_pid();
    let mut before = owner.clone();
    before.boot = "another".into();
    for owner in [owner, before] {
        assert_eq!(place.liveness(&owner).await, unknown(None));
    }
}

#[tokio::test]
async fn a_copy_of_the_folder_says_nothing_about_its_owners() {
    let place = Place::new().await;
    let mut process = place.start();
    let owner = process.owner();
    let path = place.root.path().join("copy");
    copy(&place.dir(), &path);
    let copied = LocalPresence::new(&path);
    let seen = async || copied.liveness(&owner).await.unwrap();
    assert!(matches!(seen().await, Liveness::Unknown { last_seen: Some(_) }), "{:?}", seen().await);
    assert_eq!(place.liveness(&owner).await, Liveness::Alive);
    let mut new = me(|_| {});
    copied.announce(&mut new).await.unwrap().retire();
    assert_ne!(new.lock_folder, owner.lock_folder);
    process.kill();
    assert!(matches!(seen().await, Liveness::Unknown { .. }), "{:?}", seen().await);
    assert_eq!(place.liveness(&owner).await, dead(Evidence::LockReleased));
}

#[tokio::test]
async fn a_moved_folder_keeps_its_id() {
    let place = Place::new().await;
    let mut process = place.start();
    process.kill();
    let path = place.root.path().join("moved");
    fs::rename(place.dir(), &path).unwrap();
    let moved = LocalPresence::new(path);
    assert_eq!(moved.liveness(&process.owner()).await.unwrap(), dead(Evidence::LockReleased));
}

/// A snapshot of btrfs has the inodes and times of the original.
#[tokio::test]
async fn a_lock_in_a_snapshot_of_its_file_system_proves_nothing() {
    let place = Place::new().await;
    let mut owner = me(|_| {});
    drop(place.presence.announce(&mut owner).await.unwrap());
    becomes(&place, &owner, &dead(Evidence::LockReleased)).await;
    let path = place.file(&owner);
    let text = fs::read_to_string(&path).unwrap();
    let changed = text.replace("\"file_system\":", "\"file_system\":7");
    assert_ne!(changed, text);
    fs::write(&path, changed).unwrap();
    assert!(matches!(place.liveness(&owner).await, Liveness::Unknown { last_seen: Some(_) }));
}

#[tokio::test]
async fn a_lost_id_leaves_living_owners_alive() {
    let place = Place::new().await;
    let mut process = place.start();
    fs::remove_file(place.dir().join(".id")).unwrap();
    let mut next = me(|_| {});
    let _guard = place.presence.announce(&mut next).await.unwrap();
    assert_eq!(place.liveness(&process.owner()).await, Liveness::Alive);
    assert_eq!(place.liveness(&next).await, Liveness::Alive);
    process.kill();
    assert!(matches!(place.liveness(&process.owner()).await, Liveness::Unknown { .. }));
}

#[tokio::test]
async fn first_owners_of_a_folder_agree_on_its_id() {
    let place = Place::new().await;
    let processes: Vec<Process> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..6).map(|_| scope.spawn(|| place.start())).collect();
        started.into_iter().map(|process| process.join().unwrap()).collect()
    });
    for process in &processes {
        assert_eq!(process.owner().lock_folder, processes[0].owner().lock_folder);
        assert_eq!(place.liveness(&process.owner()).await, Liveness::Alive);
    }
}

/// A limit of the size of files has the effect of a full disk. The shell ignores XFSZ, as owners do.
#[tokio::test]
async fn a_folder_that_got_no_id_is_usable_later() {
    let place = Place::new().await;
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "other_process", "--nocapture", "--test-threads=1"])
        .env(ROLE, "announce")
        .env(DIR, place.dir())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&format!("{READY}STORAGE_FULL")), "{said}");
    assert_eq!(place.dir().read_dir().unwrap().count(), 0, "leftovers");
    let owner = place.start().owner();
    assert!(owner.lock_folder.is_some());
}
