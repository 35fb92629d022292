mod ahead;
mod causes;
mod cluster;
mod diff;
mod edge;
mod elections;
mod ended;
mod hops;
mod hours;
mod leaders;
mod repair;
mod replaced;
mod silence;
mod slow;
mod stories;
mod unbegun;
mod words;

use super::*;
use crate::{
    story::{BootInfo, MemberInfo, recording},
    trace::{
        message,
        record::{FLAG_KEPT, Kind},
        stage::METHODS,
    },
};

const PUT: u64 = 0x9892_0000_0000_0003;
const INDEX: u64 = 42;

/// A recording of a real cluster of three members, led by etcd-02.
const PUTS_AND_GETS: &str = include_str!("../../../tests/recordings/puts_and_gets.ndjson");
/// A put and a get in it, served by etcd-01, a follower.
const FOLLOWER_PUT: u64 = 0x0ae2_a1fd_5979_a505;
const FOLLOWER_GET: u64 = 0x0ae2_a1fd_5979_a507;
/// A put and a get served by the leader.
const LEADER_PUT: u64 = 0xb98e_a1fd_5979_f40b;
const LEADER_GET: u64 = 0xb98e_a1fd_5979_f40d;
/// One of three simultaneous puts to etcd-03, the other follower.
const SHARED_PUT: u64 = 0x561f_a1fd_5979_ce0d;
const ALL: [u64; 5] = [FOLLOWER_PUT, FOLLOWER_GET, LEADER_PUT, LEADER_GET, SHARED_PUT];

fn recorded() -> Recording {
    recording::read(PUTS_AND_GETS.as_bytes()).unwrap().recording
}

/// Builds the records of three members, with clocks set by the test.
struct Script {
    recording: Recording,
    clocks: [u64; 3],
    now_ns: u64,
    link: u64,
}

impl Script {
    fn new() -> Script {
        let members = (1..=3)
            .map(|member| MemberInfo {
                member_id: member,
                cluster_id: 9,
                name: format!("etcd-0{member}"),
                version: "0.1.0".to_owned(),
                boots: vec![BootInfo { boot: 1, wall_ns: 1_000_000_000 }],
                members: Vec::new(),
            })
            .collect();
        let recording = Recording { members, events: Vec::new(), dropped: vec![0; 3] };
        Script { recording, clocks: [10; 3], now_ns: 0, link: 0 }
    }

    fn step(&mut self, member: u8, stage: Stage, id: u64, fields: &[(&str, u64)]) -> usize {
        self.now_ns += 1000;
        let clock = &mut self.clocks[usize::from(member)];
        *clock += 2;
        self.recording.events.push(Event {
            kind: Kind::Span,
            flags: FLAG_KEPT,
            clock_end: *clock,
            at_ns: self.now_ns - 500,
            took_ns: 500,
            id,
            ..Event::mark(member, stage, *clock - 1).with(fields)
        });
        self.recording.events.len() - 1
    }

    fn begin(&mut self, member: u8, stage: Stage, id: u64) -> usize {
        let at = self.step(member, stage, id, &[]);
        let event = &mut self.recording.events[at];
        (event.kind, event.clock_end, event.took_ns) = (Kind::Begin, event.clock, 0);
        at
    }

    /// Ends a step that has begun; the record of the end.
    fn end(&mut self, begin: usize, fields: &[(&str, u64)]) -> usize {
        let Event { member, stage, id, clock, at_ns, .. } = self.recording.events[begin];
        let at = self.step(member, stage, id, fields);
        let event = &mut self.recording.events[at];
        event.took_ns = event.at_ns + event.took_ns - at_ns;
        (event.clock, event.at_ns) = (clock, at_ns);
        at
    }

    fn message(&mut self, (from, to): (u8, u8), kind: u64, id: u64, fields: &[(&str, u64)]) {
        self.link += 1;
        for (own, peer, stage) in [(from, to, Stage::RaftSend), (to, from, Stage::RaftReceive)] {
            let mut all = vec![("type", kind), ("peer", u64::from(peer) + 1)];
            all.extend(fields);
            let at = self.step(own, stage, id, &all);
            self.recording.events[at].link = self.link;
        }
    }

    fn disk(&mut self, member: u8, first: u64, last: u64) {
        let range = [("first", first), ("last", last)];
        self.step(member, Stage::WalWrite, 0, &range);
        let begin = self.begin(member, Stage::WalFsync, 0);
        self.end(begin, &range);
    }

    fn applies(&mut self, member: u8, index: u64, id: u64) {
        let index = [("term", 3), ("index", index)];
        self.step(member, Stage::ApplyEntry, id, &index);
        self.step(member, Stage::MvccWrite, id, &[]);
        self.step(member, Stage::TreeIndexPut, id, &[]);
        self.step(member, Stage::BufferPut, id, &[]);
    }

    fn replicates(&mut self, id: u64, index: u64) {
        let entry = [("term", 3), ("index", index)];
        self.step(0, Stage::RaftEntry, id, &entry);
        for peer in [1, 2] {
            let carries = [("index", index - 1), ("last", index), ("commit", index - 1)];
            self.message((0, peer), message::APP, 0, &carries);
        }
        self.disk(0, index, index);
        for peer in [1, 2] {
            self.step(peer, Stage::RaftEntry, id, &entry);
            self.disk(peer, index, index);
            self.message((peer, 0), message::APP_RESP, 0, &[("index", index)]);
            let matched =
                [("peer", u64::from(peer) + 1), ("match.old", index - 1), ("match.new", index)];
            self.step(0, Stage::RaftProgress, 0, &matched);
        }
        let commit = [("commit.old", index - 1), ("commit.new", index)];
        self.step(0, Stage::RaftCommit, 0, &commit);
        for peer in [1, 2] {
            self.message((0, peer), message::HEARTBEAT, 0, &[("commit", index)]);
            self.step(peer, Stage::RaftCommit, 0, &commit);
        }
    }

    /// A put served by the second member, between two unrelated ones.
    fn put_on_a_follower() -> Script {
        let mut script = Script::new();
        script.replicates(1, INDEX - 1);
        let rpc = script.begin(1, Stage::Rpc, PUT);
        script.step(1, Stage::QuotaCheck, PUT, &[]);
        let propose = script.begin(1, Stage::RaftPropose, PUT);
        script.step(1, Stage::RaftInbox, PUT, &[]);
        script.message((1, 0), message::PROP, 0, &[]);
        script.message((1, 0), message::PROP, 0, &[]);
        script.replicates(PUT, INDEX);
        script.replicates(5, INDEX + 1);
        for member in 0..3 {
            script.applies(member, INDEX, PUT);
        }
        script.end(propose, &[]);
        script.end(rpc, &[("method", 2), ("revision", 8)]);
        for member in 0..3 {
            script.step(member, Stage::BufferFreeze, 0, &[("index", INDEX + 1)]);
            let index = [("index.old", 7), ("index.new", INDEX + 1)];
            script.step(member, Stage::BackendCommit, 0, &index);
            let index = [("index.old", INDEX + 1), ("index.new", INDEX + 9)];
            script.step(member, Stage::BackendCommit, 0, &index);
        }
        script
    }
}

fn story_of(recording: &Recording, id: u64) -> Story {
    Story::of(recording, &Order::of(recording), id).expect("something of it was captured")
}

fn count(recording: &Recording, story: &Story, member: u8, stage: Stage) -> usize {
    let steps = story.steps.iter().map(|step| &recording.events[step.event]);
    steps.filter(|e| (e.member, e.stage) == (member, stage) && e.kind != Kind::Begin).count()
}

#[test]
fn the_story_of_a_put_on_a_follower_has_each_step_once() {
    let Script { recording, .. } = Script::put_on_a_follower();
    let story = story_of(&recording, PUT);
    for member in 0..3 {
        for stage in [
            Stage::RaftEntry,
            Stage::WalWrite,
            Stage::WalFsync,
            Stage::RaftCommit,
            Stage::ApplyEntry,
            Stage::MvccWrite,
            Stage::TreeIndexPut,
            Stage::BufferPut,
            Stage::BufferFreeze,
            Stage::BackendCommit,
        ] {
            assert_eq!(1, count(&recording, &story, member, stage), "{} on {member}", stage.name());
        }
    }
    let own = [Stage::Rpc, Stage::QuotaCheck, Stage::RaftPropose, Stage::RaftInbox];
    for stage in own {
        let counts = [0, 1, 2].map(|member| count(&recording, &story, member, stage));
        assert_eq!([0, 1, 0], counts, "{}", stage.name());
    }
    assert_eq!(2, count(&recording, &story, 0, Stage::RaftProgress));
    // To each follower the entry and its commit index; from each an acknowledgement; and the
    // proposal.
    let sends = [0, 1, 2].map(|member| count(&recording, &story, member, Stage::RaftSend));
    let receives = [0, 1, 2].map(|member| count(&recording, &story, member, Stage::RaftReceive));
    assert_eq!(([4, 2, 1], [3, 2, 2]), (sends, receives));
    assert_eq!(Some((3, INDEX)), story.entry);
    assert_eq!(Vec::<Missing>::new(), story.missing);
    assert_eq!("KV/Put", story.title.split(' ').next().unwrap_or(""));
}

#[test]
fn every_step_carries_the_entry_and_not_its_neighbours() {
    let Script { recording, .. } = Script::put_on_a_follower();
    let story = story_of(&recording, PUT);
    for step in &story.steps {
        let event = &recording.events[step.event];
        if matches!(event.stage, Stage::WalFsync | Stage::WalWrite) && event.kind == Kind::Span {
            assert_eq!(INDEX, field!(event, WalWrite | WalFsync, first));
        }
        let is_message = matches!(event.stage, Stage::RaftSend | Stage::RaftReceive);
        if is_message && field!(event, RaftSend | RaftReceive, type) == message::APP {
            assert_eq!(INDEX, field!(event, RaftSend | RaftReceive, last));
        }
    }
}

#[test]
fn the_story_is_in_playback_order_from_rpc_to_backend() {
    let Script { recording, .. } = Script::put_on_a_follower();
    let story = story_of(&recording, PUT);
    let first = &recording.events[story.steps[0].event];
    assert_eq!((Stage::Rpc, Kind::Begin), (first.stage, first.kind));
    let at = |stage, member, kind| {
        let is = |event: &Event| (event.stage, event.member, event.kind) == (stage, member, kind);
        story.steps.iter().position(|step| is(&recording.events[step.event])).unwrap()
    };
    let span = |stage, member| at(stage, member, Kind::Span);
    assert!(span(Stage::RaftEntry, 0) < span(Stage::RaftEntry, 2));
    assert!(at(Stage::WalFsync, 2, Kind::Begin) < span(Stage::WalFsync, 2));
    assert!(span(Stage::RaftCommit, 0) < span(Stage::RaftCommit, 1));
    assert!(span(Stage::ApplyEntry, 1) < span(Stage::Rpc, 1));
    assert!(span(Stage::Rpc, 1) < span(Stage::BackendCommit, 1));
}

#[test]
fn steps_that_were_not_captured_are_unknown() {
    let Script { mut recording, .. } = Script::put_on_a_follower();
    recording.events.retain(|e| (e.member, e.stage) != (2, Stage::WalFsync));
    let story = story_of(&recording, PUT);
    let expected = Missing { member: 2, stage: Stage::WalFsync, not_by: None, is_never: false };
    assert_eq!(vec![expected], story.missing);
}

#[test]
fn a_receive_whose_send_was_lost_is_still_in_the_story() {
    let Script { mut recording, .. } = Script::put_on_a_follower();
    recording.events.retain(|e| !(e.member == 0 && e.stage == Stage::RaftSend));
    let story = story_of(&recording, PUT);
    assert_eq!(2, count(&recording, &story, 2, Stage::RaftReceive));
}

#[test]
fn a_read_points_to_its_round_and_the_round_to_its_messages() {
    const GET: u64 = 0x9892_0000_0000_0005;
    const ROUND: u64 = 0x9892_0000_0000_0007;
    let mut script = Script::new();
    let rpc = script.begin(1, Stage::Rpc, GET);
    let wait = script.begin(1, Stage::ReadIndexWait, GET);
    let round = script.begin(1, Stage::ReadIndexRound, ROUND);
    script.message((1, 0), message::READ_INDEX, ROUND, &[]);
    for id in [ROUND, 99] {
        script.message((0, 2), message::HEARTBEAT, id, &[]);
        script.message((2, 0), message::HEARTBEAT_RESP, id, &[]);
    }
    script.step(0, Stage::ReadIndexConfirmed, ROUND, &[("index", 42)]);
    script.message((0, 1), message::READ_INDEX_RESP, ROUND, &[]);
    script.end(round, &[("index", 42)]);
    script.end(wait, &[("round", ROUND)]);
    script.step(1, Stage::MvccRange, GET, &[]);
    script.end(rpc, &[("method", 1)]);
    let recording = script.recording;
    let story = story_of(&recording, GET);
    let messages = [0, 1, 2].map(|member| count(&recording, &story, member, Stage::RaftSend));
    assert_eq!([2, 1, 1], messages);
    assert_eq!(1, count(&recording, &story, 0, Stage::ReadIndexConfirmed));
    assert_eq!(1, count(&recording, &story, 1, Stage::ReadIndexRound));
    assert_eq!((None, vec![]), (story.entry, story.missing));
}

/// Goal: the attempt that was answered is named, not the one that was open then. Method: the second
/// attempt ends with the answer to the first, and the leader confirms the second later.
#[test]
fn a_round_that_an_earlier_attempt_answered_names_that_attempt() {
    const GET: u64 = 0x9892_0000_0000_0005;
    const FIRST: u64 = 0x9892_0000_0000_0007;
    const SECOND: u64 = 0x9892_0000_0000_0009;
    let mut script = Script::new();
    let rpc = script.begin(0, Stage::Rpc, GET);
    let wait = script.begin(0, Stage::ReadIndexWait, GET);
    let first = script.begin(0, Stage::ReadIndexRound, FIRST);
    script.end(first, &[("attempt", 1)]);
    let second = script.begin(0, Stage::ReadIndexRound, SECOND);
    script.recording.events[second].link = FIRST;
    let confirmed = script.step(0, Stage::ReadIndexConfirmed, FIRST, &[("index", 42)]);
    let answer = [("attempt", 2), ("index", 42), ("answered", FIRST)];
    let ended = script.end(second, &answer);
    script.recording.events[ended].link = FIRST;
    script.end(wait, &[("round", FIRST)]);
    script.step(0, Stage::ReadIndexConfirmed, SECOND, &[("index", 42)]);
    script.end(rpc, &[("method", 1)]);
    let recording = script.recording;
    let story = story_of(&recording, GET);
    let order = Order::of(&recording);
    let round = graph::Graph::of(&recording, &order, &story).round.unwrap();
    assert_eq!(
        (FIRST, Some(ended), Some(confirmed)),
        (round.attempt, round.event, round.confirmed)
    );
}

#[test]
fn the_list_has_each_request_once_with_its_end() {
    let Script { mut recording, .. } = Script::put_on_a_follower();
    let hangs =
        Event { id: 4, ..recording.events.iter().find(|e| e.stage == Stage::Rpc).unwrap().clone() };
    recording.events.push(hangs);
    let list = requests(&recording);
    let expected = [(PUT, "KV/Put", Some(0)), (4, "unknown", None)];
    let found: Vec<_> = list.iter().map(|r| (r.id, r.method, r.code)).collect();
    assert_eq!(expected.as_slice(), found);
    assert!(list[0].took_ns.is_some());
}

#[test]
fn the_list_has_the_end_of_a_request_and_its_key_from_any_of_its_steps() {
    let Script { mut recording, .. } = Script::put_on_a_follower();
    let put = recording.events.iter_mut().find(|e| e.stage == Stage::TreeIndexPut).unwrap();
    put.key = Some(KeyText { bytes: b"foo".to_vec(), length: 3 });
    let list = requests(&recording);
    assert_eq!(Some("foo".to_owned()), list[0].key.as_ref().map(KeyText::display));
    let end = list[0].end.map(|at| &recording.events[at]);
    assert_eq!(Some(8), end.map(|end| field!(end, Rpc, revision)));
    recording.events.retain(|event| event.stage != Stage::Rpc || event.kind == Kind::Begin);
    assert_eq!((None, None), (requests(&recording)[0].end, requests(&recording)[0].code));
}

/// The records of members 1 and 2 when the second has become the leader after the put.
fn elect_another(script: &mut Script) {
    for member in [1, 2] {
        let role = [("term.old", 3), ("term.new", 4), ("leader.new", 2)];
        script.step(member, Stage::RaftRole, 0, &role);
    }
    let first = INDEX + 2;
    let carries = [("index", first - 1), ("last", first), ("commit", INDEX + 1)];
    script.message((1, 2), message::APP, 0, &carries);
    script.message((2, 1), message::APP_RESP, 0, &[("index", first)]);
    let matched = [("peer", 3), ("match.old", 0), ("match.new", first)];
    script.step(1, Stage::RaftProgress, 0, &matched);
}

#[test]
fn messages_of_a_new_leader_are_not_in_the_story_of_an_earlier_commit() {
    let mut script = Script::put_on_a_follower();
    let before = story_of(&script.recording, PUT);
    elect_another(&mut script);
    assert_eq!(before, story_of(&script.recording, PUT));
}

#[test]
fn a_later_proposal_of_a_former_leader_is_not_that_of_its_own_put() {
    let mut script = Script::new();
    let propose = script.step(0, Stage::RaftPropose, PUT, &[("leader", 1)]);
    script.replicates(PUT, INDEX);
    script.message((0, 1), message::PROP, 99, &[]);
    let story = story_of(&script.recording, PUT);
    assert!(story.steps.iter().any(|step| step.event == propose));
    assert_eq!(4, count(&script.recording, &story, 0, Stage::RaftSend));
}

#[test]
fn an_entry_that_another_has_replaced_has_no_later_steps_and_nothing_of_it_is_missing() {
    let mut script = Script::new();
    script.step(0, Stage::RaftEntry, PUT, &[("term", 3), ("index", INDEX)]);
    script.disk(0, INDEX, INDEX);
    let lost = script.recording.events.len();
    let other = [("term", 4), ("index", INDEX)];
    for member in [1, 2, 0] {
        // The old leader learns of the commit together with the entry.
        let commit = [("commit.old", INDEX - 1), ("commit.new", INDEX)];
        script.step(member, Stage::RaftCommit, 0, &commit);
        script.step(member, Stage::RaftEntry, 0, &other);
        script.disk(member, INDEX, INDEX);
        script.step(member, Stage::BackendCommit, 0, &[("index.new", INDEX)]);
    }
    let story = story_of(&script.recording, PUT);
    assert!(story.is_lost);
    assert_eq!((vec![], vec![]), (story.missing, story.unheard));
    assert!(story.steps.iter().all(|step| step.event < lost));
    assert_eq!(lost, story.steps.len());
}

#[test]
fn an_entry_that_is_proposed_again_and_comes_to_the_same_index_is_not_lost() {
    let mut script = Script::new();
    // The first copy, which its leader took along.
    script.step(0, Stage::RaftEntry, PUT, &[("term", 2), ("index", INDEX)]);
    script.disk(0, INDEX, INDEX);
    for member in [1, 2, 0] {
        script.step(member, Stage::RaftEntry, PUT, &[("term", 3), ("index", INDEX)]);
        script.disk(member, INDEX, INDEX);
        let commit = [("commit.old", INDEX - 1), ("commit.new", INDEX)];
        script.step(member, Stage::RaftCommit, 0, &commit);
        script.step(member, Stage::ApplyEntry, PUT, &[("term", 3), ("index", INDEX)]);
    }
    let story = story_of(&script.recording, PUT);
    assert_eq!((Some((3, INDEX)), false), (story.entry, story.is_lost));
}

#[test]
fn a_follower_may_hear_of_the_commit_before_its_entry_has_a_place() {
    let mut script = Script::put_on_a_follower();
    let is_commit = |event: &Event| {
        event.stage == Stage::RaftCommit && field!(event, RaftCommit, commit_new) == INDEX
    };
    let at = |event: &Event, stage| event.member == 2 && event.id == PUT && event.stage == stage;
    let events = &mut script.recording.events;
    let entry = events.iter().find(|event| at(event, Stage::RaftEntry)).unwrap().clone();
    let commit = events.iter_mut().find(|event| event.member == 2 && is_commit(event)).unwrap();
    (commit.clock, commit.clock_end) = (entry.clock - 1, entry.clock - 1);
    let story = story_of(&script.recording, PUT);
    assert_eq!(1, count(&script.recording, &story, 2, Stage::RaftCommit));
    assert_eq!(Vec::<Missing>::new(), story.missing);
}

#[test]
fn a_member_without_records_is_named() {
    let Script { mut recording, .. } = Script::put_on_a_follower();
    recording.members.pop();
    recording.events.retain(|event| event.member != 2);
    let story = story_of(&recording, PUT);
    assert_eq!((vec![3], vec![]), (story.unheard, story.missing));
}

/// Goal: a watcher that caught up is joined to the writes that it certainly received, and to no
/// other. Method: three puts, and a watcher that received at least the first and the last of them.
#[test]
fn a_watcher_that_caught_up_is_joined_by_the_revisions_at_its_ends() {
    let mut script = Script::new();
    for number in 0..3 {
        let (id, index) = (PUT + 2 * number, INDEX + number);
        script.step(0, Stage::RaftEntry, id, &[("term", 3), ("index", index)]);
        script.step(0, Stage::ApplyEntry, id, &[("term", 3), ("index", index)]);
        let revisions = [("revision.old", 10 + number), ("revision.new", 11 + number)];
        script.step(0, Stage::MvccWrite, id, &revisions);
    }
    let sent = [("watcher", 4), ("first", 11), ("last", 13), ("events", 2), ("path", 1)];
    let sent = script.step(0, Stage::WatchSend, 0x77, &sent);
    let order = Order::of(&script.recording);
    for (number, is_sure) in [(0, true), (1, false), (2, true)] {
        let story = Story::of(&script.recording, &order, PUT + 2 * number).unwrap();
        assert_eq!(is_sure, story.steps.iter().any(|step| step.event == sent));
        assert_eq!(is_sure, !story.maybe_told.contains(&sent));
        let graph = graph::Graph::of(&script.recording, &order, &story);
        let heard: Vec<_> = graph.heard.iter().map(|who| (who.watcher, who.path)).collect();
        assert_eq!(heard, if is_sure { vec![(4, Some(1))] } else { vec![] });
    }
}

/// Goal: the story names the members that left out steps, unless the request was chosen beforehand.
#[test]
fn steps_that_were_left_out_under_load_are_told_of_requests_that_were_kept_afterwards() {
    let briefly = |id: u64, before: &[u64], during: &[u64]| {
        let mut script = Script::new();
        before.iter().for_each(|on| _ = script.step(0, Stage::Brief, 0, &[("on", *on)]));
        let rpc = script.begin(0, Stage::Rpc, id);
        during.iter().for_each(|on| _ = script.step(0, Stage::Brief, 0, &[("on", *on)]));
        script.end(rpc, &[("method", 2)]);
        script.step(0, Stage::Brief, 0, &[("on", 1)]);
        script.step(1, Stage::RaftEntry, id, &[("term", 3), ("index", INDEX)]);
        story_of(&script.recording, id).brief
    };
    let (late, chosen) = (1 << 48 | 4, 1 << 48 | 5);
    assert_eq!(vec![0], briefly(late, &[0, 1], &[]));
    assert_eq!(vec![0], briefly(late, &[1, 0], &[1]));
    assert_eq!(vec![0], briefly(late, &[1], &[0]));
    assert_eq!(Vec::<u8>::new(), briefly(late, &[1, 0], &[]));
    assert_eq!(Vec::<u8>::new(), briefly(late, &[], &[]));
    assert_eq!(Vec::<u8>::new(), briefly(chosen, &[1], &[]));
}
