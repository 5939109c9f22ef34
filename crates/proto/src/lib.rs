//! The generated wire contract. Knows nothing of Mayfly's own types.
#![allow(missing_docs, clippy::all, unreachable_pub, reason = "generated code")]

/// `package mayfly.v1`.
pub mod v1 {
    tonic::include_proto!("mayfly.v1");
}

/// The encoded descriptor set, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mayfly.bin"));

/// The full names of the RPCs whose envelopes a workload signs.
pub mod rpc {
    pub const MINT: &str = "mayfly.v1.WorkloadService/Mint";
    pub const RENEW: &str = "mayfly.v1.WorkloadService/Renew";
    pub const RELEASE: &str = "mayfly.v1.WorkloadService/Release";
    pub const START_TASK: &str = "mayfly.v1.WorkloadService/StartTask";
    pub const COMPLETE_TASK: &str = "mayfly.v1.WorkloadService/CompleteTask";
    pub const GET_TASK: &str = "mayfly.v1.WorkloadService/GetTask";
}
