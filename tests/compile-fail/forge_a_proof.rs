//! Only the service behind a proof makes it.
use mayfly_attest::{Attested, AttestedFacts};
use mayfly_domain::Deadline;
use mayfly_policy::{Authorized, Grant, Mint};

pub fn attest(facts: AttestedFacts, deadline: Deadline) {
    let _ = Attested::new(facts, deadline); //~ E0624
}

pub fn permit(grant: Grant, deadline: Deadline) {
    let _ = Authorized::<Mint>::new(grant, deadline); //~ E0624
}

fn main() {}
