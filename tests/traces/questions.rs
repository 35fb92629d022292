//! The questions that a trace answers: which fsyncs made a request durable, and for how many
//! others; whose acknowledgements made the quorum; which round confirmed a read, and which reads
//! shared it; where a write is stored; and which watchers received it. Each answer is compared with
//! the records of a real cluster.

use bytes::Bytes;
use glass_etcd::{
    pb::etcdserverpb::{
        PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
    story::query::{
        self,
        graph::{Graph, Verdict},
        path::{Wait, critical_path},
    },
    trace::Stage,
};
use tokio_stream::StreamExt as _;
use tonic::transport::Endpoint;

use super::{
    Scene,
    news::next,
    order::sampled,
    puts,
    told::{Told, place_of},
};

/// Concurrent gets.
const GETS: usize = 8;

fn graph(told: &Told) -> Graph {
    Graph::of(&told.recording, &told.order, &told.story)
}

/// Goal: every question has its answer, and it agrees with the records. Method: a put on a
/// follower, with a watcher on the third member.
pub(super) async fn a_watched_put_on_a_follower_answers_them_all(scene: &Scene) {
    let [leader, follower, other] = scene.parts().await;
    let url = format!("http://{}", scene.cluster.members[other].client_address());
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let create = WatchCreateRequest { key: "questions/put".into(), ..Default::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::iter([create]).chain(tokio_stream::pending());
    let mut news = WatchClient::new(channel).watch(requests).await.unwrap().into_inner();
    let watch_id = next(&mut news).await.watch_id;
    let put = PutRequest { key: "questions/put".into(), ..PutRequest::default() };
    scene.cluster.client(follower).kv.put(sampled(put)).await.unwrap();
    assert_eq!(1, next(&mut news).await.events.len());
    let is_told = |told: &Told| {
        puts::is_complete(told)?;
        if told.on(other, Stage::WatchSend).is_empty() { Err("not sent".into()) } else { Ok(()) }
    };
    let told = scene.listener.told(("KV/Put", "questions/put"), is_told).await;
    let graph = graph(&told);
    the_fsyncs_are_those_of_the_disks(&told, &graph);
    the_quorum_is_the_first_two_of_three(&told, &graph, leader);
    for (at, stored) in [leader, follower, other].into_iter().map(|at| {
        let place = place_of(&told.recording, at);
        (at, graph.stored.iter().find(|stored| stored.member == place).unwrap())
    }) {
        let commit = told.one(at, Stage::BackendCommit);
        assert_eq!((commit.place, commit.field("writes")), (stored.event, stored.writes));
    }
    let [heard] = graph.heard.as_slice() else { panic!("{:?}\n{}", graph.heard, told.text()) };
    assert_eq!(place_of(&told.recording, other), heard.member);
    assert_eq!((u64::try_from(watch_id).unwrap(), Some(0)), (heard.watch_id, heard.path));
    assert_eq!(Some(told.one(other, Stage::WatchSend).place), heard.sent);
    assert_eq!(Some(told.one(other, Stage::WatchQueue).place), heard.queued);
    assert_eq!(None, graph.round, "a put asks no quorum whether the leader leads");
    the_path_is_whole(&told, &graph, follower);
}

fn the_fsyncs_are_those_of_the_disks(told: &Told, graph: &Graph) {
    let index = told.story.entry.unwrap().1;
    assert_eq!(3, graph.fsyncs.len());
    for at in 0..3 {
        let fsync = graph.fsync_on(place_of(&told.recording, at)).unwrap();
        let disk = told.one(at, Stage::WalFsync);
        assert_eq!(disk.place, fsync.event);
        let range = disk.field("first")..=disk.field("last");
        assert!(range.contains(&index));
        assert_eq!((range.count() as u64, disk.field("bytes")), (fsync.entries, fsync.bytes));
    }
}

fn the_quorum_is_the_first_two_of_three(told: &Told, graph: &Graph, leader: usize) {
    let quorum = &graph.quorum;
    assert_eq!(Some(place_of(&told.recording, leader)), quorum.leader);
    let commit = told.one(leader, Stage::RaftCommit);
    assert_eq!(Some(commit.place), quorum.commit);
    assert_eq!(Some(commit.field("completed_by")), quorum.completed_by);
    let of = |verdict: Verdict| quorum.acks.iter().filter(|ack| ack.verdict == verdict).count();
    let counts = [Verdict::Counted, Verdict::Completed, Verdict::Late, Verdict::Unknown].map(of);
    assert_eq!([1, 1, 1, 0], counts, "{:?}\n{}", quorum.acks, told.text());
    for ack in &quorum.acks {
        let seen = told.steps().find(|seen| seen.place == ack.event).unwrap();
        assert_eq!(ack.is_own, ack.member_id == told.member_id(leader));
        let stage = if ack.is_own { Stage::WalFsync } else { Stage::RaftProgress };
        assert_eq!(stage, seen.event.stage);
        match ack.verdict {
            Verdict::Completed => assert_eq!(Some(ack.member_id), quorum.completed_by),
            Verdict::Counted => assert!(seen.rank < commit.rank, "{}", told.text()),
            Verdict::Late => assert!(ack.is_own || commit.rank < seen.rank, "{}", told.text()),
            Verdict::Unknown => unreachable!("counted above"),
        }
    }
}

/// The pieces add up to the time of the rpc and of what precedes and follows it, and none of them
/// is unknown.
fn the_path_is_whole(told: &Told, graph: &Graph, serving: usize) {
    let path = critical_path(&told.recording, &told.order, &told.story, graph).unwrap();
    let rpc = told.one(serving, Stage::Rpc).event;
    let edge = told.steps().map(|seen| seen.event).filter(|event| event.stage.is_at_edge());
    let whole = rpc.took_ns + edge.map(|event| event.took_ns).sum::<u64>();
    let sum = path.iter().map(|segment| segment.ns).sum::<u64>();
    // A time is rounded to nanoseconds at each end.
    assert!(whole.abs_diff(sum) < 20, "{whole}, {sum}\n{}", told.text());
    let unknown = path.iter().find(|segment| matches!(segment.wait, Wait::Unknown(..)));
    assert_eq!(None, unknown, "{path:?}\n{}", told.text());
}

/// Goal: a read knows its round, the reads that shared it, and the members that confirmed it.
/// Method: concurrent gets on a follower; those of the same round must name each other.
pub(super) async fn gets_at_once_know_their_round_and_each_other(scene: &Scene) {
    let [leader, follower, _] = scene.parts().await;
    let gets: Vec<_> = (0..GETS)
        .map(|number| {
            let mut client = scene.cluster.client(follower);
            let key = Bytes::from(format!("questions/get/{number}"));
            tokio::spawn(async move {
                let range = RangeRequest { key, ..RangeRequest::default() };
                client.kv.range(sampled(range)).await.unwrap();
            })
        })
        .collect();
    for get in gets {
        get.await.unwrap();
    }
    let mut all = Vec::new();
    for number in 0..GETS {
        let key = format!("questions/get/{number}");
        let told = scene.listener.told(("KV/Range", &key), Told::is_complete).await;
        let graph = graph(&told);
        let round = graph.round.unwrap();
        let confirmed = told.one(leader, Stage::ReadIndexConfirmed);
        assert_eq!(Some(confirmed.place), round.confirmed);
        assert_eq!(Some(confirmed.field("acks")), round.acks);
        assert_eq!(round.acks, Some(graph.confirmed_by.len() as u64 + 1), "{}", told.text());
        let leader_id = told.member_id(leader);
        assert!(!graph.confirmed_by.contains(&leader_id), "{:?}", graph.confirmed_by);
        the_path_is_whole(&told, &graph, follower);
        all.push((told.story.id, round, graph.fellows));
    }
    // Other reads may run meanwhile, without asking for a trace.
    for (id, round, fellows) in &all {
        assert!((fellows.len() as u64) < round.reads.unwrap(), "{fellows:x?} of {round:?}");
        for (other, its_round, its_fellows) in all.iter().filter(|(other, ..)| other != id) {
            let is_same = round.id == its_round.id;
            assert_eq!((is_same, is_same), (fellows.contains(other), its_fellows.contains(id)));
        }
    }
    let list = query::requests(&scene.listener.recording());
    assert!(all.iter().all(|(id, ..)| list.iter().any(|request| request.id == *id)));
}
