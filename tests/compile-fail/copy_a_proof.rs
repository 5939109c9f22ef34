//! No proof can be cloned, defaulted or read from anywhere.
use mayfly_attest::Attested;
use mayfly_lease::{Confirmed, Pending, Reserved};
use mayfly_mint::AccessToken;
use mayfly_policy::{Authorized, Mint};

fn clone<T: Clone>() {}
fn default<T: Default>() {}
fn read<T: serde::de::DeserializeOwned>() {}

pub fn all() {
    clone::<Attested>(); //~ E0277
    clone::<Authorized<Mint>>(); //~ E0277
    clone::<Reserved>(); //~ E0277
    clone::<Pending<AccessToken>>(); //~ E0277
    clone::<Confirmed<AccessToken>>(); //~ E0277
    default::<Attested>(); //~ E0277
    default::<Authorized<Mint>>(); //~ E0277
    default::<Reserved>(); //~ E0277
    default::<Pending<AccessToken>>(); //~ E0277
    default::<Confirmed<AccessToken>>(); //~ E0277
    read::<Attested>(); //~ E0277
    read::<Authorized<Mint>>(); //~ E0277
    read::<Reserved>(); //~ E0277
    read::<Pending<AccessToken>>(); //~ E0277
    read::<Confirmed<AccessToken>>(); //~ E0277
}

fn main() {}
