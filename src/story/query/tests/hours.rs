//! Calls that last for hours: their durations hold, and their paths say what they waited for.

use super::*;
use crate::story::query::path::{Segment, Side, Wait, critical_path};

const HOUR_NS: u64 = 3_600_000_000_000;
const CALL: u64 = 0x9892_0000_0000_0201;

fn begin(script: &mut Script, method: &str) -> (usize, u64) {
    let number = METHODS.iter().position(|name| *name == method).unwrap() as u64;
    let rpc = script.begin(0, Stage::Rpc, CALL);
    script.recording.events[rpc].set(Stage::Rpc.slot("method"), number);
    (rpc, number)
}

fn path(script: &Script) -> Vec<Segment> {
    let order = Order::of(&script.recording);
    let stories = Stories::new(&script.recording, &order);
    let story = stories.of(CALL).unwrap();
    critical_path(&script.recording, &order, &story, &stories.graph(&story)).unwrap()
}

/// The pieces of at least a minute, in words; all of them must add up to the whole.
fn long(script: &Script) -> Vec<(String, u64)> {
    let path = path(script);
    let sum: u64 = path.iter().map(|piece| piece.ns).sum();
    assert_eq!(Some(sum), requests(&script.recording)[0].took_ns);
    let long = path.iter().filter(|piece| HOUR_NS / 60 <= piece.ns);
    long.map(|piece| (piece.wait.to_string(), piece.ns / HOUR_NS)).collect()
}

/// Goal: an observer that looks the leader up twice, with an hour between, has not read for an
/// hour; and what it waits for after the last leader is not called its answer.
#[test]
fn an_observer_of_hours_waits_from_leader_to_leader() {
    let mut script = Script::new();
    let (rpc, method) = begin(&mut script, "Election/Observe");
    for wait in [1, 2] {
        script.step(0, Stage::ReadIndexWait, CALL, &[]);
        script.step(0, Stage::MvccRange, CALL, &[]);
        let leader = script.step(0, Stage::ObserveLeader, CALL, &[]);
        let event = &mut script.recording.events[leader];
        (event.kind, event.clock_end, event.took_ns) = (Kind::Mark, event.clock, 0);
        script.now_ns += wait * HOUR_NS;
    }
    script.end(rpc, &[("method", method)]);
    let expected =
        [("observe.leader to start of read_index.wait", 1), ("observe.leader to end of rpc", 2)];
    assert_eq!(expected.map(|(wait, hours)| (wait.to_owned(), hours)), long(&script)[..]);
    let kinds: Vec<Wait> = path(&script).iter().map(|piece| piece.wait).collect();
    assert_eq!(2, kinds.iter().filter(|wait| **wait == Wait::Step(Stage::MvccRange)).count());
    let is_answer = |wait: &&Wait| match wait {
        Wait::Between(from, to) => from.side == Side::End && to.stage == Stage::Rpc,
        _ => false,
    };
    assert_eq!(None, kinds.iter().find(is_answer));
}

#[test]
fn a_lock_of_hours_waits_for_the_lock() {
    let mut script = Script::new();
    let (rpc, method) = begin(&mut script, "Lock/Lock");
    let propose = script.begin(0, Stage::RaftPropose, CALL);
    script.replicates(CALL, INDEX);
    script.applies(0, INDEX, CALL);
    script.end(propose, &[("leader", 1)]);
    let wait = script.begin(0, Stage::LockWait, CALL);
    script.now_ns += 5 * HOUR_NS;
    script.end(wait, &[]);
    script.end(rpc, &[("method", method)]);
    assert_eq!([("lock.wait".to_owned(), 5)], long(&script)[..]);
}

/// Goal: the list knows how long an open call has been open, and how much has come through a stream
/// so far.
#[test]
fn an_open_stream_of_hours_says_what_has_come_through_it() {
    let mut script = Script::new();
    begin(&mut script, "Watch/Watch(stream)");
    for events in [1, 700_000] {
        let totals = [("received", 2), ("sent", events + 1), ("events", events)];
        script.step(0, Stage::StreamFlow, CALL, &totals);
        script.now_ns += 3 * HOUR_NS;
    }
    script.step(0, Stage::Keyframe, 0, &[]);
    let [stream] = <[Summary; 1]>::try_from(requests(&script.recording)).unwrap();
    assert!(stream.is_open && stream.took_ns.is_none());
    assert_eq!(Some(Flow { received: 2, sent: 700_001, events: 700_000 }), stream.flow);
}
