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

/// Whether the data of a log entry is a request of any kind, of v3 or of v2, known or not, with all
/// transactions that stand in it. Other bytes end each member that reaches them.
pub fn is_request(data: &bytes::Bytes) -> bool {
    let Ok(request) = etcdserverpb::InternalRaftRequest::decode(data.clone()) else {
        return etcdserverpb::Request::decode(data.clone()).is_ok();
    };
    let mut transactions: Vec<_> = request.txn.into_iter().collect();
    while let Some(txn) = transactions.pop() {
        for operation in txn.success.into_iter().chain(txn.failure) {
            if let Some(etcdserverpb::request_op::Request::RequestTxn(inner)) = operation.request {
                match etcdserverpb::TxnRequest::decode(inner) {
                    Ok(inner) => transactions.push(inner),
                    Err(_) => return false,
                }
            }
        }
    }
    true
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
