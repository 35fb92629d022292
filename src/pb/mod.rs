//! Messages and services, generated from the `.proto` files of this folder.
//!
//! Packages, field numbers and types are etcd's, so that its clients, its members and its log
//! files can be read. Raft's own messages ([`raft::eraftpb`]) come with raft-rs; the few that are
//! here as well ([`raftpb`]) are those that etcd numbers differently or that stand in a file.
//! [`otlp`] is not etcd's: it is what collectors of OpenTelemetry read.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]

macro_rules! package {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub mod $name { include!(concat!(env!("OUT_DIR"), "/", $file, ".rs")); })+
    };
}

package! {
    authpb = "authpb",
    etcdserverpb = "etcdserverpb",
    glasspb = "glasspb",
    leasepb = "leasepb",
    membershippb = "membershippb",
    mvccpb = "mvccpb",
    raftpb = "raftpb",
    snappb = "snappb",
    v3electionpb = "v3electionpb",
    v3lockpb = "v3lockpb",
    walpb = "walpb",
    otlp = "opentelemetry.proto.collector.trace.v1",
}

/// The request id in the data of a log entry: `header.ID`, or `ID` where there is no header (as in
/// etcd's v2 requests). 0 when there is none. Reads a few bytes only, for the trace.
pub fn entry_id(data: &[u8]) -> u64 {
    scan(data).unwrap_or(0)
}

/// Field 100 of `InternalRaftRequest`.
const HEADER: u64 = 100;

fn scan(mut data: &[u8]) -> Option<u64> {
    let mut own = None;
    while !data.is_empty() {
        let tag = varint(&mut data)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => own = Some(varint(&mut data)?),
            (_, 0) => _ = varint(&mut data)?,
            (_, 1) => data = data.get(8..)?,
            (field, 2) => {
                let length = usize::try_from(varint(&mut data)?).ok()?;
                let inner = data.get(..length)?;
                if field == HEADER {
                    return scan(inner);
                }
                data = &data[length..];
            }
            (_, 5) => data = data.get(4..)?,
            _ => return own,
        }
    }
    own
}

/// The numbers of a message's fields, as they are encoded; ends where it cannot be read.
pub fn fields(mut data: &[u8]) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let tag = varint(&mut data)?;
        let length = match tag & 7 {
            0 => varint(&mut data).map(|_| 0)?,
            1 => 8,
            2 => usize::try_from(varint(&mut data)?).ok()?,
            5 => 4,
            _ => return None,
        };
        data = data.get(length..)?;
        Some(tag >> 3)
    })
}

fn varint(data: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
