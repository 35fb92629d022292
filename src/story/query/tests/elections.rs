//! Elections of which the records of a candidate are missing, because it was killed.

use super::{
    cluster::{FOLLOWER, LEADER, MS, PRE_CANDIDATE, Turn},
    *,
};
use crate::story::query::{
    address::{Address, Begun},
    incidents::{Incident, Outcome, incidents},
};

/// All that happened, with the steps of each.
fn told(recording: &Recording) -> Vec<(Incident, Vec<usize>)> {
    let order = Order::of(recording);
    let stories = Stories::new(recording, &order);
    let steps = |address| {
        let story = stories.incident(address).unwrap();
        story.steps.iter().map(|step| step.event).collect()
    };
    let is_election = |one: &Incident| matches!(one.address, Address::Election { .. });
    let all = incidents(&stories).into_iter().filter(is_election);
    all.map(|one| (one, steps(one.address))).collect()
}

impl Script {
    /// A member was killed: the others alone tell of what it had done since this event.
    fn loses(&mut self, member: u8, since: usize) {
        let mut at = 0;
        self.recording.events.retain(|event| {
            at += 1;
            event.member != member || at <= since
        });
    }

    fn starts_the_second_again(&mut self) {
        self.recording.members[1].boots.push(BootInfo { boot: 2, wall_ns: 1_000_000_000 });
        let start = self.step(1, Stage::MemberStart, 0, &[]);
        self.recording.events[start].boot = 2;
    }

    /// The third member follows the one that has won the term.
    fn learns(&mut self, term: u64) {
        let learns = Turn { role: [FOLLOWER; 2], term: [term - 1, term], leader: [1, 2] };
        self.turn(2, &learns);
    }
}

/// Goal: pre-votes that failed and the election that was won later for the same term are two
/// stories, also without the records of the winner, and each address leads to its own. Method: the
/// third member asks in vain; a minute later the second one wins, with the third one's vote. Then
/// the same when the winner is the one that had asked in vain.
#[test]
fn pre_votes_in_vain_are_not_the_election_that_a_member_without_records_won_later() {
    for member in [2, 1] {
        let mut script = Script::new();
        script.beat(0, 3);
        script.asks_in_vain(member, 4, 1);
        script.follows(member, 3, 1);
        let later = script.recording.events.len();
        script.now_ns = 60_000 * MS;
        script.wins(4, 1);
        script.learns(4);
        script.loses(1, if member == 1 { later } else { 0 });
        script.now_ns = 61_000 * MS;
        script.starts_the_second_again();
        let all = told(&script.recording);
        let [(one, first), (two, second)] = &all[..] else { panic!("{member}: {all:#?}") };
        assert_eq!([Outcome::NobodyWon, Outcome::Won(2)], [one.outcome, two.outcome]);
        assert_eq!([u64::from(member) + 1, 2], [one.by, two.by]);
        assert_eq!([true, false], [one.is_begun, two.is_begun]);
        let begun = (script.recording.events.iter())
            .find(|event| event.stage == Stage::ElectionTimeout)
            .map(|event| Begun { member_id: one.by, boot: 1, clock: event.clock });
        let addresses = [begun, None].map(|by| Address::Election { term: 4, by });
        assert_eq!(addresses, [one.address, two.address]);
        let times = |steps: &[usize]| {
            let times = steps.iter().map(|at| script.recording.events[*at].at_ns);
            (times.clone().min().unwrap(), times.max().unwrap())
        };
        assert!(times(first).1 < 1_000 * MS, "{first:?}");
        assert!(60_000 * MS <= times(second).0, "{second:?}");
    }
}

/// Goal: an election whose only candidate was killed is known from the votes of the others.
#[test]
fn an_election_is_told_though_its_only_candidate_s_records_are_missing() {
    let mut script = Script::new();
    script.beat(0, 3);
    script.now_ns = 900 * MS;
    script.wins(4, 1);
    script.learns(4);
    script.loses(1, 0);
    let all = told(&script.recording);
    let [(one, steps)] = &all[..] else { panic!("{all:#?}") };
    let address = Address::Election { term: 4, by: None };
    assert_eq!((address, Outcome::Won(2), 2), (one.address, one.outcome, one.by));
    assert!(!one.is_begun, "when it began is not known");
    let stages: Vec<Stage> = steps.iter().map(|at| script.recording.events[*at].stage).collect();
    let own = [Stage::RaftReceive, Stage::ElectionVote, Stage::RaftSend, Stage::RaftRole];
    assert_eq!(own, stages[stages.len() - 4..]);
}

/// Goal: pre-votes of which only the asked member tells are an election that nobody won, which is
/// over when its candidate follows a leader again or starts again, or after a silence. Its address
/// leads to it also when records of the candidate arrive.
#[test]
fn pre_votes_of_a_member_without_records_are_over_when_it_is_known_not_to_ask() {
    let mut whole = Script::new();
    whole.beat(0, 3);
    whole.asks_in_vain(1, 4, 1);
    let asked = whole.recording.events.len();
    type End = fn(&mut Script);
    let ends: [(bool, End); 5] = [
        (false, |script| script.now_ns += 5_000 * MS),
        (true, |script| script.now_ns += 11_000 * MS),
        (true, |script| {
            script.now_ns += 600 * MS;
            script.message((1, 0), message::HEARTBEAT_RESP, 0, &[("term", 3)]);
        }),
        (false, |script| script.message((1, 0), message::HEARTBEAT_RESP, 0, &[("term", 3)])),
        (true, Script::starts_the_second_again),
    ];
    for (number, (is_over, end)) in ends.into_iter().enumerate() {
        let mut script = Script { recording: whole.recording.clone(), ..whole };
        end(&mut script);
        script.step(0, Stage::BufferFreeze, 0, &[]);
        script.recording.events.retain(|event| event.member != 1 || event.boot == 2);
        let [(one, _)] = told(&script.recording)[..] else { panic!("{number}") };
        let expected = if is_over { Outcome::NobodyWon } else { Outcome::Open };
        assert_eq!((expected, 2), (one.outcome, one.by), "{number}");
        let Address::Election { by: Some(by), .. } = one.address else { panic!("{one:?}") };
        assert_eq!(3, by.member_id, "the asked member names it");
        let order = Order::of(&whole.recording);
        let story = Stories::new(&whole.recording, &order).incident(one.address).unwrap();
        assert!(story.steps.iter().any(|step| step.event < asked));
    }
}

/// Goal: the last message of an old leader is one that it sent as the leader. Method: a leader
/// that has no majority steps down, asks for pre-votes, refuses one itself, and is elected again.
#[test]
fn what_an_old_leader_sends_as_a_candidate_is_not_its_last_message_as_leader() {
    let mut script = Script::new();
    script.turn(0, &Turn { role: [FOLLOWER, LEADER], term: [2, 3], leader: [0, 1] });
    script.beat(0, 3);
    let beats = script.recording.events.len();
    script.now_ns = 900 * MS;
    script.turn(0, &Turn { role: [LEADER, FOLLOWER], term: [3; 2], leader: [1, 0] });
    script.message((0, 1), message::PRE_VOTE_RESP, 0, &[("term", 3), ("reject", 1)]);
    script.step(0, Stage::ElectionTimeout, 0, &[("term", 3)]);
    script.step(0, Stage::ElectionCampaign, 0, &[("pre", 1), ("term.old", 3), ("term.new", 3)]);
    script.turn(0, &Turn { role: [FOLLOWER, PRE_CANDIDATE], term: [3; 2], leader: [0; 2] });
    for peer in [1, 2] {
        script.message((0, peer), message::PRE_VOTE, 0, &[("term", 4)]);
        let vote = [("candidate", 1), ("pre", 1), ("granted", 1), ("term", 4)];
        script.step(peer, Stage::ElectionVote, 0, &vote);
        script.message((0, peer), message::VOTE, 0, &[("term", 4)]);
        let votes = Turn { role: [FOLLOWER; 2], term: [3, 4], leader: [1, 0] };
        script.turn(peer, &votes);
    }
    let (order, cluster) = script.cluster();
    let [election] = &cluster.elections[..] else { panic!("{:?}", cluster.elections) };
    let of = |at: &usize| {
        let event = &script.recording.events[*at];
        event.field("type")
    };
    let heard: Vec<Option<u64>> = election.heard.iter().map(of).collect();
    assert!(heard.iter().all(|kind| *kind == Some(message::HEARTBEAT)), "{heard:?}");
    let [gap] = cluster.leaderless[..] else { panic!("{:?}", cluster.leaderless) };
    assert!(gap.from <= order.times[beats], "it had not led since: {gap:?}");
}

/// Goal: what let a member ask in vain, and what ended it, are steps of its story: the cut of its
/// links, and their heal. Method: a member that is cut off, and healed when it has just asked.
#[test]
fn the_cut_and_the_heal_of_a_link_are_steps_of_an_election_that_nobody_won() {
    let mut script = Script::new();
    script.beat(0, 3);
    let link = |script: &mut Script, is_cut: bool| {
        let flags = [("cut.old", u64::from(!is_cut)), ("cut.new", u64::from(is_cut))];
        script.step(2, Stage::RaftLink, 0, &[("peer", 1), flags[0], flags[1]])
    };
    let [before, healed] = [true, false].map(|is_cut| link(&mut script, is_cut));
    script.now_ns = 500 * MS;
    let cut = link(&mut script, true);
    script.now_ns = 2_000 * MS;
    let silent = [("term", 3), ("leader", 1), ("silent", 1_990 * MS)];
    script.step(2, Stage::ElectionTimeout, 0, &silent);
    script.step(2, Stage::ElectionCampaign, 0, &[("pre", 1), ("term.old", 3), ("term.new", 3)]);
    script.turn(2, &Turn { role: [FOLLOWER, PRE_CANDIDATE], term: [3; 2], leader: [1, 0] });
    let heal = link(&mut script, false);
    script.follows(2, 3, 1);
    let later = link(&mut script, true);
    let all = told(&script.recording);
    let [(_, steps)] = &all[..] else { panic!("{all:#?}") };
    let has = [before, healed, cut, heal, later].map(|at| steps.contains(&at));
    assert_eq!([false, false, true, true, false], has);
}
