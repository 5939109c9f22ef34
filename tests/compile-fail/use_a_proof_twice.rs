//! One reserved lease gives one credential.
use mayfly_domain::UnixMillis;
use mayfly_lease::Reserved;
use mayfly_mint::{KeyRing, Minter};

pub fn twice(minter: &Minter, ring: &KeyRing, reserved: Reserved, now: UnixMillis) {
    let _ = minter.token(ring, reserved, now);
    let _ = minter.token(ring, reserved, now); //~ E0382
}

fn main() {}
