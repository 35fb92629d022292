//! Requests of which only other members than the serving one tell.

use super::{
    cluster::{FOLLOWER, LEADER, MS, Turn},
    *,
};
use crate::story::query::{
    address::Address,
    graph::Graph,
    through::{Fate, Through},
    unbegun::{Unbegun, Why, server_of},
};

/// When the members' first starts began, and the ids of requests in these, in milliseconds.
const FIRST_MS: u64 = 1_000;
/// When a member that was killed started again, in milliseconds since its first start.
const AGAIN_MS: u64 = 2_000;

/// The request with this number that a member, by position, serves in its first start.
fn made_by(member: u8) -> u64 {
    (u64::from(member) + 1) << 48 | FIRST_MS << 8 | 3
}

fn through_of(recording: &Recording, id: u64) -> Through {
    let order = Order::of(recording);
    let story = Story::of(recording, &order, id).unwrap();
    Graph::of(recording, &order, &story).through
}

/// A put served by this member, which is killed at 50 ms; the second member takes its message at
/// 366 ms, because it stood still. Member 1 leads term 3. If it is the one that was killed, member
/// 2 wins term 4 at 1.3 s. At 2 s the killed one starts again and applies the entry.
fn with_a_killed(serving: u8) -> Recording {
    let id = made_by(serving);
    let mut script = Script::new();
    script.turn(0, &Turn { role: [FOLLOWER, LEADER], term: [2, 3], leader: [0, 1] });
    script.beat(0, 3);
    script.begin(serving, Stage::Rpc, id);
    script.now_ns = 366 * MS;
    let entry = [("term", 3), ("index", INDEX)];
    let other = if serving == 0 { 1 } else { 0 };
    let carries = [("index", INDEX - 1), ("last", INDEX), ("commit", INDEX - 1), ("term", 3)];
    script.message((serving, other), message::APP, id, &carries);
    script.step(other, Stage::RaftEntry, id, &entry);
    let stalled = script.step(other, Stage::ProcessStalled, 0, &[]);
    let event = &mut script.recording.events[stalled];
    (event.at_ns, event.took_ns) = (10 * MS, 356 * MS);
    if serving == 0 {
        script.now_ns = 1_300 * MS;
        script.wins(4, 1);
        script.beat(1, 4);
    }
    script.applies(other, INDEX, id);
    let lost = script.recording.events.len();
    script.now_ns = AGAIN_MS * MS;
    let boots = &mut script.recording.members[usize::from(serving)].boots;
    let wall_ns = (FIRST_MS + AGAIN_MS) * MS;
    *boots = vec![BootInfo { boot: 2, wall_ns }];
    script.now_ns = MS;
    script.step(serving, Stage::MemberStart, 0, &[]);
    script.step(serving, Stage::RaftEntry, id, &entry);
    script.applies(serving, INDEX, id);
    let mut recording = script.recording;
    recording.events[lost..].iter_mut().for_each(|event| event.boot = 2);
    recording.events.retain(|event| event.member != serving || event.boot == 2);
    recording
}

/// Goal: the story of a write whose member was killed says that its beginning is not known, and
/// why. It says of nothing that it happened during the write: neither of the killed member's next
/// start, nor of the standstill of the one that tells of it.
#[test]
fn a_write_of_a_killed_member_has_no_known_beginning_and_nothing_happens_during_it() {
    let recording = with_a_killed(2);
    let through = through_of(&recording, made_by(2));
    let expected = Unbegun { server: 3, why: Why::Ended(2) };
    assert_eq!(Some(expected), through.unbegun);
    let nothing = Through {
        from: through.from,
        to: through.from,
        unbegun: Some(expected),
        ..Through::default()
    };
    assert_eq!(nothing, through);
    assert!(!through.is_empty(), "its missing beginning is a line");
}

/// Goal: the story names the loss of the leader that served the write, and no time without a leader
/// as one of the request. A leader of which no record is left has died, as its next start shows:
/// with its records the story says the same.
#[test]
fn a_write_of_a_killed_leader_is_told_with_its_death_and_with_no_wait_for_the_next_one() {
    let recording = with_a_killed(0);
    let through = through_of(&recording, made_by(0));
    assert_eq!(Some(Unbegun { server: 1, why: Why::Ended(2) }), through.unbegun);
    let [without] = through.without[..] else { panic!("{through:?}") };
    assert_eq!((Fate::Died(2), Some((2, 4)), true), (without.fate, without.next, true));
    assert!(without.is_its_end);
    assert_eq!(Some(Address::Election { term: 4, by: None }), without.election);
    assert_eq!((through.from, through.from), (without.from, without.to));
    assert!(through.starts.is_empty() && through.stalls.is_empty() && through.dropped.is_empty());
}

/// Goal: a story tells apart why the beginning is missing: the member sent no records, or the
/// process runs on and its records of the request are missing. A request of which its own member
/// has recorded a step is no such one.
#[test]
fn a_beginning_is_missing_for_one_of_three_reasons() {
    let of = |recording: &Recording| through_of(recording, made_by(2)).unbegun;
    let mut silent = with_a_killed(2);
    silent.events.retain(|event| event.member != 2);
    silent.members.pop();
    silent.dropped.pop();
    assert_eq!(Some(Unbegun { server: 0, why: Why::Silent }), of(&silent), "nobody names it");
    silent.members[0].members = vec![(3, "etcd-03".to_owned())];
    assert_eq!(Some(Unbegun { server: 3, why: Why::Silent }), of(&silent));
    assert_eq!(Some(3), server_of(&silent, made_by(2)));
    let mut lost = with_a_killed(2);
    lost.members[2].boots = vec![BootInfo { boot: 2, wall_ns: FIRST_MS * MS }];
    assert_eq!(Some(Unbegun { server: 3, why: Why::Lost }), of(&lost));
    let mut script = Script { recording: with_a_killed(2), ..Script::new() };
    let own = script.step(2, Stage::RaftPropose, made_by(2), &[]);
    script.recording.events[own].boot = 2;
    assert_eq!(None, of(&script.recording));
}

/// Goal: a leader that was heard of after it had been missed did not die then, though it started
/// again later.
#[test]
fn a_leader_without_records_that_others_heard_later_has_not_died_when_it_was_missed() {
    let mut recording = with_a_killed(0);
    let order = Order::of(&recording);
    let beat = (recording.events.iter())
        .position(|event| {
            event.stage == Stage::RaftReceive && event.field("type") == Some(message::HEARTBEAT)
        })
        .unwrap();
    let mut late = recording.events[beat].clone();
    let (clock, at) =
        recording.events.iter().zip(&order.times).fold((0, 0), |known, (event, at)| {
            if event.member == late.member { (event.clock_end.max(known.0), *at) } else { known }
        });
    assert!(at < i128::from((FIRST_MS + AGAIN_MS) * MS));
    (late.clock, late.clock_end, late.link) = (clock + 1, clock + 1, 999);
    late.at_ns = 1_900 * MS;
    recording.events.push(late);
    let through = through_of(&recording, made_by(0));
    assert_eq!(Fate::FellSilent, through.without[0].fate);
}
