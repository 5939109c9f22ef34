//! The schema, and how Mayfly's words become Cedar's: entity types, entities, contexts.
//!
//! This module must never decide anything.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Value,
    Schema,
};
use mayfly_domain::{Binding, OperatorName, Subject, UnixMillis};

use crate::authorized::Target;
use crate::facts::{Proven, Who};
use crate::profile::Profile;
use crate::request::{RequestAsk, RequestFacts};

#[cfg(test)]
mod tests;

/// Mayfly's own part of the schema that every policy is validated against.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// The last moment that a Cedar `datetime` of four-digit years can be.
const LAST_MS: u64 = 253_402_300_799_999;

/// A fault in making Cedar's data of ours; it denies.
#[derive(Debug, thiserror::Error)]
#[error("could not make the policy engine's request: {0}")]
pub(crate) struct WordsError(String);

impl WordsError {
    fn of(e: impl std::fmt::Display) -> Self {
        Self(e.to_string())
    }
}

/// The parsed schema and the names of its types.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) schema: Schema,
    pub(crate) owner: EntityTypeName,
    pub(crate) integration: EntityTypeName,
    pub(crate) group: EntityTypeName,
    pub(crate) trust_domain: EntityTypeName,
    pub(crate) workload: EntityTypeName,
    pub(crate) operator: EntityTypeName,
    pub(crate) acceptor: EntityTypeName,
    pub(crate) profile: EntityTypeName,
    pub(crate) task: EntityTypeName,
    pub(crate) lease: EntityTypeName,
    pub(crate) action: EntityTypeName,
    peer: Lately<Option<IpAddr>>,
    now: Lately<UnixMillis>,
}

/// The value made last: Cedar parses the name of an extension's function anew for each value of its type, which
/// is a fifth of a decision, and calls of one peer or one second come together.
#[derive(Debug, Default)]
struct Lately<K>(Mutex<Option<(K, Value)>>);

impl<K: PartialEq> Lately<K> {
    fn of(&self, key: K, make: impl FnOnce() -> Value) -> Value {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, value)) if *known == key => value.clone(),
            _ => last.insert((key, make())).1.clone(),
        }
    }
}

impl Words {
    /// The words of a schema that holds [`SCHEMA`].
    pub(crate) fn of(schema: Schema) -> Result<Self, WordsError> {
        let name = |text: &str| text.parse::<EntityTypeName>().map_err(WordsError::of);
        Ok(Self {
            schema,
            owner: name("Mayfly::Owner")?,
            integration: name("Mayfly::Integration")?,
            group: name("Mayfly::Group")?,
            trust_domain: name("Mayfly::TrustDomain")?,
            workload: name("Mayfly::Workload")?,
            operator: name("Mayfly::Operator")?,
            acceptor: name("Mayfly::Acceptor")?,
            profile: name("Mayfly::Profile")?,
            task: name("Mayfly::Task")?,
            lease: name("Mayfly::Lease")?,
            action: name("Mayfly::Action")?,
            peer: Lately::default(),
            now: Lately::default(),
        })
    }

    /// The types that an operator's action can be about.
    pub(crate) fn target_types(&self) -> [&EntityTypeName; 7] {
        [
            &self.owner,
            &self.workload,
            &self.task,
            &self.profile,
            &self.integration,
            &self.trust_domain,
            &self.lease,
        ]
    }

    pub(crate) fn profile_uid(&self, profile: &Profile) -> EntityUid {
        uid(&self.profile, profile.name.as_str())
    }

    pub(crate) fn profile_parents(&self, profile: &Profile) -> [EntityUid; 2] {
        [uid(&self.owner, profile.owner.as_str()), uid(&self.integration, profile.integration.as_str())]
    }

    pub(crate) fn profile_entity(&self, profile: &Profile) -> Result<Entity, WordsError> {
        let environment = profile.environment.as_ref().map_or("", |e| e.as_str());
        self.any_profile(self.profile_uid(profile), environment, self.profile_parents(profile))
    }

    pub(crate) fn any_profile(
        &self,
        uid: EntityUid,
        environment: &str,
        parents: impl IntoIterator<Item = EntityUid>,
    ) -> Result<Entity, WordsError> {
        let environment = ("environment".to_owned(), Value::new_string(environment.to_owned()));
        Entity::new_with_tags(uid, [environment], parents, []).map_err(WordsError::of)
    }

    pub(crate) fn workload_entity(&self, who: &Who<'_>) -> Result<Entity, WordsError> {
        let text = |s: &str| Value::new_string(s.to_owned());
        Entity::new_with_tags(
            uid(&self.workload, who.workload.as_str()),
            who.environment.map(|e| ("environment".to_owned(), text(e.as_str()))),
            who.owners.iter().map(|o| uid(&self.owner, o.as_str())),
            who.tags.iter().map(|(k, v)| (k.clone(), text(v))),
        )
        .map_err(WordsError::of)
    }

    pub(crate) fn operator_entity<'a>(
        &self,
        name: &OperatorName,
        groups: impl Iterator<Item = &'a mayfly_domain::GroupName>,
    ) -> Entity {
        let groups: HashSet<EntityUid> = groups.map(|g| uid(&self.group, g.as_str())).collect();
        Entity::new_no_attrs(uid(&self.operator, name.as_str()), groups)
    }

    /// What an operator names, as a uid and the entities that make its place in the hierarchy known.
    /// `profile` finds a loaded profile's entity. No uid: it is nothing that a policy can speak of.
    pub(crate) fn target(
        &self,
        target: &Target,
        profile: impl Fn(&mayfly_domain::ProfileName) -> Option<Entity>,
    ) -> Option<(EntityUid, Vec<Entity>)> {
        let alone = |kind: &EntityTypeName, id: &str| {
            let uid = uid(kind, id);
            (uid.clone(), vec![Entity::with_uid(uid)])
        };
        Some(match target {
            Target::Subject(Subject::Workload(id)) => alone(&self.workload, id.as_str()),
            Target::Subject(Subject::Owner(owner)) => alone(&self.owner, owner.as_str()),
            Target::Subject(Subject::Task(task)) => alone(&self.task, task.as_str()),
            Target::Subject(Subject::Integration(name)) => alone(&self.integration, name.as_str()),
            Target::Subject(Subject::Everything(domain)) => alone(&self.trust_domain, domain.as_str()),
            Target::Subject(Subject::Profile(name)) => {
                let uid = uid(&self.profile, name.as_str());
                let entity = match profile(name) {
                    Some(entity) => entity,
                    None => self.any_profile(uid.clone(), "", []).ok()?,
                };
                (uid, vec![entity])
            }
            Target::Subject(Subject::Evidence(_)) => return None,
            Target::Lease { id, workload, owners, profile: of, task } => {
                let lease = uid(&self.lease, &id.to_string());
                let holder = uid(&self.workload, workload.as_str());
                let mut parents = HashSet::from([holder.clone()]);
                let owners = owners.iter().map(|o| uid(&self.owner, o.as_str())).collect();
                let mut entities = vec![Entity::new_no_attrs(holder.clone(), owners)];
                if let Some(name) = of {
                    parents.insert(uid(&self.profile, name.as_str()));
                    entities.extend(profile(name));
                }
                if let Some(task) = task {
                    let task = uid(&self.task, task.as_str());
                    parents.insert(task.clone());
                    entities.push(Entity::new_no_attrs(task, HashSet::from([holder])));
                }
                entities.push(Entity::new_no_attrs(lease.clone(), parents));
                (lease, entities)
            }
            Target::Workload { id, owner, environment } => {
                let workload = uid(&self.workload, id.as_str());
                let text = |e: &mayfly_domain::Environment| Value::new_string(e.as_str().to_owned());
                let environment = environment.as_ref().map(|e| ("environment".to_owned(), text(e)));
                let owner = uid(&self.owner, owner.as_str());
                let entity = Entity::new_with_tags(workload.clone(), environment, [owner], []).ok()?;
                (workload, vec![entity])
            }
        })
    }

    pub(crate) fn action(&self, name: &str) -> EntityUid {
        uid(&self.action, name)
    }

    /// The context of a workload's request.
    pub(crate) fn workload_context(
        &self,
        proven: &Proven<'_>,
        intent: &str,
        ttl_s: u32,
        scopes: &mayfly_domain::Scopes,
        audience: &str,
    ) -> Result<Context, WordsError> {
        let text = |s: &str| Value::new_string(s.to_owned());
        let claimed = Value::new_record([
            ("intent".to_owned(), text(intent)),
            ("ttl_s".to_owned(), Value::new_long(i64::from(ttl_s))),
            ("scopes".to_owned(), Value::new_set(scopes.iter().map(|s| text(s.as_str())))),
            ("audience".to_owned(), text(audience)),
        ])
        .map_err(WordsError::of)?;
        Context::from_pairs([
            ("proven".to_owned(), self.proven_record(proven)?),
            ("claimed".to_owned(), claimed),
        ])
        .map_err(WordsError::of)
    }

    fn proven_record(&self, proven: &Proven<'_>) -> Result<Value, WordsError> {
        let text = |s: &str| Value::new_string(s.to_owned());
        Value::new_record([
            ("attestation".to_owned(), text(proven.attestation)),
            ("key".to_owned(), text(proven.key)),
            ("peer".to_owned(), self.address(proven.peer)),
            ("now".to_owned(), self.second(proven.at)),
            ("task".to_owned(), text(proven.task)),
        ])
        .map_err(WordsError::of)
    }

    fn address(&self, address: Option<IpAddr>) -> Value {
        // An address that is IPv4 within IPv6 is the IPv4 one to whoever writes a policy.
        let shown = || address.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_canonical().to_string());
        self.peer.of(address, || Value::new_ip(shown()))
    }

    fn second(&self, at: UnixMillis) -> Value {
        let now = at.floor_secs();
        self.now.of(now, || Value::new_datetime(datetime(now)))
    }

    /// The context of a request.
    pub(crate) fn request_context(
        &self,
        facts: &RequestFacts<'_>,
        ask: &RequestAsk,
    ) -> Result<Context, WordsError> {
        let text = |s: &str| Value::new_string(s.to_owned());
        let shown = Value::new_record([
            ("lease".to_owned(), Value::new_string(facts.lease.to_string())),
            ("task".to_owned(), text(facts.task.as_str())),
            ("profile".to_owned(), text(facts.profile.map_or("", |p| p.as_str()))),
            ("key".to_owned(), Value::new_string(facts.key.map_or_else(String::new, |k| k.to_string()))),
            ("binding".to_owned(), text(facts.binding.map_or("", Binding::as_str))),
            ("source".to_owned(), self.address(ask.source)),
            ("now".to_owned(), self.second(facts.at)),
        ])
        .map_err(WordsError::of)?;
        let wanted = Value::new_record([
            ("method".to_owned(), text(&ask.method)),
            ("path".to_owned(), text(&ask.path)),
            ("scopes".to_owned(), Value::new_set(facts.scopes.iter().map(|s| text(s.as_str())))),
            ("intent".to_owned(), text(facts.intent.as_str())),
        ])
        .map_err(WordsError::of)?;
        Context::from_pairs([("proven".to_owned(), shown), ("request".to_owned(), wanted)])
            .map_err(WordsError::of)
    }

    /// A workload as a credential shows it: with its owners and nothing else.
    pub(crate) fn shown_workload(&self, facts: &RequestFacts<'_>) -> Entity {
        let owners = facts.owners.iter().map(|o| uid(&self.owner, o.as_str())).collect();
        Entity::new_no_attrs(uid(&self.workload, facts.workload.as_str()), owners)
    }

    /// The context of a request whose caller is one of Mayfly's own: an operator or an acceptor.
    pub(crate) fn staff_context(&self, proven: &Proven<'_>) -> Result<Context, WordsError> {
        Context::from_pairs([("proven".to_owned(), self.proven_record(proven)?)]).map_err(WordsError::of)
    }
}

/// The uid `kind::"id"`.
pub(crate) fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// A request. It is not checked against the schema: everything in it is made by this module.
pub(crate) fn request(
    principal: EntityUid,
    action: EntityUid,
    resource: EntityUid,
    context: Context,
) -> Result<Request, WordsError> {
    Request::new(principal, action, resource, context, None).map_err(WordsError::of)
}

/// `base` with more entities; their places in the hierarchy are worked out.
pub(crate) fn with_entities(
    base: &Entities,
    more: impl IntoIterator<Item = Entity>,
) -> Result<Entities, WordsError> {
    base.clone().add_entities(more, None).map_err(WordsError::of)
}

fn datetime(at: UnixMillis) -> String {
    let ms = i64::try_from(at.0.min(LAST_MS)).unwrap_or_default();
    chrono::DateTime::from_timestamp_millis(ms)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
