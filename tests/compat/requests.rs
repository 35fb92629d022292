//! A seeded stream of KV requests, and their answers in comparable form.

use bytes::Bytes;
use glass_etcd::pb::{
    etcdserverpb::{
        CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse,
        LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse,
        LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest,
        RangeResponse, RequestOp, ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest,
        compare::TargetUnion, request_op::Request, response_op::Response,
    },
    mvccpb::KeyValue,
};
use prost::Message as _;

use crate::{client::Client, random::Random};

/// Few keys, so that requests interact; with bytes at which ordering can go wrong.
const KEYS: [&[u8]; 20] = [
    b"a",
    b"aa",
    b"ab",
    b"abc",
    b"b",
    b"ba",
    b"c",
    b"ca",
    b"d",
    b"e",
    b"f",
    b"g",
    b"h",
    b"i",
    b"j",
    b"\0",
    b"a\0",
    b"a\xff",
    b"\xff",
    b"\xff\xff",
];

/// Ids of leases that are granted, named and revoked.
pub(crate) const LEASES: [i64; 5] = [1, 2, 3, 40, -5];

/// One request to a member.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
    TimeToLive(LeaseTimeToLiveRequest),
}

/// The answer to it, without the ids and the term of its header.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Range(RangeResponse),
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    Grant(LeaseGrantResponse),
    Revoke(LeaseRevokeResponse),
    /// Without the remaining seconds, and with its keys in order.
    TimeToLive(LeaseTimeToLiveResponse),
    /// Code and text.
    Refused(i32, String),
}

impl Call {
    /// Whether the asked member answers from its own state.
    pub(crate) fn is_serializable(&self) -> bool {
        fn local(op: &RequestOp) -> bool {
            match &op.request {
                Some(Request::RequestRange(range)) => range.serializable,
                // A txn of txns is proposed unless it contains only reads; the stream is
                // conservative about it.
                Some(Request::RequestTxn(txn)) => {
                    let txn = inner(txn);
                    txn.success.iter().chain(&txn.failure).any(local)
                }
                _ => false,
            }
        }
        match self {
            Self::Range(range) => range.serializable,
            Self::Txn(txn) => {
                let branches = || txn.success.iter().chain(&txn.failure);
                branches().any(local) || branches().next().is_none()
            }
            _ => false,
        }
    }

    /// Sends it to one member.
    pub(crate) async fn send(&self, client: &mut Client) -> Reply {
        let (kv, lease) = (&mut client.kv, &mut client.lease);
        let reply = match self.clone() {
            Self::Range(request) => kv.range(request).await.map(|r| Reply::Range(r.into_inner())),
            Self::Put(request) => kv.put(request).await.map(|r| Reply::Put(r.into_inner())),
            Self::Delete(request) => {
                kv.delete_range(request).await.map(|r| Reply::Delete(r.into_inner()))
            }
            Self::Txn(request) => kv.txn(request).await.map(|r| Reply::Txn(r.into_inner())),
            Self::Compact(request) => {
                kv.compact(request).await.map(|r| Reply::Compact(r.into_inner()))
            }
            Self::Grant(request) => {
                lease.lease_grant(request).await.map(|r| Reply::Grant(r.into_inner()))
            }
            Self::Revoke(request) => {
                lease.lease_revoke(request).await.map(|r| Reply::Revoke(r.into_inner()))
            }
            Self::TimeToLive(request) => lease.lease_time_to_live(request).await.map(|response| {
                let mut response = response.into_inner();
                response.ttl = response.ttl.signum();
                response.keys.sort();
                Reply::TimeToLive(response)
            }),
        };
        let mut reply = match reply {
            Ok(reply) => reply,
            Err(status) => Reply::Refused(status.code() as i32, status.message().to_owned()),
        };
        if let Some(header) = reply.header() {
            // Only the presence of these values is compared; they differ between clusters.
            header.cluster_id = header.cluster_id.min(1);
            header.member_id = header.member_id.min(1);
            header.raft_term = header.raft_term.min(1);
        }
        match (self, &mut reply) {
            (Self::Range(request), Reply::Range(response)) => forget_ties(request, response),
            (Self::Txn(request), Reply::Txn(response)) => forget_ties_in_txn(request, response),
            _ => (),
        }
        reply
    }
}

impl Reply {
    fn header(&mut self) -> Option<&mut ResponseHeader> {
        match self {
            Self::Range(response) => response.header.as_mut(),
            Self::Put(response) => response.header.as_mut(),
            Self::Delete(response) => response.header.as_mut(),
            Self::Txn(response) => response.header.as_mut(),
            Self::Compact(response) => response.header.as_mut(),
            Self::Grant(response) => response.header.as_mut(),
            Self::Revoke(response) => response.header.as_mut(),
            Self::TimeToLive(response) => response.header.as_mut(),
            Self::Refused(..) => None,
        }
    }

    /// The store's revision, if the answer contains it.
    pub(crate) fn revision(&mut self) -> Option<i64> {
        self.header().map(|header| header.revision)
    }
}

/// Decodes a nested transaction, which is bytes within the enclosing one.
fn inner(bytes: &Bytes) -> TxnRequest {
    TxnRequest::decode(bytes.clone()).unwrap()
}

fn nest(txn: &TxnRequest) -> Request {
    Request::RequestTxn(txn.encode_to_vec().into())
}

/// Changes a nested transaction.
fn change(bytes: &mut Bytes, change: impl FnOnce(&mut TxnRequest)) {
    let mut txn = inner(bytes);
    change(&mut txn);
    *bytes = txn.encode_to_vec().into();
}

fn forget_ties_in_txn(request: &TxnRequest, response: &mut TxnResponse) {
    let branch = if response.succeeded { &request.success } else { &request.failure };
    for (request, response) in branch.iter().zip(&mut response.responses) {
        match (&request.request, &mut response.response) {
            (Some(Request::RequestRange(request)), Some(Response::ResponseRange(response))) => {
                forget_ties(request, response);
            }
            (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(bytes))) => {
                let mut response = TxnResponse::decode(bytes.clone()).unwrap();
                forget_ties_in_txn(&inner(request), &mut response);
                *bytes = response.encode_to_vec().into();
            }
            _ => (),
        }
    }
}

/// etcd's sort is not stable, and promises nothing. So the test compares the sequence of sort keys,
/// and all pairs if none was cut off.
fn forget_ties(request: &RangeRequest, response: &mut RangeResponse) {
    if request.sort_target == 0 || request.count_only {
        return;
    }
    let of = |pair: &KeyValue| match request.sort_target {
        1 => (pair.version, Bytes::new()),
        2 => (pair.create_revision, Bytes::new()),
        3 => (pair.mod_revision, Bytes::new()),
        _ => (0, pair.value.clone()),
    };
    let sequence: Vec<(i64, Bytes)> = response.kvs.iter().map(of).collect();
    if 0 < request.limit {
        response.kvs.clear();
    }
    response.kvs.sort_by(|a, b| a.key.cmp(&b.key));
    response.kvs.extend(sequence.into_iter().map(|(version, value)| KeyValue {
        version,
        value,
        ..Default::default()
    }));
}

/// A source of requests: the same seed gives the same requests.
pub(crate) struct Stream {
    random: Random,
    /// The store's revision, according to the last answer.
    pub(crate) revision: i64,
    /// The highest revision of an accepted compaction.
    pub(crate) compacted: i64,
}

impl Stream {
    pub(crate) fn new(seed: u64, revision: i64) -> Self {
        Self { random: Random::new(seed), revision, compacted: 0 }
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// The next request.
    pub(crate) fn call(&mut self) -> Call {
        match self.below(100) {
            0..35 => Call::Range(self.range()),
            35..60 => Call::Put(self.put()),
            60..70 => Call::Delete(self.delete()),
            70..72 => Call::Grant(LeaseGrantRequest {
                id: self.lease(),
                // Long enough to outlive the test, or refused.
                ttl: 10_000 + if self.chance(10) { 9_000_000_000 } else { 0 },
            }),
            72..73 => Call::Revoke(LeaseRevokeRequest { id: self.lease() }),
            73..98 => {
                let mut txn = self.txn(2);
                if writes(&txn) {
                    self.keep_readable(&mut txn);
                    if deletes_from_a_key_on(&txn) {
                        ignore_nothing(&mut txn);
                    }
                }
                Call::Txn(txn)
            }
            _ => Call::Compact(CompactionRequest {
                revision: match self.below(10) {
                    0 => 0,
                    1 => self.revision + 1,
                    _ => self.revision - self.below(30) as i64,
                },
                physical: self.chance(20),
            }),
        }
    }

    /// A watcher of the past, the present, the future, or a compacted revision.
    pub(crate) fn watch(&mut self) -> WatchCreateRequest {
        let key = self.key();
        let start_revision = match self.below(20) {
            0..7 => 0,
            7..15 => (self.revision - self.below(60) as i64).max(1),
            15..17 => (self.compacted - self.below(5) as i64).max(1),
            17 => 1,
            _ => self.revision + 1 + self.below(6) as i64,
        };
        WatchCreateRequest {
            range_end: self.range_end(&key),
            key,
            start_revision,
            progress_notify: self.chance(20),
            filters: [vec![], vec![], vec![0], vec![1], vec![0, 1]][self.below(5) as usize].clone(),
            prev_kv: self.chance(50),
            watch_id: self.sometimes(20, |s| s.below(8) as i64),
            // Fragments split revisions on purpose; `watch` asks for them.
            fragment: false,
        }
    }

    /// One of a few leases, some of which exist.
    fn lease(&mut self) -> i64 {
        LEASES[self.below(LEASES.len() as u64) as usize]
    }

    fn key(&mut self) -> Bytes {
        if self.chance(1) {
            return Bytes::new();
        }
        Bytes::from_static(KEYS[self.below(KEYS.len() as u64) as usize])
    }

    /// None, the prefix, "from here on", or any, including one not above the key.
    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.below(10) {
            0..4 => Bytes::new(),
            4..6 => {
                let mut end = key.to_vec();
                while end.last() == Some(&0xff) {
                    end.pop();
                }
                match end.last_mut() {
                    Some(last) => *last += 1,
                    None => end.push(0),
                }
                end.into()
            }
            6..8 => Bytes::from_static(b"\0"),
            _ => self.key(),
        }
    }

    /// A revision near the newest, or far from it, or none.
    fn near(&mut self) -> i64 {
        match self.below(20) {
            0 => self.revision + self.below(3) as i64,
            1 => -(self.below(3) as i64),
            2 => self.below(5) as i64,
            _ => self.revision - self.below(40) as i64,
        }
    }

    fn sometimes(&mut self, percent: u64, revision: impl FnOnce(&mut Self) -> i64) -> i64 {
        if self.chance(percent) { revision(self) } else { 0 }
    }

    fn range(&mut self) -> RangeRequest {
        let key = self.key();
        RangeRequest {
            range_end: self.range_end(&key),
            key,
            limit: self.sometimes(40, |s| s.below(7) as i64 - 1),
            revision: self.sometimes(30, Self::near),
            sort_order: self.below(3) as i32,
            // An unknown one kills 3.5.1; it is sent to ours alone.
            sort_target: self.below(5) as i32,
            serializable: self.chance(30),
            keys_only: self.chance(10),
            count_only: self.chance(10),
            min_mod_revision: self.sometimes(8, Self::near),
            max_mod_revision: self.sometimes(8, Self::near),
            min_create_revision: self.sometimes(8, Self::near),
            max_create_revision: self.sometimes(8, Self::near),
        }
    }

    fn value(&mut self) -> Bytes {
        let length = self.below(4) as usize;
        (0..length).map(|_| b'0' + self.below(3) as u8).collect()
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.chance(8);
        let with_value = !ignore_value || self.chance(10);
        let ignore_lease = self.chance(8);
        PutRequest {
            key: self.key(),
            value: if with_value { self.value() } else { Bytes::new() },
            lease: self.sometimes(if ignore_lease { 10 } else { 20 }, Self::lease),
            prev_kv: self.chance(30),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        DeleteRangeRequest { range_end: self.range_end(&key), key, prev_kv: self.chance(40) }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        let compares = self.below(4);
        let compare = (0..compares).map(|_| self.compare()).collect();
        let reads_only = self.chance(15);
        let [success, failure] = [(); 2].map(|()| {
            let ops = self.below(4);
            (0..ops).map(|_| self.op(depth, reads_only)).collect()
        });
        TxnRequest { compare, success, failure }
    }

    /// In 3.5.1 members disagree on a txn that writes and reads a compacted or a future revision:
    /// the asked member refuses it, the others apply it, and the stores diverge (fixed in later
    /// 3.5).
    fn keep_readable(&self, txn: &mut TxnRequest) {
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            match &mut op.request {
                Some(Request::RequestRange(range))
                    if !(self.compacted..=self.revision).contains(&range.revision) =>
                {
                    range.revision = 0;
                }
                Some(Request::RequestTxn(inner)) => change(inner, |txn| self.keep_readable(txn)),
                _ => (),
            }
        }
    }

    fn op(&mut self, depth: usize, reads_only: bool) -> RequestOp {
        let request = match self.below(100) {
            0 => None,
            1..36 => Some(Request::RequestPut(self.put())),
            36..50 => Some(Request::RequestDeleteRange(self.delete())),
            50..62 if 0 < depth => Some(nest(&self.txn(depth - 1))),
            _ => Some(Request::RequestRange(self.range())),
        };
        let writes =
            matches!(request, Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)));
        if reads_only && writes {
            return RequestOp { request: Some(Request::RequestRange(self.range())) };
        }
        RequestOp { request }
    }

    fn compare(&mut self) -> Compare {
        let target = self.below(5) as i32;
        // Rarely the value is of another kind than the target, or missing.
        let value = if self.chance(94) { target as u64 } else { self.below(6) };
        let key = self.key();
        Compare {
            result: self.below(4) as i32,
            target,
            range_end: if self.chance(20) { self.range_end(&key) } else { Bytes::new() },
            key,
            target_union: match value {
                0 => Some(TargetUnion::Version(self.below(4) as i64)),
                1 => Some(TargetUnion::CreateRevision(self.near())),
                2 => Some(TargetUnion::ModRevision(self.near())),
                3 => Some(TargetUnion::Value(self.value())),
                4 => Some(TargetUnion::Lease(self.sometimes(50, Self::lease))),
                _ => None,
            },
        }
    }
}

fn writes(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => true,
        Some(Request::RequestTxn(bytes)) => writes(&inner(bytes)),
        _ => false,
    })
}

/// 3.5.1 does not notice that a deletion without an end overlaps a put; if that put wants to keep
/// what was just deleted, every member panics.
fn deletes_from_a_key_on(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestDeleteRange(delete)) => delete.range_end == "\0",
        Some(Request::RequestTxn(bytes)) => deletes_from_a_key_on(&inner(bytes)),
        _ => false,
    })
}

fn ignore_nothing(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestPut(put)) => {
                (put.ignore_value, put.ignore_lease) = (false, false);
            }
            Some(Request::RequestTxn(inner)) => change(inner, ignore_nothing),
            _ => (),
        }
    }
}

/// Requests at the limits, which a random stream does not reach.
pub(crate) fn at_the_limits() -> Vec<Call> {
    let put = |key: &'static str, value: Vec<u8>| PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    };
    let op = |request| RequestOp { request: Some(request) };
    let puts = |count: usize| -> Vec<RequestOp> {
        let key = |at: usize| Bytes::from(format!("ops/{at}"));
        let one = |at| PutRequest { key: key(at), ..Default::default() };
        (0..count).map(|at| op(Request::RequestPut(one(at)))).collect()
    };
    let txn = |success: Vec<RequestOp>| TxnRequest { success, ..Default::default() };
    let twice = vec![puts(1).remove(0), puts(1).remove(0)];
    let delete =
        DeleteRangeRequest { key: "ops/".into(), range_end: "ops0".into(), ..Default::default() };
    let delete = || op(Request::RequestDeleteRange(delete.clone()));
    let nested = |inner: TxnRequest| txn(vec![op(nest(&inner))]);
    let branches = TxnRequest { success: puts(1), failure: puts(1), ..Default::default() };
    let compares = TxnRequest {
        compare: vec![Compare { key: "a".into(), ..Default::default() }; 129],
        ..Default::default()
    };
    vec![
        Call::Put(put("big", vec![b'x'; 1 << 20])),
        Call::Put(put("big", vec![b'x'; 1_600_000])),
        Call::Put(put("big", vec![b'x'; 2 << 20])),
        Call::Put(put("big", vec![b'x'; 5 << 20])),
        Call::Put(put("big", Vec::new())),
        Call::Txn(txn(puts(128))),
        Call::Txn(txn(puts(129))),
        Call::Txn(compares),
        Call::Txn(nested(txn(puts(128)))),
        Call::Txn(nested(txn(puts(127)))),
        Call::Txn(txn(twice)),
        Call::Txn(nested(branches)),
        Call::Txn(txn(vec![puts(1).remove(0), delete()])),
        Call::Txn(txn(vec![delete(), delete()])),
        Call::Txn(txn(vec![RequestOp { request: None }])),
        Call::Txn(TxnRequest::default()),
        Call::Compact(CompactionRequest { revision: -1, physical: false }),
    ]
}
