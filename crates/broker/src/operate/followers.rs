//! Who follows the feed, and what credentials are used for.

use mayfly_domain::{Intent, ProfileName, Refusal, Scopes, Subject};
use mayfly_lease::StoreError;
use mayfly_lease::feed::{Followers, UsageCount};
use mayfly_policy::{OperatorAction, Target};

use super::names::Named;
use crate::broker::Broker;
use crate::call::Call;
use crate::staff::Operator;

/// Every follower, and where the feed stands.
#[derive(Debug, Clone, Default)]
pub struct FollowerList {
    /// The followers with their last signs of life, and the store's clock.
    pub followers: Followers,
    /// The number of the last event.
    pub number: u64,
}

/// What was used with a profile, and what it grants.
#[derive(Debug, Clone)]
pub struct ProfileUsage {
    /// Day by day.
    pub counts: Vec<UsageCount>,
    /// Every scope that it grants; none where the profile is gone.
    pub scopes: Scopes,
    /// Every intent that it lists.
    pub intents: Vec<Intent>,
}

impl Broker {
    /// Every follower.
    ///
    /// # Errors
    /// Policy's or the store's refusal.
    pub async fn followers(&self, call: &Call, operator: &Operator) -> Result<FollowerList, Refusal> {
        self.permit(call, operator, OperatorAction::List, self.anything())?;
        self.follower_list().await.map_err(|e| self.refused(e))
    }

    pub(crate) async fn follower_list(&self) -> Result<FollowerList, StoreError> {
        let store = self.leases().store();
        let followers = store.followers_behind(u64::MAX).await?;
        self.saw_store(followers.now);
        Ok(FollowerList { followers, number: store.feed_position().await?.number })
    }

    /// What was used with a profile over the days that are kept.
    ///
    /// # Errors
    /// `NOT_FOUND` for a profile that nothing knows; policy's or the store's refusal.
    pub async fn profile_usage(
        &self,
        call: &Call,
        operator: &Operator,
        profile: &ProfileName,
    ) -> Result<ProfileUsage, Refusal> {
        let subject = Subject::Profile(profile.clone());
        self.permit(call, operator, OperatorAction::List, Target::Subject(subject.clone()))?;
        let counts = self.leases().store().usage(profile).await.map_err(|e| self.refused(e))?;
        if counts.is_empty() {
            self.known(&Named { subject, force: false }).await?;
        }
        let running = self.running();
        let known = running.engine.profile(profile);
        Ok(ProfileUsage {
            counts,
            scopes: known.and_then(|p| p.token().map(|t| t.scopes.clone())).unwrap_or_default(),
            intents: known.map(|p| p.intents.clone()).unwrap_or_default(),
        })
    }
}
