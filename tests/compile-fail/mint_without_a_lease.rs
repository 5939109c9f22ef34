//! A lease's record, read from anywhere, is not the proof that it stands in the store.
use mayfly_domain::UnixMillis;
use mayfly_lease::LeaseRecord;
use mayfly_mint::{KeyRing, Minter};

pub fn mint(minter: &Minter, ring: &KeyRing, record: LeaseRecord, now: UnixMillis) {
    let _ = minter.token(ring, record, now); //~ E0308
}

fn main() {}
