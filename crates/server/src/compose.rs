//! The one place where everything is wired: a valid configuration becomes a broker.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mayfly_attest::verifier::Verifier;
use mayfly_attestors::Attestors;
use mayfly_attestors::https::HttpsKeys;
use mayfly_attestors::keys::{KeySource, StaticKeys};
use mayfly_audit::{Audit, AuditConfig, SyncMode};
use mayfly_broker::{AcceptorEntry, Broker, BrokerParts, Meter, OwnAttestor, Running, SealedCopy, Settings};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Deadline, Reason, Refusal, Secret, SystemBootClock, UnixMillis, defaults};
use mayfly_lease::proof::{HolderQuota, MintLimits};
use mayfly_lease::{LeaseStore, Leases, StoreError};
use mayfly_mint::x509::Pointers;
use mayfly_mint::{KeySet, Seal};
use mayfly_store::embedded::EmbeddedStore;

use crate::config::{self, AuditSync, Loaded};

/// The embedded store's file in the state directory.
const STORE_FILE: &str = "mayfly.redb";
/// The audit file, where the configuration names none.
const AUDIT_FILE: &str = "audit.jsonl";
/// The reserve for audit records of revocations.
const RESERVE_FILE: &str = "audit.reserve";
/// How long a start waits for the store's first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// The longest passphrase, in octets.
const PASSPHRASE_MAX: usize = 1024;

/// Where the keys of OIDC issuers come from.
#[derive(Debug, Clone)]
pub enum IssuerKeys {
    /// From the issuers, over HTTPS.
    Https(HttpsKeys),
    /// Given: the stand-in issuer of `mayfly dev` and tests.
    Given(StaticKeys),
}

/// A broker with what its server needs besides.
pub struct Composed {
    /// The broker.
    pub broker: Arc<Broker>,
    /// The attestors, whose issuers and authorities a reload replaces.
    pub attestor: Arc<Attestors>,
    /// The settings.
    pub settings: config::Settings,
}

/// Wires a broker. It does not serve before its first look at the store.
///
/// # Errors
/// A refusal that says what is missing: a seal that does not open, a store that can't be reached and no copy
/// of the keys, a file that another process holds.
pub async fn compose(
    loaded: Loaded,
    keys: &IssuerKeys,
    meter: Arc<dyn Meter>,
    clock: &SharedClock,
) -> Result<Composed, Refusal> {
    let Loaded { settings, rules, engine, acceptors, .. } = loaded;
    state_directory(&settings.state_dir)?;
    let seal = open_seal(&settings)?;
    let copy = SealedCopy::open(&settings.state_dir, &seal)?;
    let store = open_store(&settings, clock).await?;
    let key_set = key_set(store.as_ref(), &copy, &seal).await?;
    let source: Arc<dyn KeySource> = match keys {
        IssuerKeys::Https(source) => Arc::new(source.clone()),
        IssuerKeys::Given(source) => Arc::new(source.clone()),
    };
    let own = OwnAttestor::new(store.clone(), settings.ttl.lineage_x509);
    let attestor = Arc::new(Attestors::new(source, Arc::new(own)));
    attestor.set_rules(&rules);
    let verifier = Verifier::new(settings.trust_domain.clone(), attestor.clone(), clock.clone());
    verifier.set_rules(rules);
    let audit_file = audit_file(&settings);
    let audit = AuditConfig {
        path: audit_file.clone(),
        reserve: settings.state_dir.join(RESERVE_FILE),
        reserve_octets: settings.audit.reserve,
        sync: match settings.audit.sync {
            AuditSync::Group => SyncMode::Batch,
            AuditSync::Each => SyncMode::Each,
        },
        queue: AuditConfig::QUEUE,
    };
    let audit = Audit::open(&audit, clock.clone())
        .map_err(|e| Refusal::new(Reason::ConfigInvalid, e.to_string()).fact("problem", e.to_string()))?;
    let custody = crate::custody::custody(&settings);
    let broker = Broker::new(BrokerParts {
        leases: Leases::new(store, settings.trust_domain.clone()),
        settings: broker_settings(&settings, audit_file)?,
        clock: clock.clone(),
        boot: Arc::new(SystemBootClock),
        verifier,
        running: running(engine, acceptors, clock.now()),
        seal,
        copy,
        keys: key_set,
        custody,
        audit,
        meter,
    })?;
    Ok(Composed { broker: Arc::new(broker), attestor, settings })
}

/// What a reload replaces.
pub(crate) fn running(
    engine: mayfly_policy::Engine,
    acceptors: Vec<config::Acceptor>,
    now: UnixMillis,
) -> Running {
    let acceptors: BTreeMap<_, _> = acceptors.into_iter().map(|a| (a.name.clone(), acceptor(a))).collect();
    Running { engine, acceptors, loaded: now }
}

fn acceptor(a: config::Acceptor) -> AcceptorEntry {
    AcceptorEntry {
        owner: a.owner,
        audiences: a.audiences,
        certificates: a.certificates,
        reuse_ms: a.reuse_ms,
    }
}

/// Opens the store that the configuration names.
///
/// # Errors
/// `CONFIG_INVALID`, `STORE_UNAVAILABLE`.
pub async fn open_store(
    settings: &config::Settings,
    clock: &SharedClock,
) -> Result<Arc<dyn LeaseStore>, Refusal> {
    match &settings.store {
        config::Store::Embedded => {
            let store =
                EmbeddedStore::open(settings.state_dir.join(STORE_FILE), clock.clone()).map_err(|e| {
                    Refusal::new(Reason::StoreUnavailable, e.to_string()).fact("problem", e.to_string())
                })?;
            Ok(Arc::new(store))
        }
        config::Store::Redis(redis) => {
            let store = crate::redis::open(redis, clock)?;
            answers(store.as_ref()).await;
            Ok(store)
        }
    }
}

/// Waits a little for a store that does not answer yet. Calls wait less, since a caller waits for them.
async fn answers(store: &dyn LeaseStore) {
    let end = Deadline::after(FIRST_ANSWER);
    while let Err(StoreError::Unavailable(_)) = store.survey().await {
        if end.has_passed() {
            return;
        }
        tokio::time::sleep(FIRST_ANSWER / 60).await;
    }
}

/// Opens the seal that the configuration names.
///
/// # Errors
/// `CONFIG_INVALID` says what is wrong with it; never what it holds.
pub fn open_seal(settings: &config::Settings) -> Result<Seal, Refusal> {
    let fail = |e: String| Refusal::new(Reason::ConfigInvalid, e.clone()).fact("problem", e);
    match &settings.seal {
        config::Seal::File(path) => Seal::from_file(path).map_err(|e| fail(e.to_string())),
        config::Seal::Environment(name) => {
            let value = std::env::var(name).map_err(|_| fail(format!("the variable `{name}` is not set")))?;
            Seal::from_env_value(&Secret::new(value)).map_err(|e| fail(e.to_string()))
        }
        config::Seal::PassphraseFile(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| fail(format!("{}: {e}", path.display())))?;
            if text.len() > PASSPHRASE_MAX {
                return Err(fail(format!("{}: longer than {PASSPHRASE_MAX} octets", path.display())));
            }
            let text = Secret::new(text);
            let line = Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned());
            Seal::from_passphrase(line).map_err(|e| fail(e.to_string()))
        }
    }
}

/// Where audit records are written.
pub fn audit_file(settings: &config::Settings) -> PathBuf {
    settings.audit.file.clone().unwrap_or_else(|| settings.state_dir.join(AUDIT_FILE))
}

/// Makes a directory that only this user enters. One that is there already stays as it is.
pub(crate) fn private_directory(path: &Path) -> Result<(), Refusal> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| unfit(path, &e))
}

/// Makes the state directory, or refuses one that others may write to: whoever replaces the store's file or
/// removes the sealed copy undoes revocations and blocks.
///
/// # Errors
/// `CONFIG_INVALID` names the directory.
pub(crate) fn state_directory(path: &Path) -> Result<(), Refusal> {
    use std::os::unix::fs::PermissionsExt as _;
    private_directory(path)?;
    let mode = std::fs::metadata(path).map_err(|e| unfit(path, &e))?.permissions().mode() & 0o7777;
    if mode & 0o002 == 0 {
        return Ok(());
    }
    Err(unfit(
        path,
        &format!(
            "has mode {mode:o}: everybody may write there; take a directory below it, or `chmod o-w` it"
        ),
    ))
}

fn unfit(path: &Path, why: &dyn std::fmt::Display) -> Refusal {
    let what = format!("{}: {why}", path.display());
    Refusal::new(Reason::ConfigInvalid, what.clone()).fact("problem", what)
}

async fn key_set(store: &dyn LeaseStore, copy: &SealedCopy, seal: &Seal) -> Result<KeySet, Refusal> {
    // A store answers in an adopted generation only. Which one is served is decided by the first look.
    if let Ok(Some(generation)) = store.survey().await.map(|s| s.generation.filter(|g| g.settled)) {
        store.adopt(generation);
    }
    let stored = match stored_keys(store, copy).await {
        Ok(found) => found,
        Err(e) if copy.content().keys.is_none() => return Err(e.into()),
        Err(e) => {
            tracing::warn!(error = %e, "the store can't be read; starting with the sealed copy's keys");
            None
        }
    };
    let copied = copy.content().keys.clone();
    let newest = match (stored, copied) {
        (Some(s), Some(c)) if c.0 > s.0 => c,
        (Some(s), _) => s,
        (None, Some(c)) => c,
        (None, None) => return Err(Reason::StoreHolding.into()),
    };
    KeySet::open(seal, &newest.1)
        .map_err(|e| Refusal::new(Reason::ConfigInvalid, e.to_string()).fact("problem", e.to_string()))
}

/// The keys of the store, where its generation is one that this broker may take over. One that went back
/// behind the copy is not: its keys may be older ones.
async fn stored_keys(
    store: &dyn LeaseStore,
    copy: &SealedCopy,
) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
    let survey = store.survey().await?;
    match survey.generation {
        Some(generation) if generation.settled && !copy.content().is_ahead_of(&survey) => {
            store.adopt(generation);
            store.keys().await
        }
        _ => Ok(None),
    }
}

fn broker_settings(settings: &config::Settings, audit_file: PathBuf) -> Result<Settings, Refusal> {
    let asking = &settings.x509;
    let pointers = Pointers::new(asking.crl_url.as_deref(), asking.ocsp_url.as_deref())?;
    let quota = &settings.quota;
    let ttl = &settings.ttl;
    Ok(Settings {
        trust_domain: settings.trust_domain.clone(),
        issuer: settings.public_url.clone(),
        broker_id: broker_id(settings),
        limits: MintLimits {
            token_lineage: ttl.lineage_token,
            x509_lineage: ttl.lineage_x509,
            workload: HolderQuota {
                live_leases: quota.workload_live_leases,
                mints_per_min: quota.workload_mints_per_min,
                burst: quota.workload_mint_burst,
            },
            owner: HolderQuota {
                live_leases: quota.owner_live_leases,
                mints_per_min: quota.owner_mints_per_min,
                burst: quota.owner_mints_per_min,
            },
            evidence_life: defaults::EVIDENCE_LIFE_LIMIT,
        },
        lineage_max: ttl.lineage_max,
        longest_life: settings.longest_life(),
        accepted_risks: match &settings.store {
            config::Store::Embedded => Vec::new(),
            config::Store::Redis(redis) => redis.accept_risks.clone(),
        },
        pointers,
        audit_file,
        feed: settings.feed.broker(settings.limits.connections),
        skew_ms: defaults::SKEW_MS,
    })
}

/// This broker's id: the configuration's, else the machine's name.
pub(crate) fn broker_id(settings: &config::Settings) -> String {
    settings.broker.as_ref().map_or_else(
        || {
            let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
            let id: String = name
                .chars()
                .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
                .take(64)
                .collect();
            if id.is_empty() { "broker".to_owned() } else { id }
        },
        ToString::to_string,
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mayfly_domain::{Reason, SystemClock};

    use super::state_directory;
    use crate::dev::{Dev, Options};

    #[tokio::test]
    async fn a_broker_without_a_copy_takes_the_keys_of_the_store_that_it_joins() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { dir: dir.path().join("dev"), any_port: true };
        let start = async || Dev::new(&options, Arc::new(SystemClock)).await.unwrap();
        let first = start().await;
        let anchor = first.bound().broker().keys().ca_pem().clone();
        drop(first);
        std::fs::remove_file(options.dir.join("state/copy.sealed")).unwrap();
        let again = start().await;
        assert_eq!(again.bound().broker().keys().ca_pem(), &anchor);
        assert!(options.dir.join("state/copy.sealed").exists());
    }

    #[test]
    fn a_state_directory_that_everybody_may_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mode = |mode: u32| std::fs::set_permissions(&state, std::fs::Permissions::from_mode(mode));
        state_directory(&state).unwrap();
        assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        for fit in [0o755, 0o2770] {
            mode(fit).unwrap();
            state_directory(&state).unwrap();
        }
        for unfit in [0o777, 0o1777, 0o702] {
            mode(unfit).unwrap();
            let refusal = state_directory(&state).unwrap_err();
            assert_eq!(refusal.reason, Reason::ConfigInvalid);
            assert!(refusal.to_string().contains("chmod"), "{refusal}");
        }
    }
}
