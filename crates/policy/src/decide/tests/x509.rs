//! Profiles of kind x509: their names and their kind.

use mayfly_domain::{Reason, San};

use super::{mint, refusal, visible};
use crate::facts::{Ask, Who};
use crate::fixture::*;
use crate::*;

fn sans(names: &[&str]) -> Vec<San> {
    names.iter().map(|name| San::parse(name).unwrap()).collect()
}

#[test]
fn a_certificate_has_all_names_or_those_that_are_asked_for() {
    let engine = x509_engine();
    let asking = |names: &[&str]| Claimed { names: sans(names), ..claim("ledger-mtls", "serve:ledger") };
    let granted = |names: &[&str]| mint(&engine, &service(), &asking(names)).answer.unwrap();
    assert_eq!(granted(&[]).names, sans(&["ledger.payments.svc", "10.1.2.3"]));
    assert_eq!(granted(&["10.1.2.3"]).names, sans(&["10.1.2.3"]));
    assert_eq!(
        granted(&["Ledger.payments.svc", "ledger.payments.svc"]).names,
        sans(&["ledger.payments.svc"])
    );
    assert_eq!((granted(&[]).ttl, granted(&[]).scopes), (ttl("1h"), scopes(&[])));
    for other in ["vault.payments.svc", "10.1.2.4", "payments.svc", "a.ledger.payments.svc"] {
        let refusal = refusal(&engine, &service(), &asking(&["10.1.2.3", other]));
        assert_eq!(refusal.reason, Reason::NameNotAllowed);
        let expected = [("name", other.to_owned()), ("names", "ledger.payments.svc 10.1.2.3".to_owned())];
        assert_eq!(refusal.facts, expected);
    }
    let mut scoped = asking(&[]);
    scoped.scopes = scopes(&["admin"]);
    assert_eq!(refusal(&engine, &service(), &scoped).reason, Reason::ScopeNotAllowed);
    let named = Claimed { names: sans(&["ledger.payments.svc"]), ..deploy() };
    assert_eq!(refusal(&engine, &job(), &named).reason, Reason::NameNotAllowed);
}

#[test]
fn a_renewal_keeps_its_names_and_asks_whether_they_are_granted_still() {
    let engine = x509_engine();
    let facts = service();
    let renew = |names: &[&str]| {
        let claim = RenewClaim {
            profile: "ledger-mtls".parse().unwrap(),
            intent: "serve:ledger".parse().unwrap(),
            scopes: scopes(&[]),
            names: sans(names),
            ttl: None,
        };
        engine.decide(&Who::from(&facts), &Ask::renewal(&claim)).answer.map(|g| g.names).map_err(|r| r.reason)
    };
    assert_eq!(renew(&["10.1.2.3"]), Ok(sans(&["10.1.2.3"])));
    assert_eq!(renew(&[]), Ok(Vec::new()));
    assert_eq!(renew(&["old.payments.svc"]), Err(Reason::NameNotAllowed));
}

#[test]
fn the_kind_is_the_profiles_and_told_only_to_who_may_have_it() {
    use mayfly_domain::CredentialKind::{Token, X509};
    let engine = x509_engine();
    let of_kind = |claimed: Claimed, kind| Claimed { kind: Some(kind), ..claimed };
    let certificate = || claim("ledger-mtls", "serve:ledger");
    assert!(mint(&engine, &service(), &of_kind(certificate(), X509)).is_allowed());
    assert!(mint(&engine, &job(), &of_kind(deploy(), Token)).is_allowed());
    for (facts, claimed, granted) in
        [(service(), of_kind(certificate(), Token), "x509"), (job(), of_kind(deploy(), X509), "token")]
    {
        let refused = refusal(&engine, &facts, &claimed);
        assert_eq!(
            (refused.reason, refused.facts),
            (Reason::KindMismatch, vec![("kind", granted.to_owned())])
        );
        // A stranger learns neither the kind nor the names of a profile that it may not have.
        let mut stranger = facts;
        stranger.owners = owners(&["team:other"]);
        let nothing = refusal(&engine, &stranger, &claim("no-such-profile", "serve:ledger"));
        let asked = Claimed { names: sans(&["vault.payments.svc"]), ..claimed };
        assert_eq!(visible(refusal(&engine, &stranger, &asked)), visible(nothing));
    }
}
