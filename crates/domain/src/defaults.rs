//! The one table of limits and defaults, used by the code and printed into the documentation.

use crate::ttl::Ttl;

/// An access token's life where a profile says nothing.
pub const TOKEN_TTL: Ttl = Ttl::constant(300);
/// The longest life of an access token.
pub const TOKEN_TTL_MAX: Ttl = Ttl::constant(3_600);
/// A workload's certificate where a profile says nothing.
pub const X509_TTL: Ttl = Ttl::constant(3_600);
/// The longest life of a workload's certificate.
pub const X509_TTL_MAX: Ttl = Ttl::constant(24 * 3_600);
/// How long a certificate's lease may be renewed.
pub const X509_LINEAGE: Ttl = Ttl::constant(7 * 86_400);
/// A join token's life where the operator says nothing.
pub const JOIN_TTL: Ttl = Ttl::constant(600);
/// The longest life of a join token.
pub const JOIN_TTL_MAX: Ttl = Ttl::constant(86_400);
/// The longest certificate request that is read, in octets.
pub const CSR_OCTETS_MAX: usize = 8 * 1024;
/// An operator's certificate.
pub const OPERATOR_TTL: Ttl = Ttl::constant(4 * 3_600);
/// The longest life of an operator's certificate.
pub const OPERATOR_TTL_MAX: Ttl = Ttl::constant(8 * 3_600);
/// An acceptor's certificate.
pub const ACCEPTOR_TTL: Ttl = Ttl::constant(24 * 3_600);
/// A broker's own server certificate; renewed at half of its life.
pub const BROKER_TTL: Ttl = Ttl::constant(24 * 3_600);
/// A task's window.
pub const TASK_WINDOW: Ttl = Ttl::constant(3_600);
/// The longest window of a task, more only by its rule.
pub const TASK_WINDOW_MAX: Ttl = Ttl::constant(6 * 3_600);
/// How long a token's lease may be renewed.
pub const TOKEN_LINEAGE: Ttl = Ttl::constant(86_400);
/// The longest that any lineage may be renewed.
pub const LINEAGE_MAX: Ttl = Ttl::constant(30 * 86_400);
/// The longest life of bearer evidence that a rule accepts where it says nothing.
pub const EVIDENCE_LIFE_MAX: Ttl = Ttl::constant(6 * 3_600);
/// The longest life of bearer evidence that a rule may accept at all: so long are ended tasks remembered.
pub const EVIDENCE_LIFE_LIMIT: Ttl = Ttl::constant(24 * 3_600);
/// The clocks' tolerated difference, in milliseconds.
pub const SKEW_MS: u64 = 30_000;
/// How far the store's clock may go back, in milliseconds: further, and the store may have forgotten what still counts.
pub const CLOCK_BACK_MS: u64 = 300_000;
/// How much longer than it counts everything is kept, in milliseconds: a clock that goes back by less than
/// [`CLOCK_BACK_MS`] loses nothing, and one that was further ahead is found out.
pub const KEPT_LONGER_MS: u64 = 600_000;
/// The largest skew that may be configured, in milliseconds.
pub const SKEW_MAX_MS: u64 = 60_000;
/// How old a nonce may be, in milliseconds.
pub const NONCE_LIFE_MS: u64 = 60_000;
/// How old a DPoP proof may be, in milliseconds.
pub const DPOP_LIFE_MS: u64 = 60_000;
/// Until when a mint must be confirmed, in milliseconds.
pub const MINT_DEADLINE_MS: u64 = 30_000;
/// How long after that a reserved record that somebody ended is undone a second time, in milliseconds.
pub const UNDO_GRACE_MS: u64 = 60_000;
/// Live leases of one workload.
pub const LIVE_LEASES_WORKLOAD: u32 = 100;
/// Live leases of one owner.
pub const LIVE_LEASES_OWNER: u32 = 10_000;
/// Mints a minute of one workload.
pub const MINTS_PER_MIN_WORKLOAD: u32 = 60;
/// Mints at once of one workload.
pub const MINT_BURST_WORKLOAD: u32 = 120;
/// Mints a minute of one owner.
pub const MINTS_PER_MIN_OWNER: u32 = 3_000;
/// How often a second key may supersede the first in the life of one piece of evidence.
pub const SUPERSEDE_MAX: u8 = 3;
/// The longest compact token or evidence that is looked at, in octets.
pub const TOKEN_OCTETS_MAX: usize = 16 * 1024;
/// The longest envelope payload, in octets.
pub const PAYLOAD_OCTETS_MAX: usize = 24 * 1024;
/// The largest gRPC message, in octets.
pub const MESSAGE_OCTETS_MAX: usize = 64 * 1024;
/// The largest JWKS document, in octets.
pub const JWKS_OCTETS_MAX: usize = 256 * 1024;
/// How many connections a broker has at once.
pub const CONNECTIONS: u32 = 10_000;
/// How long a follower may decide without an answer to a later ping where it asks for nothing, in milliseconds.
pub const FOLLOW_BOUND_MS: u32 = 5_000;
/// The longest that a follower is allowed, in milliseconds.
pub const FOLLOW_BOUND_MAX_MS: u32 = 10_000;
/// How often a follower pings at least, in milliseconds.
pub const FOLLOW_PING_MS: u32 = 1_000;
/// The longest that an acceptor may reuse an answer.
pub const REUSE_MAX_MS: u32 = 5_000;
/// Leases that one sweep step ends.
pub const SWEEP_BATCH: u32 = 200;
/// Leases on one page of a list.
pub const LIST_PAGE_MAX: u32 = 1_000;
/// How often a broker measures a revocation of its own, in milliseconds.
pub const CANARY_MS: u32 = 10_000;

/// One row of the documentation's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What it bounds.
    pub what: &'static str,
    /// The default.
    pub default: &'static str,
    /// The maximum.
    pub max: &'static str,
}

/// The table that the documentation prints; a test holds its words against the constants above.
pub const TABLE: &[Row] = &[
    Row { what: "access token", default: "5m", max: "1h" },
    Row { what: "workload's certificate", default: "1h", max: "1d" },
    Row { what: "join token", default: "10m, one use", max: "1d" },
    Row { what: "certificate request", default: "8 KiB", max: "8 KiB" },
    Row { what: "operator's certificate", default: "4h", max: "8h" },
    Row { what: "acceptor's certificate", default: "1d", max: "1d" },
    Row { what: "task window", default: "1h", max: "6h, more only by the rule" },
    Row { what: "lineage of a token", default: "1d", max: "30d" },
    Row { what: "lineage of a certificate", default: "7d", max: "30d" },
    Row { what: "life of bearer evidence", default: "6h", max: "1d" },
    Row { what: "clock skew (foreign evidence; never added to our own expiry)", default: "30s", max: "60s" },
    Row { what: "nonce", default: "60s", max: "60s" },
    Row { what: "DPoP proof", default: "60s", max: "60s" },
    Row { what: "live leases of a workload", default: "100", max: "configured" },
    Row { what: "live leases of an owner", default: "10000", max: "configured" },
    Row { what: "mints a minute of a workload", default: "60, burst 120", max: "configured" },
    Row { what: "mints a minute of an owner", default: "3000", max: "configured" },
    Row { what: "staleness bound of a follower", default: "5s", max: "10s" },
    Row { what: "ping of a follower", default: "1s", max: "1s" },
    Row { what: "reuse of a check's answer", default: "0s", max: "5s" },
    Row { what: "token binding", default: "dpop", max: "`bearer` needs a reason" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_the_code_does() {
        let row = |what: &str| TABLE.iter().find(|r| r.what.starts_with(what)).unwrap();
        for (what, default, max) in [
            ("access token", TOKEN_TTL, TOKEN_TTL_MAX),
            ("operator's", OPERATOR_TTL, OPERATOR_TTL_MAX),
            ("acceptor's", ACCEPTOR_TTL, ACCEPTOR_TTL),
            ("task window", TASK_WINDOW, TASK_WINDOW_MAX),
            ("workload's", X509_TTL, X509_TTL_MAX),
            ("join token", JOIN_TTL, JOIN_TTL_MAX),
            ("lineage of a c", X509_LINEAGE, LINEAGE_MAX),
            ("lineage of a t", TOKEN_LINEAGE, LINEAGE_MAX),
            ("life of bearer", EVIDENCE_LIFE_MAX, EVIDENCE_LIFE_LIMIT),
        ] {
            assert_eq!(row(what).default.split(',').next().unwrap(), default.to_string());
            assert!(row(what).max.starts_with(&max.to_string()), "{what}");
        }
        assert_eq!(row("certificate request").max, format!("{} KiB", CSR_OCTETS_MAX / 1024));
        assert_eq!(row("nonce").default, format!("{}s", NONCE_LIFE_MS / 1000));
        let secs = |ms: u32| format!("{}s", ms / 1_000);
        let bound = row("staleness bound");
        assert_eq!((bound.default, bound.max), (&*secs(FOLLOW_BOUND_MS), &*secs(FOLLOW_BOUND_MAX_MS)));
        assert_eq!(row("ping").default, secs(FOLLOW_PING_MS));
        assert_eq!(row("reuse").max, secs(REUSE_MAX_MS));
        assert_eq!(row("clock skew").default, format!("{}s", SKEW_MS / 1000));
        assert_eq!(row("clock skew").max, format!("{}s", SKEW_MAX_MS / 1000));
        assert_eq!(row("live leases of a w").default, LIVE_LEASES_WORKLOAD.to_string());
        assert_eq!(row("live leases of an o").default, LIVE_LEASES_OWNER.to_string());
        assert_eq!(row("mints a minute of an").default, MINTS_PER_MIN_OWNER.to_string());
        assert_eq!(
            row("mints a minute of a w").default,
            format!("{MINTS_PER_MIN_WORKLOAD}, burst {MINT_BURST_WORKLOAD}")
        );
    }
}
