//! What a server says about itself: who it is, and whether it could forget what it acknowledged.

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};

/// When the append-only file is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fsync {
    Always,
    EverySec,
    No,
    Unreadable,
}

/// A server as it described itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// The first half of a hash of its run id and replication id.
    pub(super) identity: [u8; 16],
    major: u32,
    loading: bool,
    aof: bool,
    fsync: Fsync,
    evicts: bool,
    replica: bool,
}

impl Facts {
    /// Asks a server.
    pub(super) async fn read(connection: &mut MultiplexedConnection) -> RedisResult<Self> {
        let info: String = redis::cmd("INFO").query_async(connection).await?;
        let fsync: RedisResult<Vec<String>> =
            redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(connection).await;
        let fsync = match fsync.as_deref() {
            Ok([_, value]) => match value.as_str() {
                "always" => Fsync::Always,
                "everysec" => Fsync::EverySec,
                "no" => Fsync::No,
                _ => Fsync::Unreadable,
            },
            Ok(_) => Fsync::Unreadable,
            Err(e) if is_denied(e) => Fsync::Unreadable,
            Err(e) => return Err(e.clone()),
        };
        Ok(Self::from_info(&info, fsync))
    }

    fn from_info(info: &str, fsync: Fsync) -> Self {
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim)
        };
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(b"mayfly redis server v1\0");
        hash.update(field("run_id").as_bytes());
        hash.update(b"\0");
        hash.update(field("master_replid").as_bytes());
        let mut identity = [0; 16];
        for (to, from) in identity.iter_mut().zip(hash.finish().as_ref()) {
            *to = *from;
        }
        let limited = !matches!(field("maxmemory"), "" | "0");
        Self {
            identity,
            major: field("redis_version").split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0),
            loading: field("loading") == "1" || field("async_loading") == "1",
            aof: field("aof_enabled") == "1",
            fsync,
            evicts: limited && field("maxmemory_policy") != "noeviction",
            replica: field("role") != "master",
        }
    }

    /// Whether it has all commands that the scripts use.
    pub(super) fn is_recent(&self) -> bool {
        self.major >= 7
    }

    /// Whether it still reads its data. While it does, it calls its append-only file disabled, so nothing that it
    /// says about what it keeps may be believed.
    pub(super) fn is_loading(&self) -> bool {
        self.loading
    }

    /// Whether a server after this one has all that this one acknowledged: the deployment's replicas see to
    /// it, or the append-only file does.
    pub(super) fn keeps_all(&self, wait_replicas: u32) -> bool {
        wait_replicas > 0 || (self.aof && self.fsync == Fsync::Always)
    }

    /// Settings that could forget a revocation, by their stable names.
    pub(super) fn risks(&self, wait_replicas: u32) -> Vec<String> {
        let mut risks = Vec::new();
        if wait_replicas == 0 {
            match (self.aof, self.fsync) {
                (false, _) => risks.push("aof-off"),
                (true, Fsync::EverySec) => risks.push("appendfsync-everysec"),
                (true, Fsync::No) => risks.push("appendfsync-no"),
                (true, Fsync::Unreadable) => risks.push("config-unreadable"),
                (true, Fsync::Always) => {}
            }
        }
        if self.evicts {
            risks.push("maxmemory-eviction");
        }
        if self.replica {
            risks.push("replica");
        }
        risks.into_iter().map(str::to_owned).collect()
    }
}

/// Whether the server knows the command but does not let us (ACL), or does not know it (hosted services).
fn is_denied(e: &RedisError) -> bool {
    matches!(e.kind(), ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError))
}

/// The risks of a survey that the operator has not accepted by name: with any of these, serve nothing.
pub fn refused_risks(survey: &mayfly_lease::Survey, accepted: &[String]) -> Vec<String> {
    survey.risks.iter().filter(|risk| !accepted.contains(risk)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n\
         # Persistence\r\naof_enabled:1\r\n# Replication\r\nrole:master\r\nmaster_replid:def\r\n";

    fn risks(from: &str, to: &str, fsync: Fsync, wait: u32) -> Vec<String> {
        assert!(INFO.contains(from));
        Facts::from_info(&INFO.replace(from, to), fsync).risks(wait)
    }

    #[test]
    fn settings_that_forget_are_named() {
        let none: [&str; 0] = [];
        assert_eq!(risks("", "", Fsync::Always, 0), none);
        assert_eq!(risks("", "", Fsync::EverySec, 0), ["appendfsync-everysec"]);
        assert_eq!(risks("", "", Fsync::No, 0), ["appendfsync-no"]);
        assert_eq!(risks("", "", Fsync::Unreadable, 0), ["config-unreadable"]);
        assert_eq!(risks("aof_enabled:1", "aof_enabled:0", Fsync::Always, 0), ["aof-off"]);
        assert_eq!(risks("aof_enabled:1", "aof_enabled:0", Fsync::Always, 1), none);
        assert_eq!(risks("role:master", "role:slave", Fsync::Always, 0), ["replica"]);
        assert_eq!(risks("maxmemory:0", "maxmemory:9", Fsync::Always, 0), none);
        let evicting = "maxmemory:9\r\nmaxmemory_policy:allkeys-lru";
        assert_eq!(
            risks("maxmemory:0\r\nmaxmemory_policy:noeviction", evicting, Fsync::Always, 0),
            ["maxmemory-eviction"]
        );
    }

    #[test]
    fn older_servers_are_told_apart() {
        let of = |version: &str| Facts::from_info(&INFO.replace("7.0.15", version), Fsync::Always);
        assert!(of("7.0.15").is_recent() && of("10.1.0").is_recent());
        assert!(!of("6.2.14").is_recent() && !of("").is_recent());
    }

    #[test]
    fn a_server_that_reads_its_data_is_told_apart() {
        let loading = |lines: &str| {
            let info = INFO.replace("aof_enabled:1", &format!("{lines}\r\naof_enabled:0"));
            Facts::from_info(&info, Fsync::Always).is_loading()
        };
        assert!(loading("loading:1\r\nasync_loading:0") && loading("loading:0\r\nasync_loading:1"));
        assert!(!loading("loading:0\r\nasync_loading:0") && !loading(""));
    }

    #[test]
    fn identity_follows_both_ids() {
        let of = |info: &str| Facts::from_info(info, Fsync::Always).identity;
        assert_ne!(of(INFO), of(&INFO.replace("run_id:abc", "run_id:abd")));
        assert_ne!(of(INFO), of(&INFO.replace("replid:def", "replid:deg")));
        assert_eq!(of(INFO), of(&INFO.replace("maxmemory:0", "maxmemory:9")));
    }

    #[test]
    fn only_full_sync_or_replicas_keep_all() {
        let facts = |fsync| Facts::from_info(INFO, fsync);
        assert!(facts(Fsync::Always).keeps_all(0));
        assert!(!facts(Fsync::EverySec).keeps_all(0));
        assert!(facts(Fsync::EverySec).keeps_all(1));
        assert!(
            !Facts::from_info(&INFO.replace("aof_enabled:1", "aof_enabled:0"), Fsync::Always).keeps_all(0)
        );
    }
}
