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

use super::scenario::member_name;
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
    /// Starts this many members, with these flags.
    pub(super) fn start(members: usize, flags: &str) -> io::Result<Cluster> {
        let base = std::env::temp_dir();
        scratch::remove_left(&base, PREFIX);
        let unique = format!("{PREFIX}{}-{:x}", std::process::id(), clock::wall().as_nanos());
        let dir = Dir(base.join(unique));
        DirBuilder::new().mode(0o700).create(&dir.0)?;
        let ports = scratch::free_ports(2 * members)?;
        let ports: Vec<(u16, u16)> = ports.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let path = dir.0.join("Procfile");
        fs::write(&path, procfile(&ports, flags))?;
        let options =
            Options { procfile: path.clone(), data_dir: None, fresh: false, output: Output::Files };
        let up = up::start(&options).map_err(io::Error::other)?;
        let endpoints = ports.iter().map(|(client, _)| scratch::url(*client)).collect();
        let place = crate::Cluster { procfile: path, data_dir: None };
        Ok(Cluster { up, _dir: dir, endpoints, place })
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

fn procfile(ports: &[(u16, u16)], flags: &str) -> String {
    let names = || (1..).map(member_name).zip(ports);
    let all: Vec<String> =
        names().map(|(name, (_, peer))| format!("{name}={}", scratch::url(*peer))).collect();
    let all = all.join(",");
    let mut text = String::new();
    for (name, (client, peer)) in names() {
        let (client, peer) = (scratch::url(*client), scratch::url(*peer));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name}: glass serve --name {name} --data-dir data/{name} --listen-client-urls {client} \
             --advertise-client-urls {client} --listen-peer-urls {peer} \
             --initial-advertise-peer-urls {peer} --initial-cluster {all} \
             --initial-cluster-token lesson {flags}"
        );
    }
    text
}
