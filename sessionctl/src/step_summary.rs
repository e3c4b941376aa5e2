//! Sentences about the durable steps of a session: which may have happened, which was refused or failed, and at which step it
//! continues.

use sessionkit::log::{ItemTotals, StepIdentity, StepTotals};
use sessionkit::text::visible;
use sessionkit::workflow::{
    EachStatus, Inheritance, ItemState, StepRefusal, StepState, StepStatus, TakeOver, WorkflowState,
};
use sessionkit::{ErrorCode, Head, Result, SessionManager, SessionState};

use crate::verb::steps::rows::{count_and_names, item_names};

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
        let has_none = head.steps == StepTotals::default() && head.items == ItemTotals::default();
        if has_none && !head.lifecycle.step_refused {
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
            (None, Some(step)) => {
                let is_each = workflow.steps().get(&step).is_none_or(StepStatus::is_completed)
                    && workflow.eaches().get(&step).is_some();
                Some(format!(
                    "a {verb} continues at {} {}",
                    if is_each { "each" } else { "step" },
                    named(&step)
                ))
            }
            (None, None) => last(&workflow).map(|last| format!("a {verb} continues after {last}")),
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
        let open_steps = if open.is_empty() { None } else { Some(steps(&open)) };
        let eaches = self.attempted_eaches().filter_map(|(each, status)| {
            let names = item_names(status, ItemState::Open, MAX_NAMES);
            let count = u64::try_from(status.count(ItemState::Open)).unwrap_or(u64::MAX);
            let items = if count == 1 { "item" } else { "items" };
            (count > 0).then(|| format!("each {} ({})", named(each), count_and_names(count, items, &names)))
        });
        let all: Vec<String> = open_steps.into_iter().chain(eaches).collect();
        if all.is_empty() { None } else { Some(all.join(" and ")) }
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
        for (each, status) in self.attempted_eaches() {
            if let Some(items) = items(status, ItemState::Unknown, "may have happened") {
                sentences.push(format!("Each {}: {items}.", named(each)));
            }
        }
        if matches!(state, SessionState::Failed { .. } | SessionState::Cancelled { .. }) {
            for (step, status) in self.attempted().filter(|(_, status)| is_failed(status)).take(MAX_NAMES) {
                sentences.push(format!("Step {} {}.", named(step), failure(status)));
            }
            sentences.extend(self.failed_eaches().into_iter().map(|each| format!("{}.", capitalised(&each))));
        }
        sentences
    }

    /// Returns the eaches of the last attempt of which items have failed: ``each `check`: 3 of 100 items failed: a, b, c``.
    pub(crate) fn failed_eaches(&self) -> Vec<String> {
        let failed = self.attempted_eaches().filter_map(|(each, status)| {
            Some(format!("each {}: {}", named(each), items(status, ItemState::Failed, "failed")?))
        });
        failed.take(MAX_NAMES).collect()
    }

    fn attempted_eaches(&self) -> impl Iterator<Item = (&StepIdentity, &EachStatus)> {
        let attempt = self.workflow.head().map_or(0, |head| head.lifecycle.attempt);
        self.workflow.eaches().in_order().into_iter().filter(move |(_, status)| status.attempt == attempt)
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

/// Returns the items of an each in a state: `3 of 100 items failed: a, b, c`.
fn items(status: &EachStatus, state: ItemState, what: &str) -> Option<String> {
    let count = status.count(state);
    let names = item_names(status, state, MAX_NAMES).join(", ");
    let more = if count > MAX_NAMES { ", …" } else { "" };
    let of = status.total.map_or_else(String::new, |total| format!(" of {total}"));
    let items = if count == 1 && of.is_empty() { "item" } else { "items" };
    (count > 0).then(|| format!("{count}{of} {items} {what}: {names}{more}"))
}

/// Returns the step or each that was started last.
fn last(workflow: &WorkflowState) -> Option<String> {
    let step = workflow.steps().in_order().pop();
    let step = step.map(|(step, status)| (status.first_start, format!("step {}", named(step))));
    let each = workflow.eaches().in_order().pop();
    let each = each.map(|(each, status)| (status.first_start, format!("each {}", named(each))));
    step.into_iter().chain(each).max().map(|(_, last)| last)
}

fn capitalised(sentence: &str) -> String {
    let mut characters = sentence.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
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
