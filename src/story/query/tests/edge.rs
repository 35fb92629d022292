//! What comes before an rpc and after it, and standstills, in stories and paths.

use super::*;
use crate::story::query::{
    graph::Graph,
    path::{Segment, Wait, critical_path},
    slow::{Causes, Window},
};
use crate::trace::METHODS;

const ID: u64 = 7;
const MS: u64 = 1_000_000;

/// The events of a member that serves a request of 10 ms, which arrived 100 ms before its rpc and
/// whose answer was written 5 ms after it: the times of all steps count from the start of the rpc.
struct Served {
    recording: Recording,
}

/// When the rpc begins, in nanoseconds since the member's start.
const RPC: i64 = 1_000_000_000;

impl Served {
    fn new() -> Served {
        let Script { recording, .. } = Script::new();
        let mut served = Served { recording };
        served.step(Stage::SocketQueue, ID, (10, 10), [-100, -2]);
        served.step(Stage::RpcQueue, ID, (10, 11), [-2, 0]);
        served.step(Stage::Rpc, ID, (11, 20), [0, 10]);
        served.step(Stage::AnswerFlush, ID, (21, 21), [10, 15]);
        served
    }

    /// A span of the first member, between these milliseconds.
    fn step(
        &mut self,
        stage: Stage,
        id: u64,
        (clock, clock_end): (u64, u64),
        [from, to]: [i64; 2],
    ) {
        self.recording.events.push(Event {
            kind: Kind::Span,
            flags: FLAG_KEPT,
            clock_end,
            at_ns: u64::try_from(RPC + from * MS as i64).unwrap(),
            took_ns: u64::try_from((to - from) * MS as i64).unwrap(),
            id,
            ..Event::mark(0, stage, clock)
        });
    }

    fn stalled(&mut self, clock: u64, times: [i64; 2]) {
        self.step(Stage::ProcessStalled, 0, (clock, clock + 1), times);
    }

    fn path(&self) -> Vec<(String, u64)> {
        let order = Order::of(&self.recording);
        let story = Story::of(&self.recording, &order, ID).unwrap();
        let graph = Graph::of(&self.recording, &order, &story);
        let path: Vec<Segment> = critical_path(&self.recording, &order, &story, &graph).unwrap();
        assert!(path.windows(2).all(|pair| pair[0].to == pair[1].from), "{path:?}");
        path.iter().map(|segment| (segment.wait.to_string(), segment.ns / MS)).collect()
    }
}

fn named(path: &[(&str, u64)]) -> Vec<(String, u64)> {
    path.iter().map(|(name, ms)| ((*name).to_owned(), *ms)).collect()
}

#[test]
fn a_path_reaches_from_the_arrival_of_the_request_to_the_writing_of_its_answer() {
    let served = Served::new();
    let expected = [("socket.queue", 98), ("rpc.queue", 2), ("rpc", 10), ("answer.flush", 5)];
    assert_eq!(served.path(), named(&expected));
}

#[test]
fn a_path_begins_with_the_wait_of_its_connection_and_names_the_time_until_the_request_came() {
    let mut served = Served::new();
    served.step(Stage::ConnectionAccept, ID, (9, 9), [-400, -130]);
    let expected = [
        ("connection.accept", 270),
        ("end of connection.accept to start of socket.queue", 30),
        ("socket.queue", 98),
        ("rpc.queue", 2),
        ("rpc", 10),
        ("answer.flush", 5),
    ];
    assert_eq!(served.path(), named(&expected));
    let all = requests(&served.recording);
    assert_eq!((400 * MS, Some(415 * MS)), (all[0].before_ns, all[0].took_ns));
}

/// Goal: what is not known is not in the path, and the rest is named as before. Method: each subset
/// of the steps at the edge.
#[test]
fn a_path_has_only_the_parts_that_were_captured() {
    let edge = [(Stage::SocketQueue, 98), (Stage::RpcQueue, 2), (Stage::AnswerFlush, 5)];
    for subset in 0..8 {
        let mut served = Served::new();
        let lost: Vec<Stage> =
            (0..3).filter(|at| subset >> at & 1 == 1).map(|at| edge[at].0).collect();
        served.recording.events.retain(|event| !lost.contains(&event.stage));
        let mut expected =
            vec![("socket.queue", 98), ("rpc.queue", 2), ("rpc", 10), ("answer.flush", 5)];
        expected.retain(|(name, _)| !lost.iter().any(|stage| stage.name() == *name));
        if lost == [Stage::RpcQueue] || lost == [Stage::RpcQueue, Stage::AnswerFlush] {
            expected.insert(1, ("end of socket.queue to start of rpc", 2));
        }
        assert_eq!(served.path(), named(&expected), "without {lost:?}");
    }
}

#[test]
fn a_standstill_takes_its_part_of_each_piece_and_only_its_part() {
    for (times, expected) in [
        ([-90, -10], &[("socket.queue", 10), ("process.stalled", 80), ("socket.queue", 8)][..]),
        ([-200, -50], &[("process.stalled", 50), ("socket.queue", 48)]),
        // It ran when it read the request, and from then on.
        ([-50, 4], &[("socket.queue", 50), ("process.stalled", 48), ("rpc.queue", 2), ("rpc", 10)]),
    ] {
        let mut served = Served::new();
        served.stalled(2, times);
        let path = served.path();
        assert_eq!(path[..expected.len()], named(expected), "{times:?}");
        assert_eq!(115, path.iter().map(|(_, ms)| ms).sum::<u64>(), "{path:?}");
    }
}

#[test]
fn a_standstill_belongs_to_the_requests_that_waited_meanwhile_and_to_no_other() {
    for (times, is_met) in [
        ([-300, -101], false),
        ([-300, -99], true),
        ([3, 4], true),
        ([11, 16], true),
        ([14, 20], false),
        ([16, 20], false),
    ] {
        let mut served = Served::new();
        served.stalled(2, times);
        let story = story_of(&served.recording, ID);
        let met = story.steps.iter().filter(|step| step.relation == Relation::Stall).count();
        assert_eq!(is_met, met == 1, "{times:?}");
    }
    // Nor does that of a member which took no part in the request.
    let mut served = Served::new();
    served.stalled(2, [3, 4]);
    served.recording.events.last_mut().unwrap().member = 1;
    let story = story_of(&served.recording, ID);
    assert!(story.steps.iter().all(|step| step.relation != Relation::Stall));
}

#[test]
fn why_slow_ranks_the_wait_before_the_rpc_and_its_reason() {
    let mut served = Served::new();
    served.stalled(2, [-90, -10]);
    let order = Order::of(&served.recording);
    let causes = Causes::of(&served.recording, &order, Window::default());
    let first: Vec<_> = causes.list.iter().map(|cause| (cause.wait, cause.ns / MS)).collect();
    assert_eq!((Wait::Step(Stage::ProcessStalled), 80), first[0]);
    assert_eq!((Wait::Step(Stage::SocketQueue), 18), first[1]);
    assert_eq!(115 * MS, causes.total_ns);
}

/// A request to the leader, a member alone, that asks for a round, and then does this.
fn after_a_round(method: &str, result: u8, step: Option<Stage>) -> Vec<(String, u64)> {
    let Script { mut recording, .. } = Script::new();
    recording.members.truncate(1);
    let mut served = Served { recording };
    served.step(Stage::ReadIndexRound, 9, (13, 14), [2, 4]);
    served.step(Stage::ReadIndexWait, ID, (12, 15), [1, 5]);
    served.recording.events[1].set(Stage::ReadIndexWait.slot("round"), 9);
    served.step(Stage::ReadWaitApplied, ID, (16, 17), [5, 6]);
    if let Some(stage) = step {
        served.step(stage, ID, (18, 19), [7, 9]);
    }
    served.step(Stage::Rpc, ID, (11, 20), [0, 10]);
    let number = METHODS.iter().position(|name| *name == method).unwrap() as u64;
    let rpc = served.recording.events.last_mut().unwrap();
    rpc.set(Stage::Rpc.slot("method"), number);
    rpc.result = result;
    let path = served.path();
    path[path.iter().position(|(name, _)| name == "read.wait_applied").unwrap() + 1..].to_vec()
}

/// Goal: a call that reads no row is complete without one, and no other is. Method: calls that ask
/// for the same round.
#[test]
fn a_call_that_looks_at_leases_or_members_or_is_refused_lacks_no_range() {
    for (method, stage) in [
        ("Lease/LeaseTimeToLive", Stage::LeaseRemaining),
        ("Lease/LeaseKeepAlive", Stage::LeaseRenew),
        ("Lease/LeaseLeases", Stage::LeaseList),
        ("Cluster/MemberList", Stage::MembersList),
    ] {
        let (start, end) = (
            format!("end of read.wait_applied to start of {}", stage.name()),
            format!("end of {} to end of rpc", stage.name()),
        );
        let expected = [(&start[..], 1), (stage.name(), 2), (&end, 1)];
        assert_eq!(after_a_round(method, 0, Some(stage)), named(&expected));
    }
    let refused = [("end of read.wait_applied to end of rpc", 4)];
    assert_eq!(after_a_round("KV/Txn", 11, None), named(&refused));
    let unread = [("not captured, end of read.wait_applied to end of rpc", 4)];
    assert_eq!(after_a_round("KV/Range", 0, None), named(&unread));
    for code in [1, 4] {
        assert_eq!(after_a_round("KV/Txn", code, None), named(&[("in vain: its rows", 4)]));
    }
}

#[test]
fn a_request_takes_its_time_from_the_arrival_of_its_first_byte_on() {
    let all = requests(&Served::new().recording);
    let [request] = &all[..] else { panic!("{all:?}") };
    assert_eq!((100 * MS, Some(115 * MS)), (request.before_ns, request.took_ns));
}
