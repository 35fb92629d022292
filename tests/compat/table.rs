//! Each row of etcd's behaviour that has a code, a text or a count of its own, asked by name.
//!
//! The random stream meets most of these too, but says nothing about which. Here each row is one
//! line of a table: what is asked, and what the answer must be. The answer is written out, and
//! etcd 3.5.1 is asked as well, so that the table cannot say what etcd does not. Rows in which
//! later versions differ on purpose are marked, and etcd is not asked.
//!
//! Left out, because a client cannot provoke them at will: the errors of a cluster in trouble.
//! Their codes and texts are the table's in `api::status`.

use glass_etcd::pb::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, HashRequest,
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    PutRequest, RangeRequest, RequestOp, StatusRequest, TxnRequest, compare::TargetUnion,
    request_op::Request,
};
use prost::Message as _;
use tonic::{Code, Status, codec::CompressionEncoding};

use crate::{
    client::Client,
    cluster::Cluster,
    programs::{self, Kind},
};

/// Something to ask.
#[derive(Clone, Debug)]
enum Ask {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(i64),
    Grant(i64, i64),
    Revoke(i64),
    TimeToLive(i64),
    KeepAlive(i64),
    HashKv(i64),
    Hash,
    Alarm(i32, i32),
    Status,
}

use Ask::{
    Alarm, Compact, Delete, Grant, Hash, HashKv, KeepAlive, Put, Range, Revoke, TimeToLive, Txn,
};

/// A row: the rule, what is asked, the answer, and whether etcd 3.5.1 is asked too.
type Row = (&'static str, Ask, &'static str, bool);

const EMPTY_KEY: &str = "3 etcdserver: key is not provided";
const COMPACTED: &str = "11 etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "11 etcdserver: mvcc: required revision is a future revision";
const NO_LEASE: &str = "5 etcdserver: requested lease not found";
const NO_KEY: &str = "3 etcdserver: key not found";
const TWICE: &str = "3 etcdserver: duplicate key given in txn request";
const TOO_MANY: &str = "3 etcdserver: too many operations in txn request";
const SORT: &str = "3 etcdserver: invalid sort option";
const NO_SPACE: &str = "8 etcdserver: mvcc: database space exceeded";
const CORRUPT: &str = "15 etcdserver: corrupt cluster";

impl Ask {
    /// The answer in one line: code and text, or what is said of it.
    async fn answer(self, client: &mut Client) -> String {
        match self.said(client).await {
            Ok(said) => said,
            Err(status) => format!("{} {}", status.code() as i32, status.message()),
        }
    }

    async fn said(self, client: &mut Client) -> Result<String, Status> {
        let (kv, lease) = (&mut client.kv, &mut client.lease);
        Ok(match self {
            Range(request) => {
                let range = kv.range(request).await?.into_inner();
                let keys: Vec<_> =
                    range.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key)).collect();
                format!("[{}] of {}, more {}", keys.join(" "), range.count, range.more)
            }
            Put(request) => {
                let put = kv.put(request).await?.into_inner();
                format!("at {}", put.header.unwrap_or_default().revision)
            }
            Delete(request) => {
                let delete = kv.delete_range(request).await?.into_inner();
                let revision = delete.header.unwrap_or_default().revision;
                format!("{} at {revision}", delete.deleted)
            }
            Txn(request) => {
                let txn = kv.txn(request).await?.into_inner();
                format!("{} at {}", txn.succeeded, txn.header.unwrap_or_default().revision)
            }
            Compact(revision) => {
                kv.compact(CompactionRequest { revision, physical: true }).await?;
                "ok".to_owned()
            }
            Grant(id, ttl) => {
                let grant = lease.lease_grant(LeaseGrantRequest { id, ttl }).await?.into_inner();
                format!("{} for {}", grant.id, grant.ttl)
            }
            Revoke(id) => {
                let revoke = lease.lease_revoke(LeaseRevokeRequest { id }).await?.into_inner();
                format!("at {}", revoke.header.unwrap_or_default().revision)
            }
            TimeToLive(id) => {
                let request = LeaseTimeToLiveRequest { id, keys: true };
                let view = lease.lease_time_to_live(request).await?.into_inner();
                let left = if view.ttl < 0 { "gone" } else { "alive" };
                format!("{left}, granted {}, {} keys", view.granted_ttl, view.keys.len())
            }
            KeepAlive(id) => {
                let requests = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
                let mut answers = lease.lease_keep_alive(requests).await?.into_inner();
                format!("ttl {}", answers.message().await?.unwrap_or_default().ttl)
            }
            HashKv(_) | Hash | Alarm(..) | Ask::Status => self.maintenance(client).await?,
        })
    }

    async fn maintenance(self, client: &mut Client) -> Result<String, Status> {
        let client = &mut client.maintenance;
        Ok(match self {
            HashKv(revision) => {
                let hash = client.hash_kv(HashKvRequest { revision }).await?.into_inner();
                let header = hash.header.unwrap_or_default();
                format!("{} compacted {} at {}", hash.hash, hash.compact_revision, header.revision)
            }
            Hash => {
                let header = client.hash(HashRequest {}).await?.into_inner().header;
                let header = header.unwrap_or_default();
                let is_filled =
                    [header.cluster_id, header.member_id, header.raft_term].iter().all(|n| 0 < *n);
                format!("filled {is_filled}, at {}", header.revision)
            }
            Alarm(action, alarm) => {
                let request = AlarmRequest { action, member_id: 7, alarm };
                let alarms = client.alarm(request).await?.into_inner().alarms;
                let line = |alarm: &glass_etcd::pb::etcdserverpb::AlarmMember| {
                    format!("{} of {}", alarm.alarm, alarm.member_id)
                };
                format!("[{}]", alarms.iter().map(line).collect::<Vec<_>>().join(", "))
            }
            _ => {
                let status = client.status(StatusRequest {}).await?.into_inner();
                format!("{:?}", status.errors)
            }
        })
    }
}

fn range(key: &'static str, end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: end.into(), ..RangeRequest::default() }
}

fn at(revision: i64) -> Ask {
    Range(RangeRequest { revision, ..range("a", "\0") })
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn delete(key: &'static str, end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv: false }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn puts(keys: &[&'static str]) -> Vec<RequestOp> {
    keys.iter().map(|key| op(Request::RequestPut(put(key, "")))).collect()
}

fn nest(inner: &TxnRequest) -> RequestOp {
    op(Request::RequestTxn(inner.encode_to_vec().into()))
}

fn txn(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

fn comparing(key: &'static str, result: i32, target: i32, with: TargetUnion) -> Ask {
    let target_union = Some(with);
    let compare = Compare { key: key.into(), result, target, target_union, ..Compare::default() };
    Txn(TxnRequest { compare: vec![compare], ..TxnRequest::default() })
}

/// Keys a, b, c at 2, 3, 4; b again at 5.
fn ranges() -> Vec<Row> {
    vec![
        ("put", Put(put("a", "1")), "at 2", true),
        ("put", Put(put("b", "2")), "at 3", true),
        ("put", Put(put("c", "3")), "at 4", true),
        ("an identical value is a revision", Put(put("b", "2")), "at 5", true),
        ("2.3 empty key", Range(range("", "")), EMPTY_KEY, true),
        ("2.3 one key", Range(range("a", "")), "[a] of 1, more false", true),
        ("2.3 from a key on", Range(range("b", "\0")), "[b c] of 2, more false", true),
        ("2.3 everything", Range(range("\0", "\0")), "[a b c] of 3, more false", true),
        ("2.3 end before begin", Range(range("c", "a")), "[] of 0, more false", true),
        ("2.3 future", at(6), FUTURE, true),
        ("2.3 negative is now", at(-3), "[a b c] of 3, more false", true),
        ("2.3 the past", at(3), "[a b] of 2, more false", true),
        (
            "2.3 the limit does not change the count",
            Range(RangeRequest { limit: 2, ..range("a", "\0") }),
            "[a b] of 3, more true",
            true,
        ),
        (
            "2.3 a negative limit is none",
            Range(RangeRequest { limit: -1, ..range("a", "\0") }),
            "[a b c] of 3, more false",
            true,
        ),
        (
            "2.3 count only",
            Range(RangeRequest { count_only: true, limit: 1, ..range("a", "\0") }),
            "[] of 3, more false",
            true,
        ),
        (
            "2.3 filters do not change the count",
            Range(RangeRequest { min_mod_revision: 5, ..range("a", "\0") }),
            "[b] of 3, more false",
            true,
        ),
        (
            "2.3 a target without order ascends",
            Range(RangeRequest { sort_target: 3, ..range("a", "\0") }),
            "[a c b] of 3, more false",
            true,
        ),
    ]
}

/// Keys a, b, c at 2, 3, 4; b again at 5.
fn revisions() -> Vec<Row> {
    vec![
        // 3.5.1 ignores the one, and dies of the other.
        ("2.3 unknown order", Range(RangeRequest { sort_order: 9, ..range("a", "") }), SORT, false),
        (
            "2.3 unknown target",
            Range(RangeRequest { sort_target: 9, ..range("a", "") }),
            SORT,
            false,
        ),
        ("2.7 future", Compact(6), FUTURE, true),
        ("2.7 zero once", Compact(0), "ok", true),
        ("2.7 zero twice", Compact(0), COMPACTED, true),
        ("2.11 hash of the past", HashKv(4), "962318141 compacted 0 at 5", true),
        ("2.7 compact", Compact(4), "ok", true),
        ("2.7 compacted", Compact(4), COMPACTED, true),
        ("2.7 negative", Compact(-1), COMPACTED, true),
        ("2.3 compacted", at(3), COMPACTED, true),
        ("2.3 the compacted one itself", at(4), "[a b c] of 3, more false", true),
        ("2.11 hash of the compacted", HashKv(3), COMPACTED, true),
        // Since 3.5.10. Nothing of the past was overwritten by then, so it is the same again.
        ("2.11 hash of the compacted one itself", HashKv(4), "962318141 compacted 4 at 5", false),
        ("2.11 hash of nothing", HashKv(-7), "1084519789 compacted 4 at 5", true),
        ("2.11 hash of the future", HashKv(6), FUTURE, true),
    ]
}

/// The key space stands at 5, and 4 is compacted.
fn writes() -> Vec<Row> {
    let ignore_value = |request| PutRequest { ignore_value: true, ..request };
    let ignore_lease = |request| PutRequest { ignore_lease: true, ..request };
    let too_long = PutRequest { value: vec![b'x'; 1_600_000].into(), ..put("a", "") };
    let far_too_long = PutRequest { value: vec![b'x'; 3 << 20].into(), ..put("a", "") };
    vec![
        ("2.4 empty key", Put(put("", "x")), EMPTY_KEY, true),
        (
            "2.4 ignored value",
            Put(ignore_value(put("a", "x"))),
            "3 etcdserver: value is provided",
            true,
        ),
        (
            "2.4 ignored lease",
            Put(PutRequest { lease: 9, ..ignore_lease(put("a", "")) }),
            "3 etcdserver: lease is provided",
            true,
        ),
        ("2.4 no value to keep", Put(ignore_value(put("none", ""))), NO_KEY, true),
        ("2.4 no lease to keep", Put(ignore_lease(put("none", "x"))), NO_KEY, true),
        ("2.4 unknown lease", Put(PutRequest { lease: 9, ..put("a", "") }), NO_LEASE, true),
        ("2.2 too large", Put(too_long), "3 etcdserver: request is too large", true),
        (
            "2.2 larger than a message",
            Put(far_too_long),
            "8 grpc: received message larger than max (3145736 vs. 2097152)",
            true,
        ),
        ("2.5 empty key", Delete(delete("", "")), EMPTY_KEY, true),
        ("2.5 nothing to delete", Delete(delete("x", "y")), "0 at 5", true),
    ]
}

/// The key space stands at 5.
fn forms() -> Vec<Row> {
    let inner = nest(&txn(puts(&["n"])));
    let nested_twice = txn([vec![inner], puts(&["n"])].concat());
    let deletes = vec![op(Request::RequestDeleteRange(delete("q", "z"))); 2];
    let put_deleted = [puts(&["q"]), deletes[..1].to_vec()].concat();
    let many: Vec<RequestOp> = vec![op(Request::RequestRange(range("a", ""))); 129];
    let deep =
        |depth, innermost| (1..depth).fold(txn(innermost), |inner, _| txn(vec![nest(&inner)]));
    let read = || vec![op(Request::RequestRange(range("a", "")))];
    vec![
        ("2.6 empty", Txn(txn(vec![])), "true at 5", true),
        ("2.6 empty operation", Txn(txn(vec![RequestOp { request: None }])), NO_KEY, true),
        ("2.6 empty key", Txn(txn(puts(&[""]))), EMPTY_KEY, true),
        (
            "2.6 comparison of the empty key",
            comparing("", 0, 0, TargetUnion::Version(0)),
            EMPTY_KEY,
            true,
        ),
        ("2.6 put twice", Txn(txn(puts(&["x", "x"]))), TWICE, true),
        ("2.6 put twice, nested", Txn(nested_twice), TWICE, true),
        ("2.6 put and deleted", Txn(txn(put_deleted)), TWICE, true),
        ("2.6 deleted twice", Txn(txn(deletes)), "true at 5", true),
        ("2.6 too many", Txn(txn(many.clone())), TOO_MANY, true),
        ("2.6 as many as may be", Txn(txn(many[1..].to_vec())), "true at 5", true),
        // Each level is an operation of the one around it.
        ("2.6 as deep as may be", Txn(deep(128, read())), "true at 5", true),
        ("2.6 around nothing", Txn(deep(129, vec![])), "true at 5", true),
        ("2.6 too deep", Txn(deep(129, read())), TOO_MANY, true),
        ("2.6 too deep around nothing", Txn(deep(130, vec![])), TOO_MANY, true),
        ("2.6 far too deep", Txn(deep(2000, read())), TOO_MANY, true),
        // etcd says the same with the words of its decoder.
        (
            "2.6 nested bytes that are no transaction",
            Txn(txn(vec![op(Request::RequestTxn("\u{7f}".into()))])),
            "13 failed to decode Protobuf message: RequestOp.request_txn",
            false,
        ),
    ]
}

/// The key space stands at 5, and 4 is compacted.
fn transactions() -> Vec<Row> {
    let of_compacted = RangeRequest { revision: 2, ..range("a", "") };
    let of_future = RangeRequest { revision: 99, ..range("a", "") };
    let reading = |range: RangeRequest| txn(vec![op(Request::RequestRange(range))]);
    let nested = TxnRequest { success: puts(&["n"]), failure: puts(&["n"]), ..txn(vec![]) };
    vec![
        ("2.6 reads the compacted", Txn(reading(of_compacted)), COMPACTED, true),
        ("2.6 reads the future", Txn(reading(of_future)), FUTURE, true),
        ("2.6 both branches of a nested one", Txn(txn(vec![nest(&nested)])), "true at 6", true),
        (
            "2.6 a missing key has version 0",
            comparing("none", 0, 0, TargetUnion::Version(0)),
            "true at 6",
            true,
        ),
        (
            "2.6 and no value, not even another one",
            comparing("none", 3, 3, TargetUnion::Value("x".into())),
            "false at 6",
            true,
        ),
        ("2.5 deletes", Delete(delete("n", "")), "1 at 7", true),
    ]
}

/// The key space stands at 7.
fn leases() -> Vec<Row> {
    let with = |key, lease| Put(PutRequest { lease, ..put(key, "") });
    vec![
        ("2.9 grant", Grant(5, 100), "5 for 100", true),
        ("2.9 granted twice", Grant(5, 100), "9 etcdserver: lease already exists", true),
        ("2.9 too long", Grant(6, 9_000_000_001), "11 etcdserver: too large lease TTL", true),
        ("2.9 as long as may be", Grant(6, 9_000_000_000), "6 for 9000000000", true),
        ("2.9 too short", Grant(8, -1), "8 for 2", true),
        ("2.9 attach", with("l/b", 5), "at 8", true),
        ("2.9 attach", with("l/a", 5), "at 9", true),
        ("2.9 time to live", TimeToLive(5), "alive, granted 100, 2 keys", true),
        ("2.9 keep alive", KeepAlive(5), "ttl 100", true),
        ("2.9 revoke deletes in one revision", Revoke(5), "at 10", true),
        ("2.9 revoked", Revoke(5), NO_LEASE, true),
        ("2.9 gone", TimeToLive(5), "gone, granted 0, 0 keys", true),
        ("2.9 keep alive of none", KeepAlive(5), "ttl 0", true),
        ("2.9 named in a transaction", with("x", 5), NO_LEASE, true),
    ]
}

/// The key space stands at 10. Actions are get, activate, deactivate; alarms none, space, corrupt.
fn maintenance() -> Vec<Row> {
    let lease = |id| Grant(id, 100);
    vec![
        ("2.11 hash", Hash, "filled true, at 10", true),
        ("2.11 no alarm", Alarm(0, 0), "[]", true),
        ("2.11 none is activated", Alarm(1, 0), "[]", true),
        ("2.11 no space", Alarm(1, 1), "[1 of 7]", true),
        ("2.11 list", Alarm(0, 0), "[1 of 7]", true),
        ("2.11 of another kind", Alarm(0, 2), "[]", true),
        ("2.11 status", Ask::Status, "[\"memberID:7 alarm:NOSPACE \"]", true),
        ("2.2 no space for a put", Put(put("a", "")), NO_SPACE, true),
        ("2.2 no space for a txn with a put", Txn(txn(puts(&["a"]))), NO_SPACE, true),
        ("2.2 no space for a lease", lease(20), NO_SPACE, true),
        ("2.2 space for a deletion", Delete(delete("a", "")), "1 at 11", true),
        ("2.2 space for a read", Range(range("b", "")), "[b] of 1, more false", true),
        ("2.2 space for a revocation", Revoke(6), "at 11", true),
        ("2.11 disarmed", Alarm(2, 1), "[1 of 7]", true),
        ("2.11 disarmed twice", Alarm(2, 1), "[]", true),
        ("2.2 space again", Put(put("a", "")), "at 12", true),
        ("2.11 corrupt", Alarm(1, 2), "[2 of 7]", true),
        ("2.2 corrupt put", Put(put("a", "")), CORRUPT, true),
        ("2.2 corrupt deletion", Delete(delete("a", "")), CORRUPT, true),
        ("2.2 corrupt txn", Txn(txn(puts(&["a"]))), CORRUPT, true),
        ("2.2 corrupt compaction", Compact(11), CORRUPT, true),
        ("2.2 corrupt grant", lease(21), CORRUPT, true),
        ("2.2 corrupt revocation", Revoke(8), CORRUPT, true),
        ("2.2 corrupt read", Range(range("b", "")), "[b] of 1, more false", true),
        ("2.11 mended", Alarm(2, 2), "[2 of 7]", true),
        ("2.2 whole again", Put(put("a", "")), "at 13", true),
    ]
}

/// Goal: the rows are ours and etcd's. Method: the same requests in order to one member of each.
#[tokio::test]
async fn every_row_of_the_table_is_answered_as_it_says() {
    let rows = || {
        let parts =
            [ranges(), revisions(), writes(), forms(), transactions(), leases(), maintenance()];
        parts.concat()
    };
    let mut wrong = Vec::new();
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let is_etcd = kind != Kind::Glass;
        let cluster = Cluster::start(&kind, 1).await;
        let mut client = cluster.client(0);
        for (rule, ask, expected, etcd) in rows() {
            if is_etcd && !etcd {
                continue;
            }
            let answer = ask.answer(&mut client).await;
            if answer != expected {
                wrong.push(format!("{kind:?}: {rule}: {answer:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Goal: clients that compress what they send are understood, and nothing small becomes too large.
/// Method: a put of a kilobyte, and one of three megabytes that are three kilobytes on the way;
/// both to ours and to etcd.
#[tokio::test]
async fn compressed_requests_are_read_within_the_same_limits() {
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let cluster = Cluster::start(&kind, 1).await;
        let gzip = CompressionEncoding::Gzip;
        // etcd answers in kind.
        let kv = cluster.client(0).kv.send_compressed(gzip).accept_compressed(gzip);
        let of = |length| PutRequest { value: vec![0; length].into(), ..put("zipped", "") };
        assert_eq!(
            kv.clone().put(of(1000)).await.unwrap().into_inner().header.unwrap().revision,
            2
        );
        let refused = kv.clone().put(of(3_000_000)).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{kind:?}: {}", refused.message());
        let range = cluster.client(0).kv.range(range("zipped", "")).await.unwrap().into_inner();
        assert_eq!(range.kvs[0].value, vec![0; 1000]);
    }
}
