//! The actions that a policy can permit are those of the policy crate.
use mayfly_policy::{Act, Grant};

pub struct Anything;

impl Act for Anything { //~ E0277
    type Grant = Grant;
}

fn main() {}
