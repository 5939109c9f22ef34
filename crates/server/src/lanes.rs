//! The calls that a broker knows, and the lane in which each is worked on.
//!
//! A call that ends something must never wait behind calls that make or ask for something.

/// A lane: calls that are shed together when there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Revocation, block, completion, release: never shed.
    End,
    /// Checks and everything that only reads.
    Check,
    /// Mints, renewals, task starts, and whatever makes or changes something.
    Mint,
}

impl Lane {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Check => "check",
            Self::Mint => "mint",
        }
    }
}

/// A call as metrics and limits know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The path, or `other`: bounded, so that no caller can fill the metrics.
    pub method: &'static str,
    /// Its lane.
    pub lane: Lane,
}

impl Call {
    /// The call of a request's path.
    pub fn of(path: &str) -> Self {
        CALLS.iter().find(|(method, _)| *method == path).map_or(
            Self { method: "other", lane: Lane::Check },
            |(method, lane)| Self { method, lane: *lane },
        )
    }

    /// Whether its caller sends a stream of messages. Every other call is one message, which is read whole
    /// before anything is done for it.
    pub fn is_streamed(&self) -> bool {
        [FOLLOW, REFLECTION].contains(&self.method)
    }

    /// Whether its answer is a stream, which may go on for as long as its caller likes.
    pub fn waits(&self) -> bool {
        [FOLLOW, WATCH_BUNDLE, WAIT_BARRIER, WATCH, WATCH_HEALTH, REFLECTION].contains(&self.method)
    }
}

const FOLLOW: &str = "/mayfly.v1.AcceptorService/Follow";
const WATCH_BUNDLE: &str = "/mayfly.v1.WorkloadService/WatchBundle";
const WAIT_BARRIER: &str = "/mayfly.v1.OperatorService/WaitBarrier";
const WATCH: &str = "/mayfly.v1.OperatorService/Watch";
const WATCH_HEALTH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

const CALLS: &[(&str, Lane)] = &[
    ("/mayfly.v1.AcceptorService/Check", Lane::Check),
    (FOLLOW, Lane::Check),
    ("/mayfly.v1.WorkloadService/Mint", Lane::Mint),
    ("/mayfly.v1.WorkloadService/Renew", Lane::Mint),
    ("/mayfly.v1.WorkloadService/GetNonce", Lane::Check),
    ("/mayfly.v1.WorkloadService/Release", Lane::End),
    ("/mayfly.v1.WorkloadService/StartTask", Lane::Mint),
    ("/mayfly.v1.WorkloadService/CompleteTask", Lane::End),
    ("/mayfly.v1.WorkloadService/GetTask", Lane::Check),
    ("/mayfly.v1.WorkloadService/CompleteTaskByHandle", Lane::End),
    (WATCH_BUNDLE, Lane::Check),
    ("/mayfly.v1.OperatorService/Revoke", Lane::End),
    (WAIT_BARRIER, Lane::End),
    ("/mayfly.v1.OperatorService/ListFollowers", Lane::Check),
    (WATCH, Lane::Check),
    ("/mayfly.v1.OperatorService/GetUsage", Lane::Check),
    ("/mayfly.v1.OperatorService/GetRevocation", Lane::End),
    ("/mayfly.v1.OperatorService/SetBlock", Lane::End),
    ("/mayfly.v1.OperatorService/LiftBlock", Lane::Mint),
    ("/mayfly.v1.OperatorService/ListBlocks", Lane::Check),
    ("/mayfly.v1.OperatorService/ListLeases", Lane::Check),
    ("/mayfly.v1.OperatorService/GetLease", Lane::Check),
    ("/mayfly.v1.OperatorService/GetTask", Lane::Check),
    ("/mayfly.v1.OperatorService/CompleteTask", Lane::End),
    ("/mayfly.v1.OperatorService/GetStatus", Lane::Check),
    ("/mayfly.v1.OperatorService/Why", Lane::Check),
    ("/mayfly.v1.OperatorService/RotateKey", Lane::Mint),
    ("/mayfly.v1.OperatorService/ListKeys", Lane::Check),
    ("/mayfly.v1.OperatorService/RevokeKey", Lane::End),
    ("/mayfly.v1.OperatorService/ListAuthorities", Lane::Check),
    ("/mayfly.v1.OperatorService/RotateAuthority", Lane::Mint),
    ("/mayfly.v1.OperatorService/RevokeAuthority", Lane::End),
    ("/mayfly.v1.OperatorService/GetAuthorityCsr", Lane::Mint),
    ("/mayfly.v1.OperatorService/ImportAuthority", Lane::Mint),
    ("/mayfly.v1.OperatorService/CreateJoinToken", Lane::Mint),
    ("/mayfly.v1.OperatorService/ListJoinTokens", Lane::Check),
    ("/mayfly.v1.OperatorService/WithdrawJoinToken", Lane::End),
    ("/mayfly.v1.LocalService/IssueCertificate", Lane::Mint),
    ("/grpc.health.v1.Health/Check", Lane::Check),
    (WATCH_HEALTH, Lane::Check),
    (REFLECTION, Lane::Check),
    ("/.well-known/jwks.json", Lane::Check),
    ("/v1/ca.pem", Lane::Check),
    ("/v1/bundle.json", Lane::Check),
];

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn every_call_of_the_contract_is_known() {
        let set = prost_types::FileDescriptorSet::decode(mayfly_proto::DESCRIPTORS).unwrap();
        let mut seen = 0;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert_eq!(Call::of(&path).method, path);
                    assert_eq!(Call::of(&path).is_streamed(), method.client_streaming(), "{path}");
                    assert_eq!(Call::of(&path).waits(), method.server_streaming(), "{path}");
                    seen += 1;
                }
            }
        }
        assert!(seen >= 20, "{seen}");
        assert_eq!(Call::of("/x").method, "other");
    }

    #[test]
    fn what_ends_something_has_its_own_lane() {
        for (method, lane) in CALLS {
            let ends = ["Revoke", "SetBlock", "CompleteTask", "Release", "Withdraw"]
                .iter()
                .any(|end| method.contains(&format!("/{end}")));
            if ends {
                assert_eq!(*lane, Lane::End, "{method}");
            }
        }
    }
}
