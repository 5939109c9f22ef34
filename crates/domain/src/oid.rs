//! Object identifiers of ours, as their arcs (docs/protocol.md). Small arcs only: GnuTLS can't read one of 128 bits.

/// The extended key usage that marks an authority of brokers, operators and acceptors. A certificate chain
/// authenticates one of them only where the leaf's issuer has it.
pub const SYSTEM_AUTHORITY: [u64; 4] = [2, 25, 1_946_157_831, 1];
