//! An `each`: runs a command or work once for every item of its input, several at a time, and never again for an item that
//! is recorded as done.
//!
//! The end of an item and the beginning of the next one are one append, so that a slot is free only when the end is durable,
//! and after a crash at most as many items are unknown as may run at a time.

mod input;
mod plan;
mod request;
mod retries;
mod values;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use session_core::limits::{STEP_TEXT_BYTES, VALUE_BYTES, VALUE_PART_BYTES};
use session_core::{
    ErrorCode, ItemFailure, ItemIdentity, ItemMoves, PauseReason, Session, SessionEvent, SessionState,
    StepIdentity, StepReason,
};
use tokio::task::JoinSet;

pub(crate) use self::request::{BegunItem, EachReport, EachRequest, ItemEnd};

use self::input::Input;
use self::plan::{name_of, plan};
use self::retries::Retries;
use crate::ask::ask_about_unknown;
use crate::attempt::{Attempt, cut, decide_unknown, line_of};
use crate::decisions::OnUnknown;
use crate::error::StepError;
use crate::idempotency_key::item_key;
use crate::items::{EachStart, EachStatus, ItemState};

/// Bytes of items that begin in one record: it fits whatever their characters are.
const BATCH_BYTES: usize = 128 * 1024;
/// Vanished items that a report names.
const NAMED: usize = 10;

/// An `each` that runs. Dropped with open items, their ends are unknown.
#[derive(Debug)]
pub(crate) struct OpenEach {
    attempt: Arc<Attempt>,
    session: Session,
    request: EachRequest,
    each: StepIdentity,
    start: u64,
    reruns: u64,
    has_changed: bool,
    /// `true` if an earlier run has started every item of its input.
    knows_all_items: bool,
    input: Input,
    pending: VecDeque<u64>,
    skipped: Vec<u64>,
    retries: Retries,
    open: HashSet<u64>,
    ended: Vec<(u64, ItemEnd)>,
    value_bytes: usize,
    questions: JoinSet<(u64, Result<OnUnknown, StepError>)>,
    /// `true` while the session is paused, so that no item begins.
    is_held: bool,
    /// `true` once its client begins no further item.
    is_stopped: bool,
    report: EachReport,
    error: Option<StepError>,
}

impl OpenEach {
    /// Begins an `each`: its start survives power loss on return.
    pub(crate) async fn begin(
        attempt: &Arc<Attempt>,
        session: &Session,
        request: EachRequest,
    ) -> Result<Self, StepError> {
        attempt.load(session).await?;
        let EachRequest { name, key, .. } = &request;
        let unnumbered =
            key.as_ref().map_or_else(|| StepIdentity::nth(name, 1), |key| StepIdentity::keyed(name, key));
        unnumbered.check()?;
        attempt.wait_for_name(|state| &state.each_names, name, key.as_deref()).await;
        let planned = plan(attempt, &request);
        let (each, reruns, done) = match planned {
            Ok(planned) => planned,
            Err(error) => return Err(attempt.record_refusal(session, name, error).await),
        };
        let mut open = Self::new(attempt, session, request, each, reruns);
        open.has_changed = open.with_status(|status| reruns > status.reruns);
        let command = open.request.command.as_deref().map(|text| cut(text, STEP_TEXT_BYTES));
        let started = SessionEvent::EachStarted {
            step: open.each.clone(),
            fingerprint: open.request.fingerprint.as_str().to_owned(),
            reruns,
            done,
            command: command.clone(),
        };
        open.start = session.start_step(started).await?.revision;
        let start = EachStart {
            revision: open.start,
            at: session.clock().now(),
            attempt: session.attempt(),
            fingerprint: open.request.fingerprint.as_str(),
            reruns,
        };
        open.with_status(|status| status.started(&start, command.as_deref()));
        attempt.state().workflow.eaches.record_start(&open.each, open.start);
        (open.input.last_number, open.knows_all_items, open.report.too_long) = open.with_status(|status| {
            let last = status.last_number();
            (last, status.total.is_some_and(|total| last >= total), status.is_too_long)
        });
        Ok(open)
    }

    fn new(
        attempt: &Arc<Attempt>,
        session: &Session,
        request: EachRequest,
        each: StepIdentity,
        reruns: u64,
    ) -> Self {
        let retries = Retries::new(request.retries, request.backoff);
        Self {
            attempt: Arc::clone(attempt),
            session: session.clone(),
            request,
            each,
            start: 0,
            reruns,
            has_changed: false,
            knows_all_items: false,
            input: Input::default(),
            pending: VecDeque::new(),
            skipped: Vec::new(),
            retries,
            open: HashSet::new(),
            ended: Vec::new(),
            value_bytes: 0,
            questions: JoinSet::new(),
            is_held: false,
            is_stopped: false,
            report: EachReport::default(),
            error: None,
        }
    }

    /// Returns the revision of its start.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// Returns the number of items that were recorded as done before.
    pub(crate) fn recorded(&self) -> u64 {
        self.with_status(|status| status.done())
    }

    /// Returns `true` if the recorded items of other work were given up.
    pub(crate) const fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// States that its processes are being ended: another use of its name waits until it has ended.
    pub(crate) fn set_ending(&self) {
        self.attempt.state().each_names.set_ending(&self.each);
        self.attempt.notify_names();
    }

    /// Refuses further steps of the attempt: processes of its items may still run.
    pub(crate) async fn keep_open(self, message: &str) {
        let error = self.attempt.state().refuse(ErrorCode::StepOpen, message.to_owned());
        self.attempt.record_refusal(&self.session, &self.each.name, error).await;
    }

    /// Returns the identity.
    pub(crate) const fn identity(&self) -> &StepIdentity {
        &self.each
    }

    fn with_status<T>(&self, change: impl FnOnce(&mut EachStatus) -> T) -> T {
        change(self.attempt.state().workflow.eaches.get_mut(&self.each))
    }

    /// Adds the next item of the input.
    ///
    /// # Errors
    /// An item that is too long; a refusal, after which no further step of the attempt starts.
    pub(crate) async fn add_item(&mut self, arg: Vec<u8>) -> Result<(), StepError> {
        let identity = self.input.identify(arg);
        identity.check()?;
        self.report.total += 1;
        let known = self.with_status(|status| {
            let number = status.number(&identity)?;
            status.item(number).map(|item| (number, item.state, item.deaths, item.start, item.value.bytes))
        });
        let Some((number, state, deaths, start, bytes)) = known else {
            self.report.new += u64::from(self.knows_all_items);
            self.pending.push_back(self.input.add_new(identity));
            return Ok(());
        };
        self.input.add(number);
        match state {
            ItemState::Done => {
                self.report.before += 1;
                self.value_bytes += usize::try_from(bytes).unwrap_or(usize::MAX);
            }
            ItemState::Failed => self.pending.push_back(number),
            ItemState::Open | ItemState::Unknown => {
                return self.decide_unknown(number, &identity, start, deaths).await;
            }
        }
        Ok(())
    }

    async fn decide_unknown(
        &mut self,
        number: u64,
        identity: &ItemIdentity,
        start: u64,
        deaths: u64,
    ) -> Result<(), StepError> {
        let decision = self.attempt.state().decisions.for_unknown(&self.each.name);
        match decide_unknown(decision, self.request.on_unknown, deaths, self.request.can_ask) {
            OnUnknown::Rerun => self.pending.push_back(number),
            OnUnknown::Skip => self.skipped.push(number),
            OnUnknown::Ask => {
                let (attempt, session) = (Arc::clone(&self.attempt), self.session.clone());
                let (name, text) = (self.each.name.clone(), self.unknown_text(identity));
                let questions = self.request.questions.clone();
                self.questions.spawn(async move {
                    let key = format!("unknown:{start}:{number}");
                    let asked = |question: &StepIdentity| {
                        // The client is gone if it does not receive it.
                        let _ = questions.as_ref().map(|questions| questions.send(question.clone()));
                    };
                    (number, ask_about_unknown(&attempt, &session, &name, &key, text, &asked).await)
                });
            }
            OnUnknown::Fail => return Err(self.refuse_unknown(identity).await),
        }
        Ok(())
    }

    fn unknown_text(&self, identity: &ItemIdentity) -> String {
        let item = name_of(identity);
        format!("item `{item}` of `{}` was started, and its end is unknown: it may have happened", self.each)
    }

    async fn refuse_unknown(&self, identity: &ItemIdentity) -> StepError {
        let error = self.attempt.state().refuse(ErrorCode::StepUnknown, self.unknown_text(identity));
        self.attempt.record_refusal(&self.session, &self.each.name, error).await
    }

    /// States that the input has ended.
    pub(crate) fn end_input(&mut self) {
        self.input.has_ended = true;
        let input = self.input.set();
        let (vanished, mut names) = self.with_status(|status| {
            let vanished = status.items().filter(|(number, _)| !input.contains(number));
            let mut names: Vec<(u64, String)> =
                vanished.map(|(number, item)| (number, name_of(&item.identity))).collect();
            names.sort_unstable();
            (names.len(), names)
        });
        names.truncate(NAMED);
        self.report.vanished = u64::try_from(vanished).unwrap_or(u64::MAX);
        self.report.vanished_names = names.into_iter().map(|(_, name)| name).collect();
    }

    /// Begins no further item: it ends after those that run.
    pub(crate) const fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Returns `true` if an item has begun, and its end was not reported.
    pub(crate) fn is_running(&self, number: u64) -> bool {
        self.open.contains(&number) && self.ended.iter().all(|(known, _)| *known != number)
    }

    /// Takes note of the end of an item. It is recorded, and its slot free, with the next [`advance`](Self::advance).
    pub(crate) fn end_item(&mut self, number: u64, end: ItemEnd) {
        if self.is_running(number) {
            self.ended.push((number, end));
        }
    }

    /// Records what has ended and begins as many items as may run, in one append that survives power loss on return. Returns
    /// those that began.
    ///
    /// # Errors
    /// If it could not be recorded: then no step of the attempt starts any more, and the session fails.
    pub(crate) async fn advance(&mut self) -> Result<Vec<BegunItem>, StepError> {
        // First what has ended: a failure may be the one after which no item begins.
        let (mut events, has_ends) = self.end_events();
        let begun = self.next_begun();
        if events.is_empty() && begun.is_empty() {
            return Ok(Vec::new());
        }
        let starts = begun.iter().map(|number| self.input.start(*number)).collect();
        let moves = ItemMoves { each: self.start, begun: starts, ..ItemMoves::default() };
        let (tip, begins) = match self.session.move_items(events.clone(), moves.clone()).await {
            Ok(appended) => appended,
            Err(error) => {
                let error = self.attempt.lost(&self.session, &self.each, error).await;
                self.error = Some(error.clone());
                return Err(error);
            }
        };
        if begins && !begun.is_empty() {
            match events.last_mut().filter(|_| has_ends) {
                Some(SessionEvent::ItemsMoved { moves: last }) => last.begun = moves.begun,
                _ => events.push(SessionEvent::ItemsMoved { moves }),
            }
        }
        self.apply(&events, tip.revision);
        self.is_held = !begins && !begun.is_empty();
        if self.is_held {
            begun.into_iter().rev().for_each(|number| self.pending.push_front(number));
            self.hold().await?;
            return Ok(Vec::new());
        }
        let begun: Vec<BegunItem> = begun.into_iter().filter_map(|number| self.begun(number)).collect();
        Ok(begun)
    }

    /// Pauses the session if that was requested of its work, and ends this if a step was refused elsewhere in the program.
    async fn hold(&mut self) -> Result<(), StepError> {
        self.check_refusal();
        let head = self.session.head();
        if head.lifecycle.step_refused {
            let (code, message) = (ErrorCode::WorkFailed, "a step was refused".to_owned());
            self.error.get_or_insert(StepError::AfterRefusal { code, message });
        }
        if let (SessionState::Running { .. }, Some(pause)) = (head.state(), &head.lifecycle.requests.pause) {
            self.session.pause(PauseReason::Requested(pause.reason.clone())).await?;
        }
        Ok(())
    }

    fn check_refusal(&mut self) {
        if let Err(error) = self.attempt.state().check_refusal() {
            self.error.get_or_insert(error);
        }
    }

    fn may_begin(&self) -> bool {
        self.error.is_none() && !self.is_stopped && self.report.failed < self.request.max_failures
    }

    /// Takes the items that may begin from those that are pending.
    fn next_begun(&mut self) -> Vec<u64> {
        let mut begun = Vec::new();
        self.check_refusal();
        if !self.may_begin() {
            return begun;
        }
        let free = self.request.jobs.saturating_sub(self.open.len() - self.ended.len());
        let mut room = BATCH_BYTES;
        while begun.len() < free {
            let Some(number) = self.pending.front() else { break };
            let size = self.input.start_bytes(*number);
            if size > room && !begun.is_empty() {
                break;
            }
            room = room.saturating_sub(size);
            begun.extend(self.pending.pop_front());
        }
        begun
    }

    /// Returns the records of what has ended: values first, then the ends in one record. The result is `true` if there are ends.
    fn end_events(&mut self) -> (Vec<SessionEvent>, bool) {
        let mut events = Vec::new();
        let mut moves = ItemMoves { each: self.start, ..ItemMoves::default() };
        moves.skipped = std::mem::take(&mut self.skipped);
        self.report.done += u64::try_from(moves.skipped.len()).unwrap_or(0);
        for (number, end) in std::mem::take(&mut self.ended) {
            self.open.remove(&number);
            match end {
                ItemEnd::Done(value) => {
                    self.report.done += 1;
                    moves.done.push(number);
                    self.value_bytes = self.value_bytes.saturating_add(value.len());
                    if self.value_bytes > VALUE_BYTES {
                        moves.too_long =
                            !std::mem::replace(&mut self.report.too_long, true) || moves.too_long;
                    } else if !self.report.too_long {
                        let part = |part: &[u8]| SessionEvent::ItemValue {
                            each: self.start,
                            item: number,
                            part: part.to_vec(),
                        };
                        events.extend(value.chunks(VALUE_PART_BYTES).map(part));
                    }
                }
                ItemEnd::Failed(failure) => self.failed(number, failure, &mut moves),
            }
        }
        if self.input.has_ended && !self.input.total_is_recorded {
            self.input.total_is_recorded = true;
            let total = Some(self.report.total);
            if self.with_status(|status| status.total) != total {
                moves.total = total;
            }
        }
        let has_ends = moves != ItemMoves { each: self.start, ..ItemMoves::default() };
        if has_ends {
            events.push(SessionEvent::ItemsMoved { moves });
        }
        (events, has_ends)
    }

    fn failed(&mut self, number: u64, failure: ItemFailure, moves: &mut ItemMoves) {
        let is_final = !self.retries.failed(number, !failure.unknown);
        self.report.failed += u64::from(is_final);
        let error = failure.error.map(|error| cut(&error, STEP_TEXT_BYTES));
        moves.failed.push(ItemFailure { item: number, error, ..failure });
    }

    /// Folds in the events that were appended, the last one at this revision.
    fn apply(&mut self, events: &[SessionEvent], last: u64) {
        let count = u64::try_from(events.len()).unwrap_or(0);
        #[expect(clippy::wildcard_enum_match_arm, reason = "only records of items were appended")]
        self.with_status(|status| {
            for (event, revision) in events.iter().zip((last + 1).saturating_sub(count)..) {
                match event {
                    SessionEvent::ItemValue { item, part, .. } => status.part(*item, revision, part.len()),
                    SessionEvent::ItemsMoved { moves } => status.moved(moves, revision),
                    _ => {}
                }
            }
        });
    }

    fn begun(&mut self, number: u64) -> Option<BegunItem> {
        let was_new = self.input.started(number);
        let identity = self.with_status(|status| status.item(number).map(|item| item.identity.clone()))?;
        self.open.insert(number);
        let key = item_key(line_of(&self.session), &self.each, &identity, self.reruns);
        let because = if was_new { StepReason::First } else { StepReason::Failed };
        Some(BegunItem { number, arg: identity.arg, key, because })
    }

    /// Returns `true` if [`advance`](Self::advance) has something to do.
    pub(crate) fn can_advance(&self) -> bool {
        let has_ends = !self.ended.is_empty() || !self.skipped.is_empty();
        let is_free = self.open.len() - self.ended.len() < self.request.jobs;
        let begins = !self.is_held && self.may_begin() && is_free && !self.pending.is_empty();
        has_ends || begins || self.input.has_ended && !self.input.total_is_recorded
    }

    /// Waits until [`advance`](Self::advance) may have something to do by itself: an item is to be run again, the session is
    /// resumed, or a person has decided. The future can be dropped without loss.
    ///
    /// # Errors
    /// What ended the session; a refusal.
    pub(crate) async fn changed(&mut self) -> Result<(), StepError> {
        let decided = tokio::select! {
            () = self.retries.due() => {
                self.pending.extend(self.retries.take_due());
                return Ok(());
            }
            resumed = self.session.resumed(), if self.is_held => {
                resumed?;
                self.is_held = false;
                return Ok(());
            }
            Some(decided) = self.questions.join_next() => decided,
        };
        let Ok((number, decision)) = decided else { return Ok(()) };
        match decision? {
            OnUnknown::Rerun => self.pending.push_back(number),
            OnUnknown::Skip => self.skipped.push(number),
            OnUnknown::Fail | OnUnknown::Ask => {
                let identity =
                    self.with_status(|status| status.item(number).map(|item| item.identity.clone()));
                if let Some(identity) = identity {
                    return Err(self.refuse_unknown(&identity).await);
                }
            }
        }
        Ok(())
    }

    /// Returns `true` once nothing runs, and nothing is left that may.
    pub(crate) fn has_ended(&self) -> bool {
        let is_idle = self.open.is_empty() && self.ended.is_empty() && self.skipped.is_empty();
        let is_done = self.input.has_ended
            && self.input.total_is_recorded
            && self.pending.is_empty()
            && self.retries.waiting() == 0
            && self.questions.is_empty();
        is_idle && (is_done || !self.may_begin())
    }

    /// Returns the reason why no further item begins, other than failures of items.
    pub(crate) const fn error(&self) -> Option<&StepError> {
        self.error.as_ref()
    }

    /// Returns the result so far.
    pub(crate) fn report(&self) -> EachReport {
        let not_run = self.pending.len() + self.retries.waiting() + self.questions.len();
        EachReport { not_run: u64::try_from(not_run).unwrap_or(u64::MAX), ..self.report.clone() }
    }

    /// Reads the values of all items, in the order of the input.
    ///
    /// # Errors
    /// Failures of the storage.
    pub(crate) async fn values(&self) -> Result<Vec<Vec<u8>>, StepError> {
        values::read(&self.session, &self.attempt, &self.each, self.input.numbers()).await
    }
}

/// A client that is gone leaves its items with an unknown end.
impl Drop for OpenEach {
    fn drop(&mut self) {
        let moves = self.unknown_ends();
        {
            let mut state = self.attempt.state();
            state.each_names.close(&self.each);
            let unkept = !self.report_is_final();
            if state.workflow.eaches.get(&self.each).is_none() {
                // Given up before it was recorded: it used no number.
                state.each_names.unused(&self.each);
            } else {
                state.each_names.used(&self.each, unkept.then(|| self.request.fingerprint.clone()));
            }
        }
        self.attempt.notify_names();
        let Some(moves) = moves else { return };
        self.with_status(|status| status.moved(&moves, 0));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let session = self.session.clone();
            runtime.spawn(async move { record_unknown_ends(&session, moves).await });
        }
    }
}

impl OpenEach {
    /// Gives it up: the ends of the items that run are recorded as unknown, and then its name is free.
    pub(crate) async fn give_up(mut self) {
        let Some(moves) = self.unknown_ends() else { return };
        record_unknown_ends(&self.session, moves.clone()).await;
        self.with_status(|status| status.moved(&moves, 0));
        self.open.clear();
    }

    /// Returns `true` if every item of the input is recorded as done: the next use of the name is another one.
    fn report_is_final(&self) -> bool {
        let EachReport { total, before, done, .. } = self.report;
        self.input.has_ended && total == before + done
    }

    /// Returns the record of unknown ends of the items that run; `None` if none does.
    fn unknown_ends(&self) -> Option<ItemMoves> {
        let unknown = |item: &u64| ItemFailure { item: *item, unknown: true, ..ItemFailure::default() };
        let mut failed: Vec<_> = self.open.iter().map(unknown).collect();
        failed.sort_unstable_by_key(|failure| failure.item);
        (!failed.is_empty()).then(|| ItemMoves { each: self.start, failed, ..ItemMoves::default() })
    }
}

async fn record_unknown_ends(session: &Session, moves: ItemMoves) {
    let ended = vec![SessionEvent::ItemsMoved { moves }];
    if let Err(error) = session.move_items(ended, ItemMoves::default()).await {
        tracing::debug!(session = %session.id(), %error, "could not record the unknown ends of items");
    }
}
