//! Ranked causes, where the script determines the cause.

use super::*;
use crate::story::query::{
    path::{Point, Side, Wait},
    slow::{Causes, REQUESTS_MAX, Window},
};

const SLOW_NS: u64 = 50_000_000;
/// The member whose acknowledgement completes the quorum, by position.
const DECIDES: u8 = 1;

/// The start of a step.
fn start(stage: Stage) -> Point {
    Point { stage, side: Side::Start }
}

/// The end of a step.
fn end(stage: Stage) -> Point {
    Point { stage, side: Side::End }
}

// The pieces of a put that the script can make slow.

fn checks() -> Wait {
    Wait::Between(start(Stage::Rpc), start(Stage::RaftPropose))
}

fn inbox() -> Wait {
    Wait::Between(start(Stage::RaftPropose), start(Stage::RaftInbox))
}

fn before_fsync() -> Wait {
    Wait::Between(end(Stage::RaftEntry), start(Stage::WalFsync))
}

fn before_apply() -> Wait {
    Wait::Between(end(Stage::RaftCommit), start(Stage::ApplyEntry))
}

fn wake() -> Wait {
    Wait::Between(end(Stage::ApplyEntry), end(Stage::RaftPropose))
}

fn answer(after: Stage) -> Wait {
    Wait::Between(end(after), end(Stage::Rpc))
}

const FSYNC: Wait = Wait::Step(Stage::WalFsync);
const WHOLE: Wait = Wait::Step(Stage::Rpc);

/// The number of a method.
fn method(name: &str) -> u64 {
    METHODS.iter().position(|other| *other == name).unwrap() as u64
}

impl Script {
    fn dawdle(&mut self, here: Wait, slow: Wait) {
        if here == slow {
            self.now_ns += SLOW_NS;
        }
    }

    /// A put on the leader that is slow in one place.
    fn slow_put(&mut self, id: u64, index: u64, slow: Wait) {
        let entry = [("term", 3), ("index", index)];
        let range = [("first", index), ("last", index)];
        let rpc = self.begin(0, Stage::Rpc, id);
        self.dawdle(checks(), slow);
        let propose = self.begin(0, Stage::RaftPropose, id);
        self.dawdle(inbox(), slow);
        self.step(0, Stage::RaftInbox, id, &[]);
        self.step(0, Stage::RaftEntry, id, &entry);
        let carries = [("index", index - 1), ("last", index)];
        for peer in [DECIDES, 2] {
            self.message((0, peer), message::APP, 0, &carries);
        }
        self.disk(0, index, index);
        self.step(DECIDES, Stage::RaftEntry, id, &entry);
        self.dawdle(before_fsync(), slow);
        let fsync = self.begin(DECIDES, Stage::WalFsync, 0);
        self.dawdle(FSYNC, slow);
        self.end(fsync, &range);
        self.message((DECIDES, 0), message::APP_RESP, 0, &[("index", index)]);
        let matched = [("peer", 2), ("match.old", index - 1), ("match.new", index)];
        self.step(0, Stage::RaftProgress, 0, &matched);
        let commit = [("commit.old", index - 1), ("commit.new", index), ("completed_by", 2)];
        self.step(0, Stage::RaftCommit, 0, &commit);
        self.dawdle(before_apply(), slow);
        self.applies(0, index, id);
        self.dawdle(wake(), slow);
        self.end(propose, &[("leader", 1)]);
        for stage in [Stage::LockWait, Stage::CompactWait, Stage::AnswerRoom, Stage::ReadQueue] {
            if Wait::Step(stage) == slow {
                let begin = self.begin(0, stage, id);
                self.dawdle(slow, slow);
                self.end(begin, &[]);
            }
        }
        self.dawdle(answer(Stage::RaftPropose), slow);
        self.end(rpc, &[("method", method("KV/Put"))]);
    }

    /// A call without steps that takes the given time.
    fn call(&mut self, id: u64, name: &str, took_ns: u64) {
        let rpc = self.begin(2, Stage::Rpc, id);
        self.now_ns += took_ns;
        self.end(rpc, &[("method", method(name))]);
    }
}

fn causes(script: &Script, last_ns: Option<u64>) -> Causes {
    let window = Window { last_ns, fresh_ns: 0 };
    Causes::of(&script.recording, &Order::of(&script.recording), window)
}

#[test]
fn the_known_cause_comes_first() {
    let places = [
        (checks(), 0),
        (inbox(), 0),
        (before_fsync(), DECIDES),
        (FSYNC, DECIDES),
        (before_apply(), 0),
        (wake(), 0),
        (Wait::Step(Stage::LockWait), 0),
        (Wait::Step(Stage::CompactWait), 0),
        (Wait::Step(Stage::AnswerRoom), 0),
        (Wait::Step(Stage::ReadQueue), 0),
        (answer(Stage::RaftPropose), 0),
    ];
    for (slow, member) in places {
        let mut script = Script::new();
        for number in 1..=5 {
            script.slow_put(number << 8 | 1, number, slow);
        }
        let causes = causes(&script, None);
        assert_eq!((5, 5, 0, 0), (causes.ended, causes.looked_at, causes.waiting, causes.open));
        let first = &causes.list[0];
        assert_eq!((slow, member, 5), (first.wait, first.member, first.requests), "{causes:#?}");
        assert!(5 * SLOW_NS <= first.ns && first.member_ns == first.ns);
        assert!(causes.total_ns / 10 < first.ns);
        assert!(
            !causes.list.iter().any(|cause| matches!(cause.wait, Wait::Unknown(..))),
            "{causes:#?}"
        );
    }
}

#[test]
fn a_rare_cause_is_ranked_by_its_time_and_names_the_request() {
    let mut script = Script::new();
    for number in 1..=9 {
        let slow = if number == 4 { FSYNC } else { WHOLE };
        script.slow_put(number << 8 | 1, number, slow);
    }
    let first = &causes(&script, None).list[0];
    assert_eq!((FSYNC, 4 << 8 | 1), (first.wait, first.worst));
    assert!(SLOW_NS <= first.worst_ns);
}

#[test]
fn calls_that_are_meant_to_wait_are_counted_and_not_ranked() {
    let mut script = Script::new();
    script.slow_put(1 << 8 | 1, 1, FSYNC);
    for (number, name) in ["Watch/Watch", "Lock/Lock", "Election/Campaign"].iter().enumerate() {
        script.call((number as u64 + 2) << 8 | 1, name, 100 * SLOW_NS);
    }
    script.begin(2, Stage::Rpc, 9 << 8 | 1);
    let causes = causes(&script, None);
    assert_eq!((1, 3, 1), (causes.ended, causes.waiting, causes.open));
    assert_eq!(FSYNC, causes.list[0].wait);
}

#[test]
fn only_the_last_of_the_time_counts_and_the_slowest_of_very_many() {
    let mut script = Script::new();
    script.call(1 << 8 | 1, "Maintenance/Status", SLOW_NS);
    script.slow_put(2 << 8 | 1, 1, FSYNC);
    let all = causes(&script, None);
    assert_eq!(2, all.ended);
    assert!(SLOW_NS <= all.reach_ns, "the first ended before the second began");
    let last = causes(&script, Some(SLOW_NS / 2));
    assert_eq!((1, FSYNC), (last.ended, last.list[0].wait));
    assert_eq!(all.reach_ns, last.reach_ns);

    let window = Window { last_ns: None, fresh_ns: SLOW_NS / 2 };
    let old = Causes::of(&script.recording, &Order::of(&script.recording), window);
    assert_eq!((1, 1, WHOLE), (old.ended, old.fresh, old.list[0].wait));

    let mut script = Script::new();
    for number in 1..=REQUESTS_MAX as u64 + 7 {
        script.call(number << 8 | 1, "Maintenance/Status", number * 1000);
    }
    let causes = causes(&script, None);
    assert_eq!((REQUESTS_MAX + 7, REQUESTS_MAX), (causes.ended, causes.looked_at));
    let id = (REQUESTS_MAX as u64 + 7) << 8 | 1;
    assert_eq!((1, id), (causes.list.len(), causes.list[0].worst));
}

/// Goal: look-ups before the rows are read count as reading, not as checks; and what a long answer
/// reads while it is sent is no part of the call. Method: a transaction that plans for long behind
/// other long reads, and waits for a turn once more when its call is over.
#[test]
fn planning_is_reading_and_the_wait_for_other_long_reads_is_not() {
    let mut script = Script::new();
    let rpc = script.begin(0, Stage::Rpc, 1);
    let turn = script.begin(0, Stage::ReadQueue, 1);
    script.now_ns += SLOW_NS;
    script.end(turn, &[("ahead", 2), ("limit", 4)]);
    let plan = script.begin(0, Stage::TreeIndexGet, 1);
    script.now_ns += 3 * SLOW_NS;
    script.end(plan, &[]);
    script.step(0, Stage::MvccRange, 1, &[]);
    script.end(rpc, &[("method", method("KV/Txn"))]);
    let turn = script.begin(0, Stage::ReadQueue, 1);
    script.now_ns += 9 * SLOW_NS;
    script.end(turn, &[]);
    let causes = causes(&script, None);
    let of = |wait| causes.list.iter().find(|it| it.wait == wait).map_or(0, |cause| cause.ns);
    assert!(
        (3 * SLOW_NS..4 * SLOW_NS)
            .contains(&of(Wait::Between(start(Stage::TreeIndexGet), end(Stage::MvccRange)))),
        "{causes:#?}"
    );
    assert!((SLOW_NS..2 * SLOW_NS).contains(&of(Wait::Step(Stage::ReadQueue))), "{causes:#?}");
    assert!(of(checks()) < SLOW_NS, "{causes:#?}");
}
