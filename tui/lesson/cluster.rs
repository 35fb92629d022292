//! The cluster of a scenario: members on free ports, in a scratch directory of their own.
//!
//! Invariants: no other cluster and no other data are touched; the members end, and the directory
//! goes, when this is dropped.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
};

use glass_etcd::clock;

use super::scenario::{Scenario, member_name};
use crate::{
    boot::scratch,
    up::{
        self, Options, Output, Up,
        api::{Action, Command},
    },
};

/// How the names of the directories begin; the id of the process follows.
const PREFIX: &str = "glass-lesson-";

/// See the module's text.
pub(super) struct Cluster {
    // Dropped first: the members end before their directory goes.
    up: Up,
    _dir: Dir,
    /// The members' client URLs, in the order of their names.
    pub(super) endpoints: Vec<String>,
    /// The URLs at which they hear each other, in the same order.
    pub(super) peers: Vec<String>,
    /// The Procfile, by which the player and `glass run` find the members.
    pub(super) place: crate::Cluster,
}

/// A directory that is removed when this is dropped.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Cluster {
    /// Starts the members of a scenario, except those that are to join.
    pub(super) fn start(scenario: &Scenario) -> io::Result<Cluster> {
        let base = std::env::temp_dir();
        scratch::remove_left(&base, PREFIX);
        let unique = format!("{PREFIX}{}-{:x}", std::process::id(), clock::wall().as_nanos());
        let dir = Dir(base.join(unique));
        DirBuilder::new().mode(0o700).create(&dir.0)?;
        let ports = scratch::free_ports(2 * scenario.names().count())?;
        let ports: Vec<(u16, u16)> = ports.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let path = dir.0.join("Procfile");
        fs::write(&path, procfile(scenario, &ports))?;
        let options = Options {
            procfile: path.clone(),
            data_dir: None,
            fresh: false,
            output: Output::Files,
            late: scenario.names().skip(scenario.members).collect(),
        };
        let up = up::start(&options).map_err(io::Error::other)?;
        let endpoints = ports.iter().map(|(client, _)| scratch::url(*client)).collect();
        let peers = ports.iter().map(|(_, peer)| scratch::url(*peer)).collect();
        let place = crate::Cluster { procfile: path, data_dir: None };
        Ok(Cluster { up, _dir: dir, endpoints, peers, place })
    }

    pub(super) fn members(&self) -> &[up::Member] {
        self.up.members()
    }

    /// Does something to a member, or to the link between two.
    pub(super) async fn act(
        &self,
        action: Action,
        name: String,
        peer: Option<String>,
    ) -> Result<(), String> {
        let reply = self.up.handle().command(Command { action, name: Some(name), peer }).await;
        reply.error.map_or(Ok(()), Err)
    }
}

/// A member that joins has itself in its list, and says that the cluster exists.
fn procfile(scenario: &Scenario, ports: &[(u16, u16)]) -> String {
    let names = || (1..).map(member_name).zip(ports);
    let all: Vec<String> =
        names().map(|(name, (_, peer))| format!("{name}={}", scratch::url(*peer))).collect();
    let mut text = String::new();
    for ((name, (client, peer)), at) in names().zip(0..) {
        let (client, peer) = (scratch::url(*client), scratch::url(*peer));
        let (known, state) = match at < scenario.members {
            true => (scenario.members, "new"),
            false => (at + 1, "existing"),
        };
        let (known, flags) = (all[..known].join(","), &scenario.flags);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name}: glass serve --name {name} --data-dir data/{name} --listen-client-urls {client} \
             --advertise-client-urls {client} --listen-peer-urls {peer} \
             --initial-advertise-peer-urls {peer} --initial-cluster {known} \
             --initial-cluster-state {state} --initial-cluster-token lesson {flags}"
        );
    }
    text
}
