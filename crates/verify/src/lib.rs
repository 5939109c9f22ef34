//! For services that accept Mayfly's credentials: follows the feed and decides in-process, in about a microsecond.
//!
//! Must never accept while it is not fresh, forget a revocation that still counts, or hold a private key of Mayfly's.

pub mod metrics;
