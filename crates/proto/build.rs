//! Compiles the wire contract with protox: no `protoc` is needed.

use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 5] = [
    "mayfly/v1/common.proto",
    "mayfly/v1/workload.proto",
    "mayfly/v1/acceptor.proto",
    "mayfly/v1/operator.proto",
    "mayfly/v1/local.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = "../../proto";
    println!("cargo::rerun-if-changed={root}");
    let set = protox::compile(FILES, [root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("mayfly.bin"), protox::prost_reflect::prost::Message::encode_to_vec(&set))?;
    tonic_prost_build::configure().compile_fds(set)?;
    Ok(())
}
