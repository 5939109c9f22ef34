//! What was granted is not the proof that it was granted.
use mayfly_lease::Leases;
use mayfly_lease::proof::MintLimits;
use mayfly_policy::Grant;

pub async fn reserve(leases: &Leases, grant: Grant, limits: &MintLimits) {
    let _ = leases.reserve(grant, limits).await; //~ E0308
}

fn main() {}
