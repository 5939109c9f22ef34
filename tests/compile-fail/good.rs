//! The chain as it is meant: this compiles, so that the others fail for their own reasons.
use mayfly_domain::{Refusal, UnixMillis};
use mayfly_lease::proof::MintLimits;
use mayfly_lease::{Confirmed, Leases};
use mayfly_mint::{AccessToken, KeyRing, Minter};
use mayfly_policy::{Authorized, Mint};

pub async fn mint(
    leases: &Leases,
    minter: &Minter,
    ring: &KeyRing,
    authorized: Authorized<Mint>,
    limits: &MintLimits,
    now: UnixMillis,
) -> Result<Confirmed<AccessToken>, Refusal> {
    let reserved = leases.reserve(authorized, limits, ring.signer_id()).await?;
    let pending = minter.token(ring, reserved, now)?;
    leases.confirm(pending).await
}

fn main() {}
