//! Sentences about the durable steps of a session: which may have happened, which was refused or failed, and at which step it
//! continues.

use sessionkit::log::{StepIdentity, StepTotals};
use sessionkit::text::visible;
use sessionkit::workflow::{Inheritance, StepRefusal, StepState, StepStatus, TakeOver, WorkflowState};
use sessionkit::{ErrorCode, Head, Result, SessionManager, SessionState};

/// Steps that are named in one sentence.
const MAX_NAMES: usize = 5;

/// The steps of a session, as far as they explain its state.
pub(crate) struct StepSummary {
    workflow: WorkflowState,
    /// The way in which it continues.
    continuation: Option<String>,
}

/// Returns the option that decides about a refused step, if a decision helps.
pub(crate) fn decision_option(code: &str) -> Option<&'static str> {
    if code == ErrorCode::StepChanged.as_str() {
        Some("--changed")
    } else if code == ErrorCode::StepUnknown.as_str() {
        Some("--unknown")
    } else {
        None
    }
}

impl StepSummary {
    /// Reads the steps of a session; `None` if it has none.
    ///
    /// # Errors
    /// Failures of the storage.
    pub(crate) async fn read(manager: &dyn SessionManager, head: &Head) -> Result<Option<Self>> {
        if head.steps == StepTotals::default() && !head.lifecycle.step_refused {
            return Ok(None);
        }
        let workflow = WorkflowState::read(manager, head.id).await?;
        let next = if head.state().is_final() {
            // A retry may take over the steps of an earlier session, which may be removed.
            match Inheritance::of(manager, head.id, &TakeOver::All).await {
                Ok(inheritance) => inheritance.next().cloned(),
                Err(_) => workflow.next().cloned(),
            }
        } else {
            workflow.next().cloned()
        };
        let verb = if head.state().is_final() { "retry" } else { "resume" };
        let continuation = match (&workflow.refusal().and_then(Decision::of), next) {
            (Some(decision), _) => Some(decision.to_sentence(verb)),
            (None, Some(step)) => Some(format!("a {verb} continues at step {}", named(&step))),
            (None, None) => {
                let last = workflow.steps().in_order().pop().map(|(step, _)| named(step));
                last.map(|step| format!("a {verb} continues after step {step}"))
            }
        };
        Ok(Some(Self { workflow, continuation }))
    }

    /// Returns at which step the session continues, or the decision that it needs before.
    pub(crate) fn continuation(&self) -> Option<&str> {
        self.continuation.as_deref()
    }

    /// Returns the arguments that decide about a refused step.
    pub(crate) fn decision(&self) -> Option<[String; 2]> {
        let decision = Decision::of(self.workflow.refusal()?)?;
        Some([decision.option.to_owned(), format!("{}=rerun", decision.step)])
    }

    /// Returns the steps that run, or that were running when the attempt ended, for a sentence. `None` if there are none.
    pub(crate) fn open(&self) -> Option<String> {
        let is_open = |status: &StepStatus| match status.state {
            StepState::Open => true,
            StepState::Unknown => status.was_open,
            StepState::Completed { .. } | StepState::Failed(_) => false,
        };
        let open = self.of_last_attempt(is_open);
        if open.is_empty() { None } else { Some(steps(&open)) }
    }

    /// Returns sentences about steps of the last attempt that were refused, failed, or have an unknown end of their own.
    pub(crate) fn sentences(&self, state: &SessionState) -> Vec<String> {
        let mut sentences = Vec::new();
        if let Some(StepRefusal { name, code, message, .. }) = self.workflow.refusal() {
            sentences.push(format!("Step `{}` was refused: {} [{code}].", visible(name), visible(message)));
        }
        let unknown = self.of_last_attempt(|status| status.state == StepState::Unknown && !status.was_open);
        if !unknown.is_empty() {
            sentences.push(format!("The end of {} is unknown: it may have happened.", steps(&unknown)));
        }
        if matches!(state, SessionState::Failed { .. } | SessionState::Cancelled { .. }) {
            for (step, status) in self.attempted().filter(|(_, status)| is_failed(status)).take(MAX_NAMES) {
                sentences.push(format!("Step {} {}.", named(step), failure(status)));
            }
        }
        sentences
    }

    fn attempted(&self) -> impl Iterator<Item = (&StepIdentity, &StepStatus)> {
        let attempt = self.workflow.head().map_or(0, |head| head.lifecycle.attempt);
        self.workflow
            .steps()
            .in_order()
            .into_iter()
            .filter(move |(_, status)| status.attempt == attempt && status.starts > 0)
    }

    fn of_last_attempt(&self, has: impl Fn(&StepStatus) -> bool) -> Vec<&StepIdentity> {
        self.attempted().filter(|(_, status)| has(status)).map(|(step, _)| step).collect()
    }
}

/// The decision that a refused step needs.
struct Decision<'a> {
    step: &'a str,
    option: &'static str,
    choices: &'static str,
}

impl<'a> Decision<'a> {
    fn of(refusal: &'a StepRefusal) -> Option<Self> {
        let option = decision_option(&refusal.code)?;
        let choices = if option == "--changed" { "`rerun` or `keep`" } else { "`rerun` or `skip`" };
        Some(Self { step: &refusal.name, option, choices })
    }

    fn to_sentence(&self, verb: &str) -> String {
        let Self { step, option, choices } = self;
        format!("a {verb} needs a decision, {choices}: `{option} {}=…`", visible(step))
    }
}

const fn is_failed(status: &StepStatus) -> bool {
    matches!(status.state, StepState::Failed(_))
}

fn failure(status: &StepStatus) -> String {
    let StepState::Failed(failure) = &status.state else { return "has not failed".to_owned() };
    match (failure.timed_out, failure.exit_code, &failure.error) {
        (true, ..) => "timed out".to_owned(),
        (_, _, Some(error)) => format!("failed: {}", visible(error)),
        (_, Some(code), None) => format!("failed with exit code {code}"),
        (_, None, None) => "failed".to_owned(),
    }
}

fn named(step: &StepIdentity) -> String {
    format!("`{}`", visible(&step.to_string()))
}

/// Names some steps, and the number of the others.
fn steps(all: &[&StepIdentity]) -> String {
    let mut names: Vec<String> = all.iter().take(MAX_NAMES).map(|step| named(step)).collect();
    if all.len() > MAX_NAMES {
        names.push(format!("{} more", all.len() - MAX_NAMES));
    }
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { format!("step {last}") } else { format!("steps {} and {last}", names.join(", ")) }
}
