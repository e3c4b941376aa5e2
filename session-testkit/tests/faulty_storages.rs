//! The laws detect every fault of the faulty storages, and every law detects at least one.

use std::collections::BTreeSet;
use std::sync::Arc;

use session_core::backend::{MemoryStorage, SessionStorage};
use session_testkit::faulty_storages::{Fault, FaultyHarness, FaultyStorage};
use session_testkit::{Harness, LAWS, Law, LawOutcome, TieredHarness, compare_backends};

fn law(name: &str) -> &'static Law {
    LAWS.iter().find(|law| law.name == name).unwrap_or_else(|| panic!("no law is named {name}"))
}

fn judge(law: &Law, harness: &dyn Harness) -> LawOutcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime can be created");
    runtime.block_on(law.judge(harness))
}

#[test]
fn each_fault_is_caught_by_its_laws() {
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        for name in fault.caught_by() {
            let outcome = judge(law(name), &FaultyHarness::new(TieredHarness::new(), *fault));
            if let LawOutcome::Violated(what) = outcome {
                println!("{fault:?} is caught by {name}:\n{what}\n");
            } else {
                missed.push(format!("{fault:?} by {name}: {outcome:?}"));
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:#?}");
}

#[test]
fn retrying_a_failed_flush_is_caught() {
    for name in
        ["law_6_a_failed_flush_is_never_acknowledged", "law_6_a_creation_can_be_retried_after_a_failed_flush"]
    {
        let outcome = judge(law(name), &TieredHarness::retrying_failed_flushes());
        assert!(matches!(outcome, LawOutcome::Violated(_)), "{name}: {outcome:?}");
    }
}

/// A law that no fault breaks may be a law that nothing can break.
#[test]
fn every_law_catches_a_fault() {
    let catching: BTreeSet<&str> = Fault::ALL.iter().flat_map(|fault| fault.caught_by()).copied().collect();
    let all: BTreeSet<&str> = LAWS.iter().map(|law| law.name).collect();
    assert_eq!(catching, all);
}

/// The comparison of storages names the one that differs, and the seed.
#[test]
fn a_differing_result_is_reported() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be created");
    let compared = |fault: Option<Fault>| {
        let memory = || Arc::new(MemoryStorage::new()) as Arc<dyn SessionStorage>;
        let other = fault.map_or_else(memory, |fault| Arc::new(FaultyStorage::new(memory(), fault)));
        let storages = [("right".to_owned(), vec![memory(); 2]), ("wrong".to_owned(), vec![other; 2])];
        runtime.block_on(compare_backends(&storages, 7, 200))
    };
    assert_eq!(compared(None), Ok(()));
    for fault in [Fault::IgnoresExpected, Fault::ReordersRecords, Fault::OmitsStoredTip, Fault::ReEncodes] {
        let error = compared(Some(fault)).expect_err(&format!("{fault:?}"));
        assert!(error.contains("SESSION_TESTKIT_SEED=7, wrong"), "{fault:?}: {error}");
    }
}
