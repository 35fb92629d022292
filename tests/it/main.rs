//! Integration tests: real members as processes, real sockets, real signals; and next to them a
//! real etcd 3.5.1, for what it answers is what a member of ours must answer.
//!
//! One binary, so that it links once. `compat` compares with etcd, `faults` breaks things,
//! `listening` is about ports and sockets, `traces` reads what members record, `upkeep` waits for
//! what they do by themselves, `stress` does much at once for as long as one likes. Each test
//! starts few clusters and checks much in each: starting one costs an election.
//!
//! What the machine has not got is left out with one line, and the rest runs (see [`programs`]).
//! With `GLASS_IT_SUBJECT=/path/to/etcd` the tests run against that etcd in place of `glass`: a
//! test that etcd itself does not pass claims too much.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod cli;
mod client;
mod cluster;
mod locks;
mod ports;
mod programs;
mod proxy;
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
