//! Words and layouts come back as they were, and have one form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use mayfly_domain::nonce::Nonce;
use mayfly_domain::spiffe::escape_segment;
use mayfly_domain::text::is_deceptive;
use mayfly_domain::{
    CredentialId, DimKey, Fence, Generation, GenerationId, LeaseId, Observation, Owner, Pair, SpiffeId,
    TaskId, Thumbprint, TrustDomain, Ttl, UnixMillis,
};
use proptest::prelude::*;

prop_compose! {
    fn observation()(
        number in any::<u32>(),
        id in any::<[u8; 8]>(),
        pairs in prop::collection::btree_map(any::<[u8; 16]>(), 0..=Fence::MAX, 0..=Observation::MAX_PAIRS),
        ancestors in prop::collection::btree_set(any::<[u8; 16]>(), 0..=Observation::MAX_ANCESTORS),
    ) -> Observation {
        let generation = Generation { number, id: GenerationId(id) };
        let pairs = pairs.into_iter().map(|(key, fence)| Pair { key: DimKey(key), fence: Fence::new(fence).unwrap() });
        Observation::new(generation, pairs, ancestors.into_iter().map(LeaseId::from_bytes)).unwrap()
    }
}

proptest! {
    #[test]
    fn an_observation_has_one_form(it in observation(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let bytes = it.encode();
        prop_assert_eq!(Observation::decode(&bytes).unwrap(), it);
        let mut other = bytes.clone();
        other[at.index(bytes.len())] = to;
        if let Ok(read) = Observation::decode(&other) {
            prop_assert_eq!(read.encode(), other);
        }
    }

    #[test]
    fn a_nonce_has_one_form(
        issued in 0_u64..1 << 48,
        random in any::<[u8; 10]>(),
        number in any::<u32>(),
        (store, mac) in any::<([u8; 16], [u8; 16])>(),
    ) {
        let generation = Generation { number, id: GenerationId([3; 8]) };
        let nonce = Nonce { issued: UnixMillis(issued), random, generation, store, mac };
        let bytes = nonce.encode();
        prop_assert_eq!(bytes.len(), Nonce::LEN);
        prop_assert_eq!(Nonce::decode(&bytes), Ok(nonce));
        prop_assert!(Nonce::decode(&bytes[1..]).is_err());
    }

    #[test]
    fn a_credential_has_one_text_and_one_serial(lease in any::<[u8; 16]>(), counter in any::<u32>()) {
        let id = CredentialId { lease: LeaseId::from_bytes(lease), counter };
        prop_assert_eq!(CredentialId::parse(&id.to_string()), Ok(id));
        prop_assert_eq!(CredentialId::from_serial(&id.serial()), Ok(id));
        for other in [format!("{id} "), format!("+{id}"), id.to_string().replace('.', ".0"), id.to_string().to_uppercase()] {
            if other != id.to_string() {
                prop_assert!(CredentialId::parse(&other).is_err(), "{}", other);
            }
        }
    }

    #[test]
    fn octets_are_taken_calmly(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(it) = Observation::decode(&bytes) {
            prop_assert_eq!(it.encode(), &bytes[..]);
        }
        if let Ok(it) = Nonce::decode(&bytes) {
            prop_assert_eq!(it.encode(), &bytes[..]);
        }
        if let Ok(it) = CredentialId::from_serial(&bytes) {
            prop_assert_eq!(&it.serial()[..], &bytes[..]);
        }
    }

    #[test]
    fn words_are_taken_calmly_and_come_back(
        text in prop_oneof![
            any::<String>(),
            "spiffe://[a-z0-9._-]{1,12}(/[a-zA-Z0-9._-]{1,5}){1,3}",
            "[a-zA-Z]{1,5}:\\PC{1,12}",
            "[A-Za-z0-9._:/@-]{1,20}",
            "[0-9]{1,9}[smhd]",
        ],
    ) {
        if let Ok(id) = SpiffeId::parse(&text) {
            let domain = TrustDomain::parse(id.trust_domain()).unwrap();
            prop_assert_eq!(id.as_str(), &text);
            prop_assert_eq!(SpiffeId::new(&domain, id.path()), Ok(id));
        }
        if let Ok(owner) = Owner::parse(&text) {
            prop_assert!(!owner.as_str().chars().any(is_deceptive));
            prop_assert_eq!(Owner::parse(owner.as_str()), Ok(owner));
        }
        if let Ok(task) = TaskId::parse(&text) {
            prop_assert_eq!(task.as_str(), &text);
        }
        if let Ok(ttl) = Ttl::parse(&text) {
            prop_assert_eq!(Ttl::parse(&ttl.to_string()), Ok(ttl));
        }
        if let Ok(thumbprint) = Thumbprint::parse(&text) {
            prop_assert_eq!(thumbprint.to_string(), text);
        }
    }

    #[test]
    fn escaping_keeps_values_apart_and_inside_of_one_segment(
        one in "\\PC{1,40}|[a-z._-]{1,6}", two in "\\PC{1,40}|[a-z._-]{1,6}",
    ) {
        let (a, b) = (escape_segment(&one).unwrap(), escape_segment(&two).unwrap());
        prop_assert_eq!(a == b, one == two);
        let domain = TrustDomain::parse("acme.internal").unwrap();
        prop_assert!(SpiffeId::new(&domain, &format!("/{a}")).is_ok(), "{}", a);
    }
}
