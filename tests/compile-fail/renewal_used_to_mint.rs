//! The decision for one action is none for another.
use mayfly_domain::SignerId;
use mayfly_lease::proof::MintLimits;
use mayfly_lease::{LeaseRecord, Leases};
use mayfly_policy::{Authorized, Mint, Renew};

pub async fn mint(leases: &Leases, renew: Authorized<Renew>, limits: &MintLimits, signer: SignerId) {
    let _ = leases.reserve(renew, limits, signer).await; //~ E0308
}

pub async fn renew(leases: &Leases, mint: Authorized<Mint>, lease: &LeaseRecord, signer: SignerId) {
    let _ = leases.renew(mint, lease, signer).await; //~ E0308
}

fn main() {}
