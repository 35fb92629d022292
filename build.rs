//! Compiles the `.proto` files below `src/pb/proto` in Rust alone, without protoc.

use std::error::Error;

const FILES: &[&str] = &[
    "rpc.proto",
    "raft_internal.proto",
    "etcdserver.proto",
    "membership.proto",
    "raft.proto",
    "record.proto",
    "snap.proto",
    "lease.proto",
    "v3lock.proto",
    "v3election.proto",
    "glass.proto",
    "otlp.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=src/pb/proto");
    let descriptors = protox::compile(FILES, ["src/pb/proto"])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.enable_type_names();
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
