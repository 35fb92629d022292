//! What waits stood behind, where a test arranges it, compared with the records themselves.

use std::collections::BTreeSet;

use bytes::Bytes;
use glass_etcd::{
    pb::etcdserverpb::{
        DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, request_op::Request,
    },
    story::{
        Recording,
        query::{
            self, Stories,
            ahead::{self, Ahead, Resource},
            path::critical_path,
        },
    },
    trace::{Kind, Stage},
};
use tonic::Request as Call;

use super::{Scene, commands::glass, through::shown, told::Told};

/// Keys that one delete removes: their removal takes apply some tens of milliseconds.
const KEYS: usize = 4000;
const KEYS_PER_TXN: usize = 100;
/// How many deletes may find no put behind them.
const ATTEMPTS: usize = 10;
/// A put stands behind a delete if the delete is applied for this long meanwhile, in nanoseconds.
const BEHIND_NS: u64 = 1_000_000;
/// Makes a request kept, however many there are in this second.
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What the waits of this request stood behind.
fn stood_behind(told: &Told) -> Vec<Ahead> {
    let stories = Stories::new(&told.recording, &told.order);
    let graph = stories.graph(&told.story);
    let path = critical_path(&told.recording, &told.order, &told.story, &graph);
    ahead::ahead(&stories, &told.story, &path.unwrap_or_default())
}

/// How often this put waited for the log's disk behind other entries. Checks that it names exactly
/// the requests whose entries that fsync has made durable, and that the two overlapped.
pub(super) fn fsyncs_ahead(told: &Told) -> usize {
    let stood = stood_behind(told);
    let behind = stood.iter().filter(|one| one.resource == Resource::Disk);
    let behind: Vec<_> =
        behind.flat_map(|one| one.behind.iter().map(move |it| (one, it))).collect();
    for (wait, one) in &behind {
        let fsync = &told.recording.events[one.event];
        assert_eq!((Stage::WalFsync, Kind::Span), (fsync.stage, fsync.kind));
        assert!(one.overlap_ns <= wait.ns && one.overlap_ns <= fsync.took_ns, "{wait:?}");
        let entries = fsync.field("first").unwrap()..=fsync.field("last").unwrap();
        assert!(!entries.contains(&told.story.entry.unwrap().1), "it stood behind itself");
        let is_covered = |event: &&glass_etcd::story::Event| {
            (event.stage, event.member) == (Stage::RaftEntry, fsync.member)
                && entries.contains(&event.field("index").unwrap())
        };
        let covered = told.recording.events.iter().filter(is_covered);
        let ids: BTreeSet<u64> = covered.map(|event| event.id).filter(|id| *id != 0).collect();
        assert_eq!(ids, one.ids.iter().copied().collect(), "{wait:?}");
        let all = entries.end() - entries.start() + 1;
        assert!(ids.len() as u64 + one.others <= all, "{wait:?}");
    }
    behind.len()
}

/// Checks the words of `show` for a put that stood behind an fsync.
pub(super) async fn show_names_the_fsync(scene: &Scene, told: &Told) {
    let text = glass(scene, &["trace", "show", &format!("{:016x}", told.story.id)]).await;
    let section = text.split("\nwhat stood ahead\n").nth(1).unwrap_or_else(|| panic!("{text}"));
    let section = section.split("\n\n").next().unwrap();
    assert!(section.contains("  the fsync of entr"), "{text}");
    assert!(section.contains(": hand-over to wal, "), "{text}");
}

/// Goal: a put that waits for apply behind a large delete names that delete, and for how long.
/// Method: puts while 4000 keys are deleted by one entry; some put finds apply at work on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_behind_a_large_delete_names_it() {
    let Some(scene) = Scene::start("a put behind a delete").await else { return };
    let leader = scene.cluster.leader().await;
    for attempt in 0..ATTEMPTS {
        let prefix = format!("traces/ahead/{attempt}/");
        fill(&scene, leader, &prefix).await;
        delete_while_others_put(&scene, leader, &prefix).await;
        let is_ended = |recording: &Recording| {
            let requests = query::requests(recording);
            let named = requests.iter().filter(|request| {
                let key = request.key.as_ref().map(glass_etcd::story::KeyText::display);
                key.is_some_and(|key| key.starts_with(&prefix)) && request.method != "KV/Txn"
            });
            let ended: Vec<(&str, bool)> =
                named.map(|request| (request.method, request.end.is_some())).collect();
            let has = |method| ended.contains(&(method, true));
            let is_over = ended.iter().all(|(_, has_ended)| *has_ended);
            match has("KV/DeleteRange") && has("KV/Put") && is_over {
                true => Ok(recording.clone()),
                false => Err(format!("{ended:?}")),
            }
        };
        let recording = scene.listener.until("the end of the delete and the puts", is_ended).await;
        if let Some((put, delete)) = names_the_delete(&recording, &prefix) {
            return diff_names_the_delete(&scene, put, delete).await;
        }
    }
    panic!("no put was behind one of {ATTEMPTS} deletes");
}

async fn fill(scene: &Scene, at: usize, prefix: &str) {
    let mut client = scene.cluster.client(at);
    for first in (0..KEYS).step_by(KEYS_PER_TXN) {
        let put = |number: usize| RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: format!("{prefix}{number}").into(),
                value: "v".into(),
                ..PutRequest::default()
            })),
        };
        let success = (first..first + KEYS_PER_TXN).map(put).collect();
        client.kv.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap();
    }
}

fn sampled<T>(message: T) -> Call<T> {
    let mut call = Call::new(message);
    call.metadata_mut().insert("traceparent", SAMPLED.parse().unwrap());
    call
}

async fn delete_while_others_put(scene: &Scene, at: usize, prefix: &str) {
    let client = scene.cluster.client(at);
    let key = Bytes::copy_from_slice(prefix.as_bytes());
    let range_end = Bytes::from(format!("{prefix}~"));
    let delete = DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() };
    let mut deleter = client.clone();
    let delete = tokio::spawn(async move {
        let answer = deleter.kv.delete_range(sampled(delete)).await.unwrap();
        assert_eq!(KEYS as i64, answer.into_inner().deleted);
    });
    // A key behind the range that is deleted.
    let mut putter = client;
    while !delete.is_finished() {
        let key = Bytes::from(format!("{prefix}~put"));
        let put = PutRequest { key, value: "v".into(), ..PutRequest::default() };
        putter.kv.put(sampled(put)).await.unwrap();
    }
    delete.await.unwrap();
}

/// Goal: a comparison says why the slower request waited, as `show` does. Method: the put behind
/// the delete, and one that was alone.
async fn diff_names_the_delete(scene: &Scene, put: u64, delete: u64) {
    scene.cluster.client(0).put("traces/alone", "v").await.unwrap();
    let is_ended = |told: &Told| {
        let rpc = told
            .steps()
            .any(|seen| (seen.event.stage, seen.event.kind) == (Stage::Rpc, Kind::Span));
        if rpc && told.story.missing.is_empty() { Ok(()) } else { Err("not whole".to_owned()) }
    };
    let alone = scene.listener.told(("KV/Put", "traces/alone"), is_ended).await.story.id;
    let [put, delete, alone] = [put, delete, alone].map(|id| format!("{id:016x}"));
    let text = shown(scene, &["diff", &alone, &put]).await;
    let ahead = text.split("\nwhat stood ahead of B\n").nth(1).unwrap_or_else(|| panic!("{text}"));
    let ahead = ahead.split("\n\n").next().unwrap();
    // The fsync of the delete may have stood ahead too.
    let is_apply = |line: &str| line.contains(&delete) && line.contains(", being applied, for ");
    assert!(ahead.lines().any(is_apply), "{text}");
    let table = text.split("\nstood behind, while it waited\n").nth(1);
    let table = table.unwrap_or_else(|| panic!("{text}")).split("\n\n").next().unwrap();
    assert!(table.lines().any(|line| line.ends_with("  apply.entry")), "{text}");
}

/// A put that names the delete, with an overlap that both records allow, and the delete.
fn names_the_delete(recording: &Recording, prefix: &str) -> Option<(u64, u64)> {
    let requests = query::requests(recording);
    let is_of = |method: &str, key: &str| {
        let key = key.to_owned();
        let method = method.to_owned();
        move |request: &&query::Summary| {
            let named = request.key.as_ref().map(glass_etcd::story::KeyText::display);
            request.method == method && named.as_deref() == Some(&*key)
        }
    };
    let delete = requests.iter().find(is_of("KV/DeleteRange", prefix)).expect("it was kept");
    let puts: Vec<u64> = (requests.iter())
        .filter(is_of("KV/Put", &format!("{prefix}~put")))
        .map(|put| put.id)
        .collect();
    let mut puts = puts.into_iter().filter(|put| {
        let told = Told::of(recording, *put).expect("it is in the list");
        let stood = stood_behind(&told);
        let mut behind = stood
            .iter()
            .filter(|one| one.resource == Resource::Apply)
            .flat_map(|one| one.behind.iter().map(move |it| (one, it)));
        behind.any(|(wait, one)| {
            let work = &recording.events[one.event];
            assert!(one.overlap_ns <= wait.ns && one.overlap_ns <= work.took_ns, "{wait:?}");
            assert_eq!(wait.member, work.member);
            let is_delete = work.stage == Stage::ApplyEntry && one.ids == [delete.id];
            is_delete && BEHIND_NS <= one.overlap_ns
        })
    });
    Some((puts.next()?, delete.id))
}

/// Whether some read that waited for a permit names those that held the four: their ids, and that
/// they were at work while it waited.
pub(super) fn long_reads_ahead(recording: &Recording) -> Result<(), String> {
    let waits = recording.events.iter().filter(|event| {
        (event.stage, event.kind) == (Stage::ReadQueue, Kind::Span)
            && event.field("limit") == Some(4)
    });
    let mut seen = Vec::new();
    for wait in waits {
        let Some(told) = Told::of(recording, wait.id) else { continue };
        let stood = stood_behind(&told);
        for one in stood.iter().filter(|one| one.resource == Resource::LongReads) {
            for behind in &one.behind {
                let work = &recording.events[behind.event];
                assert_eq!((Stage::ReadThread, wait.member), (work.stage, work.member));
                assert_eq!(([work.id], 0), (behind.ids[..].try_into().unwrap(), behind.others));
                assert_ne!(wait.id, work.id, "it stood behind itself");
            }
            if !one.is_unknown && 4 <= one.behind.len() {
                return Ok(());
            }
            seen.push((one.behind.len(), one.is_unknown));
        }
    }
    Err(format!("readers and whether some are unknown: {seen:?}"))
}
