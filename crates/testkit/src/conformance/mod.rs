//! The conformance suite of the lease store's port: one test a rule, run on every store.
//!
//! A store's test binary names its [`Fixture`] in [`crate::lease_store_conformance`]; each case becomes a test
//! of its own. A case sees the port alone.

pub mod blocking;
pub mod checking;
pub mod clocks;
pub mod evidence;
pub mod feed;
pub mod following;
pub mod generations;
pub mod joining;
pub mod lineage;
pub mod minting;
pub mod quotas;
pub mod racing;
pub mod renewing;
pub mod revoking;
pub mod shared;
pub mod side_effects;
pub mod sweeping;
pub mod tasks;
pub mod using;
mod world;

use std::sync::Arc;

use async_trait::async_trait;
use mayfly_lease::LeaseStore;

use crate::clock::TestClock;

pub use world::World;

/// How a store is set up for one test.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The clock by which the store judges; a case moves it.
    fn clock(&self) -> TestClock;

    /// A broker's handle on the store, which has adopted no generation. The first call finds it empty; a
    /// store that allows one process only gives the same handle again.
    async fn store(&mut self) -> Arc<dyn LeaseStore>;

    /// Whether [`Fixture::store`] gives handles of different brokers.
    fn shared(&self) -> bool;

    /// Ends every handle given so far and starts the server, or opens the file, anew.
    async fn restart(&mut self);

    /// Ends every handle given so far and loses one lease's record, as a fail-over may. `false` where that
    /// can't be done.
    async fn lose_record(&mut self, id: mayfly_domain::LeaseId) -> bool;
}

/// Makes a test of every case of the suite for the fixture that the expression makes (it may `await`).
#[macro_export]
macro_rules! lease_store_conformance {
    ($fixture:expr) => {
        $crate::lease_store_cases! { $fixture;
            minting {
                a_token_is_born_active,
                an_account_is_born_reserved,
                the_expiry_is_the_earliest_bound_in_whole_seconds,
                a_nonce_is_used_once_even_after_release_and_expiry,
                a_refused_mint_leaves_nothing,
                an_operators_lease_needs_no_nonce,
            }
            evidence {
                a_token_belongs_to_its_first_key,
                two_forms_of_one_token_belong_to_one_key,
                a_key_may_take_over_three_times_and_ends_what_the_other_got,
                only_a_mint_takes_over,
                evidence_older_than_a_revocation_mints_no_more,
                a_lease_takes_what_its_evidence_observed,
                other_dimensions_are_observed_at_the_mint,
                an_owner_that_the_binding_did_not_know,
                a_binding_is_forgotten_with_its_token,
            }
            joining {
                a_join_token_is_used_by_one_mint,
                only_a_mint_uses_a_join_token,
                a_revocation_after_its_making_refuses_a_join_token,
                a_withdrawn_join_token_mints_nothing,
                a_join_token_is_made_once,
                a_join_token_ends_by_itself,
                a_refused_mint_uses_no_join_token_up,
                a_new_generation_takes_no_older_join_token,
                uses_and_withdrawals_race,
            }
            tasks {
                a_task_is_opened_once_and_joined,
                another_workload_may_not_join,
                an_ended_task_is_not_opened_again,
                completing_is_idempotent_and_ends_leases,
                completing_what_was_never_opened_keeps_it_shut,
                an_operator_completes_only_what_is_there,
                a_window_that_is_over_takes_nobody_in,
                a_completion_needs_the_token_of_its_key,
            }
            quotas {
                live_leases_count_until_their_hard_expiry,
                a_rate_is_limited_and_says_how_long_to_wait,
                a_refused_mint_takes_nothing_from_the_rate,
            }
            renewing {
                a_renewal_keeps_the_first_observation,
                a_renewal_extends_the_index,
                only_the_holder_renews,
                a_renewal_ends_with_lineage_and_window,
                blocks_fences_and_ends_refuse_a_renewal,
                a_renewal_spends_its_nonce,
                a_lease_with_a_side_effect_is_not_renewed,
                a_renewal_may_change_the_key,
                a_lease_names_what_signed_it,
                the_version_of_the_keys_comes_along,
            }
            checking {
                a_check_says_why_not,
                a_carried_observation_must_be_the_records,
                a_holder_ends_only_its_own_lease,
                ending_twice_is_said,
            }
            revoking {
                each_dimension_ends_its_leases_and_no_others,
                everything_spares_operators,
                a_revoked_lease_is_dead_at_once_and_shown_so,
                an_unknown_lease_is_marked_all_the_same,
                a_mark_keeps_its_later_end,
                fences_only_grow_within_a_millisecond,
                a_revocation_can_be_followed_by_a_new_lease,
                a_fence_outlives_every_lease_that_it_ended,
                a_revocation_says_how_leases_are_checked,
                an_exposure_follows_renewals,
            }
            blocking {
                a_block_refuses_until_it_is_lifted,
                a_block_ends_by_itself,
                a_block_comes_with_its_fence,
                lifting_revives_nothing,
                a_block_does_not_bring_a_lapsed_fence_back,
                versions_only_grow,
                what_is_known_is_known,
            }
            lineage {
                a_child_dies_with_its_parent_by_id,
                a_child_dies_with_its_parents_fence,
                a_dead_parent_has_no_children,
                a_child_ends_no_later_than_its_parent,
                a_child_stands_under_its_parents_blocks,
                a_lineage_is_bounded,
                a_family_shares_its_parents_fate,
                a_renewed_parent_hands_on_its_first_observation,
                a_renewed_child_stays_a_child,
            }
            sweeping {
                a_sweep_ends_what_the_fence_made_dead,
                a_sweep_by_profile_walks_everything,
                a_sweep_goes_on_where_it_stopped,
                a_takeover_is_swept,
                a_claim_keeps_others_away_for_a_while,
                a_done_job_stays_done,
                a_revocation_that_nobody_explained_is_kept_briefly,
                a_sweep_ends_descendants_with_side_effects,
                a_list_is_complete_and_stable_while_leases_come,
                lists_along_a_subject,
                a_page_may_end_between_modes,
            }
            generations {
                nothing_works_before_one_is_adopted,
                another_generation_changes_nothing,
                an_older_number_starts_nothing,
                blocks_and_keys_are_carried_by_version,
                what_was_minted_before_is_dead,
                evidence_from_before_is_refused,
                everything_is_there_after_a_restart,
            }
            clocks {
                a_clock_that_was_far_ahead_revives_nothing,
                a_clock_that_was_a_little_ahead_loses_nothing,
                a_clock_that_goes_on_after_a_pause_loses_nothing,
            }
            feed {
                each_change_is_one_event,
                what_changes_nothing_is_no_event,
                a_reader_waits_for_what_comes,
                a_reader_may_walk_away,
                an_unknown_position_is_lost,
                a_reader_learns_of_another_generation,
                a_snapshot_has_what_stands,
                a_fence_that_is_over_is_none_in_a_snapshot,
                a_lifted_block_brings_no_fence_back,
                followers_end_with_the_truth,
            }
            following {
                a_ping_says_where_the_feed_stands,
                only_those_behind_are_named,
                a_number_of_another_epoch_counts_as_none,
                a_follower_is_forgotten,
                many_pings_are_one_durable_write,
            }
            using {
                uses_add_up,
                uses_are_forgotten,
                what_is_counted_is_bounded,
            }
            shared {
                keys_are_replaced_by_version,
                brokers_are_seen_while_they_live,
                two_brokers_see_one_store,
                counts_count,
            }
            side_effects {
                the_whole_order,
                a_crash_before_the_file,
                a_crash_after_the_file,
                a_lost_answer_to_the_confirmation,
                a_revocation_before_the_confirmation,
                a_block_before_the_confirmation,
                a_revoked_ancestor_before_the_confirmation,
                a_maker_that_is_late,
                a_reaper_that_dies_before_it_confirms,
                two_reapers,
                a_target_that_fails,
                expiry_without_anybody,
                a_lost_record_is_found_by_the_scan,
                the_scan_spares_what_lives,
                superseded_evidence_is_found_by_the_scan,
                no_account_outlives_its_lease,
            }
            racing {
                revocations_race_mints,
                revocations_race_renewals_and_children,
                one_nonce_mints_once,
                one_token_binds_one_key,
            }
        }
    };
}

/// One test for each case of each module.
#[doc(hidden)]
#[macro_export]
macro_rules! lease_store_cases {
    ($fixture:expr; $($module:ident { $($case:ident),* $(,)? })*) => {
        $(mod $module {
            #[allow(unused_imports, reason = "the fixture's expression may name anything of its file")]
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = $crate::conformance::World::new(Box::new($fixture)).await;
                $crate::conformance::$module::$case(world).await;
            })*
        })*
    };
}
