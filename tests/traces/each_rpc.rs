//! Each RPC, with each kind of its results, on a leader and on a follower: exactly these stages on
//! each member that worked for it.
//!
//! [`rows`] is the table. Every row is called twice, so it says what the member does that is asked,
//! what the leader does for it, and what the third member does. The leader that is asked itself
//! does both parts, without the question between them.

use std::collections::BTreeSet;

use glass_etcd::{
    pb::{
        etcdserverpb::{
            AlarmRequest, CompactionRequest, DefragmentRequest, DeleteRangeRequest,
            DowngradeRequest, HashKvRequest, HashRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
            LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberAddRequest,
            MemberListRequest, MemberRemoveRequest, MemberUpdateRequest, PutRequest, RangeRequest,
            RequestOp, StatusRequest, TxnRequest, request_op::Request as Op,
        },
        v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest},
        v3lockpb::{LockRequest, UnlockRequest},
    },
    story::{Event, Recording, query},
    trace::{Family, Kind, Reason, Stage},
};
use prost::Message;
use tonic_health::pb::HealthCheckRequest;

use super::{
    Scene,
    failures::{
        COMPACT, DELETE, Failed, GRANT, PUT as PUT_PATH, RANGE as RANGE_PATH, REVOKE,
        TXN as TXN_PATH, untold,
    },
    order::SAMPLED,
    told::place_of,
};
use crate::raw::{Call, Raw};

/// A request, its result, and the stages that it must leave.
struct Row {
    what: &'static str,
    method: &'static str,
    path: &'static str,
    body: Vec<u8>,
    header: Option<(&'static str, &'static str)>,
    code: u32,
    reason: Option<Reason>,
    /// Why steps of a call that succeeds fail.
    within: Option<Reason>,
    /// Stages of the member that is asked which fail for this reason, beside `rpc`.
    failing: &'static str,
    /// Stages of the member that is asked, beside `rpc`.
    asked: Stages,
    /// Stages of the leader, if another member is asked.
    leader: Stages,
    /// Stages of a member that is neither.
    third: Stages,
}

/// Lists of names of stages.
type Stages = &'static [&'static str];

/// A call is checked, and its caller is noted.
const CHECKED: &str = "rpc.validate";
/// Proposed by the member that is asked, after the check of its backlog.
const PROPOSED: &str = "auth.authenticate admit raft.propose raft.inbox";
const ROOM: &str = "quota.check";
/// The entry on every member.
const ENTRY: &str = "raft.entry apply.entry";
/// An entry of KV or of a lease.
const APPLIED: &str = "raft.entry apply.entry auth.authorize";
const PUT: &str = "mvcc.write tree_index.put buffer.put";
const DELETED: &str = "mvcc.write tree_index.tombstone buffer.put";
const COMPARED: &str = "txn.compare txn.branch";
const ROUND: &str = "read_index.wait read.wait_applied";
const READ: &str = "mvcc.range tree_index.get buffer.get";
const SERIALIZABLE: Stages = &[CHECKED, "auth.authenticate", READ];
const LINEARIZABLE: Stages = &[CHECKED, "auth.authenticate", ROUND, READ];

/// Whether a value is in the buffer or in the file is chance, and whether a read is long and needs
/// a thread of its own. `traces::gets` checks both. A row that names one of them wants it.
const BY_CHANCE: [Stage; 3] = [Stage::BackendGet, Stage::ReadThread, Stage::ThreadReturn];

/// Stages that only a member has which asks the leader, or is asked as the leader.
const BETWEEN: [Stage; 2] = [Stage::LeaseForward, Stage::LeaseServe];

fn row(what: &'static str, path: &'static str, body: &impl Message) -> Row {
    let method = path.rsplit_once('.').unwrap().1;
    let body = body.encode_to_vec();
    Row {
        what,
        method,
        path,
        body,
        header: None,
        code: 0,
        reason: None,
        within: None,
        failing: "",
        asked: &[],
        leader: &[],
        third: &[],
    }
}

impl Row {
    fn fails(self, code: u32, reason: Reason, failing: &'static str) -> Row {
        Row { code, reason: Some(reason), failing, ..self }
    }

    /// The call succeeds, and these steps of it fail.
    fn answers(self, reason: Reason, failing: &'static str) -> Row {
        Row { within: Some(reason), failing, ..self }
    }

    /// The stages of the member that is asked.
    fn on(self, asked: Stages) -> Row {
        Row { asked, ..self }
    }

    /// The stages of every other member.
    fn others(self, others: Stages) -> Row {
        Row { leader: others, third: others, ..self }
    }

    /// The stages of the leader, of which the third member has none.
    fn leader(self, leader: Stages) -> Row {
        Row { leader, ..self }
    }

    /// What is to be told of a call that has failed, or of steps that have.
    fn failed(&self, asked: usize, id: u64) -> Option<Failed> {
        let reason = self.within.or(self.reason)?;
        let rpc = self.reason.map(|_| "rpc");
        let steps = self.failing.split_whitespace().chain(rpc).collect();
        let what = format!("{} ({}), m{asked}", self.method, self.what);
        Some(Failed { what, id, asked, code: self.code, reason: Some(reason), steps })
    }

    /// The stages that member `m{at}` must have.
    fn expected(&self, at: usize, [leader, asked]: [usize; 2]) -> BTreeSet<Stage> {
        let of = |lists: Stages| {
            let named = |name: &str| Stage::from_name(name).unwrap_or_else(|| panic!("{name}"));
            let names = lists.iter().flat_map(|list| list.split_whitespace());
            names.map(named).collect::<BTreeSet<Stage>>()
        };
        if at != asked {
            return of(if at == leader { self.leader } else { self.third });
        }
        let mut all = of(self.asked);
        all.extend([Stage::Rpc, Stage::RpcContext, Stage::RpcConnection]);
        if leader == asked {
            all.extend(of(self.leader));
            all.retain(|stage| !BETWEEN.contains(stage));
        }
        all
    }
}

fn range(key: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), ..RangeRequest::default() }
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), ..PutRequest::default() }
}

fn txn(operations: impl IntoIterator<Item = Op>) -> TxnRequest {
    let op = |request| RequestOp { request: Some(request) };
    TxnRequest { success: operations.into_iter().map(op).collect(), ..TxnRequest::default() }
}

fn of_ranges() -> Vec<Row> {
    let refused: Stages = &[CHECKED, "auth.authenticate", ROUND, "mvcc.range"];
    vec![
        row("a range", RANGE_PATH, &range("each/1")).on(LINEARIZABLE),
        row("serializable", RANGE_PATH, &RangeRequest { serializable: true, ..range("each/1") })
            .on(SERIALIZABLE),
        row("of no key", RANGE_PATH, &range(""))
            .fails(3, Reason::EmptyKey, "rpc.validate")
            .on(&[CHECKED]),
        row("of the future", RANGE_PATH, &RangeRequest { revision: 1 << 40, ..range("each/1") })
            .fails(11, Reason::FutureRevision, "mvcc.range")
            .on(refused),
        row("of the past", RANGE_PATH, &RangeRequest { revision: 1, ..range("each/1") })
            .fails(11, Reason::Compacted, "mvcc.range")
            .on(refused),
        row("sorted in no way", RANGE_PATH, &RangeRequest { sort_order: 9, ..range("each/1") })
            .fails(3, Reason::InvalidSortOption, "rpc.validate")
            .on(&[CHECKED]),
    ]
}

fn of_puts() -> Vec<Row> {
    let keeps = PutRequest { ignore_value: true, ..put("each/none") };
    let leased = PutRequest { ignore_lease: true, lease: 77, ..put("each/none") };
    let delete = DeleteRangeRequest { key: "each/1".into(), ..DeleteRangeRequest::default() };
    vec![
        row("a put", PUT_PATH, &put("each/1"))
            .on(&[CHECKED, ROOM, PROPOSED, APPLIED, PUT])
            .others(&[APPLIED, PUT]),
        row("with the previous", PUT_PATH, &PutRequest { prev_kv: true, ..put("each/1") })
            .on(&[CHECKED, ROOM, PROPOSED, APPLIED, PUT, READ])
            .others(&[APPLIED, PUT]),
        row("of no key", PUT_PATH, &put(""))
            .fails(3, Reason::EmptyKey, "rpc.validate")
            .on(&[CHECKED]),
        row("of no lease", PUT_PATH, &PutRequest { lease: 77, ..put("each/1") })
            .fails(5, Reason::LeaseNotFound, "apply.entry raft.propose")
            .on(&[CHECKED, ROOM, PROPOSED, APPLIED])
            .others(&[APPLIED]),
        row("that keeps no value", PUT_PATH, &keeps)
            .fails(3, Reason::KeyNotFound, "mvcc.write apply.entry raft.propose")
            .on(&[CHECKED, ROOM, PROPOSED, APPLIED, "mvcc.write", READ])
            .others(&[APPLIED, "mvcc.write", READ]),
        row("that keeps a value and has one", PUT_PATH, &PutRequest { value: "v".into(), ..keeps })
            .fails(3, Reason::ValueProvided, "rpc.validate")
            .on(&[CHECKED]),
        row("that keeps a lease and has one", PUT_PATH, &leased)
            .fails(3, Reason::LeaseProvided, "rpc.validate")
            .on(&[CHECKED]),
        row("a deletion", DELETE, &delete)
            .on(&[CHECKED, PROPOSED, APPLIED, DELETED])
            .others(&[APPLIED, DELETED]),
        row("of no key", DELETE, &DeleteRangeRequest::default())
            .fails(3, Reason::EmptyKey, "rpc.validate")
            .on(&[CHECKED]),
    ]
}

fn of_txns() -> Vec<Row> {
    let twice = txn(["each/2"; 2].map(|key| Op::RequestPut(put(key))));
    let future = RangeRequest { revision: 1 << 40, ..range("each/2") };
    let future = txn([Op::RequestPut(put("each/2")), Op::RequestRange(future)]);
    let past = RangeRequest { revision: 1, ..range("each/2") };
    let past = txn([Op::RequestRange(past)]);
    let many = txn((0..129).map(|_| Op::RequestRange(range("each/2"))));
    let at = |revision| CompactionRequest { revision, physical: false };
    vec![
        row("that writes", TXN_PATH, &txn([Op::RequestPut(put("each/2"))]))
            .on(&[CHECKED, ROOM, PROPOSED, APPLIED, PUT])
            .others(&[APPLIED, PUT]),
        row("that reads", TXN_PATH, &txn([Op::RequestRange(range("each/2"))])).on(LINEARIZABLE),
        row("a key twice", TXN_PATH, &twice)
            .fails(3, Reason::DuplicateKey, "rpc.validate")
            .on(&[CHECKED]),
        row("of too much", TXN_PATH, &many)
            .fails(3, Reason::TooManyOps, "rpc.validate")
            .on(&[CHECKED]),
        row("that does not decode", TXN_PATH, &txn([Op::RequestTxn(vec![0xff].into())]))
            .fails(13, Reason::Malformed, "rpc.validate")
            .on(&[CHECKED]),
        row("of the past", TXN_PATH, &past).fails(11, Reason::Compacted, "mvcc.range").on(&[
            CHECKED,
            "auth.authenticate",
            ROUND,
            "mvcc.range",
        ]),
        row("of the future", TXN_PATH, &future)
            .fails(11, Reason::FutureRevision, "mvcc.write apply.entry raft.propose")
            .on(&[CHECKED, ROOM, PROPOSED, APPLIED, "mvcc.write"])
            .others(&[APPLIED, "mvcc.write"]),
        row("of the past", COMPACT, &at(1))
            .fails(11, Reason::Compacted, "apply.entry raft.propose")
            .on(&[PROPOSED, APPLIED])
            .others(&[APPLIED]),
        row("of the future", COMPACT, &at(1 << 40))
            .fails(11, Reason::FutureRevision, "apply.entry raft.propose")
            .on(&[PROPOSED, APPLIED])
            .others(&[APPLIED]),
    ]
}

fn of_leases() -> Vec<Row> {
    const RENEW: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
    const ASK: &str = "/etcdserverpb.Lease/LeaseTimeToLive";
    const GRANTED: Stages = &[ROOM, PROPOSED, APPLIED, "lease.grant"];
    const FORWARDED: [Stages; 2] = [&["lease.renew lease.forward"], &["lease.serve", ROUND]];
    const ASKED: Stages = &["lease.remaining lease.forward"];
    let grant = |ttl, id| LeaseGrantRequest { ttl, id };
    let ask = |id, keys| LeaseTimeToLiveRequest { id, keys };
    let of_all: Stages = &[APPLIED, "lease.grant"];
    let [renews, serves] = FORWARDED;
    vec![
        row("a grant", GRANT, &grant(600, 0)).on(GRANTED).others(of_all),
        row("of an id again", GRANT, &grant(600, 9001))
            .fails(9, Reason::LeaseExists, "lease.grant apply.entry raft.propose")
            .on(GRANTED)
            .others(of_all),
        row("for too long", GRANT, &grant(i64::MAX, 0))
            .fails(11, Reason::LeaseTtlTooLarge, "lease.grant apply.entry raft.propose")
            .on(GRANTED)
            .others(of_all),
        row("a renewal", RENEW, &LeaseKeepAliveRequest { id: 9001 }).on(renews).leader(serves),
        // The answer's TTL of 0 says that there is none.
        row("of no lease", RENEW, &LeaseKeepAliveRequest { id: 78 })
            .answers(Reason::LeaseNotFound, "lease.renew")
            .on(renews)
            .leader(serves),
        row("about a lease", ASK, &ask(9001, true)).on(ASKED).leader(serves),
        row("about no lease", ASK, &ask(78, false))
            .answers(Reason::LeaseNotFound, "lease.remaining")
            .on(ASKED)
            .leader(serves),
        row("a list", "/etcdserverpb.Lease/LeaseLeases", &LeaseLeasesRequest {})
            .on(&[ROUND, "lease.list"]),
        row("a grant to be revoked", GRANT, &grant(600, 9002)).on(GRANTED).others(of_all),
        row("a revocation", REVOKE, &LeaseRevokeRequest { id: 9002 })
            .on(&[PROPOSED, APPLIED, "lease.revoke"])
            .others(&[APPLIED, "lease.revoke"]),
        row("of no lease", REVOKE, &LeaseRevokeRequest { id: 78 })
            .fails(5, Reason::LeaseNotFound, "lease.revoke apply.entry raft.propose")
            .on(&[PROPOSED, APPLIED, "lease.revoke"])
            .others(&[APPLIED, "lease.revoke"]),
    ]
}

fn of_members() -> Vec<Row> {
    const HEALTH: &str = "/grpc.health.v1.Health/Check";
    const HASH: &str = "/etcdserverpb.Maintenance/HashKV";
    const MEMBERS: &str = "/etcdserverpb.Cluster/MemberList";
    const DOWNGRADE: &str = "/etcdserverpb.Maintenance/Downgrade";
    let list = |linearizable| MemberListRequest { linearizable };
    let downgrade = |action, version: &str| DowngradeRequest { action, version: version.into() };
    vec![
        row("status", "/etcdserverpb.Maintenance/Status", &StatusRequest {}).on(&["member.status"]),
        row("a list of alarms", "/etcdserverpb.Maintenance/Alarm", &AlarmRequest::default())
            .on(&[PROPOSED, ENTRY, "alarm.apply"])
            .others(&[ENTRY, "alarm.apply"]),
        row("of the keys", HASH, &HashKvRequest::default())
            .on(&["read.thread mvcc.hash thread.return"]),
        row("of the future", HASH, &HashKvRequest { revision: 1 << 40 })
            .fails(11, Reason::FutureRevision, "mvcc.hash")
            .on(&["read.thread mvcc.hash thread.return"]),
        row("of the past", HASH, &HashKvRequest { revision: 1 })
            .fails(11, Reason::Compacted, "mvcc.hash")
            .on(&["read.thread mvcc.hash thread.return"]),
        row("of the file", "/etcdserverpb.Maintenance/Hash", &HashRequest {})
            .on(&["read.thread backend.hash thread.return"]),
        row("of the file", "/etcdserverpb.Maintenance/Defragment", &DefragmentRequest {})
            .on(&["backend.defrag thread.return"]),
        row("to another version", DOWNGRADE, &downgrade(0, "3.4"))
            .fails(3, Reason::InvalidDowngradeTarget, "")
            .on(&[ROUND]),
        row("to no version", DOWNGRADE, &downgrade(1, "three")).fails(
            3,
            Reason::WrongDowngradeVersion,
            "",
        ),
        row("is not under way", DOWNGRADE, &downgrade(2, ""))
            .fails(9, Reason::NoInflightDowngrade, "")
            .on(&[ROUND]),
        row("of all", MEMBERS, &list(true)).on(&[ROUND, "members.list"]),
        row("as this one knows them", MEMBERS, &list(false)).on(&["members.list"]),
        row("of the member", HEALTH, &HealthCheckRequest::default()),
        row("of no service", HEALTH, &HealthCheckRequest { service: "none".to_owned() }).fails(
            5,
            Reason::UnknownService,
            "",
        ),
    ]
}

/// Changes of the members that are refused: those that are not would change the cluster that all
/// other rows use, and `upkeep::members` makes them.
fn of_changes() -> Vec<Row> {
    const ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
    const ASKED: &str = "raft.propose raft.inbox";
    const CHANGED: &str = "raft.entry apply.entry members.change";
    let peer_ur_ls = vec!["http://127.0.0.1:1".to_owned()];
    let failing = "members.change apply.entry raft.propose";
    let unknown = Reason::MemberNotFound;
    vec![
        row("of no URL", ADD, &MemberAddRequest::default())
            .fails(3, Reason::MemberBadUrls, "rpc.validate")
            .on(&[CHECKED]),
        row("of no member", "/etcdserverpb.Cluster/MemberRemove", &MemberRemoveRequest { id: 77 })
            .fails(5, unknown, failing)
            .on(&["auth.authenticate members.check", ASKED, CHANGED])
            .others(&[CHANGED]),
        row(
            "of no member",
            "/etcdserverpb.Cluster/MemberUpdate",
            &MemberUpdateRequest { id: 77, peer_ur_ls },
        )
        .fails(5, unknown, failing)
        .on(&[CHECKED, "auth.authenticate", ASKED, CHANGED])
        .others(&[CHANGED]),
    ]
}

/// Locks and elections of these names, which nobody has used.
fn of_locks(name: &str) -> Vec<Row> {
    const LOCK: &str = "/v3lockpb.Lock/Lock";
    const ENTERED: Stages = &[
        CHECKED,
        ROOM,
        PROPOSED,
        APPLIED,
        COMPARED,
        PUT,
        READ,
        "lease.attach lock.enter lock.acquired",
    ];
    const BESIDE: Stages = &[APPLIED, COMPARED, PUT, "lease.attach"];
    let lock = |kind, lease| LockRequest { name: format!("{name}/{kind}").into(), lease };
    vec![
        row("a lock", LOCK, &lock("1", 9001)).on(ENTERED).others(BESIDE),
        row("a lease of its own", LOCK, &lock("2", 0))
            .on(&[
                CHECKED,
                ROOM,
                PROPOSED,
                APPLIED,
                COMPARED,
                PUT,
                READ,
                "session.grant lease.attach lock.enter lock.acquired",
            ])
            .others(BESIDE),
        row("of no lease", LOCK, &lock("3", 78))
            .fails(2, Reason::LeaseNotFound, "mvcc.write apply.entry raft.propose")
            .on(&[CHECKED, ROOM, PROPOSED, APPLIED, COMPARED, "mvcc.write"])
            .others(&[APPLIED, COMPARED, "mvcc.write"]),
        row("of no key", "/v3lockpb.Lock/Unlock", &UnlockRequest::default())
            .fails(2, Reason::EmptyKey, "rpc.validate")
            .on(&[CHECKED]),
        row(
            "a campaign",
            "/v3electionpb.Election/Campaign",
            &CampaignRequest { name: format!("{name}/4").into(), lease: 9001, value: "v".into() },
        )
        .on(ENTERED)
        .others(BESIDE),
    ]
}

fn of_elections(name: &str) -> Vec<Row> {
    const LEADER: &str = "/v3electionpb.Election/Leader";
    const PROCLAIM: &str = "/v3electionpb.Election/Proclaim";
    const LOST: Stages = &[CHECKED, ROOM, PROPOSED, APPLIED, COMPARED, "mvcc.write"];
    const BESIDE: Stages = &[APPLIED, COMPARED, "mvcc.write"];
    let key = LeaderKey { key: "each/none".into(), rev: 5, lease: 9001, ..LeaderKey::default() };
    let (leader, value) = (Some(key), "v".into());
    let of = |kind| LeaderRequest { name: format!("{name}/{kind}").into() };
    vec![
        row("a leader", LEADER, &of("4")).on(LINEARIZABLE),
        row("no leader", LEADER, &of("5")).fails(2, Reason::ElectionNoLeader, "").on(LINEARIZABLE),
        row("of another", PROCLAIM, &ProclaimRequest { leader: leader.clone(), value })
            .fails(2, Reason::ElectionNotLeader, "")
            .on(LOST)
            .others(BESIDE),
        row("without a key", PROCLAIM, &ProclaimRequest::default()).fails(
            2,
            Reason::MissingLeaderKey,
            "",
        ),
        row("of another", "/v3electionpb.Election/Resign", &ResignRequest { leader })
            .on(LOST)
            .others(BESIDE),
    ]
}

fn of_refusals() -> Vec<Row> {
    let unserved =
        |path| row("not served", path, &StatusRequest {}).fails(12, Reason::UnknownMethod, "");
    let late = row("with a malformed deadline", PUT_PATH, &put("each/late"));
    vec![
        unserved("/etcdserverpb.Auth/AuthEnable"),
        unserved("/etcdserverpb.Auth/AuthStatus"),
        unserved("/etcdserverpb.Auth/UserAdd"),
        unserved("/etcdserverpb.KV/RangeStream"),
        Row { method: "unknown method", ..unserved("/etcdserverpb.KV/Invented") },
        Row { method: "unknown method", ..unserved("/other.Service/Method") },
        row("without auth", "/etcdserverpb.Auth/Authenticate", &StatusRequest {}).fails(
            9,
            Reason::AuthNotEnabled,
            "",
        ),
        Row { body: vec![0x0a, 0xff], ..row("that does not decode", PUT_PATH, &put("each/late")) }
            .fails(13, Reason::Undecodable, ""),
        Row { header: Some(("grpc-timeout", "soon")), ..late }.fails(
            13,
            Reason::MalformedTimeout,
            "",
        ),
    ]
}

fn rows(name: &str) -> Vec<Row> {
    let of_keys = [of_ranges(), of_puts(), of_txns()];
    let others = [of_leases(), of_members(), of_changes(), of_locks(name)];
    let others = others.into_iter().chain([of_elections(name), of_refusals()]);
    of_keys.into_iter().chain(others).flatten().collect()
}

/// Goal: no stage is missing on any member, and none is there that the code did not pass. Method:
/// the table, on the leader and on a follower.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_rpc_and_result_leaves_exactly_its_stages_on_each_member() {
    let Some(scene) = Scene::start("each RPC").await else { return };
    let [leader, follower, _] = scene.parts().await;
    let mut client = scene.cluster.client(leader);
    client.lease.lease_grant(LeaseGrantRequest { ttl: 600, id: 9001 }).await.unwrap();
    client.put("each/1", "v").await.unwrap();
    let revision = client.put("each/2", "v").await.unwrap();
    let compaction = CompactionRequest { revision, physical: true };
    client.kv.compact(compaction).await.unwrap();
    let mut wrong = Vec::new();
    for asked in [leader, follower] {
        let mut failed = Vec::new();
        for row in rows(&format!("each/{asked}")) {
            let (seen, id) = differences(&scene, &row, [leader, asked]).await;
            wrong.extend(seen);
            failed.extend(id.and_then(|id| row.failed(asked, id)));
        }
        wrong.extend(untold(&scene, &failed).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // More than a window of HTTP/2, so the raw client cannot send it.
    let value = bytes::Bytes::from(vec![b'v'; 1_572_864]);
    for asked in [leader, follower] {
        let too_large = PutRequest { value: value.clone(), ..put("each/late") };
        let mut too_large = tonic::Request::new(too_large);
        too_large.metadata_mut().insert("traceparent", SAMPLED.parse().unwrap());
        scene.cluster.client(asked).kv.put(too_large).await.unwrap_err();
        let of_refused = |recording: &Recording| {
            let place = place_of(recording, asked);
            let is_meant = |event: &&Event| {
                event.member == place && event.reason == Some(Reason::RequestTooLarge)
            };
            let refused = recording.events.iter().filter(is_meant);
            let stages: BTreeSet<Stage> = refused.map(|event| event.stage).collect();
            let is_told = stages == BTreeSet::from([Stage::Rpc, Stage::RaftPropose]);
            if is_told { Ok(()) } else { Err(format!("m{asked}: {stages:?}")) }
        };
        scene.listener.until("a put that is too large", of_refused).await;
    }
}

/// Calls a row, and describes what its story should not have, or should. Returns also the id of the
/// call, if it has ended.
async fn differences(
    scene: &Scene,
    row: &Row,
    [leader, asked]: [usize; 2],
) -> (Vec<String>, Option<u64>) {
    let begun = scene.listener.recording().events.len();
    let mut raw = Raw::connect(&scene.cluster, asked);
    let (path, body, header) = (row.path, row.body.clone(), row.header);
    let answer = tokio::task::spawn_blocking(move || {
        let mut call = Call::of_bytes(path, body).with("traceparent", SAMPLED);
        if let Some((name, value)) = header {
            call = call.with(name, value);
        }
        raw.ask(&call)
    });
    let answer = answer.await.unwrap();
    let what = format!("{} ({}), m{asked} of leader m{leader}", row.method, row.what);
    let mut wrong = Vec::new();
    let code = answer.status().map(|(code, _)| code);
    if code != Some(row.code) {
        wrong.push(format!("{what}: answered {:?}", answer.status()));
    }
    let polls = std::cell::Cell::new(0);
    let rest = scene.listener.until(&what, |recording| {
        polls.set(polls.get() + 1);
        let (rest, id) = compare(recording, row, (begun, [leader, asked]));
        if rest.is_empty() || POLLS < polls.get() { Ok((rest, id)) } else { Err(rest.join("; ")) }
    });
    let (rest, id) = rest.await;
    wrong.extend(rest.into_iter().map(|difference| format!("{what}: {difference}")));
    (wrong, id)
}

/// How often the recording is looked at before a difference counts.
const POLLS: usize = 40;

fn compare(
    recording: &Recording,
    row: &Row,
    (begun, [leader, asked]): (usize, [usize; 2]),
) -> (Vec<String>, Option<u64>) {
    let place = place_of(recording, asked);
    // Calls of the harness have no trace of a client; their records may arrive late.
    let has_context = |id: u64| {
        recording.events.iter().any(|event| (event.id, event.stage) == (id, Stage::RpcContext))
    };
    let is_end = |event: &&Event| {
        (event.stage, event.kind, event.member) == (Stage::Rpc, Kind::Span, place)
            && query::method_of(event) == row.method
            && has_context(event.id)
    };
    let Some(end) = recording.events.iter().skip(begun).find(is_end) else {
        return (vec!["no rpc has ended".to_owned()], None);
    };
    let mut wrong = Vec::new();
    if (u32::from(end.result), end.reason) != (row.code, row.reason) {
        wrong.push(format!("ended with {} {:?}", end.result, end.reason));
    }
    let failing = recording.events.iter().filter(|event| {
        let is_own = (event.id, event.member) == (end.id, end.member);
        let wanted = row.within.or(row.reason);
        let is_of_member = event.stage != Stage::Rpc && !BETWEEN.contains(&event.stage);
        is_own && is_of_member && event.reason.is_some() && event.reason == wanted
    });
    let failing: BTreeSet<&str> = failing.map(|event| event.stage.name()).collect();
    if failing != row.failing.split_whitespace().collect() {
        wrong.push(format!("these failed: {failing:?}"));
    }
    for at in 0..3 {
        let member = place_of(recording, at);
        let expected = row.expected(at, [leader, asked]);
        let is_seen = |event: &&Event| {
            (event.id, event.member) == (end.id, member)
                && event.stage.family() == Family::Request
                && event.kind != Kind::Begin
                && (!BY_CHANCE.contains(&event.stage) || expected.contains(&event.stage))
                // They depend on the connection; the tests of the caller's wait look at them.
                && !event.stage.is_at_edge()
        };
        let own = recording.events.iter().filter(is_seen);
        let seen: BTreeSet<Stage> = own.map(|event| event.stage).collect();
        if seen != expected {
            let names: Vec<_> = seen.iter().map(|stage| stage.name()).collect();
            wrong.push(format!("m{at} has {}", names.join(" ")));
        }
    }
    (wrong, Some(end.id))
}
