//! A compaction that is interrupted: by a kill, or by the stop of its member.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use glass_etcd::{
    pb::etcdserverpb::{CompactionRequest, PutRequest},
    storage::backend::{Backend, Bucket, Options},
    story::Recording,
    trace::{Kind as RecordKind, Reason, Stage},
};
use tonic::Code;

use super::{SOON, hash_kv, same_hashes};
use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::{Kind, left_out},
    traces::listen::Listener,
};

/// Number of keys, and of puts to each.
const KEYS: usize = 20;
const ROUNDS: usize = 20;

/// A compaction that takes some seconds: ten rows, and then a pause.
const SLOW: [(&str, &str); 2] = [
    ("ETCD_EXPERIMENTAL_COMPACTION_BATCH_LIMIT", "10"),
    ("ETCD_EXPERIMENTAL_COMPACTION_SLEEP_INTERVAL", "500ms"),
];

/// Goal: a SIGKILL between two batches loses nothing; the member continues the compaction after its
/// restart, under load, and all members have the same hashes before, during and after it. Method:
/// the compaction of one member is slow, and visible in the bytes in use; its file shows what was
/// left.
#[tokio::test]
async fn a_member_killed_between_two_batches_resumes_after_its_restart() {
    if Kind::subject() != Kind::Glass {
        return left_out("compaction and kills: the file is read offline");
    }
    let mut cluster = Cluster::start(&Kind::Glass, 3).await;
    let victim = (cluster.leader().await + 1) % 3;
    cluster.kill(victim);
    cluster.set_env(victim, &SLOW);
    cluster.spawn(victim);
    cluster.wait_ready(victim).await;
    let mut client = cluster.client((victim + 1) % 3);
    let mut revision = 0;
    for number in 0..KEYS * ROUNDS {
        revision = put(&mut client, &format!("k{}", number % KEYS), 1000).await;
    }
    let load = Load::start(client.clone());
    same_hashes(&cluster, revision).await;
    let before = in_use(&cluster, victim, 0).await;
    client.kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
    // The client's member is done; this one has begun, and is far from its end.
    in_use(&cluster, victim, before - 20_000).await;
    same_hashes(&cluster, load.revision()).await;
    assert!(!cluster.log(victim).contains("finished scheduled compaction"));
    cluster.kill(victim);
    let left = old_rows(&cluster, victim, revision);
    assert!((1..KEYS * (ROUNDS - 1)).contains(&left), "{left} old rows: not between two batches");

    cluster.spawn(victim);
    cluster.wait_ready(victim).await;
    assert!(cluster.log(victim).contains("resume scheduled compaction"));
    same_hashes(&cluster, load.revision()).await;
    cluster.kill(victim);
    // Again, from where it was or from the start: both are right.
    cluster.set_env(victim, &[]);
    cluster.spawn(victim);
    cluster.wait_ready(victim).await;
    eventually("the rest is done", SOON, || async {
        let log = cluster.log(victim);
        if log.contains("finished scheduled compaction") { Ok(()) } else { Err("not yet".into()) }
    })
    .await;
    let last = load.stop().await;
    same_hashes(&cluster, last).await;
    let compacted = hash_kv(&cluster, victim, 0).await.unwrap().compact_revision;
    assert_eq!(compacted, revision);
    for at in 0..3 {
        let all = cluster.client(at).everything(false).await.unwrap();
        let kept = all.kvs.iter().filter(|kv| kv.key.starts_with(b"k")).count();
        assert_eq!(kept, KEYS, "m{at}");
    }
    for at in 0..3 {
        // So that the file contains what was applied.
        cluster
            .client(at)
            .maintenance
            .hash(glass_etcd::pb::etcdserverpb::HashRequest {})
            .await
            .unwrap();
        cluster.kill(at);
        assert_eq!(old_rows(&cluster, at, revision), 0, "m{at}");
    }
}

/// Goal: a call that waits for a physical compaction ends at the stop of its member, long before
/// the compaction does, and its step says why. Method: a slow compaction, a call that waits for it,
/// and SIGTERM. The member leads, so it records the end while it hands the leadership over.
#[tokio::test]
async fn a_physical_compaction_is_ended_by_the_stop_of_its_member() {
    if Kind::subject() != Kind::Glass {
        return left_out("compaction and SIGTERM: an etcd member breaks the connection");
    }
    let cluster = Cluster::start_with(&Kind::Glass, 3, &SLOW).await;
    let listener = Listener::start(&cluster).await;
    let at = cluster.leader().await;
    let mut client = cluster.client(at);
    let mut revision = 0;
    for number in 0..KEYS * ROUNDS {
        revision = put(&mut client, &format!("k{}", number % KEYS), 10).await;
    }
    let request = CompactionRequest { revision, physical: true };
    let call = tokio::spawn(async move { client.kv.compact(request).await });
    let wait = |recording: &Recording, is_meant: fn(RecordKind) -> bool| {
        let mut events = recording.events.iter();
        let is_wait = |stage| stage == Stage::CompactWait;
        let found = events.find(|event| is_wait(event.stage) && is_meant(event.kind));
        found.map(|event| event.reason).ok_or_else(|| "not yet".to_owned())
    };
    let is_begin = |kind| kind == RecordKind::Begin;
    listener.until("the call waits", |recording| wait(recording, is_begin)).await;
    cluster.terminate(at);
    let ended = tokio::time::timeout(SOON, call).await.expect("the call ends");
    let status = ended.unwrap().unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
    let is_end = |kind| kind != RecordKind::Begin;
    let reason = listener.until("its step ends", |recording| wait(recording, is_end)).await;
    assert_eq!(Some(Reason::Stopped), reason);
    assert!(!cluster.log(at).contains("finished scheduled compaction"));
}

async fn put(client: &mut Client, key: &str, len: usize) -> i64 {
    let (key, value) = (key.to_owned().into(), vec![b'x'; len].into());
    let put = PutRequest { key, value, ..PutRequest::default() };
    client.kv.put(put).await.unwrap().into_inner().header.unwrap().revision
}

/// Waits until the rows of the member's file have at most `most` bytes, if it is not 0.
async fn in_use(cluster: &Cluster, at: usize, most: i64) -> i64 {
    eventually("rows are deleted", SOON, || async {
        let status = cluster.client(at).status().await.map_err(|status| status.to_string())?;
        let bytes = status.db_size_in_use;
        if most == 0 || bytes <= most { Ok(bytes) } else { Err(format!("{bytes} of {most}")) }
    })
    .await
}

/// Rows of the dead member's file that a compaction at this revision removes.
fn old_rows(cluster: &Cluster, at: usize, revision: i64) -> usize {
    let path = cluster.members[at].data_dir.join("member/snap/db");
    let backend = Backend::open(&path, Options::default()).unwrap();
    let newest = revision - i64::try_from(KEYS).unwrap();
    let end = (newest + 1).to_be_bytes();
    backend.range(Bucket::Key, b"", Some(&end), 0).len()
}

/// Endless puts to another key.
struct Load {
    over: Arc<AtomicBool>,
    revision: Arc<AtomicI64>,
    writer: tokio::task::JoinHandle<()>,
}

impl Load {
    fn start(mut client: Client) -> Load {
        let (over, revision) = (Arc::<AtomicBool>::default(), Arc::<AtomicI64>::default());
        let (is_over, newest) = (over.clone(), revision.clone());
        let writer = tokio::spawn(async move {
            while !is_over.load(Ordering::Acquire) {
                newest.store(put(&mut client, "load", 10).await, Ordering::Release);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Load { over, revision, writer }
    }

    /// The newest acknowledged revision.
    fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    async fn stop(self) -> i64 {
        self.over.store(true, Ordering::Release);
        self.writer.await.unwrap();
        self.revision.load(Ordering::Acquire)
    }
}
