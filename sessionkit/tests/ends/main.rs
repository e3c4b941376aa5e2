//! Every way in which a session ends or pauses, by every caller, for every way in which work holds it, on every backend:
//! what the call returns, and what the state, the token, its callbacks, `fenced` and the next call of the work say.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

mod expected;
mod work;
mod world;

use std::time::Duration;

use sessionkit::{ErrorCode, SessionConfig, SessionId, StateName};

use crate::expected::{Expected, expected};
use crate::work::{Held, Hold};
use crate::world::{By, Way, World};

/// Plays one case. `None` if there is no such case.
async fn play(world: &World, way: Way, by: By, hold: Hold) -> Option<String> {
    let case = format!("{} · {way:?} · {by:?} · {hold:?}", world.scheme());
    let expected = expected(way, by, hold)?;
    if by == By::OtherProcess && !world.is_shared_by_processes() {
        return None;
    }
    let deadline = if way == Way::Deadline { Duration::from_millis(40) } else { Duration::from_secs(3600) };
    let config = SessionConfig::new("ends").deadline(deadline).idempotency_key(&case);
    let mut kept = Held::start(world, hold, way, config, &case).await;
    let result = world.perform(way, by, kept.id(), kept.session()).await;
    assert_eq!(result, expected.call, "{case}: the call");
    if expected.immediate {
        // In the same process, the work is reached before the call returns.
        assert!(kept.token().is_cancelled(), "{case}: on return");
        assert_eq!(world.state(kept.id()).await, expected.state, "{case}: on return");
    }
    check_pause(world, way, &expected, &kept, &case).await;
    if expected.token.is_none() {
        assert!(!kept.token().is_cancelled(), "{case}: {:?}", kept.token().reason());
        assert_eq!(kept.callbacks(), 0, "{case}: callbacks");
        kept.stop(world).await;
        return Some(case);
    }
    let seen = kept.finish(&case).await;
    let reason = kept.token().reason().unwrap();
    assert!(expected.token.is_some_and(|text| reason.contains(text)), "{case}: the reason is `{reason}`");
    assert_eq!(kept.callbacks(), 1, "{case}: callbacks");
    assert_eq!(seen.next, expected.next, "{case}: the next call");
    assert_eq!(seen.fenced, expected.fenced, "{case}: fenced");
    assert_eq!(seen.result, expected.result, "{case}: the result of `run`");
    assert_eq!(world.state(kept.id()).await, expected.state, "{case}: the state");
    Some(case)
}

/// A pause is in the state once the work has stopped, not before, and a resume lets the work continue.
async fn check_pause(world: &World, way: Way, expected: &Expected, kept: &Held, case: &str) {
    if way != Way::Pause || expected.call.is_some() {
        return;
    }
    world.until(kept.id(), StateName::Paused, case).await;
    let steps = kept.steps();
    world.resume(kept.id(), case).await;
    world.until(kept.id(), StateName::Running, case).await;
    kept.until_it_continues(steps, case).await;
}

async fn play_all(url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let world = World::open(url, folder.path()).await;
    let mut played = 0;
    for way in Way::ALL {
        for by in By::ALL {
            for &hold in Hold::ALL {
                // A manager that was shut down is replaced by a new one.
                let fresh = folder.path().join(format!("{way:?}-{by:?}-{hold:?}"));
                let own = (way == Way::Shutdown).then_some(&*fresh);
                let played_in = match own {
                    Some(folder) => &World::open(url, folder).await,
                    None => &world,
                };
                played += usize::from(play(played_in, way, by, hold).await.is_some());
            }
        }
    }
    assert!(played > 60, "{played} cases");
}

#[cfg_attr(all(feature = "runner", target_os = "linux"), sessionkit::test(flavor = "multi_thread"))]
#[cfg_attr(not(all(feature = "runner", target_os = "linux")), tokio::test(flavor = "multi_thread"))]
async fn every_end_reaches_every_work_in_memory() {
    play_all("memory").await;
}

#[cfg(feature = "file")]
#[cfg_attr(all(feature = "runner", target_os = "linux"), sessionkit::test(flavor = "multi_thread"))]
#[cfg_attr(not(all(feature = "runner", target_os = "linux")), tokio::test(flavor = "multi_thread"))]
async fn every_end_reaches_every_work_in_files() {
    play_all("file").await;
}

#[cfg(feature = "sqlite")]
#[cfg_attr(all(feature = "runner", target_os = "linux"), sessionkit::test(flavor = "multi_thread"))]
#[cfg_attr(not(all(feature = "runner", target_os = "linux")), tokio::test(flavor = "multi_thread"))]
async fn every_end_reaches_every_work_in_sqlite() {
    play_all("sqlite").await;
}

#[cfg(feature = "sled")]
#[cfg_attr(all(feature = "runner", target_os = "linux"), sessionkit::test(flavor = "multi_thread"))]
#[cfg_attr(not(all(feature = "runner", target_os = "linux")), tokio::test(flavor = "multi_thread"))]
async fn every_end_reaches_every_work_in_sled() {
    play_all("sled").await;
}

/// Not a test of its own: performs the call of another process for the tests above, which run it.
#[tokio::test]
async fn performs_the_call_of_another_process() {
    let Ok(call) = std::env::var(world::CALL) else { return };
    let mut parts = call.splitn(3, ' ');
    let (way, id, url) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let way = *Way::ALL.iter().find(|known| format!("{known:?}") == way).unwrap();
    let id: SessionId = id.parse().unwrap();
    let options = sessionkit::ManagerOptions::new().recovery(None);
    let manager = sessionkit::builder(url).options(options).open().await.unwrap();
    let code = world::call(&*manager, way, id).await;
    let code = code.map_or_else(|| "OK".to_owned(), |code: ErrorCode| code.to_string());
    println!("{}{code}", world::MARK);
}
