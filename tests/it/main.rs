//! Integration tests: real members as processes, real sockets, real signals; and beside them a real
//! etcd 3.5.1, whose answers a member of ours must give.
//!
//! One binary, so that it links once. `compat` compares with etcd, `faults` breaks things,
//! `listening` is about ports and sockets, `traces` reads what members record, `upkeep` waits for
//! background work, `stress` applies load for as long as configured. Each test starts few clusters
//! and checks much in each, because each start costs an election.
//!
//! Tests that need something the machine does not have are skipped with one line (see
//! [`programs`]). With `GLASS_IT_SUBJECT=/path/to/etcd` the tests run against that etcd instead of
//! `glass`: a test that etcd itself fails demands too much.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod cli;
mod client;
mod cluster;
mod locks;
mod ports;
mod programs;
mod proxy;
mod random;
mod raw;
mod silent;

#[path = "../compat/mod.rs"]
mod compat;
#[path = "../faults/mod.rs"]
mod faults;
#[path = "../listening/mod.rs"]
mod listening;
#[path = "../stress/mod.rs"]
mod stress;
#[path = "../traces/mod.rs"]
mod traces;
#[path = "../upkeep/mod.rs"]
mod upkeep;
