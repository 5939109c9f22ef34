//! Whether a broker serves, and if not, why.

use mayfly_domain::{Reason, Refusal};

/// Where a broker stands. Only [`Standing::Serving`] mints, renews and accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has not looked at the store yet.
    Starting,
    /// It serves.
    Serving,
    /// The store is empty and there is no copy to carry over.
    Holding,
    /// The store can't be reached.
    Unavailable(String),
    /// The store's settings could forget a revocation: their names.
    Unsafe(Vec<String>),
    /// The clocks differ by so many ms.
    ClockSkew(i64),
    /// The sealed copy can't be written: what others block would not outlive the store here.
    CopyBehind(String),
    /// It could have missed a revocation: no ping of its own was answered within its bound.
    Behind,
    /// A new generation is being settled.
    Settling,
    /// It ends its work.
    Draining,
}

impl Standing {
    /// The stable name, as `status` shows it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Holding => "holding",
            Self::Unavailable(_) => "unavailable",
            Self::Unsafe(_) => "unsafe",
            Self::ClockSkew(_) => "clock-skew",
            Self::CopyBehind(_) => "copy-behind",
            Self::Behind => "behind",
            Self::Settling => "settling",
            Self::Draining => "draining",
        }
    }

    /// Why the broker does not serve; none where it does.
    pub fn refusal(&self) -> Option<Refusal> {
        self.serving().err()
    }

    /// Refuses where the broker does not serve.
    pub(crate) fn serving(&self) -> Result<(), Refusal> {
        let (reason, detail) = match self {
            Self::Serving => return Ok(()),
            Self::Starting | Self::Draining => (Reason::NotServing, String::new()),
            Self::Behind => (Reason::BrokerNotFresh, String::new()),
            Self::Settling => (Reason::GenerationChanged, String::new()),
            Self::Holding => (Reason::StoreHolding, String::new()),
            Self::Unavailable(why) | Self::CopyBehind(why) => (Reason::StoreUnavailable, why.clone()),
            Self::Unsafe(names) => (Reason::StoreUnsafe, names.join(", ")),
            Self::ClockSkew(ms) => (Reason::ClockSkew, format!("{ms} ms")),
        };
        Err(Refusal::new(reason, detail).after(std::time::Duration::from_secs(1)))
    }

    /// Refuses a revocation, block or completion only where the store can't take one: unsafe settings,
    /// clocks, staleness and a full disk do not keep anybody from ending trust.
    pub(crate) fn revoking(&self) -> Result<(), Refusal> {
        match self {
            Self::Unsafe(_) | Self::ClockSkew(_) | Self::CopyBehind(_) | Self::Behind | Self::Draining => {
                Ok(())
            }
            other => other.serving(),
        }
    }
}
