//! The fields of a proof are nobody else's.
use mayfly_attest::{Attested, AttestedFacts};
use mayfly_domain::Deadline;

pub fn attest(facts: AttestedFacts, deadline: Deadline) -> Attested {
    Attested { facts, deadline } //~ E0451
}

fn main() {}
