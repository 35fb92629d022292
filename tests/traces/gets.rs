//! Stories of linearizable gets on a follower.

use bytes::Bytes;
use futures_util::future::join_all;
use glass_etcd::{
    pb::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request},
    trace::{Stage, THREADS, message},
};

use super::{
    Scene, ahead,
    commands::glass,
    puts,
    told::{Told, assert_in_order},
    way,
};

/// How many gets may come too late to find their key still in a buffer.
const ATTEMPTS: usize = 20;

/// Nothing is missing, and both heartbeats of the round were answered.
fn is_complete(told: &Told) -> Result<(), String> {
    told.is_complete()?;
    let count = |kind: u64| {
        let messages = (0..3).flat_map(|at| told.on(at, Stage::RaftReceive));
        messages.filter(|seen| seen.field("type") == kind).count()
    };
    let counts = [message::HEARTBEAT, message::HEARTBEAT_RESP, message::READ_INDEX_RESP].map(count);
    // While a round is open, the leader's regular heartbeats carry its id as well.
    let [asked, answered, told] = counts;
    match asked >= 2 && answered >= 2 && told == 1 {
        true => Ok(()),
        false => Err(format!("messages of the round: {counts:?}")),
    }
}

async fn get(scene: &Scene, at: usize, key: &str) -> Told {
    let key_bytes = Bytes::copy_from_slice(key.as_bytes());
    let request = RangeRequest { key: key_bytes, ..RangeRequest::default() };
    let response = scene.cluster.client(at).kv.range(request).await.unwrap().into_inner();
    assert_eq!(1, response.kvs.len());
    scene.listener.told(("KV/Range", key), is_complete).await
}

/// Goal: a value that was just written is read from the write buffer. Method: put and get on one
/// member until the backend commit, which comes every 100 ms, has not come in between.
pub(super) async fn a_get_after_a_write_is_answered_by_the_buffer(scene: &Scene) {
    let parts = scene.parts().await;
    for attempt in 0..ATTEMPTS {
        let key = format!("traces/buffered/{attempt}");
        scene.cluster.client(parts[1]).put(&key, "v").await.unwrap();
        let told = get(scene, parts[1], &key).await;
        let buffer = told.one(parts[1], Stage::BufferGet);
        if buffer.field("misses") == 0 {
            assert_eq!(1, buffer.field("active") + buffer.field("frozen"));
            assert_eq!(0, told.on(parts[1], Stage::BackendGet).len());
            says(scene, &told, parts[0], "buffer").await;
            return the_round_is_told_through_the_leader(&told, parts);
        }
    }
    panic!("no get of {ATTEMPTS} found its key in a buffer");
}

/// Checks the words of `show`.
async fn says(scene: &Scene, told: &Told, leader: usize, place: &str) {
    let id = format!("{:016x}", told.story.id);
    let text = glass(scene, &["trace", "show", &id]).await;
    let mut lines = text.lines().skip_while(|line| *line != "read").skip(1);
    let confirmed = lines.next().unwrap_or_default();
    assert!(confirmed.starts_with(&format!("  linearizable: m{leader} leads, as ")), "{text}");
    let value = lines.next().unwrap_or_default();
    assert!(value.starts_with("  1 value from the ") && value.contains(place), "{text}");
}

/// Goal: later reads come from the file. Method: wait until a backend commit covers the put, then
/// get.
pub(super) async fn a_get_later_is_answered_by_the_file(scene: &Scene) {
    let parts = scene.parts().await;
    let key = "traces/stored";
    scene.cluster.client(parts[1]).put(key, "v").await.unwrap();
    scene.listener.told(("KV/Put", key), puts::is_complete).await;
    let told = get(scene, parts[1], key).await;
    let (buffer, file) =
        (told.one(parts[1], Stage::BufferGet), told.one(parts[1], Stage::BackendGet));
    let places = ["active", "frozen", "misses"].map(|name| buffer.field(name));
    assert_eq!(([0, 0, 1], 1), (places, file.field("file")));
    assert_in_order(&told, &[buffer, file, told.one(parts[1], Stage::MvccRange)]);
    says(scene, &told, parts[0], "file").await;
    the_round_is_told_through_the_leader(&told, parts);
}

/// Goal: a range without a limit does not block other requests. Method: its records name the thread
/// that wrote them; and the steps are in order although two threads took them.
pub(super) async fn a_long_range_is_read_off_the_thread_that_serves(scene: &Scene) {
    let parts = scene.parts().await;
    let mut client = scene.cluster.client(parts[1]);
    for (limit, thread) in [(1, "grpc"), (0, "background")] {
        let key = format!("traces/long/{limit}");
        client.put(&key, "v").await.unwrap();
        let range_end = Bytes::from(format!("{key}~"));
        let key_bytes = Bytes::from(key.clone());
        let request = RangeRequest { key: key_bytes, range_end, limit, ..RangeRequest::default() };
        assert_eq!(1, client.kv.range(request).await.unwrap().into_inner().kvs.len());
        let told = scene.listener.told(("KV/Range", &key), is_complete).await;
        let steps = [Stage::AuthAuthenticate, Stage::MvccRange, Stage::Rpc]
            .map(|stage| told.one(parts[1], stage));
        assert_in_order(&told, &steps);
        let threads = steps.map(|step| THREADS[usize::from(step.event.thread)]);
        assert_eq!(["grpc", thread, "grpc"], threads, "limit {limit}");
        let own = told.on(parts[1], Stage::ReadThread).len();
        assert_eq!(usize::from(thread == "background"), own, "limit {limit}");
    }
}

/// Goal: a range with a limit, whose rows turn out to be too long for a small answer, is planned
/// and counted once. Method: one transaction puts 60 rows of 10 KiB.
pub(super) async fn a_range_that_is_not_small_is_one_step(scene: &Scene) {
    let parts = scene.parts().await;
    let mut client = scene.cluster.client(parts[1]);
    let put = |row: usize| RequestOp {
        request: Some(Request::RequestPut(PutRequest {
            key: format!("traces/large/{row}").into(),
            value: vec![b'v'; 10 << 10].into(),
            ..PutRequest::default()
        })),
    };
    let txn = TxnRequest { success: (0..60).map(put).collect(), ..TxnRequest::default() };
    client.kv.txn(txn).await.unwrap();
    let key = "traces/large/";
    let request = RangeRequest {
        key: key.into(),
        range_end: "traces/large0".into(),
        limit: 100,
        ..RangeRequest::default()
    };
    assert_eq!(60, client.kv.range(request).await.unwrap().into_inner().kvs.len());
    let told = scene.listener.told(("KV/Range", key), is_complete).await;
    let range = told.one(parts[1], Stage::MvccRange);
    assert_eq!([60, 60], ["keys", "total"].map(|name| range.field(name)));
    assert_eq!("background", THREADS[usize::from(range.event.thread)]);
    told.one(parts[1], Stage::TreeIndexGet);
    told.one(parts[1], Stage::BufferGet);
}

/// Goal: a long range that finds all four permits taken shows how many calls wait before it, and
/// names those that hold the permits.
/// Method: sixteen ranges of 2 MB at once, which the member accepts in less time than it reads the
/// first.
pub(super) async fn long_ranges_queue_for_a_permit(scene: &Scene) {
    let parts = scene.parts().await;
    let client = scene.cluster.client(parts[1]);
    for at in ["traces/queue/0", "traces/queue/1"] {
        let put = PutRequest {
            key: at.into(),
            value: vec![b'v'; 1_000_000].into(),
            ..Default::default()
        };
        client.clone().kv.put(put).await.unwrap();
    }
    let (key, range_end) = ("traces/queue/".into(), "traces/queue0".into());
    let range = RangeRequest { key, range_end, ..RangeRequest::default() };
    let ranges = (0..16).map(|_| {
        let (mut client, range) = (client.clone(), range.clone());
        async move { client.kv.range(range).await.unwrap().into_inner().kvs.len() }
    });
    assert_eq!(vec![2; 16], join_all(ranges).await);
    scene
        .listener
        .until("a range that waits behind another", |recording| {
            let waits = recording.events.iter().filter(|event| event.stage == Stage::ReadQueue);
            let fields: Vec<_> = waits
                .map(|wait| ["limit", "ahead"].map(|name| wait.field(name).unwrap()))
                .collect();
            let is_whole = fields.contains(&[4, 0]) && fields.contains(&[4, 1]);
            if is_whole { ahead::long_reads_ahead(recording) } else { Err(format!("{fields:?}")) }
        })
        .await;
}

fn the_round_is_told_through_the_leader(told: &Told, [leader, follower, other]: [usize; 3]) {
    let round = told.one(follower, Stage::ReadIndexRound);
    let wait = told.one(follower, Stage::ReadIndexWait);
    assert_eq!(
        [round.event.id; 2],
        [wait.field("round"), wait.event.link],
        "the read points to another round"
    );
    told.assert_no_strangers(&[round.event.id]);
    for at in [leader, follower, other] {
        way::is_that_of_the_table(told, at, way::GET);
    }
    let [asked, question] = told.message(message::READ_INDEX, follower, leader);
    let [answered, answer] = told.message(message::READ_INDEX_RESP, leader, follower);
    let confirmed = told.one(leader, Stage::ReadIndexConfirmed);
    let beats = [follower, other].map(|at| {
        let [sent, received] = told.first_message(message::HEARTBEAT, leader, at);
        let [back, heard] = told.first_message(message::HEARTBEAT_RESP, at, leader);
        assert_in_order(told, &[question, sent, received, back, heard]);
        heard
    });
    let first = beats.iter().min_by_key(|heard| heard.rank).unwrap();
    assert!(first.rank < confirmed.rank, "confirmed without a quorum\n{}", told.text());
    assert!((2..=3).contains(&confirmed.field("acks")), "{confirmed:?}");
    let applied = told.one(follower, Stage::ReadWaitApplied);
    assert_eq!(
        [confirmed.field("index"); 2],
        [round.field("index"), applied.field("index")],
        "{}",
        told.text()
    );
    assert_in_order(
        told,
        &[
            told.begin(follower, Stage::Rpc),
            told.one(follower, Stage::RpcValidate),
            told.begin(follower, Stage::ReadIndexWait),
            told.begin(follower, Stage::ReadIndexRound),
            asked,
            question,
            confirmed,
            answered,
            answer,
            round,
            wait,
            applied,
            told.one(follower, Stage::AuthAuthenticate),
            told.one(follower, Stage::TreeIndexGet),
            told.one(follower, Stage::BufferGet),
            told.one(follower, Stage::MvccRange),
            told.one(follower, Stage::Rpc),
        ],
    );
    let range = told.one(follower, Stage::MvccRange);
    let found = ["keys", "total"].map(|name| range.field(name));
    assert_eq!(([1, 1], 1), (found, told.one(follower, Stage::TreeIndexGet).field("revisions")));
}
