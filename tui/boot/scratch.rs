//! The scratch directory: a copy of each member's log, and a Procfile for members on free ports.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, DirBuilder},
    io,
    net::TcpListener,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use glass_etcd::{
    clock,
    member::moment::{self, Metadata, Request},
};

use nix::{sys::signal::kill, unistd::Pid};

use super::outlook::Log;
use crate::{state::disk::Disk, up};

/// The most bytes of all logs together that are copied.
const BYTES_MAX: u64 = 4 << 30;

/// How the names of scratch directories begin; the id of the process follows.
const PREFIX: &str = "moment-";

/// A scratch directory, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
    /// The members in it, and their logs.
    pub(crate) members: Vec<Log>,
    /// The names of those whose disks may have had more than the records say.
    pub(crate) open: Vec<String>,
    is_kept: bool,
}

impl Scratch {
    /// Keeps the directory, under a name that no later trial removes.
    pub(crate) fn keep(mut self) -> io::Result<PathBuf> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let kept = self.path.with_file_name(name.replacen(PREFIX, "kept-", 1));
        fs::rename(&self.path, &kept)?;
        self.is_kept = true;
        Ok(kept)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Copies the logs of these members, and writes the Procfile. An error is one line.
pub(crate) fn make(place: &crate::Cluster, disks: &[Disk]) -> Result<Scratch, String> {
    let (base, dirs) = up::data_dirs(&place.procfile, place.data_dir.as_deref())
        .map_err(|error| error.to_string())?;
    let wal = |disk: &Disk| -> Result<PathBuf, String> {
        let of = dirs.iter().find(|dir| dir.member == disk.name);
        let of = of.ok_or_else(|| format!("no data directory of {} is known here", disk.name))?;
        Ok(of.wal.clone())
    };
    let wals: Vec<PathBuf> = disks.iter().map(wal).collect::<Result<_, _>>()?;
    let bytes: u64 = wals.iter().map(|dir| length(dir)).sum();
    if BYTES_MAX < bytes {
        return Err(format!("the logs have {bytes} bytes, and at most {BYTES_MAX} are copied"));
    }
    let files = |error: io::Error| format!("cannot write below {}: {error}", base.display());
    remove_left(&base, PREFIX);
    let unique = format!("{PREFIX}{}-{:x}", std::process::id(), clock::wall().as_nanos());
    let path = base.join(unique);
    DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(files)?;
    let open = disks.iter().filter(|disk| !disk.is_exact).map(|disk| disk.name.clone());
    let open = open.collect();
    let mut scratch = Scratch { path, members: Vec::new(), open, is_kept: false };
    let ports = free_ports(2 * disks.len()).map_err(files)?;
    let ports: Vec<(u16, u16)> = ports.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let urls = disks.iter().zip(&ports).map(|(disk, (_, peer))| (disk.member_id, url(*peer)));
    let urls: BTreeMap<u64, String> = urls.collect();
    for (disk, wal) in disks.iter().zip(&wals) {
        let request = Request {
            wal,
            data_dir: &scratch.path.join("data").join(&disk.name),
            owner: Metadata { node_id: disk.member_id, cluster_id: disk.cluster_id },
            until: disk.until.ok_or("the moment is not known")?,
            peer_urls: &urls,
        };
        let copied = moment::copy(&request).map_err(|error| format!("{}: {error}", disk.name))?;
        scratch.members.push((disk.name.clone(), copied));
    }
    fs::write(scratch.path.join("Procfile"), procfile(disks, &ports)).map_err(files)?;
    Ok(scratch)
}

/// Removes the directories with this prefix of processes that were killed before they could.
pub(crate) fn remove_left(base: &Path, prefix: &str) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(prefix).and_then(|rest| rest.split_once('-'));
        let Some(Ok(process)) = process.map(|(process, _)| process.parse()) else { continue };
        if kill(Pid::from_raw(process), None).is_err() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The URL of a port of this machine.
pub(crate) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn procfile(disks: &[Disk], ports: &[(u16, u16)]) -> String {
    let named = disks.iter().zip(ports);
    let cluster: Vec<String> =
        named.clone().map(|(disk, (_, peer))| format!("{}={}", disk.name, url(*peer))).collect();
    let cluster = cluster.join(",");
    let mut text = String::new();
    for (disk, (client, peer)) in named {
        let (name, client, peer) = (&disk.name, url(*client), url(*peer));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name}: glass serve --name {name} --data-dir data/{name} --listen-client-urls {client} \
             --advertise-client-urls {client} --listen-peer-urls {peer} \
             --initial-advertise-peer-urls {peer} --initial-cluster {cluster} \
             --initial-cluster-token moment"
        );
    }
    text
}

/// Distinct free ports: all are held until the last is known.
pub(crate) fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

fn length(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
}
