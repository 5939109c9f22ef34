//! The engine: policies, profiles and operators of one configuration, compiled once and asked often.
//!
//! Default deny; any evaluation error denies, since Cedar by itself skips a policy that fails, and a failing
//! `forbid` would not forbid. The engine must never be changed after it was loaded: a new configuration is a
//! new engine.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cedar_policy::{Authorizer, Decision as Cedar, Entities, EntityUid, PolicySet, Request};
use mayfly_domain::{GroupName, OperatorName, PolicyId, ProfileName, TrustDomain, Ttl};

use crate::authorized::OperatorAction;
use crate::decision::PolicyFailure;
use crate::facts::WorkloadAction;
use crate::follow::FOLLOW;
use crate::profile::Profile;
use crate::request::{RequestEngine, schema};
use crate::rules::{self, Rule};
use crate::slice::{Slice, Slicer};
use crate::source::{Place, PolicyError, general};
use crate::words::{self, Words, WordsError};

/// Decides by policy.
#[derive(Debug)]
pub struct Engine {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) words: Words,
    pub(crate) rules: Vec<Rule>,
    pub(crate) by_id: HashMap<PolicyId, usize>,
    pub(crate) profiles: BTreeMap<ProfileName, Prepared>,
    /// Asked for a profile that does not exist, so that the refusal and the work are alike.
    pub(crate) decoy: Prepared,
    pub(crate) operators: BTreeMap<OperatorName, Vec<GroupName>>,
    /// By action and the resource's type; what the schema does not list is missing and so denied.
    operator_slices: HashMap<(OperatorAction, String), Arc<Slice>>,
    pub(crate) follow: Arc<Slice>,
    no_slice: Arc<Slice>,
    requests: Arc<RequestEngine>,
    authorizer: Authorizer,
}

/// What a mint of one profile needs, made at load.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// None for the decoy.
    pub(crate) profile: Option<Arc<Profile>>,
    pub(crate) uid: EntityUid,
    /// The profile's entity.
    pub(crate) entities: Entities,
    mint: Arc<Slice>,
    renew: Arc<Slice>,
}

impl Prepared {
    pub(crate) fn slice(&self, action: WorkloadAction) -> &Slice {
        match action {
            WorkloadAction::Mint => &self.mint,
            WorkloadAction::Renew => &self.renew,
        }
    }
}

/// What Cedar answered about one request.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    /// Sorted.
    pub(crate) decided_by: Vec<PolicyId>,
    pub(crate) failed: Vec<PolicyFailure>,
}

impl Engine {
    /// Compiles a configuration: acceptors' schemas and policies (files by name and text), profiles, operators with their
    /// groups.
    ///
    /// # Errors
    /// Every mistake in the schemas; where they are good, every one in the policies, in the order of the files' names.
    pub fn load(
        trust_domain: TrustDomain,
        schemas: &[(String, String)],
        policies: &[(String, String)],
        profiles: Vec<Profile>,
        operators: BTreeMap<OperatorName, Vec<GroupName>>,
    ) -> Result<Self, Vec<PolicyError>> {
        let merged = schema::merge(schemas)?;
        let words = Words::of(merged.schema.clone()).map_err(|e| vec![general(e)])?;
        let rules = rules::load(&words, policies)?;
        let requests = Arc::new(RequestEngine::of(merged, &rules)?);
        let mut slicer = Slicer::new(&words, &rules);
        let mut prepared = BTreeMap::new();
        let mut errors = Vec::new();
        for profile in profiles {
            let profile = Arc::new(profile);
            match prepare(&words, &mut slicer, profile.clone()) {
                Ok(ready) => {
                    if prepared.insert(profile.name.clone(), ready).is_some() {
                        errors.push(general(format!("the profile `{}` is defined twice", profile.name)));
                    }
                }
                Err(e) => errors.push(e),
            }
        }
        let decoy = decoy(&words, &mut slicer).map_err(|e| vec![e])?;
        let operator_slices = operator_slices(&words, &mut slicer).map_err(|e| vec![e])?;
        let follow =
            slicer.of_type(&words.action(FOLLOW), &[], &words.trust_domain).map_err(|e| vec![general(e)])?;
        if !errors.is_empty() {
            return Err(errors);
        }
        let by_id = rules.iter().enumerate().map(|(n, r)| (r.id.clone(), n)).collect();
        Ok(Self {
            trust_domain,
            words,
            by_id,
            rules,
            profiles: prepared,
            decoy,
            operators,
            operator_slices,
            follow,
            no_slice: Arc::default(),
            requests,
            authorizer: Authorizer::new(),
        })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// A profile by name.
    pub fn profile(&self, name: &ProfileName) -> Option<&Arc<Profile>> {
        self.profiles.get(name).and_then(|p| p.profile.as_ref())
    }

    /// Every profile, by name.
    pub fn profiles(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.values().filter_map(|p| p.profile.as_ref())
    }

    /// Every policy's id and place, in the order of the files.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = (&PolicyId, &Place)> {
        self.rules.iter().map(|r| (&r.id, &r.place))
    }

    /// An operator's groups; none: there is no such operator.
    pub fn operator_groups(&self, name: &OperatorName) -> Option<&[GroupName]> {
        self.operators.get(name).map(Vec::as_slice)
    }

    pub(crate) fn rule(&self, id: &PolicyId) -> Option<&Rule> {
        self.by_id.get(id).and_then(|n| self.rules.get(*n))
    }

    pub(crate) fn operator_slice(&self, action: OperatorAction, resource: &EntityUid) -> &Slice {
        self.operator_slices.get(&(action, resource.type_name().to_string())).unwrap_or(&self.no_slice)
    }

    /// The shortest `@max_ttl` of the permits that decided: the strictest wins, however many permit.
    pub(crate) fn max_ttl(&self, decided_by: &[PolicyId]) -> Option<Ttl> {
        decided_by.iter().filter_map(|id| self.rule(id)?.max_ttl).min()
    }

    /// Asks Cedar; an evaluation error denies.
    pub(crate) fn ask(&self, slice: &PolicySet, request: &Request, entities: &Entities) -> Verdict {
        authorize(&self.authorizer, slice, request, entities)
    }

    /// What judges requests.
    pub fn requests(&self) -> &Arc<RequestEngine> {
        &self.requests
    }
}

/// Asks Cedar; an evaluation error denies.
pub(crate) fn authorize(
    authorizer: &Authorizer,
    slice: &PolicySet,
    request: &Request,
    entities: &Entities,
) -> Verdict {
    let response = authorizer.is_authorized(request, slice, entities);
    // Every policy of a slice has the id of its rule.
    let ours = |id: &cedar_policy::PolicyId| PolicyId::parse(id.as_ref()).ok();
    let mut decided_by: Vec<PolicyId> = response.diagnostics().reason().filter_map(ours).collect();
    decided_by.sort();
    let mut failed: Vec<PolicyFailure> = response
        .diagnostics()
        .errors()
        .filter_map(|cedar_policy::AuthorizationError::PolicyEvaluationError(e)| {
            Some(PolicyFailure { policy: ours(e.policy_id())?, message: e.inner().to_string() })
        })
        .collect();
    failed.sort_by(|a, b| a.policy.cmp(&b.policy));
    let allowed = response.decision() == Cedar::Allow && response.diagnostics().errors().next().is_none();
    if !allowed && response.decision() == Cedar::Allow {
        // The permits did not decide: the failure did.
        decided_by.clear();
    }
    Verdict { allowed, decided_by, failed }
}

fn prepare(words: &Words, slicer: &mut Slicer<'_>, profile: Arc<Profile>) -> Result<Prepared, PolicyError> {
    let entity = words.profile_entity(&profile).map_err(general)?;
    let (uid, parents) = (words.profile_uid(&profile), words.profile_parents(&profile));
    prepared(words, slicer, Some(profile), uid, &parents, entity)
}

fn decoy(words: &Words, slicer: &mut Slicer<'_>) -> Result<Prepared, PolicyError> {
    // No profile's name is empty, so no policy can mean this one.
    let uid = words::uid(&words.profile, "");
    let entity = words.any_profile(uid.clone(), "", []).map_err(general)?;
    prepared(words, slicer, None, uid, &[], entity)
}

fn prepared(
    words: &Words,
    slicer: &mut Slicer<'_>,
    profile: Option<Arc<Profile>>,
    uid: EntityUid,
    parents: &[EntityUid],
    entity: cedar_policy::Entity,
) -> Result<Prepared, PolicyError> {
    let mut slice =
        |action: WorkloadAction| slicer.of(&words.action(action.as_str()), &uid, parents).map_err(general);
    let (mint, renew) = (slice(WorkloadAction::Mint)?, slice(WorkloadAction::Renew)?);
    let entities = Entities::from_entities([entity], None).map_err(general)?;
    Ok(Prepared { profile, entities, mint, renew, uid })
}

fn operator_slices(
    words: &Words,
    slicer: &mut Slicer<'_>,
) -> Result<HashMap<(OperatorAction, String), Arc<Slice>>, PolicyError> {
    let mut slices = HashMap::new();
    for action in OperatorAction::ALL {
        let uid = words.action(action.as_str());
        let listed = words.schema.resources_for_action(&uid);
        for kind in listed.into_iter().flatten() {
            slices.insert((action, kind.to_string()), slicer.of_type(&uid, &[], kind).map_err(general)?);
        }
    }
    Ok(slices)
}

impl From<WordsError> for mayfly_domain::Refusal {
    fn from(e: WordsError) -> Self {
        Self::new(mayfly_domain::Reason::Internal, e.to_string())
    }
}
