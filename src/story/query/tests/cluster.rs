//! What happens to the cluster, and to the requests meanwhile, where the script determines it.

use super::*;
use crate::story::query::{
    address::{Address, Begun},
    cluster::{Because, Cluster},
    graph::Graph,
    incidents::{Outcome, incidents},
    path::{Wait, critical_path},
    through::{Fate, StoodStill},
};

pub(super) const MS: u64 = 1_000_000;
pub(super) const FOLLOWER: u64 = 0;
pub(super) const CANDIDATE: u64 = 1;
pub(super) const LEADER: u64 = 2;
pub(super) const PRE_CANDIDATE: u64 = 3;

/// A change of role: the member's role and leader, before and after.
pub(super) struct Turn {
    pub(super) role: [u64; 2],
    pub(super) term: [u64; 2],
    pub(super) leader: [u64; 2],
}

impl Script {
    pub(super) fn turn(&mut self, member: u8, turn: &Turn) -> usize {
        let at = self.step(
            member,
            Stage::RaftRole,
            0,
            &[
                ("role.old", turn.role[0]),
                ("role.new", turn.role[1]),
                ("term.old", turn.term[0]),
                ("term.new", turn.term[1]),
                ("leader.old", turn.leader[0]),
                ("leader.new", turn.leader[1]),
            ],
        );
        self.recording.events[at].kind = Kind::Mark;
        at
    }

    /// The leader, a member by position, says that it still leads.
    pub(super) fn beat(&mut self, leader: u8, term: u64) {
        for peer in (0..3).filter(|peer| *peer != leader) {
            self.message((leader, peer), message::HEARTBEAT, 0, &[("term", term)]);
        }
    }

    /// A member asks for pre-votes for the term, which nobody gives.
    pub(super) fn asks_in_vain(&mut self, member: u8, term: u64, leader: u64) {
        let before = term - 1;
        self.step(member, Stage::ElectionTimeout, 0, &[("term", before), ("leader", leader)]);
        let pre = [("pre", 1), ("term.old", before), ("term.new", before)];
        self.step(member, Stage::ElectionCampaign, 0, &pre);
        let role = [FOLLOWER, PRE_CANDIDATE];
        self.turn(member, &Turn { role, term: [before; 2], leader: [leader, 0] });
        let other = 3 - member;
        let asks = [("term", term)];
        self.message((member, other), message::PRE_VOTE, 0, &asks);
        let vote = [("candidate", u64::from(member) + 1), ("pre", 1), ("term", term)];
        self.step(other, Stage::ElectionVote, 0, &vote);
    }

    /// It follows the old leader again.
    pub(super) fn follows(&mut self, member: u8, term: u64, leader: u64) {
        let role = [PRE_CANDIDATE, FOLLOWER];
        self.turn(member, &Turn { role, term: [term; 2], leader: [0, leader] });
    }

    /// The second member wins the term, with the vote of the third.
    pub(super) fn wins(&mut self, term: u64, leader: u64) -> usize {
        let before = term - 1;
        let silent = self.now_ns;
        let timeout = [("term", before), ("leader", leader), ("silent", silent)];
        self.step(1, Stage::ElectionTimeout, 0, &timeout);
        let campaign = [("term.old", before), ("term.new", term)];
        self.step(1, Stage::ElectionCampaign, 0, &campaign);
        let role = [FOLLOWER, CANDIDATE];
        self.turn(1, &Turn { role, term: [before, term], leader: [leader, 0] });
        self.message((1, 2), message::VOTE, 0, &[("term", term)]);
        let vote = [("candidate", 2), ("granted", 1), ("term", term)];
        self.step(2, Stage::ElectionVote, 0, &vote);
        self.message((2, 1), message::VOTE_RESP, 0, &[("term", term)]);
        self.step(1, Stage::ElectionTally, 0, &[("voter", 3), ("granted", 1), ("term", term)]);
        let role = [CANDIDATE, LEADER];
        self.turn(1, &Turn { role, term: [term; 2], leader: [0, 2] })
    }

    pub(super) fn cluster(&self) -> (Order, Cluster) {
        let order = Order::of(&self.recording);
        let cluster = Cluster::of(&self.recording, &order);
        (order, cluster)
    }
}

/// Members 2 and 3 hear of member 1, which leads term 3, until 1 ms; member 2 wins term 4 at 900
/// ms.
fn with_an_election() -> (Script, usize) {
    let mut script = Script::new();
    script.beat(0, 3);
    script.now_ns = 900 * MS;
    let won = script.wins(4, 1);
    script.beat(1, 4);
    (script, won)
}

#[test]
fn nobody_leads_from_the_last_sign_of_a_leader_until_the_next_one_leads() {
    let (script, won) = with_an_election();
    let (order, cluster) = script.cluster();
    let [gap] = cluster.leaderless[..] else { panic!("{:?}", cluster.leaderless) };
    let last = script.recording.events[gap.last.unwrap()].clone();
    assert_eq!((Stage::RaftReceive, 2), (last.stage, last.member));
    assert_eq!((1, 3, Some(won)), (gap.before, gap.term, gap.next));
    assert_eq!((order.times[gap.last.unwrap()], Some(order.times[won])), (gap.from, gap.to));
}

#[test]
fn an_election_holds_its_own_steps_and_the_last_messages_of_the_old_leader() {
    let (mut script, first) = with_an_election();
    script.now_ns = 2000 * MS;
    let second = script.wins(5, 2);
    let (_, cluster) = script.cluster();
    let [one, two] = &cluster.elections[..] else { panic!("{:?}", cluster.elections) };
    assert_eq!([Some(first), Some(second)], [one.won, two.won]);
    assert_eq!([4, 5], [one.term, two.term]);
    assert!(one.steps.iter().all(|at| !two.steps.contains(at)));
    let heard: Vec<(Stage, u8)> = (one.heard.iter())
        .map(|at| &script.recording.events[*at])
        .map(|event| (event.stage, event.member))
        .collect();
    let [send, receive] = [Stage::RaftSend, Stage::RaftReceive];
    assert_eq!(vec![(send, 0), (receive, 1), (send, 0), (receive, 2)], heard);
}

#[test]
fn refused_pre_votes_are_an_election_that_nobody_won_and_no_part_of_the_next_one() {
    let mut script = Script::new();
    script.beat(0, 3);
    script.asks_in_vain(1, 4, 1);
    script.follows(1, 3, 1);
    script.beat(0, 3);
    script.now_ns = 900 * MS;
    script.wins(4, 1);
    let order = Order::of(&script.recording);
    let stories = Stories::new(&script.recording, &order);
    let all = incidents(&stories);
    let by = script.recording.events.iter().find(|event| event.stage == Stage::ElectionTimeout);
    let by = by.map(|event| Begun { member_id: 2, boot: 1, clock: event.clock });
    let addresses = [by, None].map(|by| Address::Election { term: 4, by });
    assert_eq!(addresses.to_vec(), all.iter().map(|one| one.address).collect::<Vec<_>>());
    assert_eq!([Outcome::NobodyWon, Outcome::Won(2)], [all[0].outcome, all[1].outcome]);
    let steps = addresses.map(|address| stories.incident(address).unwrap().steps);
    assert!(steps[0].iter().all(|step| !steps[1].contains(step)), "{steps:#?}");
    // The cluster had a leader all the time until the second one.
    assert_eq!(1, stories.cluster().leaderless.len());
}

/// Goal: an address leads to the same story when records are added, and when some are forgotten.
/// Method: pre-votes that fail, which are then forgotten, and an election that is won after its
/// address was noted.
#[test]
fn an_address_never_passes_on_to_another_election_of_its_term() {
    let mut script = Script::new();
    script.beat(0, 3);
    script.asks_in_vain(1, 4, 1);
    script.follows(1, 3, 1);
    let forgotten = script.recording.events.len();
    script.beat(0, 3);
    script.asks_in_vain(1, 4, 1);
    let at = |recording: &Recording, address: Option<Address>| {
        let order = Order::of(recording);
        let stories = Stories::new(recording, &order);
        let all: Vec<Address> = incidents(&stories).iter().map(|one| one.address).collect();
        let first = |story: Story| recording.events[story.steps[0].event].clone();
        let story = address.and_then(|address| stories.incident(address));
        (all, story.map(first))
    };
    let (before, _) = at(&script.recording, None);
    let [failed, open] = before[..] else { panic!("{before:?}") };
    let noted = [failed, open].map(|address| at(&script.recording, Some(address)).1);
    assert_ne!(noted[0], noted[1]);
    script.now_ns = 900 * MS;
    script.wins(4, 1);
    let (after, _) = at(&script.recording, None);
    assert_eq!(vec![failed, Address::Election { term: 4, by: None }], after);
    assert_eq!(noted, [failed, open].map(|address| at(&script.recording, Some(address)).1));
    script.recording.events.drain(..forgotten);
    assert_eq!(None, at(&script.recording, Some(failed)).1);
    assert_eq!(noted[1], at(&script.recording, Some(open)).1);
}

/// Goal: the winner is known from those that follow it. Method: an election in which another asked
/// too, without the winner's records, as if it had been killed since.
#[test]
fn an_election_whose_winner_s_records_are_missing_was_won() {
    let mut script = Script::new();
    script.beat(0, 3);
    script.asks_in_vain(2, 4, 1);
    script.wins(4, 1);
    let role = [PRE_CANDIDATE, FOLLOWER];
    let named = script.turn(2, &Turn { role, term: [3, 4], leader: [0, 2] });
    script.beat(1, 4);
    let kept = script.recording.events[named].clone();
    script.recording.events.retain(|event| event.member != 1);
    script.recording.members.remove(1);
    script.recording.events.iter_mut().for_each(|event| event.member = event.member.min(1));
    let order = Order::of(&script.recording);
    let stories = Stories::new(&script.recording, &order);
    let [one] = incidents(&stories)[..] else { panic!("{:?}", stories.cluster().elections) };
    assert_eq!(
        (Address::Election { term: 4, by: None }, Outcome::Won(2)),
        (one.address, one.outcome)
    );
    assert_eq!(kept.clock, script.recording.events[one.end.unwrap()].clock);
    let through = stories.cluster().elections[0].winner(&script.recording);
    assert_eq!(None, through, "it sent no records");
}

#[test]
fn a_leader_without_a_majority_steps_down_and_then_there_is_none() {
    let mut script = Script::new();
    script.beat(0, 3);
    script.now_ns = 900 * MS;
    let role = [LEADER, FOLLOWER];
    let down = script.turn(0, &Turn { role, term: [3; 2], leader: [1, 0] });
    let (_, cluster) = script.cluster();
    let [step_down] = cluster.step_downs[..] else { panic!("{:?}", cluster.step_downs) };
    assert_eq!((3, down, Because::NoMajority), (step_down.term, down, step_down.because));
    let [gap] = cluster.leaderless[..] else { panic!("{:?}", cluster.leaderless) };
    assert_eq!((None, Some(down)), (gap.to, gap.shown));
}

#[test]
fn a_put_that_waited_through_an_election_waited_for_a_leader_and_not_for_raft_s_thread() {
    let mut script = Script::new();
    script.beat(0, 3);
    let rpc = script.begin(2, Stage::Rpc, PUT);
    let propose = script.begin(2, Stage::RaftPropose, PUT);
    script.step(2, Stage::RaftInbox, PUT, &[]);
    script.now_ns = 900 * MS;
    let won = script.wins(4, 1);
    script.message((1, 2), message::HEARTBEAT, 0, &[("term", 4)]);
    script.end(propose, &[]);
    script.end(rpc, &[]);
    // The old leader starts again: it had died.
    script.recording.members[0].boots.push(BootInfo { boot: 2, wall_ns: 1_000_000_000 });
    let at = script.step(0, Stage::MemberStart, 0, &[]);
    script.recording.events[at].boot = 2;
    let order = Order::of(&script.recording);
    let story = Story::of(&script.recording, &order, PUT).unwrap();
    let graph = Graph::of(&script.recording, &order, &story);
    let [without] = graph.through.without[..] else { panic!("{:?}", graph.through) };
    assert_eq!((Fate::Died(2), Some((2, 4))), (without.fate, without.next));
    assert_eq!(Some(won), without.gap.next);
    assert_eq!((vec![2, 3], 3), (graph.through.alive.clone(), graph.through.members));
    let mut of_five = script.recording.clone();
    of_five.members[1].members = (1..=5).map(|id| (id, String::new())).collect();
    let through = Graph::of(&of_five, &order, &story).through;
    assert_eq!(
        (vec![2, 3], 5),
        (through.alive, through.members),
        "two that sent nothing are members too"
    );
    let path = critical_path(&script.recording, &order, &story, &graph).unwrap();
    let of =
        |wait| path.iter().filter(|piece| piece.wait == wait).map(|piece| piece.ns).sum::<u64>();
    assert!((890 * MS..910 * MS).contains(&of(Wait::SilentLeader)), "{path:?}");
    assert!((1..10 * MS).contains(&of(Wait::NoLeader)), "{path:?}");
    assert_eq!([true, false], [Wait::SilentLeader, Wait::NoLeader].map(Wait::is_for_member));
    let all: u64 = path.iter().map(|piece| piece.ns).sum();
    assert_eq!(script.recording.events[graph.rpc.unwrap()].took_ns, all);
}

/// Goal: a member's first start is a story too. Method: a member that writes its log before its
/// `member.start` ends, one of which the start was not captured, and one that starts again.
#[test]
fn a_first_start_is_known_by_its_end_and_begins_where_that_began() {
    let mut script = Script::new();
    script.disk(0, 1, 3);
    script.now_ns += 20 * MS;
    let first = script.step(0, Stage::MemberStart, 0, &[]);
    let event = &mut script.recording.events[first];
    (event.clock, event.at_ns, event.took_ns) = (1, 0, script.now_ns);
    script.disk(1, 1, 3);
    script.recording.members[0].boots.push(BootInfo { boot: 2, wall_ns: 1_000_000_000 });
    let role = script.step(0, Stage::RaftRole, 0, &[]);
    let again = script.step(0, Stage::MemberStart, 0, &[]);
    for at in [role, again] {
        script.recording.events[at].boot = 2;
    }
    let order = Order::of(&script.recording);
    let starts = Cluster::of(&script.recording, &order).starts;
    let known: Vec<_> = starts.iter().map(|one| (one.member, one.boot, one.first)).collect();
    assert_eq!([(0, 1, first), (0, 2, role)], known[..]);
    assert_eq!([true, false], [0, 1].map(|at| starts[at].before.is_none()));
    let all = incidents(&Stories::new(&script.recording, &order));
    assert_eq!([first, again], [0, 1].map(|at| all[at].first));
}

/// Goal: a request lives through what happens while it waits in the socket. Method: a member that
/// does nothing for two seconds, and a put that was in its socket for most of that. As on members,
/// the clock of a step of the edge does not advance.
#[test]
fn a_put_in_the_socket_of_a_stopped_member_lives_through_the_stop() {
    let mut script = Script::new();
    for at in [100, 200] {
        script.now_ns = at * MS;
        let frame = script.step(2, Stage::Keyframe, 0, &[]);
        script.recording.events[frame].kind = Kind::Keyframe;
    }
    script.now_ns = 2_200 * MS;
    let stalled = script.step(2, Stage::ProcessStalled, 0, &[]);
    let event = &mut script.recording.events[stalled];
    (event.at_ns, event.took_ns) = (200 * MS, 2_000 * MS);
    let waited = script.step(2, Stage::SocketQueue, PUT, &[]);
    let event = &mut script.recording.events[waited];
    (event.clock, event.at_ns, event.took_ns) = (event.clock_end, 400 * MS, 1_800 * MS);
    let rpc = script.begin(2, Stage::Rpc, PUT);
    script.end(rpc, &[]);
    let order = Order::of(&script.recording);
    let story = Story::of(&script.recording, &order, PUT).unwrap();
    let through = Graph::of(&script.recording, &order, &story).through;
    let [StoodStill { stall, before_ns, during_ns, .. }] = through.stalls[..] else {
        panic!("{through:?}")
    };
    assert_eq!((2, stalled, false), (stall.member, stall.event, stall.is_leader));
    assert_eq!([1_800 * MS, 0], [before_ns, during_ns]);
    assert_eq!(order.times[rpc], through.from, "times still count from the rpc");
}

/// Goal: a member whose disk has the entry, but whose leader is gone, waits for a leader, and not
/// to send its acknowledgement.
#[test]
fn a_put_whose_entry_outlived_its_leader_waited_for_the_next_one() {
    let mut script = Script::new();
    script.beat(0, 3);
    let rpc = script.begin(2, Stage::Rpc, PUT);
    let propose = script.begin(2, Stage::RaftPropose, PUT);
    script.step(2, Stage::RaftInbox, PUT, &[]);
    let entry = [("term", 3), ("index", INDEX)];
    for peer in [1, 2] {
        let carries = [("term", 3), ("index", INDEX - 1), ("last", INDEX)];
        script.message((0, peer), message::APP, 0, &carries);
        script.step(peer, Stage::RaftEntry, PUT, &entry);
    }
    script.disk(2, INDEX, INDEX);
    let stable = [("stable.old", INDEX - 1), ("stable.new", INDEX)];
    script.step(2, Stage::RaftStable, 0, &stable);
    script.now_ns = 900 * MS;
    script.wins(4, 1);
    script.message((2, 1), message::APP_RESP, 0, &[("term", 4), ("index", INDEX)]);
    let matched = [("peer", 3), ("match.old", INDEX - 1), ("match.new", INDEX)];
    script.step(1, Stage::RaftProgress, 0, &matched);
    let commit = [("term", 4), ("commit.old", INDEX - 1), ("commit.new", INDEX)];
    let counted = [commit[0], commit[1], commit[2], ("completed_by", 3)];
    script.step(1, Stage::RaftCommit, 0, &counted);
    script.message((1, 2), message::HEARTBEAT, 0, &[("term", 4), ("commit", INDEX)]);
    script.step(2, Stage::RaftCommit, 0, &commit);
    script.applies(2, INDEX, PUT);
    script.end(propose, &[]);
    script.end(rpc, &[]);
    let order = Order::of(&script.recording);
    let story = Story::of(&script.recording, &order, PUT).unwrap();
    let graph = Graph::of(&script.recording, &order, &story);
    let path = critical_path(&script.recording, &order, &story, &graph).unwrap();
    let silent = path.iter().filter(|piece| piece.wait == Wait::SilentLeader);
    let silent: u64 = silent.map(|piece| piece.ns).sum();
    assert!((890 * MS..910 * MS).contains(&silent), "{path:#?}");
}

#[test]
fn addresses_are_read_as_they_are_written() {
    let members = Script::new().recording.members;
    for address in [
        Address::Election { term: 4, by: None },
        Address::Election { term: 4, by: Some(Begun { member_id: 2, boot: 1, clock: 9 }) },
        Address::Election { term: 4, by: Some(Begun { member_id: 0xabc, boot: 3, clock: 9 }) },
        Address::StepDown { term: 3 },
        Address::Start { member_id: 2, boot: 7 },
        Address::Start { member_id: 0xabc, boot: 1 },
    ] {
        let text = address.text(&members);
        assert!(Address::is_one(&text), "{text}");
        assert_eq!(Some(address), Address::of(&text, &members), "{text}");
    }
    for wrong in [
        "election:",
        "election:x",
        "election:4.2",
        "election:4.etcd-01:2",
        "step-down:-1",
        "start:etcd-01",
        "ddcea22a7b7c2925",
    ] {
        assert_eq!(None, Address::of(wrong, &members), "{wrong}");
    }
}

/// Method: the leader of term 3 stands still for two seconds, and member 2 wins term 4 meanwhile.
#[test]
fn a_leader_that_stood_still_is_none_any_more_once_another_leads() {
    let mut script = Script::new();
    let role = [CANDIDATE, LEADER];
    script.turn(0, &Turn { role, term: [3; 2], leader: [0, 1] });
    script.beat(0, 3);
    script.now_ns = 900 * MS;
    let won = script.wins(4, 1);
    script.now_ns = 1_500 * MS;
    let get = script.begin(1, Stage::Rpc, PUT);
    script.end(get, &[]);
    script.now_ns = 2_200 * MS;
    let stalled = script.step(0, Stage::ProcessStalled, 0, &[]);
    let event = &mut script.recording.events[stalled];
    (event.at_ns, event.took_ns) = (100 * MS, 2_000 * MS);
    let (order, cluster) = script.cluster();
    let [stall] = cluster.stalls[..] else { panic!("{:?}", cluster.stalls) };
    assert_eq!((true, order.times[won]), (stall.is_leader, stall.led_until));
    let story = Story::of(&script.recording, &order, PUT).unwrap();
    let through = Graph::of(&script.recording, &order, &story).through;
    let [stood] = through.stalls[..] else { panic!("{through:?}") };
    assert!(!stood.stall.is_leader, "another member led when the request began");
}

#[test]
fn a_member_that_sends_messages_is_not_alone_even_if_no_other_was_captured() {
    let mut script = Script::new();
    script.recording.members.truncate(1);
    let get = script.begin(0, Stage::Rpc, PUT);
    script.end(get, &[]);
    let is_alone = |script: &Script| {
        let order = Order::of(&script.recording);
        let story = Story::of(&script.recording, &order, PUT).unwrap();
        Graph::of(&script.recording, &order, &story).is_alone
    };
    assert!(is_alone(&script));
    script.step(0, Stage::RaftDrop, 0, &[("peer", 2)]);
    assert!(!is_alone(&script));
}

/// Method: the leader of term 4 is known by its heartbeats only, from half a second on, and member
/// 2 wins term 5 when they have ceased.
#[test]
fn a_request_is_without_a_leader_once_for_each_time_that_nobody_led() {
    let mut script = Script::new();
    script.beat(0, 3);
    for at in [500, 1_000] {
        script.now_ns = at * MS;
        script.beat(2, 4);
    }
    script.now_ns = 1_500 * MS;
    let rpc = script.begin(1, Stage::Rpc, PUT);
    script.now_ns = 2_000 * MS;
    let won = script.wins(5, 3);
    script.now_ns = 2_100 * MS;
    script.end(rpc, &[]);
    let order = Order::of(&script.recording);
    let story = Story::of(&script.recording, &order, PUT).unwrap();
    let through = Graph::of(&script.recording, &order, &story).through;
    let [without] = &through.without[..] else { panic!("{:?}", through.without) };
    assert_eq!((3, 4, Some(won)), (without.gap.before, without.gap.term, without.gap.next));
}

/// Method: a leader that nobody answers steps down after 900 ms, with a put under way, and leads
/// again after two seconds. Nothing of the other members was captured.
#[test]
fn a_leader_that_has_stepped_down_is_not_silent_to_its_own_requests() {
    let mut script = Script::new();
    let leads = |term: u64| Turn { role: [CANDIDATE, LEADER], term: [term; 2], leader: [0, 1] };
    script.turn(0, &leads(3));
    let rpc = script.begin(0, Stage::Rpc, PUT);
    let propose = script.begin(0, Stage::RaftPropose, PUT);
    script.step(0, Stage::RaftInbox, PUT, &[]);
    script.step(0, Stage::RaftEntry, PUT, &[("term", 3), ("index", INDEX)]);
    script.now_ns = 900 * MS;
    script.turn(0, &Turn { role: [LEADER, FOLLOWER], term: [3; 2], leader: [1, 0] });
    script.now_ns = 1_900 * MS;
    let campaign = [("term.old", 3), ("term.new", 4)];
    script.step(0, Stage::ElectionCampaign, 0, &campaign);
    script.now_ns = 2_000 * MS;
    script.turn(0, &leads(4));
    script.end(propose, &[]);
    script.end(rpc, &[]);
    let order = Order::of(&script.recording);
    let story = Story::of(&script.recording, &order, PUT).unwrap();
    let graph = Graph::of(&script.recording, &order, &story);
    let path = critical_path(&script.recording, &order, &story, &graph).unwrap();
    let of =
        |wait| path.iter().filter(|piece| piece.wait == wait).map(|piece| piece.ns).sum::<u64>();
    assert_eq!(0, of(Wait::SilentLeader), "{path:#?}");
    assert!((1_090 * MS..1_110 * MS).contains(&of(Wait::NoLeader)), "{path:#?}");
}
