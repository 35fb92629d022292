//! Every RPC, on a lone member, on a leader and on a follower: each has its stages, none of its
//! records is an orphan, and its time is accounted for.
//!
//! A served RPC is in [`METHODS`]; and each entry of [`METHODS`] must be called here, so one
//! without stages, or without a row below, fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::TcpStream,
};

use bytes::Bytes;
use glass_etcd::{
    pb::{
        etcdserverpb::{
            AlarmRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest, HashRequest,
            LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
            LeaseTimeToLiveRequest, MemberListRequest, PutRequest, RangeRequest, RequestOp,
            StatusRequest, TxnRequest, WatchCreateRequest, WatchRequest, request_op::Request as Op,
            watch_client::WatchClient, watch_request::RequestUnion,
        },
        v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest},
        v3lockpb::{LockRequest, UnlockRequest},
    },
    story::{Event, Recording, order::Order, query, recording},
    trace::{Family, Kind, METHODS, Record, Stage, Unit, record},
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{Scene, listen::Listener, order::sampled};
use crate::{
    client::Client,
    cluster::Cluster,
    locks::Locks,
    programs::{Kind as Program, left_out},
};

/// The share of a request's time, in percent, that may lie outside of its stages.
const UNSEEN_SHARE: u64 = 40;
/// Time in nanoseconds that a busy test machine may add to that.
const UNSEEN_NS: u64 = 3_000_000;
/// The machine may add more, but not to the same RPC every time.
const TRIES: usize = 5;

/// Stages of every proposal on the asked member.
const PROPOSED: [Stage; 5] = [
    Stage::AuthAuthenticate,
    Stage::RaftPropose,
    Stage::RaftInbox,
    Stage::RaftEntry,
    Stage::ApplyEntry,
];
/// Stages of every linearizable read.
const ASKED: [Stage; 1] = [Stage::ReadIndexWait];
/// Stages of a read of the key space.
const READ: [Stage; 3] = [Stage::MvccRange, Stage::TreeIndexGet, Stage::BufferGet];

/// The stages that each RPC must have on the member that serves it, beside its own `rpc`.
const STAGES: &[(&str, &[&[Stage]])] = &[
    ("KV/Range", &[&[Stage::RpcValidate], &ASKED, &READ]),
    ("KV/Put", &[&[Stage::RpcValidate, Stage::QuotaCheck, Stage::Admit], &PROPOSED, &WRITTEN]),
    ("KV/DeleteRange", &[&[Stage::RpcValidate, Stage::Admit], &PROPOSED, &DELETED]),
    ("KV/Txn", &[&[Stage::RpcValidate, Stage::Admit], &PROPOSED, &WRITTEN]),
    ("KV/Compact", &[&[Stage::Admit, Stage::MvccCompact, Stage::CompactWait], &PROPOSED]),
    ("Maintenance/Status", &[&[Stage::MemberStatus]]),
    ("Maintenance/Alarm", &[&PROPOSED, &[Stage::AlarmApply]]),
    ("Maintenance/HashKV", &[&[Stage::MvccHash]]),
    ("Maintenance/Hash", &[&[Stage::BackendHash]]),
    ("Lock/Lock", &[&[Stage::SessionGrant, Stage::LockEnter, Stage::LockAcquired]]),
    ("Lock/Unlock", &[&PROPOSED, &DELETED]),
    ("Election/Campaign", &[&[Stage::SessionGrant, Stage::LockEnter, Stage::LockAcquired]]),
    ("Election/Proclaim", &[&PROPOSED, &WRITTEN]),
    ("Election/Leader", &[&ASKED, &READ]),
    ("Election/Observe", &[&[Stage::ObserveLeader]]),
    ("Election/Resign", &[&PROPOSED, &DELETED]),
    ("Cluster/MemberList", &[&ASKED, &[Stage::MembersList]]),
    ("Health/Check", &[]),
    ("GET /health", &[&ASKED]),
    ("GET /version", &[]),
    ("GET /livez", &[&[Stage::RpcValidate], &READ]),
    ("GET /readyz", &[&[Stage::RpcValidate], &ASKED, &READ]),
    ("internal/Publish", &[&PROPOSED]),
    ("internal/SetVersion", &[&PROPOSED]),
    ("internal/LeaseExpire", &[&[Stage::Admit, Stage::LeaseRevoke], &PROPOSED]),
    ("internal/LeaseCheckpoint", &[&[Stage::Admit, Stage::LeaseCheckpoint], &PROPOSED]),
    ("internal/AutoCompact", &[&[Stage::Admit, Stage::MvccCompact], &PROPOSED]),
    ("internal/RaiseAlarm", &[&[Stage::Admit], &PROPOSED]),
    ("internal/CheckHash", &[&[Stage::CorruptCheck, Stage::MvccHash]]),
    ("Health/Watch", &[]),
    ("Watch/Watch", &[&[Stage::WatchCreate]]),
    ("Lease/LeaseGrant", &[&[Stage::QuotaCheck, Stage::Admit, Stage::LeaseGrant], &PROPOSED]),
    ("Lease/LeaseRevoke", &[&[Stage::Admit, Stage::LeaseRevoke], &PROPOSED]),
    ("Lease/LeaseKeepAlive", &[&[Stage::LeaseRenew]]),
    ("Lease/LeaseTimeToLive", &[&[Stage::LeaseRemaining]]),
    ("Lease/LeaseLeases", &[&ASKED, &[Stage::LeaseList]]),
];
/// Stages of every write of a key.
const WRITTEN: [Stage; 4] =
    [Stage::AuthAuthorize, Stage::MvccWrite, Stage::TreeIndexPut, Stage::BufferPut];
/// Stages of every deletion of a key.
const DELETED: [Stage; 4] =
    [Stage::AuthAuthorize, Stage::MvccWrite, Stage::TreeIndexTombstone, Stage::BufferPut];
/// Requests that members make by themselves, once or rarely: `traces::puts` checks the stages that
/// they share with every proposal, and `traces::news` those of an expiry.
const ONCE: [&str; 7] = [
    "internal/Publish",
    "internal/SetVersion",
    "internal/LeaseExpire",
    "internal/LeaseCheckpoint",
    "internal/AutoCompact",
    "internal/RaiseAlarm",
    "internal/CheckHash",
];
/// Streams last as long as their client wants: their time is not accounted for.
const STREAMS: [&str; 6] = [
    "Health/Watch",
    "Watch/Watch",
    "Watch/Watch(stream)",
    "Lease/LeaseKeepAlive",
    "Lease/LeaseKeepAlive(stream)",
    "Election/Observe",
];

/// Goal: no RPC without its stages. Method: call each one on each kind of member, and check its
/// records.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_leaves_its_stages_on_a_lone_member_on_a_leader_and_on_a_follower() {
    if Program::subject() != Program::Glass {
        left_out("stages of all RPCs: etcd leaves no traces");
        return;
    }
    for size in [1, 3] {
        let mut cluster = Cluster::prepare(&Program::Glass, size);
        (0..size).for_each(|at| cluster.spawn(at));
        // From the very start, or its own publication is missed.
        let listener = Listener::start(&cluster).await;
        let scene = Scene { cluster, listener };
        for at in 0..size {
            scene.cluster.wait_ready(at).await;
        }
        let leader = scene.cluster.leader().await;
        let asked = if size == 1 { vec![0] } else { vec![leader, (leader + 1) % size] };
        for at in asked {
            for left in (0..TRIES).rev() {
                let before = scene.listener.recording();
                call_all(&scene.cluster, at).await;
                let hidden = all_are_told(&scene, at, &before).await;
                if hidden.is_empty() {
                    break;
                }
                assert_ne!(0, left, "on m{at}, in each of {TRIES} tries: {hidden:#?}");
            }
        }
    }
}

async fn channel(cluster: &Cluster, at: usize) -> Channel {
    let url = format!("http://{}", cluster.members[at].client_address());
    Endpoint::from_shared(url).unwrap().connect().await.unwrap()
}

/// Calls every RPC of a member once, including the requests of streams.
async fn call_all(cluster: &Cluster, at: usize) {
    let mut client = cluster.client(at);
    let key = Bytes::from(format!("coverage/{at}"));
    let mut health = HealthClient::new(channel(cluster, at).await);
    health.check(sampled(HealthCheckRequest::default())).await.unwrap();
    let mut healths =
        health.watch(sampled(HealthCheckRequest::default())).await.unwrap().into_inner();
    healths.message().await.unwrap();
    drop(healths);
    let lease = call_leases(&mut client, &key).await;
    watch_a_put(cluster, at, &key, lease).await;
    call_kv(&mut client, &key).await;
    client.lease.lease_revoke(sampled(LeaseRevokeRequest { id: lease })).await.unwrap();
    client.cluster.member_list(sampled(MemberListRequest { linearizable: true })).await.unwrap();
    client.maintenance.status(sampled(StatusRequest {})).await.unwrap();
    client.maintenance.alarm(sampled(AlarmRequest::default())).await.unwrap();
    client.maintenance.hash_kv(sampled(HashKvRequest::default())).await.unwrap();
    client.maintenance.hash(sampled(HashRequest {})).await.unwrap();
    call_locks(cluster, at).await;
    for path in ["/health", "/version", "/livez", "/readyz"] {
        fetch(&cluster.members[at].client_address(), path);
    }
}

async fn call_leases(client: &mut Client, key: &Bytes) -> i64 {
    let grant = sampled(LeaseGrantRequest { ttl: 600, id: 0 });
    let lease = client.lease.lease_grant(grant).await.unwrap().into_inner().id;
    let attach = PutRequest { key: key.clone(), lease, ..PutRequest::default() };
    client.kv.put(attach).await.unwrap();
    let one = tokio_stream::iter([LeaseKeepAliveRequest { id: lease }]);
    let mut renewed = client.lease.lease_keep_alive(sampled(one)).await.unwrap().into_inner();
    assert_eq!(600, renewed.message().await.unwrap().unwrap().ttl);
    drop(renewed);
    let ask = LeaseTimeToLiveRequest { id: lease, keys: true };
    client.lease.lease_time_to_live(sampled(ask)).await.unwrap();
    client.lease.lease_leases(sampled(LeaseLeasesRequest {})).await.unwrap();
    lease
}

async fn call_locks(cluster: &Cluster, at: usize) {
    let mut locks = Locks::of(cluster, at);
    let name = Bytes::from(format!("coverage/lock/{at}"));
    let lock = LockRequest { name: name.clone(), lease: 0 };
    let key = locks.lock.lock(sampled(lock)).await.unwrap().into_inner().key;
    locks.lock.unlock(sampled(UnlockRequest { key })).await.unwrap();
    let campaign = CampaignRequest { name: name.clone(), lease: 0, value: "first".into() };
    let leader = locks.election.campaign(sampled(campaign)).await.unwrap().into_inner().leader;
    let proclaim = ProclaimRequest { leader: leader.clone(), value: "second".into() };
    locks.election.proclaim(sampled(proclaim)).await.unwrap();
    let of_name = LeaderRequest { name };
    locks.election.leader(sampled(of_name.clone())).await.unwrap();
    let mut observed = locks.election.observe(sampled(of_name)).await.unwrap().into_inner();
    assert_eq!("second", observed.message().await.unwrap().unwrap().kv.unwrap().value);
    drop(observed);
    locks.election.resign(sampled(ResignRequest { leader })).await.unwrap();
}

async fn watch_a_put(cluster: &Cluster, at: usize, key: &Bytes, lease: i64) {
    let create = WatchCreateRequest { key: key.clone(), ..WatchCreateRequest::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    ask.send(create).await.unwrap();
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut watch = WatchClient::new(channel(cluster, at).await);
    let mut news = watch.watch(sampled(asked)).await.unwrap().into_inner();
    assert!(news.message().await.unwrap().unwrap().created);
    let put = PutRequest { key: key.clone(), value: "v".into(), lease, ..PutRequest::default() };
    cluster.client(at).kv.put(sampled(put)).await.unwrap();
    assert_eq!(1, news.message().await.unwrap().unwrap().events.len());
}

async fn call_kv(client: &mut Client, key: &Bytes) {
    let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    client.kv.range(sampled(range)).await.unwrap();
    let put = PutRequest { key: key.clone(), ..PutRequest::default() };
    let put = RequestOp { request: Some(Op::RequestPut(put)) };
    let txn = TxnRequest { success: vec![put], ..TxnRequest::default() };
    let revision = client.kv.txn(sampled(txn)).await.unwrap().into_inner().header.unwrap().revision;
    let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
    client.kv.delete_range(sampled(delete)).await.unwrap();
    let compact = CompactionRequest { revision, physical: true };
    client.kv.compact(sampled(compact)).await.unwrap();
}

/// A member's answer to a GET.
pub(crate) fn fetch(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    answer
}

/// The methods that a member serves: those after them are refused, and `traces::each_rpc` has them.
fn served() -> impl Iterator<Item = &'static str> {
    METHODS.iter().skip(1).copied().take_while(|method| *method != "unknown method")
}

/// Waits until every RPC of this member has arrived with all its stages; then checks each. Returns
/// those whose time was not accounted for in any of their requests.
async fn all_are_told(scene: &Scene, at: usize, before: &Recording) -> Vec<String> {
    let name = format!("m{at}");
    let before = stages_of(before, &name);
    let unknown = served().find(|method| !STAGES.iter().any(|(listed, _)| listed == method));
    assert_eq!(None, unknown, "it has no line in this test");
    let recording = scene
        .listener
        .until("every RPC with its stages", |recording| {
            let missing = missing_stages(recording, &name, &before);
            if missing.is_empty() { Ok(recording.clone()) } else { Err(missing.join("; ")) }
        })
        .await;
    assert_eq!(Vec::<String>::new(), complaints(&recording));
    assert_eq!(Vec::<String>::new(), strange_records(&scene.listener.raw()));
    never_accounted(&recording, &name)
}

/// The stages of the last request of each method, and how many requests of it have ended.
type Told = BTreeMap<&'static str, (BTreeSet<Stage>, usize)>;

/// The RPCs of this member that lack some of their stages, or of which no more have ended than
/// before.
fn missing_stages(recording: &Recording, name: &str, before: &Told) -> Vec<String> {
    let told = stages_of(recording, name);
    let mut missing = Vec::new();
    let called = STAGES.iter().filter(|(method, _)| !ONCE.contains(method));
    for (method, expected) in called {
        let earlier = before.get(method).map_or(0, |(_, count)| *count);
        let Some((seen, _)) = told.get(method).filter(|(_, count)| earlier < *count) else {
            missing.push(format!("{method} was not heard on {name}"));
            continue;
        };
        let unseen = expected.iter().copied().flatten().find(|stage| !seen.contains(stage));
        missing.extend(unseen.map(|stage| format!("{method} left no {} on {name}", stage.name())));
    }
    missing
}

/// Mistakes of a recording: records that belong to nothing, and effects before their causes.
pub(super) fn complaints(recording: &Recording) -> Vec<String> {
    let mut complaints = orphans(recording);
    if let Some(cycle) = super::causes::cycle(recording, &super::causes::links(recording)) {
        let steps: Vec<_> =
            cycle.iter().map(|link| (link.why, &recording.events[link.to])).collect();
        complaints.push(format!("a cycle of causes: {steps:#?}"));
    }
    let order = Order::of(recording);
    for request in query::requests(recording) {
        let told = query::Story::of(recording, &order, request.id);
        let told = told.map_or(BTreeSet::new(), |story| {
            story.steps.iter().map(|step| step.event).collect::<BTreeSet<usize>>()
        });
        let own = recording.events.iter().enumerate().filter(|(_, event)| event.id == request.id);
        let left = own.filter(|(place, _)| !told.contains(place));
        complaints.extend(
            left.map(|(_, event)| format!("{}: not in its story: {event:?}", request.method)),
        );
    }
    complaints
}

/// The RPCs of this member whose every request has more than the share of its time outside of its
/// stages; for each, its last request.
fn never_accounted(recording: &Recording, name: &str) -> Vec<String> {
    let member = recording.members.iter().position(|member| member.name == name);
    let mut hidden: BTreeMap<&str, Option<String>> = BTreeMap::new();
    for request in query::requests(recording) {
        if Some(usize::from(request.member)) == member {
            let said = unaccounted(recording, &request);
            let so_far = hidden.entry(request.method).or_insert_with(|| said.clone());
            *so_far = so_far.take().and(said);
        }
    }
    hidden.into_values().flatten().collect()
}

/// Steps of requests without a known origin: there is no rpc with their id, and no record of a
/// request for them.
fn orphans(recording: &Recording) -> Vec<String> {
    let mut known: BTreeSet<u64> = [0].into();
    for event in &recording.events {
        if event.stage == Stage::Rpc {
            known.insert(event.id);
        }
        let fields = event.stage.fields().iter().zip(event.fields);
        known.extend(fields.filter(|(field, _)| field.unit == Unit::Id).map(|(_, id)| id));
    }
    let is_orphan =
        |event: &&Event| event.stage.family() == Family::Request && !known.contains(&event.id);
    recording.events.iter().filter(is_orphan).map(|event| format!("an orphan: {event:?}")).collect()
}

/// Records whose stage or kind is not in the vocabulary, or with numbers in fields that the
/// vocabulary does not name.
fn strange_records(raw: &[u8]) -> Vec<String> {
    let (records, rest) = raw.as_chunks::<{ record::BYTES }>();
    assert!(rest.is_empty() && !records.is_empty());
    let is_strange = |record: &Record| {
        let (Some(stage), Some(kind)) = (record.stage(), record.kind()) else { return true };
        let unnamed = &record.fields()[stage.fields().len()..];
        kind != Kind::Key && unnamed.iter().any(|number| *number != 0)
    };
    let records = records.iter().map(Record::decode).filter(is_strange);
    records
        .map(|record| format!("not in the vocabulary: {:?} {record:?}", record.stage()))
        .collect()
}

/// By method: the stages of the last completed request that this member served.
fn stages_of(recording: &Recording, name: &str) -> Told {
    let member = recording.members.iter().position(|member| member.name == name);
    let requests = query::requests(recording);
    let own = requests.iter().filter(|request| Some(usize::from(request.member)) == member);
    let ended = own.filter(|request| request.end.is_some());
    let stages = |id: u64| {
        let of_id = recording.events.iter().filter(|event| event.id == id);
        of_id.map(|event| event.stage).collect::<BTreeSet<Stage>>()
    };
    let mut told = Told::new();
    for request in ended {
        let (last, count) = told.entry(request.method).or_default();
        (*last, *count) = (stages(request.id), *count + 1);
    }
    told
}

/// Describes a request with more than the share of its time outside of its stages.
fn unaccounted(recording: &Recording, request: &query::Summary) -> Option<String> {
    let is_whole = STAGES.iter().any(|(method, of)| *method == request.method && of.is_empty());
    // A request with no stage but its rpc is covered by that as a whole; and what comes once has
    // no second try.
    let is_exempt = [&STREAMS[..], &ONCE].iter().any(|list| list.contains(&request.method));
    let end = request.end.filter(|_| !is_whole && !is_exempt)?;
    let rpc = &recording.events[end];
    let span = |event: &Event| (event.at_ns, event.at_ns + event.took_ns);
    let (from, to) = span(rpc);
    let is_own = |event: &&Event| {
        (event.id, event.member, event.boot) == (request.id, rpc.member, rpc.boot)
            && event.kind == Kind::Span
            && event.stage != Stage::Rpc
    };
    let mut spans: Vec<(u64, u64)> = recording.events.iter().filter(is_own).map(span).collect();
    spans.sort_unstable();
    let (mut seen, mut upto) = (0, from);
    for (begin, end) in spans {
        let (begin, end) = (begin.max(upto), end.min(to));
        seen += end.saturating_sub(begin);
        upto = upto.max(end);
    }
    let unseen = (to - from).saturating_sub(seen);
    let allowed = ((to - from) * UNSEEN_SHARE / 100).max(UNSEEN_NS);
    let what = || format!("{}: {unseen} of {} ns in no stage", request.method, to - from);
    (allowed < unseen).then(what)
}

/// Goal: the checks above find the mistakes that they look for. Method: a correct recording, into
/// which one mistake after the other is inserted.
#[test]
fn every_inserted_mistake_in_a_recording_is_found() {
    const RECORDED: &str = include_str!("../recordings/puts_and_gets.ndjson");
    let right = || recording::read(RECORDED.as_bytes()).unwrap().recording;
    assert_eq!(Vec::<String>::new(), complaints(&right()));
    let finds = |what: &str, spoil: &dyn Fn(&mut Recording)| {
        let mut wrong = right();
        spoil(&mut wrong);
        let found = complaints(&wrong);
        assert!(found.iter().any(|complaint| complaint.contains(what)), "{what}: {found:#?}");
    };
    let last = |recording: &Recording, stage: Stage| {
        recording.events.iter().rposition(|event| event.stage == stage).unwrap()
    };
    finds("an orphan", &|recording| {
        let at = last(recording, Stage::ApplyEntry);
        recording.events[at].id ^= 0xff00;
    });
    finds("a cycle of causes", &|recording| {
        let at = last(recording, Stage::RaftReceive);
        (recording.events[at].clock, recording.events[at].clock_end) = (1, 1);
    });
    time_in_no_stage_is_found(&right());
    for lost in [Stage::RaftInbox, Stage::BufferPut] {
        let mut wrong = right();
        let member = wrong.events[last(&wrong, Stage::RaftInbox)].member;
        let name = wrong.members[usize::from(member)].name.clone();
        let what = format!("KV/Put left no {} on {name}", lost.name());
        assert!(!missing_stages(&wrong, &name, &Told::new()).contains(&what));
        wrong.events.retain(|event| event.stage != lost);
        assert!(missing_stages(&wrong, &name, &Told::new()).contains(&what), "{what}");
    }
    records_outside_the_vocabulary_are_found(&right());
}

/// One request with unaccounted time is no fault yet; all requests of an RPC are.
fn time_in_no_stage_is_found(right: &Recording) {
    let is_put = |event: &Event| {
        event.stage == Stage::Rpc && event.kind == Kind::Span && query::method_of(event) == "KV/Put"
    };
    let puts: Vec<&Event> = right.events.iter().filter(|event| is_put(event)).collect();
    let name = &right.members[usize::from(puts[0].member)].name;
    assert_eq!(Vec::<String>::new(), never_accounted(right, name));
    // Longer than its stages, or without any.
    for (longer, has_stages) in [(1_000_000_000, true), (UNSEEN_NS, false)] {
        let mut wrong = right.clone();
        let slow = wrong.events.iter_mut().filter(|event| is_put(event));
        slow.for_each(|event| event.took_ns += longer);
        wrong.events.retain(|event| {
            let is_of_put = puts.iter().any(|put| put.id == event.id);
            has_stages || !is_of_put || event.stage == Stage::Rpc
        });
        let found = never_accounted(&wrong, name);
        assert!(found.len() == 1 && found[0].starts_with("KV/Put: "), "{found:?}");
    }
}

fn records_outside_the_vocabulary_are_found(right: &Recording) {
    let mut raw = Vec::new();
    right.events.iter().for_each(|event| event.record().encode(&mut raw));
    assert_eq!(Vec::<String>::new(), strange_records(&raw));
    let mut unknown = right.events[0].record();
    unknown.set_head(record::Head { stage: u8::MAX, ..unknown.head() });
    let mut unnamed = right.events[0].record();
    unnamed.words[14] = 7;
    for strange in [unknown, unnamed] {
        let mut raw = raw.clone();
        strange.encode(&mut raw);
        assert_eq!(1, strange_records(&raw).len());
    }
}
