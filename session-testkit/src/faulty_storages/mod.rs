//! Storages with exactly one known fault each, which prove that the laws detect faults. The faults are implemented in
//! `storage`.
//!
//! The patches in `seeded-bugs` are different: they are bugs in this workspace's own code, which prove that its own
//! tests detect bugs (`cargo xtask seeded-bugs`).

mod resealed;
mod storage;

use std::sync::Arc;

use async_trait::async_trait;
use session_core::backend::SessionStorage;
use session_core::{SessionId, StorageError};

pub use self::storage::FaultyStorage;
use self::storage::Shared;
use crate::harness::{Crash, Damage, Harness, Kept, NotSupported};

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident [$($law:ident)+])+) => {
        /// A fault of a storage.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Fault { $($(#[doc = $doc])+ $variant,)+ }

        impl Fault {
            /// Every fault.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the names of laws that detect the fault, if the harness supports every operation. Other laws may
            /// detect it, too.
            #[must_use]
            pub const fn caught_by(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$(stringify!($law),)+],)+ }
            }
        }
    };
}

faults! {
    /// Appends and creations ignore the expected tip.
    IgnoresExpected [
        law_2_append_needs_the_expected_revision_and_sum
        law_2_a_conflict_changes_nothing
        law_2_exactly_one_of_two_racing_appends_wins
        law_2_concurrent_appends_are_stored_exactly_once
        law_2_a_session_is_created_once
    ]
    /// Only the expected revision is compared, not the checksum.
    ComparesRevisionsOnly [law_2_append_needs_the_expected_revision_and_sum law_2_a_deleted_id_can_be_created_again]
    /// The last record of a batch of several records is not stored, but acknowledged.
    DropsLastRecord [law_1_batches_of_every_size_come_back_in_order law_5_random_calls_agree_with_a_model]
    /// A long log is imported in two appends.
    ImportsInParts [law_1_an_import_is_complete_or_absent]
    /// Pages of records are limited by their number only.
    IgnoresPageBytes [law_5_a_page_of_records_is_bounded_in_bytes]
    /// The last two records of a page are swapped.
    ReordersRecords [law_1_batches_of_every_size_come_back_in_order law_5_records_are_paged_without_gaps_or_repeats]
    /// Appends are acknowledged as flushed but only buffered.
    AcknowledgesBeforeFlush [
        law_3_flushed_changes_survive_power_loss
        law_1_a_crash_leaves_a_prefix_of_unacknowledged_records
        law_3_a_flush_covers_records_that_others_buffered
    ]
    /// Events are stored as JSON values, not as bytes.
    ReEncodes [law_5_records_come_back_byte_identical]
    /// A head is the one before the last append.
    ReturnsPreviousHead [law_1_the_head_is_the_fold_of_the_log_after_each_append]
    /// The limit is checked before the append, not atomically with it.
    RacesTheLimit [
        law_2_racing_creations_never_exceed_the_limit
        law_2_racing_resumes_never_exceed_the_limit
    ]
    /// Deleted sessions reappear on the next append to another session.
    RevivesDeletedSessions [law_2_a_deleted_session_stays_deleted]
    /// A failed flush is acknowledged.
    AcknowledgesFailedFlush [
        law_6_a_failed_flush_is_never_acknowledged
        law_6_a_creation_can_be_retried_after_a_failed_flush
    ]
    /// An append returns the tip before it.
    ReturnsOldTip [law_1_an_append_returns_the_new_tip]
    /// Conflicts do not report the stored tip.
    OmitsStoredTip [law_2_a_conflict_reports_the_expected_and_stored_tips]
    /// An empty batch is not checked against the expected tip.
    FlushesUnchecked [law_2_a_flush_needs_the_expected_tip]
    /// A batch that does not follow the stored log is acknowledged.
    AcceptsHoles [law_2_a_batch_that_does_not_follow_is_refused]
    /// The limit is not checked.
    IgnoresLimit [law_2_the_session_limit_is_enforced]
    /// The limit is checked for creations only.
    IgnoresLimitOfResumes [law_2_a_resumed_session_needs_a_place]
    /// Ended sessions count towards the limit.
    CountsEndedSessions [law_2_sessions_with_an_owner_or_a_start_to_come_hold_places]
    /// Sessions that have lost their owner count towards the limit.
    CountsUnownedSessions [
        law_2_sessions_with_an_owner_or_a_start_to_come_hold_places
        law_2_a_resumed_session_needs_a_place
    ]
    /// The limit is checked before the existence of the session.
    ChecksLimitBeforeExistence [law_2_an_existing_session_is_a_conflict_even_at_the_limit]
    /// A deletion does not check the tip.
    DeletesUnchecked [law_2_a_deletion_needs_the_tip law_2_either_a_racing_deletion_or_append_wins]
    /// The id of a deleted session can never be used again.
    NeverReusesIds [law_2_a_deleted_id_can_be_created_again]
    /// Each handle reads a head once and then returns it from its cache.
    ServesStaleHeads [law_3_acknowledged_changes_are_visible_to_every_handle]
    /// The profile's name is empty.
    HasEmptyName [law_3_the_profile_is_named_and_constant]
    /// The change feed never wakes a waiter.
    NeverWakes [law_3_a_change_feed_wakes_every_waiter]
    /// Buffered records are kept in the process and lost when it dies.
    BuffersInProcessMemory [law_3_buffered_changes_survive_a_kill]
    /// An empty batch flushes nothing.
    SkipsEmptyFlush [law_3_a_flush_covers_records_that_others_buffered]
    /// An append deletes the log and then stores a longer one.
    RewritesInPlace [law_4_a_dropped_append_leaves_a_prefix_of_its_batch]
    /// A creation first takes a place within the limit, and returns it only if it is not dropped.
    LeaksPlaces [law_4_a_dropped_creation_leaves_the_session_or_nothing]
    /// A deletion first truncates the log.
    DeletesInTwoSteps [law_4_a_dropped_deletion_is_complete_or_has_no_effect]
    /// Records above 64 KiB are refused.
    RefusesLargeRecords [law_5_a_record_may_be_as_large_as_the_format_allows]
    /// Heads keep at most eight labels.
    TruncatesLabels [law_5_the_largest_head_comes_back_unchanged]
    /// Records are counted from 0.
    CountsFromZero [law_5_records_are_paged_without_gaps_or_repeats]
    /// A page of a list starts with the session after which it should start.
    RepeatsTheCursor [law_5_a_list_is_paged_without_gaps_or_repeats]
    /// Pages of a list are found by offset, which deletions shift.
    PagesByOffset [law_5_a_list_shows_each_lasting_session_exactly_once]
    /// A session that does not exist has an empty log.
    ReturnsEmptyForMissing [law_5_a_missing_session_is_not_found]
    /// A list ignores the labels of its filter.
    IgnoresLabels [law_5_a_filtered_list_contains_exactly_the_matches]
    /// A damaged log ends where the damage is.
    HidesDamage [law_7_damage_is_never_silent]
    /// A list omits sessions that cannot be read.
    HidesUnreadableSessions [law_7_damage_is_never_silent]
    /// A list fails if one session cannot be read.
    FailsOnUnreadableSessions [law_8_damage_to_one_session_does_not_affect_others]
    /// A deletion also deletes all sessions of the same name.
    DeletesByName [law_8_changes_to_one_session_do_not_affect_others]
}

/// A harness whose handles all have the same fault.
pub struct FaultyHarness {
    inner: Box<dyn Harness>,
    fault: Fault,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for FaultyHarness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyHarness").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl FaultyHarness {
    /// Wraps a harness, whose handles have this fault from now on.
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
