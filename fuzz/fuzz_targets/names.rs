//! Words that people write: what parses prints as it parses, and nothing that misleads a reader passes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_domain::text::is_deceptive;
use mayfly_domain::{
    Audience, CredentialId, Intent, LeaseId, Owner, ProfileName, San, Scope, SpiffeId, TaskId, TaskReason,
    Thumbprint, TrustDomain, Ttl,
};
use mayfly_lease::JobId;

macro_rules! come_back {
    ($text:expr, $($word:ident),*) => {$(
        if let Ok(it) = $word::parse($text) {
            let shown = it.to_string();
            assert!(!shown.chars().any(is_deceptive), "{shown:?}");
            assert_eq!($word::parse(&shown).as_ref(), Ok(&it));
        }
    )*};
}

fuzz_target!(|text: &str| {
    come_back!(
        text,
        SpiffeId,
        TrustDomain,
        Owner,
        TaskId,
        TaskReason,
        ProfileName,
        Intent,
        Scope,
        Audience,
        LeaseId,
        CredentialId,
        Thumbprint,
        Ttl,
        JobId,
        San
    );
    if let Ok(id) = SpiffeId::parse(text) {
        let domain = TrustDomain::parse(id.trust_domain()).unwrap();
        assert_eq!(SpiffeId::new(&domain, id.path()).unwrap(), id);
        assert!(!id.path().split('/').any(|s| s == ".." || s == "."));
    }
    if let Ok(id) = CredentialId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
});
