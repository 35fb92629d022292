//! What a request lived through whose end was not captured, and which of its steps had not happened
//! yet.

use super::{
    cluster::{FOLLOWER, LEADER, MS, Turn},
    *,
};
use crate::story::query::{
    cluster::Because,
    graph::Graph,
    path::{Wait, critical_path},
    slow::{Causes, Window},
    through::{Ended, Fate, Through},
};

fn through_of(recording: &Recording) -> Through {
    let order = Order::of(recording);
    let story = Story::of(recording, &order, PUT).unwrap();
    Graph::of(recording, &order, &story).through
}

impl Script {
    fn frame(&mut self, member: u8, fields: &[(&str, u64)]) -> usize {
        let at = self.step(member, Stage::Keyframe, 0, fields);
        self.recording.events[at].kind = Kind::Keyframe;
        at
    }

    /// From here on all of a member is of its second start.
    fn starts_again(&mut self, member: u8) {
        self.step(member, Stage::MemberStart, 0, &[]);
        let of_member = &mut self.recording.members[usize::from(member)];
        of_member.boots.push(BootInfo { boot: 2, wall_ns: 1_000_000_000 });
    }
}

/// Members 1 and `serving` die at 350 ms, with a put under way, and start again at 3 s; member 2
/// wins term 4 then, and all go on until 40 s.
fn with_two_killed(serving: u8) -> (Script, usize) {
    let mut script = Script::new();
    script.turn(0, &Turn { role: [FOLLOWER, LEADER], term: [2, 3], leader: [0, 1] });
    script.beat(0, 3);
    script.begin(serving, Stage::Rpc, PUT);
    script.step(serving, Stage::RaftInbox, PUT, &[]);
    script.now_ns = 350 * MS;
    let last = script.frame(serving, &[("term", 3)]);
    script.now_ns = 3_000 * MS;
    let again = script.recording.events.len();
    for member in [0, 2] {
        script.starts_again(member);
    }
    script.wins(4, 1);
    script.beat(1, 4);
    script.now_ns = 40_000 * MS;
    (0..3).for_each(|member| _ = script.frame(member, &[("term", 4)]));
    for event in &mut script.recording.events[again..] {
        event.boot = if event.member == 1 { 1 } else { 2 };
    }
    (script, last)
}

#[test]
fn a_request_ends_with_the_process_that_serves_it_and_waits_for_no_leader_after_that() {
    let (script, last) = with_two_killed(2);
    let through = through_of(&script.recording);
    let at = Order::of(&script.recording).times[last];
    assert_eq!((Some(Ended { member: 2, next: 2, at }), at), (through.ended, through.to));
    let [without] = through.without[..] else { panic!("{through:?}") };
    assert_eq!((1, Fate::Died(2), false), (without.gap.before, without.fate, without.is_its_end));
    let lived = u64::try_from(without.to - without.from).unwrap();
    assert!((340 * MS..351 * MS).contains(&lived), "{without:?}");
    assert!(through.starts.is_empty(), "they came later: {through:?}");
}

#[test]
fn a_request_that_dies_with_its_leader_is_told_with_the_next_one() {
    let (script, _) = with_two_killed(0);
    let through = through_of(&script.recording);
    let [without] = through.without[..] else { panic!("{through:?}") };
    assert_eq!(
        (Fate::Died(2), Some((2, 4)), true),
        (without.fate, without.next, without.is_its_end)
    );
    assert!(without.to - without.from <= 350 * i128::from(MS), "{without:?}");
    assert_eq!(Some(0), through.ended.map(|ended| ended.member));
}

/// Goal: as long as the process runs, the request waits. Method: the put of a living follower; its
/// leader died and is not replaced.
#[test]
fn a_request_that_is_still_under_way_lasts_until_now() {
    let mut script = Script::new();
    script.beat(0, 3);
    script.begin(2, Stage::Rpc, PUT);
    script.now_ns = 1_500 * MS;
    let timeout = [("term", 3), ("leader", 1), ("silent", 1_490 * MS)];
    script.step(2, Stage::ElectionTimeout, 0, &timeout);
    script.now_ns = 5_000 * MS;
    script.frame(2, &[("term", 3)]);
    let through = through_of(&script.recording);
    let [without] = through.without[..] else { panic!("{through:?}") };
    assert_eq!(None, through.ended);
    assert!(4_980 * i128::from(MS) <= without.to - without.from, "{without:?}");
}

/// Goal: a leader leads until it steps down, though somebody missed it long before and heard of it
/// again. Method: a put to a leader whose followers are stopped.
#[test]
fn a_leader_that_was_missed_once_and_heard_again_is_not_silent() {
    let mut script = Script::new();
    script.turn(0, &Turn { role: [FOLLOWER, LEADER], term: [2, 3], leader: [0, 1] });
    // It starts, and hears of no leader yet.
    script.step(1, Stage::ElectionTimeout, 0, &[("term", 3)]);
    script.now_ns = 100 * MS;
    script.beat(0, 3);
    let rpc = script.begin(0, Stage::Rpc, PUT);
    let propose = script.begin(0, Stage::RaftPropose, PUT);
    script.step(0, Stage::RaftInbox, PUT, &[]);
    script.step(0, Stage::RaftEntry, PUT, &[("term", 3), ("index", INDEX)]);
    script.now_ns = 1_100 * MS;
    script.frame(0, &[("term", 3)]);
    assert_eq!(0, through_of(&script.recording).without.len(), "it leads");
    script.turn(0, &Turn { role: [LEADER, FOLLOWER], term: [3; 2], leader: [1, 0] });
    script.now_ns = 7_000 * MS;
    for begin in [propose, rpc] {
        let end = script.end(begin, &[]);
        script.recording.events[end].result = 14;
    }
    let order = Order::of(&script.recording);
    let story = Story::of(&script.recording, &order, PUT).unwrap();
    let graph = Graph::of(&script.recording, &order, &story);
    let [without] = graph.through.without[..] else { panic!("{:?}", graph.through) };
    assert_eq!(Fate::SteppedDown(Because::NoMajority), without.fate);
    let path = critical_path(&script.recording, &order, &story, &graph).unwrap();
    let of = |wait| path.iter().filter(|one| one.wait == wait).map(|one| one.ns / MS).sum::<u64>();
    assert_eq!([0, 5_900], [Wait::SilentLeader, Wait::NoLeader].map(of), "{path:#?}");
}

/// Goal: what had not happened is not called missing. Method: a put that its leader has on disk
/// alone, with and without a later record of the commit index, and after a restart.
#[test]
fn a_commit_that_had_not_happened_is_told_apart_from_one_that_was_not_captured() {
    let not_by = |script: &Script| {
        let story = story_of(&script.recording, PUT);
        let of = |stage, member| {
            let is_it = |one: &&Missing| (one.stage, one.member) == (stage, member);
            story.missing.iter().find(is_it).unwrap().not_by
        };
        [(Stage::RaftCommit, 0), (Stage::RaftCommit, 1), (Stage::Rpc, 0)].map(|(s, m)| of(s, m))
    };
    let mut script = Script::new();
    script.begin(0, Stage::Rpc, PUT);
    script.step(0, Stage::RaftEntry, PUT, &[("term", 3), ("index", INDEX)]);
    script.disk(0, INDEX, INDEX);
    let newest = script.recording.events.len() - 1;
    assert_eq!([None, None, Some(newest)], not_by(&script));
    let frame = script.frame(0, &[("term", 3), ("commit", INDEX - 1)]);
    assert_eq!([Some(frame), None, Some(frame)], not_by(&script));
    let mut lost = Script { recording: script.recording.clone(), ..script };
    lost.recording.dropped[0] = 1;
    assert_eq!([None, None, Some(frame)], not_by(&lost), "a lost record may say so");
    lost.recording.dropped[0] = 0;
    let again = lost.frame(0, &[("term", 4), ("commit", INDEX - 1)]);
    lost.recording.events[again].boot = 2;
    assert_eq!([None, None, Some(frame)], not_by(&lost), "it may have happened before the start");
    let commits = lost.frame(1, &[("term", 4), ("commit", INDEX)]);
    assert_eq!(None, not_by(&lost)[1], "{commits}: it has happened");
}

/// Goal: a message that would have carried the entry is a step of its story, and no other is.
#[test]
fn a_dropped_message_with_the_entry_is_a_step_of_the_put() {
    let mut script = Script::new();
    script.begin(0, Stage::Rpc, PUT);
    let drop = |script: &mut Script, (peer, index, last): (u64, u64, u64)| {
        let fields = [("peer", peer), ("type", message::APP), ("term", 3), ("messages", 1)];
        let range = [("index", index), ("last", last), ("cut", 1)];
        let all: Vec<(&str, u64)> = fields.into_iter().chain(range).collect();
        script.step(0, Stage::RaftDrop, 0, &all)
    };
    drop(&mut script, (2, INDEX - 2, INDEX - 1));
    script.step(0, Stage::RaftEntry, PUT, &[("term", 3), ("index", INDEX)]);
    let own = [drop(&mut script, (2, INDEX - 1, INDEX)), drop(&mut script, (3, INDEX - 1, INDEX))];
    drop(&mut script, (2, INDEX - 1, INDEX));
    drop(&mut script, (3, INDEX, INDEX + 1));
    let story = story_of(&script.recording, PUT);
    let is_drop = |at: &usize| script.recording.events[*at].stage == Stage::RaftDrop;
    let told: Vec<usize> = story.steps.iter().map(|step| step.event).filter(is_drop).collect();
    assert_eq!(own[..], told);
}

/// Goal: a put that took effect is listed though its member was killed. Method: the put of a member
/// of which no record is left.
#[test]
fn a_put_whose_member_was_killed_is_listed_with_the_key_that_the_others_know() {
    let Script { mut recording, .. } = Script::put_on_a_follower();
    recording.members[1].member_id = 0x77 << 16 | PUT >> 48;
    let key = Some(KeyText { bytes: b"foo".to_vec(), length: 3 });
    let is_put = |event: &&mut Event| (event.stage, event.id) == (Stage::TreeIndexPut, PUT);
    recording.events.iter_mut().filter(is_put).for_each(|event| event.key.clone_from(&key));
    recording.events.retain(|event| event.member != 1);
    let [put] = &requests(&recording)[..] else { panic!("{:?}", requests(&recording)) };
    assert_eq!((PUT, 1, "unknown"), (put.id, put.member, put.method));
    assert_eq!((false, false, None), (put.has_rpc, put.is_open, put.code));
    assert_eq!(key, put.key);
    assert_eq!("a write of foo, its rpc not captured", story_of(&recording, PUT).title);
    let window = Window { last_ns: None, fresh_ns: 0 };
    let causes = Causes::of(&recording, &Order::of(&recording), window);
    assert_eq!((0, 1), (causes.ended, causes.open), "it is left out, and counted");
    recording.events.retain(|event| event.stage != Stage::ApplyEntry);
    assert!(requests(&recording).is_empty(), "nobody was seen applying it");
}
