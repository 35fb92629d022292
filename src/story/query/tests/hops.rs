//! Hand-overs from thread to thread as pieces of the path, where the script determines their
//! lengths.

use super::*;
use crate::story::query::path::{Taker, Wait, critical_path};

const OWN: u64 = 0x101;

impl Script {
    /// Lets this time pass.
    fn later(&mut self, ns: u64) -> &mut Script {
        self.now_ns += ns;
        self
    }

    /// A step without duration.
    fn instant(&mut self, member: u8, stage: Stage, id: u64, fields: &[(&str, u64)]) {
        let at = self.step(member, stage, id, fields);
        let event = &mut self.recording.events[at];
        (event.kind, event.at_ns, event.took_ns) = (Kind::Mark, event.at_ns + event.took_ns, 0);
        event.clock = event.clock_end;
    }

    /// A message, by its type and id, that was handed over this long before it was encoded.
    fn waiting(
        &mut self,
        ends: (u8, u8),
        (kind, id): (u64, u64),
        fields: &[(&str, u64)],
        waited: u64,
    ) {
        self.now_ns += waited;
        self.message(ends, kind, id, fields);
        let at = self.recording.events.len() - 2;
        self.recording.events[at].set(Stage::RaftSend.slot("waited"), waited);
    }
}

/// The hand-overs of the path, with their lengths, and the other pieces of more than 1.5 µs.
fn pieces(recording: &Recording, id: u64) -> (Vec<(u8, Taker, u64)>, Vec<String>) {
    let order = Order::of(recording);
    let stories = Stories::new(recording, &order);
    let story = stories.of(id).unwrap();
    let graph = stories.graph(&story);
    let path = critical_path(recording, &order, &story, &graph).unwrap();
    let (mut taken, mut others) = (Vec::new(), Vec::new());
    for piece in path {
        match piece.wait {
            Wait::HandOver(taker) => taken.push((piece.member, taker, piece.ns)),
            wait if 1500 < piece.ns => others.push(wait.to_string()),
            _ => (),
        }
    }
    (taken, others)
}

/// Goal: between the threads of all members that a put on the leader waits for, every hand-over is
/// a piece of its own with the length that its taker has recorded. Method: all that lies between
/// two records of the script takes a microsecond, and each hand-over another time.
#[test]
fn the_hand_overs_of_a_put_are_pieces_of_its_path() {
    let mut script = Script::new();
    let rpc = script.begin(0, Stage::Rpc, OWN);
    let propose = script.begin(0, Stage::RaftPropose, OWN);
    script.later(11_000).instant(0, Stage::RaftInbox, OWN, &[("waited", 11_000)]);
    let entry = [("term", 3), ("index", 1)];
    script.later(0).instant(0, Stage::RaftEntry, OWN, &entry);
    script.waiting((0, 1), (message::APP, 0), &[("index", 0), ("last", 1)], 12_000);
    let carried = [&entry[..], &[("waited", 13_000)]].concat();
    script.later(13_000).instant(1, Stage::RaftEntry, OWN, &carried);
    script.now_ns += 14_000;
    let range = [("first", 1), ("last", 1)];
    script.step(1, Stage::WalWrite, 0, &[&range[..], &[("gathered", 400)]].concat());
    script.step(1, Stage::WalFsync, 0, &range);
    let stable = [("stable.old", 0), ("stable.new", 1), ("waited", 15_000)];
    script.later(15_000).instant(1, Stage::RaftStable, 0, &stable);
    script.waiting((1, 0), (message::APP_RESP, 0), &[("index", 1)], 16_000);
    let commit = [("commit.old", 0), ("commit.new", 1), ("completed_by", 2), ("waited", 17_000)];
    script.later(17_000).instant(0, Stage::RaftCommit, 0, &commit);
    script.now_ns += 18_000;
    script.step(0, Stage::ApplyEntry, OWN, &[&entry[..], &[("waited", 18_000)]].concat());
    script.now_ns += 19_000;
    script.end(propose, &[("leader", 1), ("woken", 19_000)]);
    script.end(rpc, &[]);
    let (taken, others) = pieces(&script.recording, OWN);
    let expected = [
        (0, Taker::Raft, 11_000),
        (0, Taker::Peer, 12_000),
        (1, Taker::Raft, 13_000),
        // From the entry in the log to the gathering of the write, which began 400 ns before it.
        (1, Taker::Wal, 14_100),
        (1, Taker::Raft, 15_000),
        (1, Taker::Peer, 16_000),
        (0, Taker::Raft, 17_000),
        (0, Taker::Apply, 18_000),
        (0, Taker::Grpc, 19_000),
    ];
    assert_eq!((&expected[..], &[][..] as &[String]), (&taken[..], &others[..]));
}

/// Goal: the same for a get on a follower, with the threads of the leader and of the member whose
/// answer confirmed the round.
#[test]
fn the_hand_overs_of_a_get_are_pieces_of_its_path() {
    const ROUND: u64 = 0x701;
    let mut script = Script::new();
    let rpc = script.begin(1, Stage::Rpc, OWN);
    let wait = script.begin(1, Stage::ReadIndexWait, OWN);
    script.now_ns += 10_000;
    let round = script.begin(1, Stage::ReadIndexRound, ROUND);
    let inbox = |waited, from| [("waited", waited), ("from", from)];
    script.later(11_000).instant(1, Stage::RaftInbox, ROUND, &inbox(11_000, 0));
    script.waiting((1, 0), (message::READ_INDEX, ROUND), &[], 12_000);
    script.later(13_000).instant(0, Stage::RaftInbox, ROUND, &inbox(13_000, 2));
    script.waiting((0, 2), (message::HEARTBEAT, ROUND), &[], 14_000);
    script.later(15_000).instant(2, Stage::RaftInbox, ROUND, &inbox(15_000, 1));
    // The leader asks the member that has asked it, too; beside all this.
    let now_ns = script.now_ns;
    script.message((0, 1), message::HEARTBEAT, ROUND, &[]);
    script.instant(1, Stage::RaftInbox, ROUND, &inbox(400, 1));
    script.now_ns = now_ns;
    script.waiting((2, 0), (message::HEARTBEAT_RESP, ROUND), &[], 16_000);
    script.later(17_000).instant(0, Stage::RaftInbox, ROUND, &inbox(17_000, 3));
    script.later(0).instant(0, Stage::ReadIndexConfirmed, ROUND, &[("index", 4), ("acks", 2)]);
    script.waiting((0, 1), (message::READ_INDEX_RESP, ROUND), &[], 18_000);
    script.later(19_000).instant(1, Stage::RaftInbox, ROUND, &inbox(19_000, 1));
    script.now_ns += 20_000;
    script.end(round, &[("reads", 1), ("attempt", 1), ("index", 4), ("woken", 20_000)]);
    script.now_ns += 21_000;
    script.end(wait, &[("round", ROUND), ("woken", 21_000)]);
    script.step(1, Stage::ReadWaitApplied, OWN, &[]);
    script.now_ns += 22_000;
    let thread = script.begin(1, Stage::ReadThread, OWN);
    script.step(1, Stage::MvccRange, OWN, &[]);
    script.end(thread, &[("waited", 22_000), ("limit", 4)]);
    script.end(rpc, &[]);
    let (taken, others) = pieces(&script.recording, OWN);
    let takers = [
        (1, Taker::Coordinator, 11_000),
        // The beginning of a step stands 500 ns before its microsecond ends.
        (1, Taker::Raft, 12_500),
        (1, Taker::Peer, 12_000),
        (0, Taker::Raft, 14_000),
        (0, Taker::Peer, 14_000),
        (2, Taker::Raft, 16_000),
        (2, Taker::Peer, 16_000),
        (0, Taker::Raft, 18_000),
        (0, Taker::Peer, 18_000),
        (1, Taker::Raft, 20_000),
        (1, Taker::Grpc, 20_000),
        (1, Taker::Grpc, 21_000),
        (1, Taker::Blocking, 22_000),
    ];
    assert_eq!((&takers[..], &[][..] as &[String]), (&taken[..], &others[..]));
}

/// The other fact: without the field there is no hand-over, but a piece between two points.
#[test]
fn a_hand_over_that_was_not_recorded_is_not_guessed() {
    let mut script = Script::new();
    let rpc = script.begin(0, Stage::Rpc, OWN);
    let propose = script.begin(0, Stage::RaftPropose, OWN);
    script.later(11_000).instant(0, Stage::RaftInbox, OWN, &[]);
    script.later(0).instant(0, Stage::RaftEntry, OWN, &[("term", 3), ("index", 1)]);
    script.end(propose, &[("leader", 1)]);
    script.end(rpc, &[]);
    let (taken, others) = pieces(&script.recording, OWN);
    assert_eq!(Vec::<(u8, Taker, u64)>::new(), taken);
    assert_eq!("start of raft.propose to raft.inbox", others[0]);
}

/// A get on the leader that two members answer: the second one's answer arrives first, and the
/// raft thread takes them in this order. Its call ends after the confirmation, or before it.
fn answered_by_two(taken: [u64; 2], is_in_time: bool) -> Recording {
    const ROUND: u64 = 0x701;
    let mut script = Script::new();
    let rpc = script.begin(0, Stage::Rpc, OWN);
    let wait = script.begin(0, Stage::ReadIndexWait, OWN);
    if !is_in_time {
        script.cancelled(wait, &[("round", ROUND)]);
        script.cancelled(rpc, &[]);
    }
    let round = script.begin(0, Stage::ReadIndexRound, ROUND);
    script.message((0, 1), message::HEARTBEAT, ROUND, &[]);
    script.message((0, 2), message::HEARTBEAT, ROUND, &[]);
    script.message((2, 0), message::HEARTBEAT_RESP, ROUND, &[]);
    script.message((1, 0), message::HEARTBEAT_RESP, ROUND, &[]);
    let inbox = |from| [("waited", 500), ("from", from)];
    script.later(0).instant(0, Stage::RaftInbox, ROUND, &inbox(taken[0]));
    script.instant(0, Stage::ReadIndexConfirmed, ROUND, &[("index", 4), ("acks", 2)]);
    script.instant(0, Stage::RaftInbox, ROUND, &inbox(taken[1]));
    script.end(round, &[("reads", 1), ("attempt", 1), ("index", 4)]);
    if is_in_time {
        script.end(wait, &[("round", ROUND)]);
        script.step(0, Stage::ReadWaitApplied, OWN, &[]);
        script.step(0, Stage::MvccRange, OWN, &[]);
        script.end(rpc, &[("method", 1)]);
    }
    script.recording
}

impl Script {
    /// Ends a step whose caller is gone.
    fn cancelled(&mut self, begin: usize, fields: &[(&str, u64)]) {
        let at = self.end(begin, fields);
        self.recording.events[at].result = 1;
    }
}

fn graph_of(recording: &Recording, id: u64) -> graph::Graph {
    let order = Order::of(recording);
    graph::Graph::of(recording, &order, &Story::of(recording, &order, id).unwrap())
}

/// Goal: path and causes name the same member: the one whose answer the raft thread took before it
/// confirmed, though the other's had arrived as well.
#[test]
fn the_answer_that_was_taken_last_before_the_confirmation_completed_the_round() {
    for taken in [[2, 3], [3, 2]] {
        let recording = answered_by_two(taken, true);
        let order = Order::of(&recording);
        let story = Story::of(&recording, &order, OWN).unwrap();
        let graph = graph::Graph::of(&recording, &order, &story);
        assert_eq!(taken[..1], graph.confirmed_by[..]);
        let path = critical_path(&recording, &order, &story, &graph).unwrap();
        let asked = path.iter().find(|piece| matches!(piece.wait, Wait::Network(..))).unwrap();
        assert_eq!(taken[0], u64::from(asked.member) + 1);
    }
}

/// Goal: nothing confirms a read that has given up. Method: the same round, which begins before the
/// call is over and after it.
#[test]
fn a_round_that_is_confirmed_after_the_call_has_ended_confirms_nothing_for_it() {
    let in_time = graph_of(&answered_by_two([2, 3], true), OWN);
    let round = in_time.round.unwrap();
    assert_eq!((Some(2), None), (round.acks, round.gave_up));
    let late = graph_of(&answered_by_two([2, 3], false), OWN);
    let round = late.round.unwrap();
    assert_eq!((None, None), (round.confirmed, round.acks));
    assert_eq!(Some(graph::GaveUp::BeforeRound), round.gave_up);
    assert_eq!(Vec::<u64>::new(), late.confirmed_by);
}

/// A put on a member alone, whose entry is applied.
fn applied_alone(script: &mut Script) -> usize {
    script.recording.members.truncate(1);
    let rpc = script.begin(0, Stage::Rpc, OWN);
    let propose = script.begin(0, Stage::RaftPropose, OWN);
    let entry = [("term", 3), ("index", 1)];
    script.instant(0, Stage::RaftEntry, OWN, &entry);
    script.disk(0, 1, 1);
    let commit = [("commit.old", 0), ("commit.new", 1), ("completed_by", 1)];
    script.instant(0, Stage::RaftCommit, 0, &commit);
    script.step(0, Stage::ApplyEntry, OWN, &entry);
    script.end(propose, &[("leader", 1)]);
    rpc
}

/// The pieces after the proposal, with their lengths in whole microseconds.
fn after_the_proposal(recording: &Recording) -> Vec<(String, u64)> {
    let order = Order::of(recording);
    let story = Story::of(recording, &order, OWN).unwrap();
    let graph = graph::Graph::of(recording, &order, &story);
    let path = critical_path(recording, &order, &story, &graph).unwrap();
    let is_ended = |piece: &path::Segment| {
        let to = &recording.events[piece.to];
        (to.stage, piece.wait) == (Stage::RaftPropose, piece.wait) && to.kind == Kind::Span
    };
    let from = path.iter().rposition(is_ended).unwrap() + 1;
    path[from..].iter().map(|piece| (piece.wait.to_string(), piece.ns / 1000)).collect()
}

/// Goal: a transaction that reads after it has written names the read, and the wait for its thread.
#[test]
fn what_a_write_reads_for_its_answer_is_on_its_path() {
    let mut script = Script::new();
    let rpc = applied_alone(&mut script);
    script.now_ns += 12_000;
    let thread = script.begin(0, Stage::ReadThread, OWN);
    let range = script.begin(0, Stage::MvccRange, OWN);
    script.now_ns += 30_000;
    script.end(range, &[]);
    script.end(thread, &[("waited", 12_000)]);
    script.end(rpc, &[]);
    let path = after_the_proposal(&script.recording);
    let names: Vec<&str> = path.iter().map(|(name, _)| &name[..]).collect();
    let expected = [
        "end of raft.propose to hand-over to a blocking thread",
        "hand-over to a blocking thread",
        "start of read.thread to start of mvcc.range",
        "mvcc.range",
        "end of mvcc.range to end of read.thread",
        "end of read.thread to end of rpc",
    ];
    assert_eq!(expected, names[..]);
    assert_eq!((12, 31), (path[1].1, path[3].1));
}

/// Goal: a call that is cancelled while it waits for the lock has waited for the lock. Method: its
/// wait ends within its time, and a moment after it.
#[test]
fn a_call_that_ends_while_it_waits_for_the_lock_has_waited_for_the_lock() {
    for is_cancelled in [false, true] {
        let mut script = Script::new();
        let rpc = applied_alone(&mut script);
        let wait = script.begin(0, Stage::LockWait, OWN);
        script.now_ns += 30_000;
        if is_cancelled {
            script.cancelled(rpc, &[]);
            script.cancelled(wait, &[]);
        } else {
            script.end(wait, &[]);
            script.step(0, Stage::MvccRange, OWN, &[]);
            script.end(rpc, &[]);
        }
        let path = after_the_proposal(&script.recording);
        assert_eq!(("lock.wait", 31), (&path[1].0[..], path[1].1), "{path:?}");
        let has_read = path.iter().any(|(name, _)| name == "mvcc.range");
        assert_eq!(!is_cancelled, has_read, "{path:?}");
    }
}
