//! Stores of leases behind the port of `mayfly-lease`.

pub mod embedded;
pub mod redis;
mod unreadable;
