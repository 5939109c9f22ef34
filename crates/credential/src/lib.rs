//! What Mayfly's credentials look like, and how one is verified by public keys: access tokens, DPoP proofs, and the
//! extension of certificates. Brokers and acceptors verify by this one reading.
//!
//! Must never sign, hold a private key, ask anybody, or take a verified credential for a live lease.
