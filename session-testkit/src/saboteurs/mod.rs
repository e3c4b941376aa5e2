//! Storages with exactly one known fault each: they prove that the suite notices. The faults themselves are in
//! `storage`. The patches in `seeded-bugs` are something else: bugs of this workspace's own code, which prove that its own
//! tests notice; `cargo xtask seeded-bugs` tries them.

mod resealed;
mod storage;

use std::sync::Arc;

use async_trait::async_trait;
use session_core::{SessionId, SessionStorage, StorageError};

pub use self::storage::Saboteur;
use self::storage::Shared;
use crate::subject::{Crash, Damage, Kept, Subject, Unable};

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident [$($law:ident)+])+) => {
        /// What is wrong with a storage.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Fault { $($(#[doc = $doc])+ $variant,)+ }

        impl Fault {
            /// Every fault.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The names of laws that notice it, all of them on a subject that can do everything. Others may too.
            #[must_use]
            pub const fn caught_by(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$(stringify!($law),)+],)+ }
            }
        }
    };
}

faults! {
    /// It appends to whatever is there, and creates over what is there.
    IgnoresExpected [
        law_2_append_needs_the_expected_revision_and_sum
        law_2_a_conflict_changes_nothing
        law_2_of_two_rivals_exactly_one_wins
        law_2_of_many_writers_exactly_the_acknowledged_are_there
        law_2_a_session_is_created_once
    ]
    /// It compares how long the log is, not what it ends with.
    ComparesRevisionsOnly [law_2_append_needs_the_expected_revision_and_sum law_2_a_deleted_id_begins_anew]
    /// Of a batch of several records it does not keep the last, and says that it did.
    LosesTheLastRecord [law_1_batches_of_every_size_come_back_in_order law_5_random_calls_agree_with_a_model]
    /// It hands out the last two records of a page the other way round.
    Reorders [law_1_batches_of_every_size_come_back_in_order law_5_records_are_paged_without_gaps_or_repeats]
    /// It says that all is flushed and flushes nothing.
    AcknowledgesBeforeFlush [
        law_3_what_was_flushed_survives_power_loss
        law_1_a_crash_leaves_a_prefix_of_what_was_not_acknowledged
        law_3_a_flush_covers_what_others_buffered
    ]
    /// It keeps events as JSON values, not as bytes.
    ReEncodes [law_5_records_come_back_byte_identical]
    /// Its head is the one before the last append.
    ForgetsTheHead [law_1_the_head_is_the_fold_of_the_log_after_each_append]
    /// It counts, and then creates.
    LetsTheLimitBeRaced [law_2_a_limit_is_never_raced]
    /// What was deleted is there again as soon as something else is written.
    BringsBackTheDeleted [law_2_what_is_deleted_stays_deleted]
    /// A flush that failed is acknowledged all the same.
    BelievesAFailedFlush [
        law_6_a_flush_that_failed_is_never_believed
        law_6_a_creation_whose_flush_failed_can_be_made_again
    ]
    /// It answers with the tip before the append.
    AnswersWithTheOldTip [law_1_the_answer_is_the_new_tip]
    /// Its conflicts do not say what is there.
    ConflictsWithoutFacts [law_2_a_conflict_names_what_was_expected_and_what_is_there]
    /// It does not compare anything for an empty batch.
    FlushesBlindly [law_2_a_flush_needs_the_expected_tip]
    /// It acknowledges a batch that does not follow from what is there.
    AcceptsHoles [law_2_a_batch_that_begins_elsewhere_is_refused]
    /// It does not count at all.
    IgnoresTheLimit [law_2_a_limit_is_kept]
    /// It counts ended sessions too.
    CountsTheEnded [law_2_ended_and_deleted_sessions_do_not_count]
    /// It counts before it looks whether the session exists.
    CountsBeforeItLooks [law_2_an_existing_session_is_a_conflict_also_where_the_limit_is_reached]
    /// It deletes whatever the tip is.
    DeletesBlindly [law_2_a_deletion_needs_the_tip law_2_of_a_deletion_and_an_append_exactly_one_wins]
    /// An id whose session was deleted can never be used again.
    RemembersTheDeleted [law_2_a_deleted_id_begins_anew]
    /// Each handle reads a head once and then believes itself.
    ReadsItsCache [law_3_what_was_acknowledged_is_seen_by_everyone]
    /// Its profile has no name.
    HasNoName [law_3_the_profile_says_who_it_is]
    /// Its change feed never wakes anybody.
    WakesNobody [law_3_a_change_feed_wakes_whoever_waits]
    /// What is buffered is kept where it dies with the process.
    BuffersInTheProcess [law_3_what_was_buffered_survives_a_kill]
    /// An empty batch flushes nothing.
    SkipsTheEmptyFlush [law_3_a_flush_covers_what_others_buffered]
    /// An append takes the log away and puts a longer one in its place.
    RewritesInPlace [law_4_a_dropped_append_happened_or_did_not]
    /// A creation takes a place first, and gives it back only if it comes to its end.
    LeaksPlaces [law_4_a_dropped_creation_happened_or_did_not]
    /// A deletion first cuts the log.
    DeletesInSteps [law_4_a_dropped_deletion_happened_or_did_not]
    /// It has no room for records above 64 KiB.
    RefusesLargeRecords [law_5_a_record_may_be_as_large_as_the_format_allows]
    /// It has no room for more than eight labels in a head.
    CutsTheHead [law_5_a_head_comes_back_whole]
    /// It counts records from 0.
    CountsFromZero [law_5_records_are_paged_without_gaps_or_repeats]
    /// A list goes on with the session that it should go on after.
    RepeatsTheCursor [law_5_a_list_is_paged_without_gaps_or_repeats]
    /// A list goes on after as many sessions as it showed, whichever are there by then.
    PagesByOffset [law_5_a_list_shows_each_lasting_session_exactly_once]
    /// Of what does not exist it says that it has no records.
    FindsNothingEverywhere [law_5_what_does_not_exist_is_not_found]
    /// A list does not look at labels.
    IgnoresLabels [law_5_filters_let_through_what_matches]
    /// A damaged log ends where the damage is.
    HidesDamage [law_7_damage_is_never_silent]
    /// A session that cannot be read is not listed.
    HidesTheUnreadable [law_7_damage_is_never_silent]
    /// One session that cannot be read fails the whole list.
    FailsOnTheUnreadable [law_8_damage_of_one_session_leaves_all_others_alone]
    /// A deletion takes everything of the same name along.
    DeletesByName [law_8_sessions_do_not_touch_each_other]
}

/// A subject all of whose handles have the same fault.
pub struct Sabotaged {
    inner: Box<dyn Subject>,
    fault: Fault,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Sabotaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sabotaged").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl Sabotaged {
    /// A subject, with this fault from now on.
    #[must_use]
    pub fn new(subject: impl Subject + 'static, fault: Fault) -> Self {
        Self { inner: Box::new(subject), fault, shared: Arc::default() }
    }
}

#[async_trait]
impl Subject for Sabotaged {
    async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
        let inner = self.inner.open().await?;
        Ok(Arc::new(Saboteur::with(inner, self.fault, Arc::clone(&self.shared))))
    }

    async fn crash(&self, crash: Crash) -> Result<(), Unable> {
        match (self.fault, crash) {
            (Fault::BuffersInTheProcess, Crash::Kill) => {
                self.inner.crash(Crash::PowerLoss(Kept::Nothing)).await
            }
            (_, crash) => self.inner.crash(crash).await,
        }
    }

    async fn fail_next_flush(&self) -> Result<(), Unable> {
        self.inner.fail_next_flush().await
    }

    async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), Unable> {
        self.inner.damage(id, damage).await
    }
}
