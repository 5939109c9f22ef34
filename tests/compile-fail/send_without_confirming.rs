//! A credential can't be taken out of what was not confirmed.
use mayfly_lease::{Confirmed, Pending};
use mayfly_mint::AccessToken;

fn send(_: Confirmed<AccessToken>) {}

pub fn as_if_confirmed(pending: Pending<AccessToken>) {
    send(pending); //~ E0308
}

pub fn apart(pending: Pending<AccessToken>) {
    let _ = pending.into_parts(); //~ E0599
}

pub fn by_field(pending: Pending<AccessToken>) {
    let _ = pending.credential; //~ E0616
}

fn main() {}
