//! The causes behind the stories of a real cluster of three members, led by etcd-02.

use super::*;
use crate::{
    story::query::{
        graph::{Graph, Verdict},
        path::{Awaited, Segment, Wait, critical_path},
    },
    trace::record::{FLAG_CANCELLED, FLAG_ERROR},
};

fn causes(recording: &Recording, id: u64) -> (Graph, Option<Vec<Segment>>) {
    let order = Order::of(recording);
    let story = Story::of(recording, &order, id).unwrap_or_else(|| panic!("{id:016x} is unknown"));
    let graph = Graph::of(recording, &order, &story);
    let path = critical_path(recording, &order, &story, &graph);
    (graph, path)
}

fn name(recording: &Recording, member_id: u64) -> &str {
    let known = recording.members.iter().find(|member| member.member_id == member_id);
    known.map_or("?", |member| &member.name)
}

/// The path as `member wait`, with `~` for an estimate.
fn words(recording: &Recording, path: &[Segment]) -> Vec<String> {
    let word = |segment: &Segment| {
        let mark = if segment.is_estimated() { "~" } else { "" };
        let name = &recording.members[usize::from(segment.member)].name;
        format!("{name} {}{mark}", segment.wait)
    };
    path.iter().map(word).collect()
}

#[test]
fn an_fsync_knows_for_how_many_entries_it_was() {
    let recording = recorded();
    let entries = |id| -> Vec<u64> {
        causes(&recording, id).0.fsyncs.iter().map(|fsync| fsync.entries).collect()
    };
    assert_eq!(vec![1, 1, 1], entries(FOLLOWER_PUT));
    assert_eq!(vec![3, 3, 3], entries(SHARED_PUT));
    assert_eq!(Vec::<u64>::new(), entries(FOLLOWER_GET));
}

#[test]
fn the_quorum_includes_acknowledgements_that_came_too_late() {
    let recording = recorded();
    let (graph, _) = causes(&recording, LEADER_PUT);
    let acks: Vec<(&str, Verdict, bool)> = (graph.quorum.acks.iter())
        .map(|ack| (name(&recording, ack.member_id), ack.verdict, ack.is_own))
        .collect();
    let expected = [
        ("etcd-02", Verdict::Counted, true),
        ("etcd-01", Verdict::Completed, false),
        ("etcd-03", Verdict::Late, false),
    ];
    assert_eq!(expected, acks[..]);
}

#[test]
fn a_put_knows_its_transactions_and_its_watchers() {
    let recording = recorded();
    let (graph, _) = causes(&recording, SHARED_PUT);
    let mut writes: Vec<u64> = graph.stored.iter().map(|stored| stored.writes).collect();
    writes.sort_unstable();
    assert_eq!(vec![3, 11, 22], writes);
    assert!(graph.heard.is_empty(), "this key had no watcher");
    let (graph, _) = causes(&recording, FOLLOWER_PUT);
    let [heard] = graph.heard[..] else { panic!("{:?}", graph.heard) };
    assert_eq!("etcd-03", recording.members[usize::from(heard.member)].name);
    assert_eq!((1, Some(0), true), (heard.watcher, heard.path, heard.queued.is_some()));
}

#[test]
fn a_get_knows_its_round() {
    let recording = recorded();
    for id in [FOLLOWER_GET, LEADER_GET] {
        let round = causes(&recording, id).0.round.unwrap();
        assert_eq!((Some(1), Some(2)), (round.reads, round.acks));
    }
    assert_eq!(None, causes(&recording, LEADER_PUT).0.round);
}

#[test]
fn the_path_of_a_put_goes_over_the_disk_that_completed_the_quorum() {
    let recording = recorded();
    let path = causes(&recording, FOLLOWER_PUT).1.unwrap();
    let expected = [
        "etcd-01 start of rpc to start of raft.propose",
        "etcd-01 start of raft.propose to hand-over to raft",
        "etcd-01 hand-over to raft",
        "etcd-01 raft.inbox to raft.send",
        "etcd-02 in transit, raft.send to raft.receive~",
        "etcd-02 raft.receive to raft.entry",
        "etcd-02 raft.entry to raft.send",
        "etcd-01 in transit, raft.send to raft.receive~",
        "etcd-01 raft.receive to raft.entry",
        "etcd-01 raft.entry to start of wal.write",
        "etcd-01 wal.write",
        "etcd-01 end of wal.write to start of wal.fsync",
        "etcd-01 wal.fsync",
        "etcd-01 end of wal.fsync to raft.send",
        "etcd-02 in transit, raft.send to raft.receive~",
        "etcd-02 raft.receive to raft.commit",
        "etcd-02 raft.commit to raft.send",
        "etcd-01 in transit, raft.send to raft.receive~",
        "etcd-01 raft.receive to raft.commit",
        "etcd-01 raft.commit to hand-over to apply",
        "etcd-01 hand-over to apply",
        "etcd-01 apply.entry",
        "etcd-01 end of apply.entry to end of raft.propose",
        "etcd-01 end of raft.propose to end of rpc",
    ];
    assert_eq!(expected, words(&recording, &path)[..]);
    let path = causes(&recording, LEADER_PUT).1.unwrap();
    let expected = [
        "etcd-02 start of rpc to start of raft.propose",
        "etcd-02 start of raft.propose to hand-over to raft",
        "etcd-02 hand-over to raft",
        "etcd-02 raft.inbox to raft.entry",
        "etcd-02 raft.entry to raft.send",
        "etcd-01 in transit, raft.send to raft.receive~",
        "etcd-01 raft.receive to raft.entry",
        "etcd-01 raft.entry to start of wal.write",
        "etcd-01 wal.write",
        "etcd-01 end of wal.write to start of wal.fsync",
        "etcd-01 wal.fsync",
        "etcd-01 end of wal.fsync to raft.send",
        "etcd-02 in transit, raft.send to raft.receive~",
        "etcd-02 raft.receive to raft.commit",
        "etcd-02 raft.commit to hand-over to apply",
        "etcd-02 hand-over to apply",
        "etcd-02 apply.entry",
        "etcd-02 end of apply.entry to end of raft.propose",
        "etcd-02 end of raft.propose to end of rpc",
    ];
    assert_eq!(expected, words(&recording, &path)[..]);
}

#[test]
fn the_path_of_a_get_goes_over_the_round() {
    let recording = recorded();
    let path = causes(&recording, FOLLOWER_GET).1.unwrap();
    let expected = [
        "etcd-01 start of rpc to start of read_index.wait",
        "etcd-01 hand-over to the next read round",
        "etcd-01 start of read_index.round to raft.send",
        "etcd-02 in transit, raft.send to raft.receive~",
        "etcd-02 raft.receive to raft.send",
        "etcd-01 in transit, raft.send to raft.receive~",
        "etcd-01 raft.receive to raft.send",
        "etcd-02 in transit, raft.send to raft.receive~",
        "etcd-02 raft.receive to read_index.confirmed",
        "etcd-02 read_index.confirmed to raft.send",
        "etcd-01 in transit, raft.send to raft.receive~",
        "etcd-01 raft.receive to end of read_index.round",
        "etcd-01 end of read_index.round to end of read_index.wait",
        "etcd-01 end of read_index.wait to start of read.wait_applied",
        "etcd-01 read.wait_applied",
        "etcd-01 end of read.wait_applied to start of mvcc.range",
        "etcd-01 mvcc.range",
        "etcd-01 end of mvcc.range to end of rpc",
    ];
    assert_eq!(expected, words(&recording, &path)[..]);
    let path = causes(&recording, LEADER_GET).1.unwrap();
    assert!(path.iter().all(|segment| !matches!(segment.wait, Wait::Unknown(..))));
}

/// The pieces have no gap, and durations within one member are exact.
fn assert_is_whole(recording: &Recording, graph: &Graph, path: &[Segment]) {
    let took = recording.events[graph.rpc.unwrap()].took_ns;
    assert_eq!(took, path.iter().map(|segment| segment.ns).sum::<u64>());
    for pair in path.windows(2) {
        assert_eq!(pair[0].to, pair[1].from);
    }
    for segment in path.iter().filter(|segment| segment.wait == Wait::Step(Stage::WalFsync)) {
        assert!(segment.is_estimated() || segment.ns == recording.events[segment.to].took_ns);
    }
}

#[test]
fn the_pieces_of_a_path_sum_to_the_rpcs_duration() {
    let recording = recorded();
    for id in ALL {
        let (graph, path) = causes(&recording, id);
        let path = path.unwrap();
        assert_is_whole(&recording, &graph, &path);
        let is_known = |segment: &Segment| !matches!(segment.wait, Wait::Unknown(..));
        assert!(path.iter().all(is_known), "{id:016x}: {:?}", words(&recording, &path));
    }
}

#[test]
fn the_path_stays_whole_if_any_event_is_lost() {
    let whole = recorded();
    for id in ALL {
        for lost in 0..whole.events.len() {
            let mut recording = whole.clone();
            recording.events.remove(lost);
            let (graph, path) = causes(&recording, id);
            if let Some(path) = path {
                assert_is_whole(&recording, &graph, &path);
            } else {
                assert_eq!(Stage::Rpc, whole.events[lost].stage);
            }
        }
    }
}

#[test]
fn without_the_leaders_records_the_quorum_is_unknown_and_not_guessed() {
    let mut recording = recorded();
    let leader = recording.members.iter().position(|member| member.name == "etcd-02").unwrap();
    recording.events.retain(|event| usize::from(event.member) != leader);
    let (graph, path) = causes(&recording, FOLLOWER_PUT);
    assert_eq!((None, None), (graph.quorum.leader, graph.quorum.completed_by));
    assert!(graph.quorum.acks.is_empty());
    let path = path.unwrap();
    assert_is_whole(&recording, &graph, &path);
    let waits: Vec<String> = path.iter().map(|segment| segment.wait.to_string()).collect();
    let known = [
        "start of rpc to start of raft.propose",
        "start of raft.propose to hand-over to raft",
        "hand-over to raft",
        "not captured, raft.inbox to hand-over to apply",
        "hand-over to apply",
        "apply.entry",
        "end of apply.entry to end of raft.propose",
        "end of raft.propose to end of rpc",
    ];
    assert_eq!(known, waits[..]);
}

#[test]
fn without_the_commit_no_acknowledgement_is_late() {
    let mut recording = recorded();
    recording.events.retain(|event| event.stage != Stage::RaftCommit);
    let (graph, path) = causes(&recording, LEADER_PUT);
    assert!(graph.quorum.acks.iter().all(|ack| ack.verdict == Verdict::Unknown));
    assert_is_whole(&recording, &graph, &path.unwrap());
}

/// Goal: a request that gave up shows where, and no other loss is blamed. Method: a put without
/// records after its proposal, with an answer and without.
#[test]
fn a_request_that_gave_up_has_waited_in_vain_and_one_that_was_answered_has_not() {
    for (result, flags, expected) in [
        (14, FLAG_ERROR, "in vain: a place in a leader's log"),
        (1, FLAG_CANCELLED, "in vain: a place in a leader's log"),
        (0, 0, "not captured, raft.inbox to end of raft.propose"),
    ] {
        let mut recording = recorded();
        let before = [Stage::Rpc, Stage::RpcValidate, Stage::RaftPropose, Stage::RaftInbox];
        recording.events.retain(|event| before.contains(&event.stage));
        for event in recording.events.iter_mut().filter(|event| event.stage == Stage::Rpc) {
            (event.result, event.flags) = (result, event.flags | flags);
        }
        let (graph, path) = causes(&recording, LEADER_PUT);
        let path = path.unwrap();
        assert_is_whole(&recording, &graph, &path);
        let waits: Vec<String> = path.iter().map(|segment| segment.wait.to_string()).collect();
        let expected = [
            "start of rpc to start of raft.propose",
            "start of raft.propose to hand-over to raft",
            "hand-over to raft",
            expected,
            "end of raft.propose to end of rpc",
        ];
        assert_eq!(expected, waits[..]);
    }
}

/// Its messages may arrive after it gave up: it did not wait for them to the end.
#[test]
fn messages_after_a_request_gave_up_are_not_the_networks_fault() {
    let mut recording = recorded();
    let rpc = recording.events.iter().position(|event| {
        (event.stage, event.kind, event.id) == (Stage::Rpc, Kind::Span, FOLLOWER_PUT)
    });
    let rpc = rpc.unwrap();
    let inbox = recording
        .events
        .iter()
        .find(|event| event.stage == Stage::RaftInbox && event.id == FOLLOWER_PUT)
        .unwrap();
    let took_ns = inbox.at_ns + inbox.took_ns + 1 - recording.events[rpc].at_ns;
    let event = &mut recording.events[rpc];
    (event.result, event.flags, event.took_ns) = (1, event.flags | FLAG_CANCELLED, took_ns);
    let (_, path) = causes(&recording, FOLLOWER_PUT);
    let waits: Vec<Wait> = path.unwrap().iter().map(|segment| segment.wait).collect();
    assert!(waits.contains(&Wait::InVain(Awaited::Entry)), "{waits:?}");
    assert!(!waits.iter().any(|wait| matches!(wait, Wait::Network(..))), "{waits:?}");
}
