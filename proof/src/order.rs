//! The orders that matter: each can be broken in a model, alone, and must then give a counterexample.

/// An order that the protocol keeps, or a rule beside them that these models found missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// Index entry before record.
    IndexBeforeRecord,
    /// Block with or before the fence.
    BlockWithFence,
    /// The fence before the sweep reads.
    FenceBeforeSweep,
    /// The confirming read comes after the side effect.
    ConfirmAfterEffect,
    /// The confirming read is of ancestors too.
    ConfirmAncestors,
    /// The evidence's observation, not the current one.
    EvidenceObservation,
    /// A renewal keeps the first observation.
    FirstObservation,
    /// The used mark outlives the lease.
    UsedOutlives,
    /// Freshness counts from when the ping was sent, not from when its answer came.
    PingTime,
    /// A ping's time is stored where every barrier sees it.
    PingStored,
    /// The event is stored before the acknowledgement.
    EventBeforeAck,
    /// The job is stored before the acknowledgement.
    JobBeforeAck,
    /// Blocks are carried over before a generation serves.
    BlocksCarried,
    /// The reaper ends before it undoes.
    ReaperEndsFirst,
    /// The scan lists accounts before it reads records.
    ScanListsFirst,
    /// An index entry is cleaned by its expiry only.
    IndexByExpiry,
    /// One matching rule everywhere.
    OneRule,
    /// A confirmation of an undo counts for that undo.
    UndoneBySight,
    /// The scan allows for its broker's clock.
    ScanAllowsSkew,
    /// A follower's number counts in its own epoch only.
    NumbersOfAnEpoch,
    /// A barrier waits out who followed in the generation before.
    BarrierOutlastsGeneration,
    /// A barrier takes no look of another generation.
    BarrierKeepsGeneration,
}

impl Order {
    /// Every order. Those of one line of the specification that have two halves are here twice.
    pub const ALL: [Self; 22] = [
        Self::IndexBeforeRecord,
        Self::BlockWithFence,
        Self::FenceBeforeSweep,
        Self::ConfirmAfterEffect,
        Self::ConfirmAncestors,
        Self::EvidenceObservation,
        Self::FirstObservation,
        Self::UsedOutlives,
        Self::PingTime,
        Self::PingStored,
        Self::EventBeforeAck,
        Self::JobBeforeAck,
        Self::BlocksCarried,
        Self::ReaperEndsFirst,
        Self::ScanListsFirst,
        Self::IndexByExpiry,
        Self::OneRule,
        Self::UndoneBySight,
        Self::ScanAllowsSkew,
        Self::NumbersOfAnEpoch,
        Self::BarrierOutlastsGeneration,
        Self::BarrierKeepsGeneration,
    ];

    /// The order in the words of the specification.
    pub const fn words(self) -> &'static str {
        match self {
            Self::IndexBeforeRecord => "index entry before record",
            Self::BlockWithFence => "block with or before fence",
            Self::FenceBeforeSweep => "fence before the sweep reads",
            Self::ConfirmAfterEffect => "confirming read after the side effect",
            Self::ConfirmAncestors => "confirming read of ancestors too",
            Self::EvidenceObservation => "evidence's observation, not the current one",
            Self::FirstObservation => "renewal keeps the first observation",
            Self::UsedOutlives => "used mark outlives the lease",
            Self::PingTime => "ping time, not receipt time",
            Self::PingStored => "ping time stored where every barrier sees it",
            Self::EventBeforeAck => "event stored before the acknowledgement",
            Self::JobBeforeAck => "job stored before the acknowledgement",
            Self::BlocksCarried => "blocks carried over before a generation serves",
            Self::ReaperEndsFirst => "reaper ends before it undoes",
            Self::ScanListsFirst => "scan lists accounts before it reads records",
            Self::IndexByExpiry => "index cleaned by expiry only",
            Self::OneRule => "one matching rule everywhere",
            Self::UndoneBySight => "a confirmation of an undo counts for that undo alone",
            Self::ScanAllowsSkew => "the scan allows for the skew of its broker's clock",
            Self::NumbersOfAnEpoch => "what a follower has applied counts in its own epoch",
            Self::BarrierOutlastsGeneration => "a barrier waits out who followed in the generation before",
            Self::BarrierKeepsGeneration => "a barrier takes no look of another generation",
        }
    }

    /// How the model breaks it.
    pub const fn broken(self) -> &'static str {
        match self {
            Self::IndexBeforeRecord => {
                "the record is written, and the index entry by a write that nobody waits for"
            }
            Self::BlockWithFence => "`revoke --block` moves the fence in one step and blocks in the next",
            Self::FenceBeforeSweep => "the job may be claimed before the fence moves",
            Self::ConfirmAfterEffect => "the mint confirms, then makes the account",
            Self::ConfirmAncestors => "the confirmation reads the marks of no ancestor",
            Self::EvidenceObservation => "a mint observes the fences of now, whatever its evidence saw",
            Self::FirstObservation => "a renewal observes anew",
            Self::UsedOutlives => "the nonce's mark goes when its lease ends",
            Self::PingTime => "a follower counts its bound from when the answer came",
            Self::PingStored => "each broker keeps its own followers' pings to itself",
            Self::EventBeforeAck => "the acknowledgement leaves first, the event is written after it",
            Self::JobBeforeAck => "the acknowledgement leaves first, the job is written after it",
            Self::BlocksCarried => "a new generation serves, and blocks are carried after that",
            Self::ReaperEndsFirst => {
                "the reaper picks by its own clock, undoes, and ends the record after that"
            }
            Self::ScanListsFirst => "the scan reads the records, then lists the accounts",
            Self::IndexByExpiry => "the cleaner removes index entries without a record",
            Self::OneRule => "the sweep ends whatever did not observe its own job's fence",
            Self::UndoneBySight => {
                "any confirmation that comes when the second undo is due counts as the second"
            }
            Self::ScanAllowsSkew => "the scan holds a mint for abandoned by its own broker's clock",
            Self::NumbersOfAnEpoch => "a follower's number is stored whichever server it is of",
            Self::BarrierOutlastsGeneration => "a barrier asks only those whom the new store knows",
            Self::BarrierKeepsGeneration => {
                "a barrier takes whoever a new store does not know for one that has applied"
            }
        }
    }
}
