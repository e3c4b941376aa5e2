//! The transition table: the kinds of events that may follow in each state. The tables and diagrams in the docs are
//! generated from it. The effects of events are in `machine`.

use super::StateName;
use crate::event::EventKind;

/// A rule of the transition table: the condition, in addition to the state, under which an event may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// Never in this state.
    Illegal,
    /// Always in this state.
    Legal,
    /// If no iteration is open.
    NoIterationOpen,
    /// If an iteration is open.
    IterationOpen,
    /// If the pause waits for input.
    AwaitingInput,
    /// If the session has an owner.
    Owned,
    /// If the session has no owner, and its program had ended with exit code 0, not by a stop.
    ProgramSucceeded,
    /// If records with steps of the retried session are missing.
    Inheriting,
    /// If no record with steps of the retried session is missing.
    Inherited,
    /// If no step was refused in this attempt.
    NoStepRefused,
    /// If no item begins with it, or no step was refused in this attempt.
    NoItemRefused,
    /// If no item begins with it.
    NoItemBegins,
}

/// Returns the rule for a kind of event in a state; `None` is the session that does not exist yet.
#[must_use]
#[expect(clippy::match_same_arms, reason = "one block for each state, so that each can be read by itself")]
#[expect(clippy::too_many_lines, reason = "it is one table")]
pub const fn rule(state: Option<StateName>, kind: EventKind) -> Rule {
    use EventKind as E;
    use StateName as S;
    // Spelled out on purpose: adding an event requires a decision for every state that is not final.
    match (state, kind) {
        (None, E::Created) => Rule::Legal,
        (None, _) => Rule::Illegal,

        (Some(S::Created), E::Started | E::Answered) => Rule::Inherited,
        (Some(S::Created), E::Inherited | E::StepValue | E::ItemValue) => Rule::Inheriting,
        (Some(S::Created), E::Noted | E::CancelRequested | E::Failed | E::Cancelled) => Rule::Legal,
        (
            Some(S::Created),
            E::Created
            | E::IterationStarted
            | E::IterationCompleted
            | E::CommandExecuted
            | E::AnalysisCompleted
            | E::CheckpointSaved
            | E::ProgressReported
            | E::StepStarted
            | E::StepCompleted
            | E::StepFailed
            | E::StepRefused
            | E::EachStarted
            | E::ItemsMoved
            | E::Asked
            | E::QuestionWithdrawn
            | E::SleepStarted
            | E::SleepEnded
            | E::WorktreeIntended
            | E::WorktreeMade
            | E::PauseRequested
            | E::ResumeRequested
            | E::StopRequested
            | E::InputProvided
            | E::Paused
            | E::Interrupted
            | E::Resumed
            | E::Completed,
        ) => Rule::Illegal,

        (Some(S::Running), E::IterationStarted) => Rule::NoIterationOpen,
        (Some(S::Running), E::IterationCompleted) => Rule::IterationOpen,
        (Some(S::Running), E::Completed | E::StepStarted | E::EachStarted | E::Asked | E::SleepStarted) => {
            Rule::NoStepRefused
        }
        (Some(S::Running), E::ItemsMoved) => Rule::NoItemRefused,
        (
            Some(S::Running),
            E::CommandExecuted
            | E::AnalysisCompleted
            | E::CheckpointSaved
            | E::ProgressReported
            | E::Noted
            | E::StepValue
            | E::StepCompleted
            | E::StepFailed
            | E::StepRefused
            | E::ItemValue
            | E::Answered
            | E::QuestionWithdrawn
            | E::SleepEnded
            | E::WorktreeIntended
            | E::WorktreeMade
            | E::PauseRequested
            | E::CancelRequested
            | E::StopRequested
            | E::Paused
            | E::Interrupted
            | E::Failed
            | E::Cancelled,
        ) => Rule::Legal,
        (
            Some(S::Running),
            E::Created | E::Inherited | E::Started | E::ResumeRequested | E::InputProvided | E::Resumed,
        ) => Rule::Illegal,

        (Some(S::Paused), E::InputProvided) => Rule::AwaitingInput,
        (Some(S::Paused), E::Interrupted) => Rule::Owned,
        (Some(S::Paused), E::Completed) => Rule::ProgramSucceeded,
        (Some(S::Paused), E::ItemsMoved) => Rule::NoItemBegins,
        (
            Some(S::Paused),
            E::Noted
            | E::CommandExecuted
            | E::StepValue
            | E::StepCompleted
            | E::StepFailed
            | E::StepRefused
            | E::ItemValue
            | E::Answered
            | E::QuestionWithdrawn
            | E::SleepEnded
            | E::StopRequested
            | E::ResumeRequested
            | E::CancelRequested
            | E::Resumed
            | E::Failed
            | E::Cancelled,
        ) => Rule::Legal,
        (
            Some(S::Paused),
            E::Created
            | E::Inherited
            | E::Started
            | E::StepStarted
            | E::EachStarted
            | E::Asked
            | E::SleepStarted
            | E::WorktreeIntended
            | E::WorktreeMade
            | E::IterationStarted
            | E::IterationCompleted
            | E::AnalysisCompleted
            | E::CheckpointSaved
            | E::ProgressReported
            | E::PauseRequested
            | E::Paused,
        ) => Rule::Illegal,

        (Some(S::Completed | S::Failed | S::Cancelled), _) => Rule::Illegal,
    }
}
