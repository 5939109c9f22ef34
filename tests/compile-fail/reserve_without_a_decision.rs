//! What was granted is not the proof that it was granted.
use mayfly_domain::SignerId;
use mayfly_lease::Leases;
use mayfly_lease::proof::MintLimits;
use mayfly_policy::Grant;

pub async fn reserve(leases: &Leases, grant: Grant, limits: &MintLimits, signer: SignerId) {
    let _ = leases.reserve(grant, limits, signer).await; //~ E0308
}

fn main() {}
