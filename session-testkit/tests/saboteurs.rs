//! The suite notices: each saboteur is caught, by the laws that its fault breaks, and every law catches one.

use std::collections::BTreeSet;

use session_testkit::saboteurs::{Fault, Sabotaged};
use session_testkit::{LAWS, Law, Subject, TwoLevelSubject, Verdict};

fn law(name: &str) -> &'static Law {
    LAWS.iter().find(|law| law.name == name).unwrap_or_else(|| panic!("no law is named {name}"))
}

fn judge(law: &Law, subject: &dyn Subject) -> Verdict {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(law.judge(subject))
}

#[test]
fn each_saboteur_is_caught_by_the_laws_that_it_breaks() {
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        for name in fault.caught_by() {
            let verdict = judge(law(name), &Sabotaged::new(TwoLevelSubject::new(), *fault));
            if let Verdict::Violated(what) = verdict {
                println!("{fault:?} is caught by {name}:\n{what}\n");
            } else {
                missed.push(format!("{fault:?} by {name}: {verdict:?}"));
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

#[test]
fn whoever_retries_a_failed_flush_is_caught() {
    for name in [
        "law_6_a_flush_that_failed_is_never_believed",
        "law_6_a_creation_whose_flush_failed_can_be_made_again",
    ] {
        let verdict = judge(law(name), &TwoLevelSubject::that_retries_failed_flushes());
        assert!(matches!(verdict, Verdict::Violated(_)), "{name}: {verdict:?}");
    }
}

/// A law that no saboteur breaks may well be a law that nothing can break.
#[test]
fn every_law_catches_somebody() {
    let catching: BTreeSet<&str> = Fault::ALL.iter().flat_map(|fault| fault.caught_by()).copied().collect();
    let all: BTreeSet<&str> = LAWS.iter().map(|law| law.name).collect();
    assert_eq!(catching, all);
}
