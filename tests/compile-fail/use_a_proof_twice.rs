//! One attestation gives one decision, one decision one lease, one lease one credential.
use mayfly_domain::{SignerId, UnixMillis};
use mayfly_attest::Attested;
use mayfly_lease::proof::MintLimits;
use mayfly_lease::{Leases, Reserved};
use mayfly_mint::{KeyRing, Minter};
use mayfly_policy::{Authorized, Claimed, Engine, Mint};

pub fn twice(minter: &Minter, ring: &KeyRing, reserved: Reserved, now: UnixMillis) {
    let _ = minter.token(ring, reserved, now);
    let _ = minter.token(ring, reserved, now); //~ E0382
}

pub fn decided_twice(engine: &Engine, attested: Attested, one: Claimed, two: Claimed) {
    let _ = engine.mint(attested, one);
    let _ = engine.mint(attested, two); //~ E0382
}

pub async fn reserved_twice(leases: &Leases, authorized: Authorized<Mint>, limits: &MintLimits, signer: SignerId) {
    let _ = leases.reserve(authorized, limits, signer).await;
    let _ = leases.reserve(authorized, limits, signer).await; //~ E0382
}

fn main() {}
