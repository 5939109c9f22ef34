//! One workload's question to policy, with what all its variants share.
//!
//! This module must never decide: it says what is asked, and by which words.

use std::sync::Arc;

use cedar_policy::{Entities, EntityUid, Request};
use mayfly_domain::{Intent, San, Scopes, Ttl, defaults};

use crate::engine::{Engine, Prepared};
use crate::facts::{Ask, Who};
use crate::profile::{Profile, TokenProfile};
use crate::words::{self, Words, WordsError};

/// A question about a profile, or about the decoy in place of one that does not exist.
pub(crate) struct Case<'a> {
    words: &'a Words,
    who: &'a Who<'a>,
    pub(crate) ask: &'a Ask<'a>,
    pub(crate) prepared: &'a Prepared,
    principal: EntityUid,
    pub(crate) entities: Entities,
}

impl<'a> Case<'a> {
    pub(crate) fn new(engine: &'a Engine, who: &'a Who<'a>, ask: &'a Ask<'a>) -> Result<Self, WordsError> {
        let prepared = engine.profiles.get(ask.profile).unwrap_or(&engine.decoy);
        let principal = engine.words.workload_entity(who)?;
        let uid = principal.uid();
        let entities = words::with_entities(&prepared.entities, [principal])?;
        Ok(Self { words: &engine.words, who, ask, prepared, principal: uid, entities })
    }

    /// The profile; none: there is none of this name.
    pub(crate) fn profile(&self) -> Option<&'a Arc<Profile>> {
        self.prepared.profile.as_ref()
    }

    fn token(&self) -> Option<&'a TokenProfile> {
        self.profile().and_then(|p| p.token())
    }

    /// What is asked, for operators.
    pub(crate) fn what(&self) -> String {
        format!("`{}` of profile `{}`", self.ask.action.as_str(), self.ask.profile)
    }

    /// The listed intent that is asked for, or the only one listed where none is.
    pub(crate) fn intent(&self) -> Option<&'a Intent> {
        let listed = self.profile()?.intents.as_slice();
        match (self.ask.intent, listed) {
            (Some(asked), _) => listed.iter().find(|i| *i == asked),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// Whether the profile grants every scope that is asked for.
    pub(crate) fn in_scope(&self) -> bool {
        match self.token() {
            Some(token) => self.ask.scopes.is_subset(&token.scopes),
            None => self.ask.scopes.is_empty(),
        }
    }

    /// The scopes that are asked for; the profile's where there are none.
    pub(crate) fn scopes(&self) -> &'a Scopes {
        let all = self.token().map(|t| &t.scopes);
        all.filter(|_| self.ask.scopes.is_empty()).unwrap_or(self.ask.scopes)
    }

    /// Every name that the profile's certificate can have for this workload.
    pub(crate) fn all_names(&self) -> Vec<San> {
        self.profile().map(|p| p.names(self.who.workload, self.who.tags)).unwrap_or_default()
    }

    /// The life that is asked for, or the default, within the profile's longest.
    pub(crate) fn ttl(&self) -> Ttl {
        let lives = self.profile().map(|p| p.lives());
        let (default, max) = lives.unwrap_or((defaults::TOKEN_TTL, defaults::TOKEN_TTL_MAX));
        self.ask.ttl.unwrap_or(default).min(max)
    }

    /// The request with an intent and scopes.
    pub(crate) fn request(&self, intent: &str, scopes: &Scopes) -> Result<Request, WordsError> {
        let audience = self.token().map_or("", |t| t.audience.as_str());
        let ttl_s = self.ttl().as_secs();
        let context = self.words.workload_context(&self.who.proven, intent, ttl_s, scopes, audience)?;
        let action = self.words.action(self.ask.action.as_str());
        words::request(self.principal.clone(), action, self.prepared.uid.clone(), context)
    }
}
