//! The machine against the oracle under proptest, which shrinks a disagreement to the shortest sequence.

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use session_core::Head;

use crate::log::Log;
use crate::oracle::{Model, Step};

#[derive(Debug, Clone)]
struct Reference;

impl ReferenceStateMachine for Reference {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::NOTHING).boxed()
    }

    fn transitions(model: &Model) -> BoxedStrategy<Step> {
        let (legal, refused): (Vec<Step>, Vec<Step>) =
            model.steps().into_iter().partition(|step| model.step(*step).is_ok());
        if legal.is_empty() {
            return proptest::sample::select(refused).boxed();
        }
        prop_oneof![3 => proptest::sample::select(legal), 1 => proptest::sample::select(refused)].boxed()
    }

    fn apply(model: Model, step: &Step) -> Model {
        model.step(*step).unwrap_or(model)
    }
}

struct Machine;

impl StateMachineTest for Machine {
    type SystemUnderTest = Log;
    type Reference = Reference;

    fn init_test(_: &Model) -> Log {
        Log::new()
    }

    /// Applies the step to the machine; the reference has applied it already.
    fn apply(mut log: Log, after: &Model, step: Step) -> Log {
        let before = Model::of(log.life());
        let legal = before.step(step);
        let offered = log.offer_as(step.event(), step.attempt);
        assert_eq!(offered.is_ok(), legal.is_ok(), "{} {step:?}: {offered:?}", step.kind());
        assert_eq!(&Model::of(log.life()), after);
        log
    }

    fn teardown(log: Log, _: Model) {
        let mut read = None;
        for record in log.read() {
            Head::fold(&mut read, log.id, &record).unwrap();
        }
        assert_eq!(read, log.head, "the log says something else than its writer thinks");
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_and_the_oracle_agree_step_by_step(sequential 1..40 => Machine);
}
