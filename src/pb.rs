//! Messages and services, generated from the `.proto` files of this folder.
//!
//! Packages, field numbers and types are etcd's, so that its clients, its members and its log files
//! can be read. Raft's own messages ([`raft::eraftpb`]) come with raft-rs; the few that are here as
//! well ([`raftpb`]) are those that etcd numbers differently or that stand in a file. [`otlp`] is
//! not etcd's: it is the protocol of OpenTelemetry collectors.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]

use prost::Message as _;

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

/// A header inside a header is ignored, so data from a peer cannot nest without bound.
fn scan(mut data: &[u8]) -> Option<u64> {
    let mut own = None;
    let mut is_header = false;
    while !data.is_empty() {
        let tag = varint(&mut data)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => own = Some(varint(&mut data)?),
            (_, 0) => _ = varint(&mut data)?,
            (_, 1) => data = data.get(8..)?,
            (field, 2) => {
                let length = usize::try_from(varint(&mut data)?).ok()?;
                let inner = data.get(..length)?;
                if field == HEADER && !is_header {
                    (data, own, is_header) = (inner, None, true);
                } else {
                    data = &data[length..];
                }
            }
            (_, 5) => data = data.get(4..)?,
            _ => return own,
        }
    }
    own
}

/// Why this version cannot apply the data of a log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFault {
    /// It is a request neither of v3 nor of v2, or a transaction in it does not decode.
    Malformed,
    /// A v3 request of a kind that this version does not carry out; an etcd may.
    Unsupported {
        /// The number of its field in `InternalRaftRequest`.
        kind: u64,
        /// What etcd calls it.
        name: &'static str,
    },
}

/// What is wrong with the data of a log entry, if anything is: this member would end when it comes
/// to it.
pub fn request_fault(data: &bytes::Bytes) -> Option<RequestFault> {
    let Ok(request) = etcdserverpb::InternalRaftRequest::decode(data.clone()) else {
        let is_v2 = etcdserverpb::Request::decode(data.clone()).is_ok();
        return (!is_v2).then_some(RequestFault::Malformed);
    };
    if let Some(kind) = request_kind(data)
        && !KINDS_APPLIED.contains(&kind)
        && !KINDS_SKIPPED.contains(&kind)
    {
        return Some(RequestFault::Unsupported { kind, name: kind_name(kind) });
    }
    let mut transactions: Vec<_> = request.txn.into_iter().collect();
    while let Some(txn) = transactions.pop() {
        for operation in txn.success.into_iter().chain(txn.failure) {
            if let Some(etcdserverpb::request_op::Request::RequestTxn(inner)) = operation.request {
                match etcdserverpb::TxnRequest::decode(inner) {
                    Ok(inner) => transactions.push(inner),
                    Err(_) => return Some(RequestFault::Malformed),
                }
            }
        }
    }
    None
}

/// The fields of `InternalRaftRequest` that carry the request's id, in its older form and in its
/// newer one.
const HEADERS: [u64; 2] = [1, HEADER];

/// The kind of the v3 request in an entry's data: the number of its field in `InternalRaftRequest`.
/// `None` if there is none. Generated code drops fields that it does not know, so the kind is read
/// from the bytes.
pub fn request_kind(data: &[u8]) -> Option<u64> {
    fields(data).find(|field| !HEADERS.contains(field))
}

/// The kinds that this version leaves out, because they only read, or have no effect while auth is
/// off: auth disable, authenticate, auth status, user get and list, role get and list, downgrade
/// info, and a test of downgrades. `server/command.rs` has the reasons.
pub const KINDS_SKIPPED: [u64; 9] = [1011, 1012, 1013, 1102, 1106, 1107, 1202, 1302, 9900];

/// The kinds that apply carries out: v2 requests in a v3 one, range to lease checkpoint, cluster
/// version, and a member's attributes.
const KINDS_APPLIED: [u64; 12] = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1300, 1301];

/// What etcd calls a kind that this version cannot carry out.
pub fn kind_name(kind: u64) -> &'static str {
    match kind {
        1000 => "AuthEnable",
        1100 => "AuthUserAdd",
        1101 => "AuthUserDelete",
        1103 => "AuthUserChangePassword",
        1104 => "AuthUserGrantRole",
        1105 => "AuthUserRevokeRole",
        1200 => "AuthRoleAdd",
        1201 => "AuthRoleDelete",
        1203 => "AuthRoleGrantPermission",
        1204 => "AuthRoleRevokePermission",
        _ => "a request of a newer etcd",
    }
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

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::pb::etcdserverpb::{InternalRaftRequest, Request, RequestHeader};

    #[test]
    fn the_id_is_the_headers_or_else_the_requests_own() {
        let header = Some(RequestHeader { id: 7, ..RequestHeader::default() });
        let wrapped = InternalRaftRequest { id: 3, header, ..InternalRaftRequest::default() };
        assert_eq!(entry_id(&wrapped.encode_to_vec()), 7);
        let bare = InternalRaftRequest { id: 3, ..InternalRaftRequest::default() };
        assert_eq!(entry_id(&bare.encode_to_vec()), 3);
        let v2 = Request { id: Some(5), ..Request::default() };
        assert_eq!(entry_id(&v2.encode_to_vec()), 5);
        assert_eq!(entry_id(b""), 0);
        assert_eq!(entry_id(&[0xff; 9]), 0);
    }

    /// Goal: data of a peer cannot exhaust the stack of the thread that looks for an id. Method:
    /// headers inside headers, a hundred thousand deep, which is within a request's size.
    #[test]
    fn headers_inside_headers_are_not_followed() {
        // From the end, so that each level is written once.
        let mut reversed = vec![0x09, 0x08];
        for _ in 0..100_000 {
            let mut outer = vec![0xa2, 0x06];
            prost::encoding::encode_varint(reversed.len() as u64, &mut outer);
            reversed.extend(outer.into_iter().rev());
        }
        let data: Vec<u8> = reversed.into_iter().rev().collect();
        assert_eq!(entry_id(&data), 0);
    }
}
