//! The one list of laws: whatever stands here reaches every backend.

/// Makes a test of each law, for one backend.
///
/// The argument is an async function, or a closure that returns a future, which makes a new and empty
/// [`Harness`](crate::Harness): each law gets one of its own. The tests appear where the macro stands, under the
/// names of the laws; put it in a module of its own.
///
/// ```no_run
/// mod laws {
///     use session_testkit::{MemorySubject, storage_laws};
///
///     storage_laws!(|| async { MemorySubject::default() });
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! storage_laws {
    ($factory:expr) => {
        $crate::__law_list!(@tests ($factory));
    };
}

/// The list, for the macro above and for [`LAWS`](crate::LAWS).
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
            "However a log is cut into batches, it comes back whole and in order."
        order law_1_the_head_is_the_fold_of_the_log_after_each_append
            "After each append the head is the fold of the log, alone and in a list."
        order law_1_an_append_returns_the_new_tip
            "An append answers with the tip of the log; a flush with the tip that is there."
        crash law_1_a_crash_leaves_a_prefix_of_unacknowledged_records
            "After power loss a log is what was flushed and a prefix of the rest: no hole, no other order, and it can be written."

        expectation law_2_append_needs_the_expected_revision_and_sum
            "An append that expects another revision or another sum than what is stored is a conflict, whatever they are."
        expectation law_2_a_conflict_reports_the_expected_and_stored_tips
            "A conflict says which session, what was expected and what is there."
        expectation law_2_a_conflict_changes_nothing
            "After a conflict every byte, head and list is as before."
        expectation law_2_a_flush_needs_the_expected_tip
            "An empty batch is held to what it expects like any other, and creates nothing."
        expectation law_2_a_batch_that_does_not_follow_is_refused
            "A batch whose first record does not follow what is expected is refused, and nothing changes."
        expectation law_2_concurrent_appends_are_stored_exactly_once
            "Eight writers who race with what they read last: exactly what was acknowledged is there, once."
        expectation law_2_exactly_one_of_two_racing_appends_wins
            "Two appends to the same tip: one is stored, the other is a conflict that names it."

        creation law_2_a_session_is_created_once
            "Of many who create the same session exactly one does; the others learn of its tip."
        creation law_2_the_session_limit_is_enforced
            "Within a limit, sessions are created up to it and not beyond; what is refused leaves no trace."
        creation law_2_racing_creations_never_exceed_the_limit
            "Many creators at once, through several handles, never exceed the limit, and reach it."
        creation law_2_only_active_sessions_count_towards_the_limit
            "Only sessions that have not ended count for a limit."
        creation law_2_an_existing_session_is_a_conflict_even_at_the_limit
            "Whoever creates a session that exists learns that it exists, not that there is no room."

        deletion law_2_a_deletion_needs_the_tip
            "A session is deleted only by whoever knows its tip."
        deletion law_2_a_deleted_session_stays_deleted
            "A deleted session is gone for everyone and from everything, whatever is done to others."
        deletion law_2_a_deleted_id_can_be_created_again
            "An id whose session was deleted begins again with record 1, and shows nothing of what was."
        deletion law_2_either_a_racing_deletion_or_append_wins
            "A deletion and an append that expect the same tip: exactly one of them takes place."

        visibility law_3_acknowledged_changes_are_visible_to_every_handle
            "After each acknowledgement, flushed or not, every handle reads the same: log, head and list."
        crash law_3_flushed_changes_survive_power_loss
            "Whatever was acknowledged as flushed, creations, appends, endings and deletions, survives power loss."
        crash law_3_a_flush_covers_records_that_others_buffered
            "A flush makes everything in the log survive power loss, whoever appended it."
        crash law_3_buffered_changes_survive_a_kill
            "Whatever was acknowledged as buffered survives the death of the process."
        visibility law_3_the_profile_is_named_and_constant
            "The profile has a name and is the same for every handle at any time."
        visibility law_3_a_change_feed_wakes_every_waiter
            "Whoever waits with a change feed is woken by an append, a deletion, and by what came before the wait."

        dropped law_4_a_dropped_append_leaves_a_prefix_of_its_batch
            "An append that is dropped after any number of polls leaves a prefix of its batch behind what was there."
        dropped law_4_a_dropped_creation_leaves_the_session_or_nothing
            "A creation that is dropped after any number of polls leaves the session or nothing, and keeps no place."
        dropped law_4_a_dropped_deletion_is_complete_or_has_no_effect
            "A deletion that is dropped after any number of polls leaves the session whole or gone."

        bytes law_5_records_come_back_byte_identical
            "Escapes, scripts, numbers and spellings of them, nesting: each line comes back byte by byte."
        bytes law_5_a_record_may_be_as_large_as_the_format_allows
            "Records from small to the limit of the format come back byte by byte."
        bytes law_5_the_largest_head_comes_back_unchanged
            "A head of the largest size, of any texts, comes back as it was given."

        paging law_5_records_are_paged_without_gaps_or_repeats
            "With every limit, from every revision, the pages of a log are what follows, in order."
        paging law_5_a_list_is_paged_without_gaps_or_repeats
            "With every limit, after every id, the pages of a list are what follows, in order."
        paging law_5_a_missing_session_is_not_found
            "A session that does not exist has no head, no records and cannot be deleted."
        listing law_5_a_filtered_list_contains_exactly_the_matches
            "A list under any filter is exactly the heads that the filter matches."
        listing law_5_a_list_shows_each_lasting_session_exactly_once
            "While sessions come, grow, end and go, a list shows each one that lasts exactly once."
        model law_5_random_calls_agree_with_a_model
            "Random calls, right and wrong, through several handles: every answer is that of a simple model."

        flush law_6_a_failed_flush_is_never_acknowledged
            "After a flush failed nothing is acknowledged that power loss takes, by no handle, and the session goes on."
        flush law_6_a_creation_can_be_retried_after_a_failed_flush
            "A session whose first flush failed is there in the end, or is created by whoever tries again."

        damage law_7_damage_is_never_silent
            "Whatever is read of a damaged session is what was acknowledged, or an error."

        damage law_8_damage_to_one_session_does_not_affect_others
            "Beside damaged sessions all others are read, written, listed, created and deleted as ever."
        damage law_8_changes_to_one_session_do_not_affect_others
            "Whatever is done to one session, all others are as they were."
    }};
}

use crate::law::Law;

/// All laws, in the order of their numbers. New ones may be added with any version; none is ever weakened.
pub const LAWS: &[Law] = __law_list!(@laws (Law));
