//! What must be known to use a Redis.

use std::path::PathBuf;
use std::time::Duration;

use mayfly_domain::{Secret, defaults};

/// How a Redis is reached and what the deployment promises about it.
///
/// The user needs these rights (`ACL SETUSER`): `~mf:* resetchannels -@all +evalsha +script|load +info
/// +config|get +wait +time +get +mget +set +setrange +getrange +incr +exists +del +pexpireat +pexpiretime +zadd +zrem +zcard
/// +zcount +zscore +zrange +zrangebyscore +sadd +srem +smembers +hset +hget +hdel +hgetall +hmget +hlen +hexists +hincrby
/// +xadd +xrange +xread`. Without `config|get`
/// the risk `config-unreadable` has to be accepted.
#[derive(Debug)]
pub struct RedisConfig {
    /// `redis://host:port/db`, `rediss://…` for TLS, or `unix:///path`; a user may stand in it, no password.
    pub url: String,
    /// The ACL user, where the address names none.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret<String>>,
    /// A file with the password instead; read whenever a connection opens, so that it may be replaced. Line
    /// ends at its end do not count.
    pub password_file: Option<PathBuf>,
    /// The authorities that may sign the server's certificate, PEM; none: the machine's.
    pub ca_pem: Option<Vec<u8>>,
    /// How many replicas acknowledge a revocation or first binding before it counts; 0: none, then the
    /// append-only file must be synced always.
    pub wait_replicas: u32,
    /// The difference of the clocks that is tolerated.
    pub skew: Duration,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub response_timeout: Duration,
    /// How long replicas may take to acknowledge; at most half of the time for an answer counts.
    pub wait_timeout: Duration,
}

impl RedisConfig {
    /// The defaults for an address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            username: None,
            password: None,
            password_file: None,
            ca_pem: None,
            wait_replicas: 0,
            skew: Duration::from_millis(defaults::SKEW_MS),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(2),
            wait_timeout: Duration::from_secs(1),
        }
    }
}

/// Why a configuration can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The address.
    #[error("`url`: {0}")]
    Url(String),
    /// The authorities.
    #[error("`ca`: {0}")]
    Ca(String),
}
