//! Tests that the decorator forwards every call unchanged.

use super::*;
use crate::error::SessionError;
use crate::event::StepIdentity;
use crate::manager::MockSessionManager;
use crate::reason::FailureCause;
use crate::record::Sum;

fn id() -> SessionId {
    SessionId::from_bytes([7; 16])
}

fn value() -> SessionEvent {
    SessionEvent::StepValue { start: 2, part: b"v".to_vec() }
}

fn answer() -> Answer {
    Answer { identity: StepIdentity::nth("deploy", 1), value: "yes".to_owned(), asked: Some(9) }
}

fn refused<T>() -> Result<T> {
    Err(SessionError::Contended { id: id() })
}

/// Each call reaches the inner manager once, with its arguments, and returns the inner result.
#[tokio::test]
async fn every_call_is_forwarded_with_its_result() {
    let mut inner = MockSessionManager::new();
    inner.expect_add_sink().times(1).return_const(());
    macro_rules! once {
        ($($expect:ident($($argument:ident),*) if $given:expr;)+) => {
            $(inner.$expect().times(1).withf(|$($argument),*| $given).returning(|$(once!(@any $argument)),*| refused());)+
        };
        (@any $argument:ident) => { _ };
    }
    once! {
        expect_create_session(config) if config.operation == "op";
        expect_create_session_inheriting(config, origin, records)
            if config.operation == "op" && origin.is_none() && *records == 0;
        expect_create_session_inheriting(config, origin, records)
            if config.operation == "op" && origin.is_none() && *records == 3;
        expect_inherit_steps(at, after, events) if *at == id() && after.revision == 7 && *events == [value()];
        expect_start_session(at) if *at == id();
        expect_record_event(at, event) if *at == id() && *event == SessionEvent::IterationStarted { number: 3 };
        expect_pause_session(at, reason) if *at == id() && reason == "lunch";
        expect_resume_session(at) if *at == id();
        expect_request_resume(at) if *at == id();
        expect_cancel_session(at, request) if *at == id() && request.reason == "enough";
        expect_fail_session(at, error) if *at == id() && error.message == "bad";
        expect_complete_session(at, summary) if *at == id() && *summary == SessionSummary::default();
        expect_append_answer(at, known, given) if *at == id() && *known == 9 && *given == answer();
        expect_get_state(at) if *at == id();
        expect_get_progress(at) if *at == id();
        expect_get_head(at) if *at == id();
        expect_list_active_sessions() if true;
        expect_read_log(at, after, limit) if *at == id() && (*after, *limit) == (5, 6);
        expect_delete_session(at) if *at == id();
        expect_cleanup(age) if *age == Some(Duration::from_secs(1));
        expect_save_checkpoint(at, state) if *at == id() && *state == 43;
        expect_restore_session(at) if *at == id();
        expect_liveness(at) if *at == id();
        expect_find_crashed_sessions() if true;
        expect_shutdown() if true;
    }
    inner.expect_list_sessions().times(1).returning(|_| refused());
    inner.expect_recover().times(1).returning(|_| refused());

    let manager = ObservableSessionManager::new(Arc::new(inner));
    macro_rules! refused {
        ($($method:ident($($argument:expr),*);)+) => {
            $(assert!(
                matches!(manager.$method($($argument),*).await, Err(SessionError::Contended { .. })),
                stringify!($method)
            );)+
        };
    }
    refused! {
        create_session(SessionConfig::new("op"));
        create_session_from(SessionConfig::new("op"), None);
        create_session_inheriting(SessionConfig::new("op"), None, 3);
        inherit_steps(id(), Tip { revision: 7, sum: Sum::from_u64(8) }, vec![value()]);
        start_session(id());
        record_event(id(), SessionEvent::IterationStarted { number: 3 });
        pause_session(id(), "lunch".to_owned());
        resume_session(id());
        request_resume(id());
        fail_session(id(), Failure::new(FailureCause::Work, "bad"));
        complete_session(id(), SessionSummary::default());
        append_answer(id(), 9, answer());
        get_state(id());
        get_progress(id());
        get_head(id());
        list_active_sessions();
        read_log(id(), 5, 6);
        delete_session(id());
        cleanup(Some(Duration::from_secs(1)));
        save_checkpoint(id(), 43.into());
        restore_session(id());
        liveness(id());
        find_crashed_sessions();
        shutdown();
        list_sessions(SessionFilter::default());
        cancel_session(id(), CancelRequest::new("enough", "me"));
        recover(RecoveryOptions::default());
    }
}
