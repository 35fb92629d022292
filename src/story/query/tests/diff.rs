//! Comparisons of two requests: of a real cluster, and scripted ones.

use super::*;
use crate::story::query::diff::{
    Completed, Consistency, Diff, Difference, Found, Pair, Part, Side,
};

fn diff_of(recordings: [&Recording; 2], ids: [u64; 2]) -> Diff {
    let orders = recordings.map(Order::of);
    let stories = [0, 1].map(|at| Story::of(recordings[at], &orders[at], ids[at]).unwrap());
    let side =
        |at: usize| Side { recording: recordings[at], order: &orders[at], story: &stories[at] };
    Diff::of(side(0), side(1))
}

fn diff(recording: &Recording, a: u64, b: u64) -> Diff {
    diff_of([recording; 2], [a, b])
}

/// The messages that only one of the two has: in which, their type, sender and receiver.
fn lone_messages(diff: &Diff) -> Vec<(usize, &'static str, Part, Part)> {
    let lone = |pair: &Pair| {
        let (kind, to) = pair.what.message?;
        let only = pair.taken.iter().position(Option::is_none)?;
        let name = message::MESSAGES[usize::try_from(kind).unwrap()];
        Some((1 - only, name, pair.what.part, to))
    };
    diff.pairs.iter().filter_map(lone).collect()
}

#[test]
fn a_put_on_a_follower_has_the_proposal_that_one_on_the_leader_has_not() {
    let diff = diff(&recorded(), FOLLOWER_PUT, LEADER_PUT);
    assert_eq!(Difference::Asked, diff.differences[0]);
    assert_eq!([Some(false), Some(true)], [0, 1].map(|at| diff.facts[at].is_leader));
    let proposal = [(0, "MsgProp", Part::Followers, Part::Leader)];
    assert_eq!(proposal, lone_messages(&diff)[..]);
    let acks = diff
        .pairs
        .iter()
        .find(|pair| pair.what.message.is_some_and(|(kind, _)| kind == message::APP_RESP));
    assert_eq!([2, 2], acks.unwrap().taken.map(|taken| taken.unwrap().count));
    let fsync = |part| {
        let of = |pair: &&Pair| (pair.what.stage, pair.what.part) == (Stage::WalFsync, part);
        diff.pairs.iter().find(of).unwrap().taken.map(|taken| taken.unwrap().count)
    };
    assert_eq!(([1, 1], [2, 2]), (fsync(Part::Leader), fsync(Part::Followers)));
}

#[test]
fn a_get_on_a_follower_asks_the_leader_and_one_on_the_leader_does_not() {
    let diff = diff(&recorded(), LEADER_GET, FOLLOWER_GET);
    let asks = [
        (1, "MsgReadIndex", Part::Followers, Part::Leader),
        (1, "MsgReadIndexResp", Part::Leader, Part::Followers),
    ];
    assert_eq!(asks, lone_messages(&diff)[..]);
    assert_eq!(vec![Difference::Asked], diff.differences);
    let consistency = diff.facts.each_ref().map(|facts| facts.consistency);
    assert_eq!([Some(Consistency::Linearizable); 2], consistency);
    let found = Some(Found { active: 1, frozen: 0, file: 0 });
    assert_eq!([found; 2], diff.facts.each_ref().map(|facts| facts.found));
}

#[test]
fn a_put_of_three_shared_the_fsync_that_another_had_for_itself() {
    let diff = diff(&recorded(), FOLLOWER_PUT, SHARED_PUT);
    assert_eq!(Difference::Fsync, diff.differences[0]);
    assert_eq!([Some(1), Some(3)], diff.facts.each_ref().map(|facts| facts.fsynced));
    let by = diff.facts.each_ref().map(|facts| facts.completed_by);
    assert_eq!([Some(Completed::Follower); 2], by);
    let apply =
        |pair: &&Pair| (pair.what.stage, pair.what.part) == (Stage::WalFsync, Part::Followers);
    let pair = diff.pairs.iter().find(apply).unwrap();
    let [a, b] = pair.taken.map(|taken| taken.unwrap().ns.unwrap());
    assert_eq!(NOTABLE <= a.abs_diff(b), pair.longer().is_some());
}

/// The least notable difference, in nanoseconds.
const NOTABLE: u64 = 100_000;

#[test]
fn the_waits_of_each_add_up_to_its_duration() {
    let recording = recorded();
    for a in ALL {
        for b in ALL {
            let diff = diff(&recording, a, b);
            let waited = diff.waited.unwrap();
            for at in [0, 1] {
                let sum: u64 = waited.iter().map(|waited| waited.ns[at]).sum();
                assert_eq!(diff.facts[at].took_ns, Some(sum));
            }
            let sizes: Vec<_> = waited.iter().map(|w| w.difference().abs()).collect();
            assert!(sizes.is_sorted_by(|a, b| b <= a));
        }
    }
}

#[test]
fn the_other_way_round_it_is_the_same() {
    let recording = recorded();
    for a in ALL {
        for b in ALL {
            let (there, back) = (diff(&recording, a, b), diff(&recording, b, a));
            assert_eq!(there.differences, back.differences);
            let [x, y] = back.facts;
            assert_eq!(there.facts, [y, x]);
            let swap = |pair: &Pair| (pair.what, [pair.taken[1], pair.taken[0]]);
            let mut swapped: Vec<_> = back.pairs.iter().map(swap).collect();
            let mut pairs: Vec<_> = there.pairs.iter().map(|p| (p.what, p.taken)).collect();
            swapped.sort_by_key(|(what, _)| *what);
            pairs.sort_by_key(|(what, _)| *what);
            assert_eq!(pairs, swapped);
            assert_eq!(a == b, there.pairs.iter().all(|pair| pair.taken[0] == pair.taken[1]));
        }
    }
}

#[test]
fn two_recordings_may_have_their_members_in_another_order() {
    let recording = recorded();
    let mut turned = recording.clone();
    turned.members.rotate_left(1);
    for event in &mut turned.events {
        event.member = (event.member + 2) % 3;
    }
    let same = diff_of([&recording, &turned], [FOLLOWER_PUT; 2]);
    assert_eq!(Vec::<Difference>::new(), same.differences);
    assert!(same.pairs.iter().all(|pair| pair.taken.iter().all(Option::is_some)));
    let put = diff_of([&recording, &turned], [FOLLOWER_PUT, LEADER_PUT]);
    assert_eq!(diff(&recording, FOLLOWER_PUT, LEADER_PUT).pairs.len(), put.pairs.len());
}

const GET: u64 = 0x9892_0000_0000_0105;

/// A read on the second member, with or without a round; its value is in the file or in a buffer.
fn get(script: &mut Script, id: u64, is_linearizable: bool, in_file: u64) {
    let range = METHODS.iter().position(|name| *name == "KV/Range").unwrap() as u64;
    let rpc = script.begin(1, Stage::Rpc, id);
    if is_linearizable {
        let wait = script.begin(1, Stage::ReadIndexWait, id);
        let round = script.begin(1, Stage::ReadIndexRound, id + 100);
        script.message((1, 0), message::READ_INDEX, id + 100, &[]);
        script.message((0, 2), message::HEARTBEAT, id + 100, &[]);
        script.message((2, 0), message::HEARTBEAT_RESP, id + 100, &[]);
        script.step(0, Stage::ReadIndexConfirmed, id + 100, &[("index", 42), ("acks", 2)]);
        script.message((0, 1), message::READ_INDEX_RESP, id + 100, &[]);
        script.end(round, &[("index", 42), ("reads", 1), ("attempt", 1)]);
        script.end(wait, &[("round", id + 100)]);
    }
    let places = [("active", 1 - in_file), ("misses", in_file)];
    script.step(1, Stage::BufferGet, id, &places);
    if in_file == 1 {
        script.step(1, Stage::BackendGet, id, &[("file", 1)]);
    }
    script.step(1, Stage::MvccRange, id, &[("keys", 1)]);
    script.end(rpc, &[("method", range)]);
}

#[test]
fn a_serializable_read_has_no_round_and_the_last_keyframe_tells_the_role_of_its_member() {
    let mut script = Script::new();
    for (role, id) in [(0, GET), (2, GET + 2)] {
        script.step(1, Stage::Keyframe, 0, &[("role", role)]);
        get(&mut script, id, false, 0);
    }
    get(&mut script, GET + 4, true, 0);
    let recording = script.recording;
    let compared = diff(&recording, GET + 4, GET);
    assert_eq!(vec![Difference::Consistency], compared.differences);
    assert_eq!(Some(Consistency::Serializable), compared.facts[1].consistency);
    assert!(compared.pairs.iter().all(|pair| pair.taken[0].is_some()), "nothing is only in B");
    let lone = compared.pairs.iter().filter(|pair| pair.taken[1].is_none());
    let stages: Vec<Stage> = lone.map(|pair| pair.what.stage).collect();
    for stage in [Stage::ReadIndexWait, Stage::ReadIndexRound, Stage::ReadIndexConfirmed] {
        assert_eq!(1, stages.iter().filter(|other| **other == stage).count(), "{stages:?}");
    }
    let roles = [GET, GET + 2].map(|id| diff(&recording, id, id).facts[0].is_leader);
    assert_eq!([Some(false), Some(true)], roles);
}

#[test]
fn a_read_of_the_file_has_a_step_more_which_comes_where_it_was() {
    let mut script = Script::new();
    get(&mut script, GET, false, 0);
    get(&mut script, GET + 2, false, 1);
    let compared = diff(&script.recording, GET, GET + 2);
    assert_eq!(vec![Difference::Found], compared.differences);
    assert_eq!(None, compared.facts[0].is_leader, "neither a keyframe nor the story tells");
    let stages: Vec<Stage> = compared.pairs.iter().map(|pair| pair.what.stage).collect();
    assert_eq!([Stage::BufferGet, Stage::BackendGet, Stage::MvccRange, Stage::Rpc], stages[..]);
    let lone: Vec<Stage> = (compared.pairs.iter())
        .filter(|pair| pair.taken[0].is_none())
        .map(|pair| pair.what.stage)
        .collect();
    assert_eq!(vec![Stage::BackendGet], lone);
}

#[test]
fn a_step_without_an_end_has_no_duration_and_no_difference() {
    let mut recording = recorded();
    let is_end = |event: &Event| event.id == FOLLOWER_GET && event.kind == Kind::Span;
    recording.events.retain(|event| event.stage != Stage::Rpc || !is_end(event));
    let compared = diff(&recording, FOLLOWER_GET, LEADER_GET);
    assert_eq!(None, compared.waited);
    assert_eq!((None, None), (compared.facts[0].code, compared.facts[0].took_ns));
    assert_eq!(Some(Outcome::Open), compared.facts[0].outcome, "nothing says that it has ended");
    assert_eq!(vec![Difference::Result, Difference::Asked], compared.differences);
    let rpc = compared.pairs.iter().find(|pair| pair.what.stage == Stage::Rpc).unwrap();
    assert_eq!((None, None), (rpc.taken[0].unwrap().ns, rpc.longer()));
}
