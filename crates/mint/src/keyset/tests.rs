use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mayfly_domain::defaults::{SKEW_MAX_MS, TOKEN_TTL_MAX};
use mayfly_domain::{KeyAlg, Secret, SignerId, Thumbprint};
use proptest::prelude::*;

use super::*;
use crate::keyring::KeyRing;
use crate::seal::SealError;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn custody() -> Custody {
    Custody::sealed()
}

fn set() -> KeySet {
    KeySet::init(&TrustDomain::parse("acme.internal").unwrap(), &custody(), NOW).unwrap()
}

fn seal(text: &str) -> Seal {
    Seal::from_env_value(&Secret::new(text.repeat(32))).unwrap()
}

fn states(set: &KeySet) -> Vec<KeyState> {
    set.token_keys().map(|k| k.state).collect()
}

fn of(set: &KeySet, role: Role) -> Vec<(String, KeyState)> {
    set.authorities().filter(|a| a.role == role).map(|a| (a.id, a.state)).collect()
}

#[test]
fn a_rotation_prepares_activates_and_retires_when_nobody_is_refused() {
    use KeyState::{Active, Prepared, Retiring};
    let first = set();
    assert_eq!((first.version(), states(&first)), (1, vec![Active]));
    let old = first.token_keys().next().unwrap().kid.clone();

    assert!(matches!(first.activate(NOW), Err(KeySetError::NothingPrepared)));
    assert!(matches!(first.retire(NOW, Live::Refuse), Err(KeySetError::NothingRetiring)));

    let prepared = first.prepare(Some(KeyAlg::Ed25519), &custody(), NOW).unwrap();
    assert_eq!((prepared.version(), states(&prepared)), (2, vec![Active, Prepared]));
    assert!(matches!(prepared.prepare(None, &custody(), NOW), Err(KeySetError::AlreadyPrepared(_))));

    let active = prepared.activate(NOW).unwrap();
    assert_eq!((active.version(), states(&active)), (3, vec![Retiring, Active]));
    let third = active.prepare(None, &custody(), NOW).unwrap();
    assert_eq!(third.token_keys().last().unwrap().alg, KeyAlg::Ed25519);

    let last = NOW.plus(ACTIVATION_LAG_MS + TOKEN_TTL_MAX.as_millis() + SKEW_MAX_MS);
    for early in [NOW, last.minus(1)] {
        let refused = active.retire(early, Live::Spare);
        assert!(matches!(refused, Err(KeySetError::StillInUse { .. })), "{refused:?}");
    }
    for retired in [active.retire(last, Live::Spare).unwrap(), active.retire(NOW, Live::Refuse).unwrap()] {
        assert_eq!((retired.version(), states(&retired)), (4, vec![Active]));
        assert_ne!(retired.token_keys().next().unwrap().kid, old);
    }
}

#[test]
fn an_authority_is_retired_when_no_lease_of_it_lives() {
    use KeyState::{Active, Prepared, Retiring};
    for role in Role::ALL {
        let first = set();
        let old = of(&first, role)[0].0.clone();
        let none = BTreeMap::new();
        let retire = |set: &KeySet, id: Option<&str>, leases: &BTreeMap<_, _>, live| {
            set.retire_authorities(role, id, leases, live, NOW)
        };
        assert!(matches!(first.activate_authority(role, NOW), Err(KeySetError::NothingPrepared)));
        assert!(matches!(retire(&first, None, &none, Live::Refuse), Err(KeySetError::NothingRetiring)));
        assert!(matches!(retire(&first, Some(&old), &none, Live::Refuse), Err(KeySetError::Active(_))));
        assert!(matches!(retire(&first, Some("x"), &none, Live::Refuse), Err(KeySetError::NoSuchKey(_))));

        let prepared = first.prepare_authority(role, &custody(), NOW).unwrap();
        assert_eq!(of(&prepared, role).iter().map(|a| a.1).collect::<Vec<_>>(), [Active, Prepared]);
        let again = prepared.prepare_authority(role, &custody(), NOW);
        assert!(matches!(again, Err(KeySetError::AlreadyPrepared(_))));
        let active = prepared.activate_authority(role, NOW).unwrap();
        assert_eq!(of(&active, role).iter().map(|a| a.1).collect::<Vec<_>>(), [Retiring, Active]);

        let used = LiveLeases { count: 3, last_ends: NOW.plus(60_500) };
        let leases = BTreeMap::from([(old.clone(), used)]);
        for id in [None, Some(old.as_str())] {
            match retire(&active, id, &leases, Live::Spare) {
                Err(KeySetError::StillInUse { id, wait_s: 61, leases: Some(3) }) => assert_eq!(id, old),
                other => panic!("{other:?}"),
            }
            for gone in [
                retire(&active, id, &none, Live::Spare).unwrap(),
                retire(&active, id, &leases, Live::Refuse).unwrap(),
            ] {
                assert_eq!(of(&gone, role).len(), 1);
                assert!(gone.authorities().all(|a| a.id != old));
            }
        }
        // The other role is as it was.
        let other = if role == Role::System { Role::Workload } else { Role::System };
        assert_eq!(of(&active, other), of(&first, other));
    }
}

#[test]
fn keys_are_bounded() {
    let mut set = set();
    while set.token_keys().len() < KeySet::MAX_TOKEN_KEYS {
        set = set.prepare(None, &custody(), NOW).unwrap().activate(NOW).unwrap();
    }
    assert!(matches!(set.prepare(None, &custody(), NOW), Err(KeySetError::TooMany)));
    while of(&set, Role::Workload).len() < KeySet::MAX_AUTHORITIES {
        set = set.prepare_authority(Role::Workload, &custody(), NOW).unwrap();
        set = set.activate_authority(Role::Workload, NOW).unwrap();
    }
    let more = set.prepare_authority(Role::Workload, &custody(), NOW);
    assert!(matches!(more, Err(KeySetError::TooManyAuthorities(Role::Workload))));
    let rotated = set.rotate_nonce_key().unwrap().rotate_nonce_key().unwrap();
    assert_eq!(rotated.nonces.len(), 2);
}

#[test]
fn sealing_round_trips_and_another_key_is_a_clear_error() {
    let set = set().prepare(Some(KeyAlg::Ed25519), &custody(), NOW).unwrap();
    let set = set.prepare_authority(Role::System, &custody(), NOW).unwrap().rotate_nonce_key().unwrap();
    let sealed = set.seal(&seal("ab")).unwrap();
    let opened = KeySet::open(&seal("ab"), &sealed).unwrap();
    assert_eq!(opened.version(), set.version());
    assert_eq!(stored::write(&opened).unwrap().expose(), stored::write(&set).unwrap().expose());
    assert!(opened.authorities().eq(set.authorities()));
    let refused = KeySet::open(&seal("cd"), &sealed);
    assert!(matches!(refused, Err(KeySetError::Seal(SealError::WrongKey))), "{refused:?}");
}

#[test]
fn a_document_that_is_no_key_set_is_refused_without_quoting_it() {
    let seal = seal("ab");
    let open = |version, content: Vec<u8>| {
        let sealed = seal.seal(PURPOSE, version, &SecretBytes::new(content)).unwrap();
        KeySet::open(&seal, &sealed).unwrap_err()
    };
    for content in ["", "{}", "[]", r#"{"format":"hunter2"}"#, r#"{"format":2,"hunter2":1}"#] {
        let error = open(1, content.into());
        assert!(matches!(error, KeySetError::Malformed(_)));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    let old = open(1, br#"{"format":1,"version":1,"tokens":[]}"#.to_vec());
    assert!(old.to_string().contains("format 1") && old.to_string().contains("mayfly init"), "{old}");
    let good = String::from_utf8(stored::write(&set()).unwrap().expose().clone()).unwrap();
    assert!(matches!(open(9, good.clone().into()), KeySetError::Malformed(_)));
    // Two active ones, none at all, a role too few, another key's id.
    for (from, to) in [
        (r#""state":"active""#, r#""state":"retiring""#),
        (r#""role":"system""#, r#""role":"workload""#),
        (r#""kid":""#, r#""kid":"A"#),
    ] {
        assert!(good.contains(from));
        assert!(matches!(open(1, good.replace(from, to).into()), KeySetError::Malformed(_)), "{to}");
    }
}

#[test]
fn nothing_private_is_printed() {
    let set = set();
    let shown = format!("{set:?} {set:#?}");
    let private = |key: &crate::custody::Material| match key {
        crate::custody::Material::Sealed(pkcs8) => pkcs8.expose().clone(),
        crate::custody::Material::Module(_) => panic!("not sealed"),
    };
    for secret in [
        private(&set.tokens[0].key),
        private(&set.authorities[0].key),
        set.nonces[0].expose().clone(),
        set.evidence.expose().clone(),
        set.root.pkcs8.expose().clone(),
    ] {
        assert!(!shown.contains(&STANDARD.encode(&secret)));
        assert!(!shown.contains(&format!("{secret:?}")));
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Prepare,
    Activate,
    Retire(Live),
    Revoke(usize),
    PrepareCa(Role),
    ActivateCa(Role),
    RetireCa(Role, Live),
    RevokeCa(usize),
    Nonce,
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
    let role = prop_oneof![Just(Role::Workload), Just(Role::System)];
    let live = prop_oneof![Just(Live::Spare), Just(Live::Refuse)];
    let step = prop_oneof![
        Just(Step::Prepare),
        Just(Step::Activate),
        live.clone().prop_map(Step::Retire),
        (0..8_usize).prop_map(Step::Revoke),
        role.clone().prop_map(Step::PrepareCa),
        role.clone().prop_map(Step::ActivateCa),
        (role, live).prop_map(|(r, l)| Step::RetireCa(r, l)),
        (0..16_usize).prop_map(Step::RevokeCa),
        Just(Step::Nonce),
    ];
    proptest::collection::vec((step, 0..5_000_000_u64), 1..24)
}

fn take(
    set: &KeySet,
    step: Step,
    now: UnixMillis,
    gone: &mut BTreeSet<String>,
) -> Result<KeySet, KeySetError> {
    let custody = custody();
    match step {
        Step::Prepare => set.prepare(None, &custody, now),
        Step::Activate => set.activate(now),
        Step::Retire(live) => set.retire(now, live),
        Step::PrepareCa(role) => set.prepare_authority(role, &custody, now),
        Step::ActivateCa(role) => set.activate_authority(role, now),
        Step::RetireCa(role, live) => set.retire_authorities(role, None, &BTreeMap::new(), live, now),
        Step::Nonce => set.rotate_nonce_key(),
        Step::Revoke(n) => {
            let all: Vec<_> = set.token_keys().map(|k| k.kid.clone()).collect();
            let kid = &all[n % all.len()];
            gone.insert(kid.clone());
            set.revoke(kid, &custody, now)
        }
        Step::RevokeCa(n) => {
            let all: Vec<_> = set.authorities().map(|a| a.id).collect();
            let id = &all[n % all.len()];
            gone.insert(id.clone());
            set.revoke_authority(id, &custody, now)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_done_one_of_each_signs_and_what_was_revoked_is_never_known_again(steps in steps()) {
        let (mut set, mut now, mut gone) = (set(), NOW, BTreeSet::new());
        let seal = seal("ab");
        for (step, later) in steps {
            now = now.plus(later);
            let before = set.version();
            match take(&set, step, now, &mut gone) {
                Ok(next) => set = next,
                Err(_) => continue,
            }
            prop_assert_eq!(set.version(), before + 1);
            // Opening judges the invariant, and the ring that everything can be used.
            let opened = KeySet::open(&seal, &set.seal(&seal).unwrap()).unwrap();
            let ring = KeyRing::new(&opened, &custody()).unwrap();
            for id in &gone {
                let signer = SignerId::from(Thumbprint::parse(id).unwrap());
                prop_assert!(!ring.knows(&signer));
                prop_assert!(!std::str::from_utf8(ring.jwks()).unwrap().contains(id.as_str()));
            }
            let workloads = opened.authorities().filter(|a| a.role == Role::Workload).count();
            prop_assert_eq!(ring.anchors(Role::Workload).len(), workloads);
            prop_assert!(ring.knows(&ring.signer_id()) && ring.knows(&ring.workload_signer_id()));
            prop_assert!(ring.knows(&ring.system_authority().id()));
        }
    }
}
