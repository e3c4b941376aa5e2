//! Storages with exactly one known fault each: they prove that the suite notices. The faults themselves are in
//! `storage`. The patches in `gallery` are something else: bugs of this workspace's own code, which prove that its own
//! tests notice; `cargo xtask faulty_storages` tries them.

mod resealed;
mod storage;

use std::sync::Arc;

use async_trait::async_trait;
use session_core::{SessionId, SessionStorage, StorageError};

pub use self::storage::FaultyStorage;
use self::storage::Shared;
use crate::harness::{Crash, Damage, Harness, Kept, NotSupported};

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
        law_2_exactly_one_of_two_racing_appends_wins
        law_2_concurrent_appends_are_stored_exactly_once
        law_2_a_session_is_created_once
    ]
    /// It compares how long the log is, not what it ends with.
    ComparesRevisionsOnly [law_2_append_needs_the_expected_revision_and_sum law_2_a_deleted_id_can_be_created_again]
    /// Of a batch of several records it does not keep the last, and says that it did.
    DropsLastRecord [law_1_batches_of_every_size_come_back_in_order law_5_random_calls_agree_with_a_model]
    /// It hands out the last two records of a page the other way round.
    ReordersRecords [law_1_batches_of_every_size_come_back_in_order law_5_records_are_paged_without_gaps_or_repeats]
    /// It says that all is flushed and flushes nothing.
    AcknowledgesBeforeFlush [
        law_3_flushed_changes_survive_power_loss
        law_1_a_crash_leaves_a_prefix_of_unacknowledged_records
        law_3_a_flush_covers_records_that_others_buffered
    ]
    /// It keeps events as JSON values, not as bytes.
    ReEncodes [law_5_records_come_back_byte_identical]
    /// Its head is the one before the last append.
    ReturnsPreviousHead [law_1_the_head_is_the_fold_of_the_log_after_each_append]
    /// It counts, and then creates.
    RacesTheLimit [law_2_racing_creations_never_exceed_the_limit]
    /// What was deleted is there again as soon as something else is written.
    RevivesDeletedSessions [law_2_a_deleted_session_stays_deleted]
    /// A flush that failed is acknowledged all the same.
    AcknowledgesFailedFlush [
        law_6_a_failed_flush_is_never_acknowledged
        law_6_a_creation_can_be_retried_after_a_failed_flush
    ]
    /// It answers with the tip before the append.
    ReturnsOldTip [law_1_an_append_returns_the_new_tip]
    /// Its conflicts do not say what is there.
    OmitsStoredTip [law_2_a_conflict_reports_the_expected_and_stored_tips]
    /// It does not compare anything for an empty batch.
    FlushesUnchecked [law_2_a_flush_needs_the_expected_tip]
    /// It acknowledges a batch that does not follow from what is there.
    AcceptsHoles [law_2_a_batch_that_does_not_follow_is_refused]
    /// It does not count at all.
    IgnoresLimit [law_2_the_session_limit_is_enforced]
    /// It counts ended sessions too.
    CountsEndedSessions [law_2_only_active_sessions_count_towards_the_limit]
    /// It counts before it looks whether the session exists.
    ChecksLimitBeforeExistence [law_2_an_existing_session_is_a_conflict_even_at_the_limit]
    /// It deletes whatever the tip is.
    DeletesUnchecked [law_2_a_deletion_needs_the_tip law_2_either_a_racing_deletion_or_append_wins]
    /// An id whose session was deleted can never be used again.
    NeverReusesIds [law_2_a_deleted_id_can_be_created_again]
    /// Each handle reads a head once and then believes itself.
    ServesStaleHeads [law_3_acknowledged_changes_are_visible_to_every_handle]
    /// Its profile has no name.
    HasEmptyName [law_3_the_profile_is_named_and_constant]
    /// Its change feed never wakes anybody.
    NeverWakes [law_3_a_change_feed_wakes_every_waiter]
    /// What is buffered is kept where it dies with the process.
    BuffersInProcessMemory [law_3_buffered_changes_survive_a_kill]
    /// An empty batch flushes nothing.
    SkipsEmptyFlush [law_3_a_flush_covers_records_that_others_buffered]
    /// An append takes the log away and puts a longer one in its place.
    RewritesInPlace [law_4_a_dropped_append_leaves_a_prefix_of_its_batch]
    /// A creation takes a place first, and gives it back only if it comes to its end.
    LeaksPlaces [law_4_a_dropped_creation_leaves_the_session_or_nothing]
    /// A deletion first cuts the log.
    DeletesInTwoSteps [law_4_a_dropped_deletion_is_complete_or_has_no_effect]
    /// It has no room for records above 64 KiB.
    RefusesLargeRecords [law_5_a_record_may_be_as_large_as_the_format_allows]
    /// It has no room for more than eight labels in a head.
    TruncatesLabels [law_5_the_largest_head_comes_back_unchanged]
    /// It counts records from 0.
    CountsFromZero [law_5_records_are_paged_without_gaps_or_repeats]
    /// A list goes on with the session that it should go on after.
    RepeatsTheCursor [law_5_a_list_is_paged_without_gaps_or_repeats]
    /// A list goes on after as many sessions as it showed, whichever are there by then.
    PagesByOffset [law_5_a_list_shows_each_lasting_session_exactly_once]
    /// Of what does not exist it says that it has no records.
    ReturnsEmptyForMissing [law_5_a_missing_session_is_not_found]
    /// A list does not look at labels.
    IgnoresLabels [law_5_a_filtered_list_contains_exactly_the_matches]
    /// A damaged log ends where the damage is.
    HidesDamage [law_7_damage_is_never_silent]
    /// A session that cannot be read is not listed.
    HidesUnreadableSessions [law_7_damage_is_never_silent]
    /// One session that cannot be read fails the whole list.
    FailsOnUnreadableSessions [law_8_damage_to_one_session_does_not_affect_others]
    /// A deletion takes everything of the same name along.
    DeletesByName [law_8_changes_to_one_session_do_not_affect_others]
}

/// A subject all of whose handles have the same fault.
pub struct FaultyHarness {
    inner: Box<dyn Harness>,
    fault: Fault,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for FaultyHarness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sabotaged").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl FaultyHarness {
    /// A subject, with this fault from now on.
    #[must_use]
    pub fn new(harness: impl Harness + 'static, fault: Fault) -> Self {
        Self { inner: Box::new(harness), fault, shared: Arc::default() }
    }
}

#[async_trait]
impl Harness for FaultyHarness {
    async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
        let inner = self.inner.open().await?;
        Ok(Arc::new(FaultyStorage::with(inner, self.fault, Arc::clone(&self.shared))))
    }

    async fn crash(&self, crash: Crash) -> Result<(), NotSupported> {
        match (self.fault, crash) {
            (Fault::BuffersInProcessMemory, Crash::Kill) => {
                self.inner.crash(Crash::PowerLoss(Kept::Nothing)).await
            }
            (_, crash) => self.inner.crash(crash).await,
        }
    }

    async fn fail_next_flush(&self) -> Result<(), NotSupported> {
        self.inner.fail_next_flush().await
    }

    async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), NotSupported> {
        self.inner.damage(id, damage).await
    }
}
