//! The command line of the proofs, as `cargo xtask proofs` uses it.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::process::{Command, Output};

fn proofs(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_session-proofs")).args(args).output().unwrap()
}

#[test]
fn a_probe_passes_or_gives_its_reason() {
    for proof in ["calls", "chaos", "ext4", "xfs", "btrfs"] {
        let Output { status, stdout, .. } = proofs(&[proof, "--probe"]);
        let reason = String::from_utf8(stdout).unwrap();
        match status.code() {
            Some(0) => {}
            Some(77) => assert!(!reason.trim().is_empty(), "{proof}"),
            code => panic!("{proof}: {code:?} {reason}"),
        }
    }
}

#[test]
fn an_unknown_proof_is_refused() {
    let Output { status, stdout, .. } = proofs(&["ext5", "--probe"]);
    assert_eq!(status.code(), Some(1));
    assert!(String::from_utf8(stdout).unwrap().contains("`ext5`"));
    assert_eq!(proofs(&["calls"]).status.code(), Some(2));
}
