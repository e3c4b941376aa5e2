//! The list of laws that every backend runs.

/// Defines one test for each law, for one backend.
///
/// The argument is an async function or a closure that returns a future. It creates a new and empty
/// [`Harness`](crate::Harness), one for each law. The tests are defined in the module of the macro call, under the
/// names of the laws, so give it a module of its own.
///
/// ```no_run
/// mod laws {
///     use session_testkit::{MemoryHarness, storage_laws};
///
///     storage_laws!(|| async { MemoryHarness::default() });
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! storage_laws {
    ($factory:expr) => {
        $crate::__law_list!(@tests ($factory));
    };
}

/// The list, for the macro above and for [`LAWS`].
#[doc(hidden)]
#[macro_export]
macro_rules! __law_list {
    (@tests ($factory:expr) $($module:ident $name:ident $sentence:literal)+) => {$(
        #[doc = $sentence]
        #[test]
        fn $name() {
            $crate::test_law(stringify!($name), $factory);
        }
    )+};
    (@laws ($type:ident) $($module:ident $name:ident $sentence:literal)+) => {
        &[$($type {
            name: stringify!($name),
            sentence: $sentence,
            run: |harness| Box::pin($crate::laws::$module::$name(harness)),
        },)+]
    };
    (@$then:ident $arg:tt) => { $crate::__law_list! { @$then $arg
        order law_1_batches_of_every_size_come_back_in_order
            "A log comes back complete and in order, however it is split into batches."
        order law_1_the_head_is_the_fold_of_the_log_after_each_append
            "After each append, the head equals the fold of the log, read alone or in a list."
        order law_1_an_append_returns_the_new_tip
            "An append returns the new tip of the log; an empty batch returns the stored tip."
        import law_1_an_import_is_complete_or_absent
            "The log of a session that is being imported is complete or absent for every reader, whatever its length."
        crash law_1_a_crash_leaves_a_prefix_of_unacknowledged_records
            "After power loss, a log holds everything flushed and a prefix of the rest, without holes, and accepts appends."

        expectation law_2_append_needs_the_expected_revision_and_sum
            "An append is a conflict if the revision or the checksum that it expects differs from the stored one."
        expectation law_2_a_conflict_reports_the_expected_and_stored_tips
            "A conflict reports the session, the expected tip and the stored tip."
        expectation law_2_a_conflict_changes_nothing
            "A conflict changes no record, head or list."
        expectation law_2_a_flush_needs_the_expected_tip
            "An empty batch needs the expected tip like any other, and never creates a session."
        expectation law_2_a_batch_that_does_not_follow_is_refused
            "A batch whose first record does not follow the expected tip is refused and changes nothing."
        expectation law_2_concurrent_appends_are_stored_exactly_once
            "When eight writers append concurrently, exactly the acknowledged records are stored, each once."
        expectation law_2_exactly_one_of_two_racing_appends_wins
            "Of two concurrent appends to the same tip, one is stored and the other is a conflict that reports the new tip."

        creation law_2_a_session_is_created_once
            "Of many concurrent creations of a session, one succeeds and the others are conflicts that report its tip."
        creation law_2_the_session_limit_is_enforced
            "Sessions are created up to the limit and not beyond it; a refused creation leaves no trace."
        creation law_2_racing_creations_never_exceed_the_limit
            "Concurrent creations through several handles reach the limit and never exceed it."
        creation law_2_racing_resumes_never_exceed_the_limit
            "Concurrent creations and resumes through several handles reach the limit and never exceed it."
        creation law_2_sessions_with_an_owner_or_a_start_to_come_hold_places
            "Sessions with an owner, dead or alive, or with a start to come hold a place within the limit; ended and unowned ones do not."
        creation law_2_a_resumed_session_needs_a_place
            "A session without an owner is resumed within the limit only if there is a free place; a refused resume changes nothing."
        creation law_2_an_existing_session_is_a_conflict_even_at_the_limit
            "Creating a session that exists is a conflict, even if the limit is reached."

        deletion law_2_a_deletion_needs_the_tip
            "A deletion is a conflict unless it names the tip of the session."
        deletion law_2_a_deleted_session_stays_deleted
            "A deleted session is gone from every handle and list, and later changes to other sessions do not restore it."
        deletion law_2_a_deleted_id_can_be_created_again
            "The id of a deleted session can be created again; the new log starts at record 1 and shows nothing of the old one."
        deletion law_2_either_a_racing_deletion_or_append_wins
            "Of a concurrent deletion and append that expect the same tip, exactly one succeeds."

        visibility law_3_acknowledged_changes_are_visible_to_every_handle
            "After each acknowledgement, flushed or buffered, every handle reads the same log, head and list."
        crash law_3_flushed_changes_survive_power_loss
            "Every creation, append, end and deletion that was acknowledged as flushed survives power loss."
        crash law_3_a_flush_covers_records_that_others_buffered
            "After a flush the whole log survives power loss, including records that other handles buffered."
        crash law_3_buffered_changes_survive_a_kill
            "Every change that was acknowledged as buffered survives the death of the process."
        visibility law_3_the_profile_is_named_and_constant
            "The profile has a name, and is the same for every handle at any time."
        visibility law_3_a_change_feed_wakes_every_waiter
            "A change feed wakes its waiters on an append, on a deletion, and on a change from before the wait."

        dropped law_4_a_dropped_append_leaves_a_prefix_of_its_batch
            "An append dropped after any number of polls leaves the old log and a prefix of the batch."
        dropped law_4_a_dropped_creation_leaves_the_session_or_nothing
            "A creation dropped after any number of polls leaves the session or nothing, and takes no place within the limit."
        dropped law_4_a_dropped_deletion_is_complete_or_has_no_effect
            "A deletion dropped after any number of polls leaves the session complete or gone."

        bytes law_5_records_come_back_byte_identical
            "Every line comes back byte for byte, with any escapes, scripts, spellings of numbers and nesting."
        bytes law_5_a_record_may_be_as_large_as_the_format_allows
            "Records of every size up to the limit of the format come back byte for byte."
        bytes law_5_the_largest_head_comes_back_unchanged
            "A head of the largest size, with any text, comes back unchanged."

        paging law_5_records_are_paged_without_gaps_or_repeats
            "For every page size and start revision, the pages of a log are the records that follow, in order."
        import law_5_a_page_of_records_is_bounded_in_bytes
            "A page of records ends with the record that brings its lines to the limit in bytes."
        paging law_5_a_list_is_paged_without_gaps_or_repeats
            "For every page size and start id, the pages of a list are the heads that follow, in order."
        paging law_5_a_missing_session_is_not_found
            "A session that does not exist has no head and no records, and cannot be deleted."
        listing law_5_a_filtered_list_contains_exactly_the_matches
            "A list contains exactly the heads that its filter matches."
        listing law_5_a_list_shows_each_lasting_session_exactly_once
            "While sessions are created, appended to, ended and deleted, a list shows every lasting session exactly once."
        model law_5_random_calls_agree_with_a_model
            "Random calls, valid and invalid, through several handles return what a simple model returns."

        flush law_6_a_failed_flush_is_never_acknowledged
            "After a failed flush, no handle acknowledges anything that power loss would remove, and the session stays usable."
        flush law_6_a_creation_can_be_retried_after_a_failed_flush
            "A creation whose flush failed is either stored or can be retried."

        damage law_7_damage_is_never_silent
            "Every read of a damaged session returns what was acknowledged, or an error."

        damage law_8_damage_to_one_session_does_not_affect_others
            "With damaged sessions in the store, all others can be read, appended to, listed, created and deleted."
        damage law_8_changes_to_one_session_do_not_affect_others
            "A change to one session leaves all others unchanged."
    }};
}

use crate::law::Law;

/// All laws, in the order of their numbers. Any version may add laws; none is ever weakened.
pub const LAWS: &[Law] = __law_list!(@laws (Law));
