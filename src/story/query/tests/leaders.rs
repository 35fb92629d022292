//! What a request is said to have lived through when its leader is lost, and what of that delayed
//! it.

use super::{
    cluster::{CANDIDATE, FOLLOWER, LEADER, MS, Turn},
    *,
};
use crate::story::query::{
    address::Address,
    cluster::{Because, Sign},
    diff::{Diff, Part, Side, What},
    graph::Graph,
    path::critical_path,
    through::{Fate, Through},
};

fn through_of(recording: &Recording) -> Through {
    let order = Order::of(recording);
    let story = Story::of(recording, &order, PUT).unwrap();
    Graph::of(recording, &order, &story).through
}

/// The second member wins term 4, the third one follows it, and the put that it serves ends.
fn win_and_answer(script: &mut Script, rpc: usize, propose: usize) {
    script.wins(4, 1);
    let learns = Turn { role: [FOLLOWER; 2], term: [3, 4], leader: [1, 2] };
    script.turn(2, &learns);
    script.message((1, 2), message::HEARTBEAT, 0, &[("term", 4)]);
    script.end(propose, &[]);
    script.end(rpc, &[]);
}

/// The leader of term 3 stands still from 100 ms to 2.2 s, with a put under way to the third
/// member; the second one wins term 4 at 900 ms.
fn with_a_stopped_leader() -> Script {
    let mut script = Script::new();
    script.beat(0, 3);
    let rpc = script.begin(2, Stage::Rpc, PUT);
    let propose = script.begin(2, Stage::RaftPropose, PUT);
    script.step(2, Stage::RaftInbox, PUT, &[]);
    // Nothing of this time was forgotten.
    script.frames(&[2], 900);
    win_and_answer(&mut script, rpc, propose);
    script.now_ns = 2_200 * MS;
    let stalled = script.step(0, Stage::ProcessStalled, 0, &[]);
    let event = &mut script.recording.events[stalled];
    (event.at_ns, event.took_ns) = (100 * MS, 2_100 * MS);
    script
}

/// Goal: what the old leader sends when it runs again is no sign of a leader to members of a later
/// term.
#[test]
fn a_leader_that_stood_still_is_lost_though_its_last_heartbeats_come_when_another_leads() {
    let mut script = with_a_stopped_leader();
    script.beat(0, 3);
    let through = through_of(&script.recording);
    let [without] = through.without[..] else { panic!("{through:?}") };
    assert_eq!((Fate::StoodStill, Some((2, 4))), (without.fate, without.next));
    assert_eq!(Some(Address::Election { term: 4, by: None }), without.election);
    assert!((890 * MS..910 * MS).contains(&u64::try_from(without.to - without.from).unwrap()));
}

/// Goal: one member's own records tell that the leader was lost, and who led at the latest.
#[test]
fn a_member_alone_tells_that_it_lost_its_leader_and_followed_another() {
    let mut script = with_a_stopped_leader();
    script.recording.events.retain(|event| event.member == 2);
    let through = through_of(&script.recording);
    let [without] = through.without[..] else { panic!("{through:?}") };
    assert_eq!((1, Fate::FellSilent), (without.gap.before, without.fate));
    assert_eq!((Some((2, 4)), None), (without.next, without.gap.next));
    assert_eq!(Some(Address::Election { term: 4, by: None }), without.election, "it voted in it");
}

/// Goal: a leader whose links were cut was cut off, and one that lost a single link of two was not.
#[test]
fn a_leader_without_links_was_cut_off_and_did_not_fall_silent() {
    for (cut, stage, expected) in [
        (&[2, 3][..], Stage::RaftLink, Fate::CutOff),
        (&[2, 3][..], Stage::RaftDrop, Fate::CutOff),
        (&[3][..], Stage::RaftLink, Fate::FellSilent),
    ] {
        let mut script = Script::new();
        script.beat(0, 3);
        let rpc = script.begin(2, Stage::Rpc, PUT);
        let propose = script.begin(2, Stage::RaftPropose, PUT);
        for peer in cut {
            let flag = if stage == Stage::RaftLink { "cut_new" } else { "cut" };
            script.step(0, stage, 0, &[("peer", *peer), (flag, 1)]);
        }
        script.now_ns = 900 * MS;
        win_and_answer(&mut script, rpc, propose);
        let through = through_of(&script.recording);
        assert_eq!(expected, through.without[0].fate, "{stage:?} {cut:?}");
    }
}

/// Goal: what did not delay a request is a line of its own, and no headline.
#[test]
fn the_standstill_of_a_member_that_nobody_waited_for_is_no_delay() {
    let mut script = Script::new();
    let rpc = script.begin(0, Stage::Rpc, PUT);
    script.now_ns = 500 * MS;
    for member in [0, 1] {
        let stalled = script.step(member, Stage::ProcessStalled, 0, &[]);
        let event = &mut script.recording.events[stalled];
        (event.at_ns, event.took_ns) = (100 * MS, 300 * MS);
    }
    script.end(rpc, &[]);
    let order = Order::of(&script.recording);
    let story = Story::of(&script.recording, &order, PUT).unwrap();
    let graph = Graph::of(&script.recording, &order, &story);
    let path = critical_path(&script.recording, &order, &story, &graph).unwrap();
    let members =
        |through: &Through| through.stalls.iter().map(|one| one.stall.member).collect::<Vec<_>>();
    assert_eq!(vec![0, 1], members(&graph.through));
    assert_eq!(vec![0], members(&graph.through.delaying(Some(&path))));
    assert_eq!(vec![0], members(&graph.through.delaying(None)), "it may yet wait for the other");
    let at_rest = path.iter().filter(|piece| piece.wait == path::Wait::Step(Stage::ProcessStalled));
    assert_eq!(300 * MS, at_rest.map(|piece| piece.ns).sum::<u64>(), "{path:#?}");
}

/// Goal: a standstill ends where the process takes a step again. Method: the thread that records it
/// wakes 20 ms after another one.
#[test]
fn a_standstill_does_not_reach_into_the_steps_of_its_process() {
    let mut script = Script::new();
    let rpc = script.begin(0, Stage::Rpc, PUT);
    script.now_ns = 400 * MS;
    script.end(rpc, &[]);
    script.now_ns = 420 * MS;
    let stalled = script.step(0, Stage::ProcessStalled, 0, &[]);
    let event = &mut script.recording.events[stalled];
    (event.at_ns, event.took_ns) = (100 * MS, 320 * MS);
    let through = through_of(&script.recording);
    let [stood] = through.stalls[..] else { panic!("{through:?}") };
    assert!((300 * MS..301 * MS).contains(&stood.during_ns), "{stood:?}");
    assert_eq!(stood.stall.to - stood.stall.from, i128::from(stood.during_ns));
}

/// Goal: a message counts as the last of the old leader only if none can have come after it.
/// Method: members that heard of the leader later than their records say.
#[test]
fn the_last_message_of_a_leader_that_was_forgotten_is_unknown() {
    let mut script = Script::new();
    script.beat(0, 3);
    script.now_ns = 9_000 * MS;
    script.wins(4, 1);
    for event in &mut script.recording.events {
        if event.stage == Stage::ElectionTimeout {
            *event = event.clone().with(&[("silent", 1_000 * MS)]);
        }
    }
    let (_, cluster) = script.cluster();
    let [election] = &cluster.elections[..] else { panic!("{:?}", cluster.elections) };
    assert_eq!((Vec::new(), vec![1, 2]), (election.heard.clone(), election.unknown.clone()));
}

/// Goal: a follower passes many requests on, and each story has its own MsgProp only.
#[test]
fn the_proposal_of_another_request_is_no_step_of_this_one() {
    const OTHER: u64 = 0x901;
    let mut script = Script::new();
    script.begin(2, Stage::Rpc, PUT);
    script.begin(2, Stage::RaftPropose, PUT);
    script.step(2, Stage::RaftInbox, PUT, &[]);
    script.replicates(PUT, 40);
    script.message((2, 0), message::PROP, OTHER, &[]);
    let order = Order::of(&script.recording);
    let story = Story::of(&script.recording, &order, PUT).unwrap();
    let ids: Vec<u64> =
        story.steps.iter().map(|step| script.recording.events[step.event].id).collect();
    assert!(ids.contains(&PUT) && !ids.contains(&OTHER), "{ids:x?}");
}

/// Goal: the story of a step-down has what caused it.
#[test]
fn a_leader_that_hears_of_a_later_term_steps_down_because_of_that_message() {
    let mut script = Script::new();
    script.message((1, 0), message::APP_RESP, 0, &[("term", 3)]);
    script.message((1, 0), message::PRE_VOTE, 0, &[("term", 4)]);
    script.message((2, 0), message::APP_RESP, 0, &[("term", 4)]);
    let told = script.recording.events.len() - 1;
    // Raft takes messages in order: a later one of that term is no news.
    script.message((1, 0), message::VOTE, 0, &[("term", 4)]);
    script.turn(0, &Turn { role: [LEADER, FOLLOWER], term: [3, 4], leader: [1, 0] });
    let (_, cluster) = script.cluster();
    let [step_down] = cluster.step_downs[..] else { panic!("{:?}", cluster.step_downs) };
    assert_eq!((Because::LaterTerm(4), Some(told)), (step_down.because, step_down.by));
    let order = Order::of(&script.recording);
    let stories = Stories::new(&script.recording, &order);
    let story = stories.incident(Address::StepDown { term: 3 }).unwrap();
    let steps: Vec<usize> = story.steps.iter().map(|step| step.event).collect();
    assert_eq!(vec![told - 1, told, step_down.event], steps, "its send, its receipt, the role");
}

/// Goal: a message counts as the last of a follower only if none can have come after it. Method:
/// answers of one second ago, without keyframes, and with those that prove that none was forgotten.
#[test]
fn a_leader_without_a_majority_names_the_last_answers_only_if_they_are_the_last() {
    let of = |frames: bool| {
        let mut script = Script::new();
        script.message((1, 0), message::HEARTBEAT_RESP, 0, &[("term", 3)]);
        for _ in 0..10 {
            script.now_ns += 100 * MS;
            if frames {
                let frame = script.step(0, Stage::Keyframe, 0, &[("term", 3)]);
                script.recording.events[frame].kind = Kind::Keyframe;
            }
        }
        script.turn(0, &Turn { role: [LEADER, FOLLOWER], term: [3; 2], leader: [1, 0] });
        let order = Order::of(&script.recording);
        let stories = Stories::new(&script.recording, &order);
        stories.incident(Address::StepDown { term: 3 }).unwrap().steps.len()
    };
    assert_eq!([1, 3], [of(false), of(true)]);
}

/// Goal: a leader leads until it steps down, if nobody had missed it before, however much is known
/// of the others. Method: the same with the last receipt of a member that then died, and without.
#[test]
fn the_time_without_a_leader_is_the_same_whether_the_dead_were_heard_or_not() {
    let of = |is_heard: bool| {
        let mut script = Script::new();
        script.turn(0, &Turn { role: [CANDIDATE, LEADER], term: [3; 2], leader: [0, 1] });
        if is_heard {
            script.beat(0, 3);
        }
        script.now_ns = 900 * MS;
        script.turn(0, &Turn { role: [LEADER, FOLLOWER], term: [3; 2], leader: [1, 0] });
        let (order, cluster) = script.cluster();
        let [gap] = cluster.leaderless[..] else { panic!("{:?}", cluster.leaderless) };
        (gap.from, order.times[gap.last.unwrap()], gap.sign)
    };
    let expected = 1_000_000_000 + 900 * i128::from(MS) + 1_000;
    assert_eq!((expected, expected, Sign::Own), of(true));
    assert_eq!((expected, expected, Sign::Own), of(false));
}

/// Goal: a standstill of the asked member counts as its own, though it follows.
#[test]
fn a_standstill_of_the_asked_member_is_the_asked_member_s() {
    let mut recording = recorded();
    let is_rpc = |event: &&Event| {
        (event.stage, event.kind, event.id) == (Stage::Rpc, Kind::Span, FOLLOWER_PUT)
    };
    let rpc = recording.events.iter().find(is_rpc).unwrap().clone();
    let stalled = Event { stage: Stage::ProcessStalled, id: 0, link: 0, key: None, ..rpc };
    recording.events.push(stalled);
    let order = Order::of(&recording);
    let story = Story::of(&recording, &order, FOLLOWER_PUT).unwrap();
    let side = Side { recording: &recording, order: &order, story: &story };
    let pairs = Diff::of(side, side).pairs;
    let stalled = pairs.iter().map(|pair| pair.what).find(|w| w.stage == Stage::ProcessStalled);
    let (stage, part) = (Stage::ProcessStalled, Part::Asked);
    assert_eq!(Some(What { stage, part, message: None }), stalled);
}

/// Goal: the last message of an old leader is the last that was captured, though its receiver had
/// a step in the election before. Method: a follower refuses a pre-vote while it hears the leader,
/// which dies later; and a recording in which messages before the last one are missing.
#[test]
fn the_last_message_of_a_leader_is_the_last_that_was_captured_before_its_follower_turned() {
    let of = |keeps: fn(usize) -> bool| {
        let mut script = Script::new();
        let mut last = 0;
        for number in 0..10 {
            script.now_ns += 90 * MS;
            script.message((0, 2), message::HEARTBEAT, 0, &[("term", 3)]);
            last = script.recording.events.len() - 1;
            if number == 3 {
                let timeout = [("term", 3), ("leader", 1), ("silent", 100 * MS)];
                script.step(1, Stage::ElectionTimeout, 0, &timeout);
                let pre = [("pre", 1), ("term.old", 3), ("term.new", 3)];
                script.step(1, Stage::ElectionCampaign, 0, &pre);
                script.message((1, 2), message::PRE_VOTE, 0, &[("term", 4)]);
                // Its number is of another stream.
                let sent = script.recording.events.len() - 2;
                script.recording.events[sent..].iter_mut().for_each(|event| event.link |= 1 << 40);
                script.link -= 1;
                let vote = [("candidate", 2), ("pre", 1), ("term", 4)];
                script.step(2, Stage::ElectionVote, 0, &vote);
            }
        }
        let timeout = [("term", 3), ("leader", 1), ("silent", MS)];
        script.step(2, Stage::ElectionTimeout, 0, &timeout);
        let campaign = [("term.old", 3), ("term.new", 4)];
        script.step(2, Stage::ElectionCampaign, 0, &campaign);
        let role = [FOLLOWER, CANDIDATE];
        script.turn(2, &Turn { role, term: [3, 4], leader: [1, 0] });
        let last = script.recording.events[last].clone();
        let heartbeats = |event: &Event| {
            let is_one = event.member == 2 && event.stage == Stage::RaftReceive;
            !is_one || event.link >> 40 != 0 || keeps(event.link as usize) || *event == last
        };
        script.recording.events.retain(heartbeats);
        let (_, cluster) = script.cluster();
        let [election] = &cluster.elections[..] else { panic!("{:?}", cluster.elections) };
        let heard = election.heard.iter().map(|at| &script.recording.events[*at]);
        let heard: Vec<Event> = heard.filter(|event| event.member == 2).cloned().collect();
        assert_eq!(vec![last], heard);
        election.unsure.clone()
    };
    assert_eq!(Vec::<u8>::new(), of(|_| true));
    assert_eq!(vec![2], of(|link| link < 5), "some before the last one are missing");
}

/// Goal: a comparison of reads that were cancelled names the roles that it says are known, and
/// counts only the attempts for which the call waited.
#[test]
fn a_cancelled_read_is_compared_by_the_leader_that_it_asked() {
    const ROUND: u64 = PUT + 2;
    let mut script = Script::new();
    let rpc = script.begin(1, Stage::Rpc, PUT);
    let wait = script.begin(1, Stage::ReadIndexWait, PUT);
    let round = script.begin(1, Stage::ReadIndexRound, ROUND);
    script.message((1, 0), message::READ_INDEX, ROUND, &[]);
    for (begin, fields) in [(wait, [("round", ROUND)]), (rpc, [("method", 1)])] {
        let end = script.end(begin, &fields);
        script.recording.events[end].result = 1;
    }
    script.end(round, &[("attempt", 1)]);
    let later = script.begin(1, Stage::ReadIndexRound, ROUND + 2);
    script.recording.events[later].link = ROUND;
    let later = script.end(later, &[("attempt", 2)]);
    script.recording.events[later].link = ROUND;
    let order = Order::of(&script.recording);
    let story = Story::of(&script.recording, &order, PUT).unwrap();
    let side = Side { recording: &script.recording, order: &order, story: &story };
    let diff = Diff::of(side, side);
    assert_eq!((Some(false), Some(1)), (diff.facts[0].is_leader, diff.facts[0].attempts));
    let asks = diff.pairs.iter().find_map(|pair| pair.what.message);
    assert_eq!(Some((message::READ_INDEX, Part::Leader)), asks);
}
