//! Processes that were not heard of any more, and what is unknown because of that.

use super::{
    cluster::{FOLLOWER, LEADER, MS, PRE_CANDIDATE, Turn},
    *,
};
use crate::story::query::{
    address::Address,
    cluster::Sign,
    graph::Graph,
    incidents::{Incident, Outcome as End, incidents},
    path::{Awaited, Wait, critical_path},
    silence::{Silence, Silences},
    through::{Loss, LostBefore, Through},
};

fn through_of(recording: &Recording) -> Through {
    let order = Order::of(recording);
    let story = Story::of(recording, &order, PUT).unwrap();
    Graph::of(recording, &order, &story).through
}

impl Script {
    /// These members write keyframes every 100 ms until this time, in milliseconds.
    pub(super) fn frames(&mut self, members: &[u8], until_ms: u64) {
        while self.now_ns + 99 * MS <= until_ms * MS {
            self.now_ns += 100 * MS;
            for member in members {
                let at = self.step(*member, Stage::Keyframe, 0, &[("term", 3), ("leader", 1)]);
                self.recording.events[at].kind = Kind::Keyframe;
            }
        }
    }
}

/// Goal: nobody knows how a put ended whose process was not heard of any more, and nobody says that
/// it is under way. Method: member 3 dies at 300 ms with a put, and the others go on; the same
/// while that is too short a time, without keyframes of its own, and with a later start.
#[test]
fn a_put_whose_process_fell_silent_has_an_unknown_end() {
    let of = |until_ms: u64, change: fn(&mut Script)| {
        let mut script = Script::new();
        script.beat(0, 3);
        script.frames(&[0, 1, 2], 200);
        script.begin(2, Stage::Rpc, PUT);
        script.frames(&[2], 300);
        let last = script.recording.events.len() - 1;
        script.frames(&[0, 1], until_ms);
        change(&mut script);
        let Script { recording, .. } = script;
        let order = Order::of(&recording);
        let silences = Silences::of(&recording, &order);
        let outcome = requests(&recording)[0].outcome(&silences);
        (outcome, through_of(&recording).silence, (last, order.times))
    };
    let (outcome, silence, (last, times)) = of(3_000, |_| ());
    assert_eq!(Some(Outcome::Unknown), outcome);
    let to = times.iter().max().copied().unwrap();
    let (member, boot, from, was_stopping) = (2, 1, times[last], false);
    assert_eq!(Some(Silence { member, boot, last, from, to, was_stopping }), silence);
    assert_eq!((Some(Outcome::Open), None), {
        let it = of(1_200, |_| ());
        (it.0, it.1)
    });
    let (outcome, silence, _) = of(3_000, |script| {
        let of_third = |event: &Event| (event.stage, event.member) == (Stage::Keyframe, 2);
        script.recording.events.retain(|event| !of_third(event));
    });
    assert_eq!((Some(Outcome::Open), None), (outcome, silence), "it may be cut to stories");
    let (outcome, silence, _) = of(3_000, |script| {
        script.recording.members[2].boots.push(BootInfo { boot: 2, wall_ns: 1_000_000_000 });
        let start = script.step(2, Stage::MemberStart, 0, &[]);
        script.recording.events[start].boot = 2;
    });
    assert_eq!((Some(Outcome::NotFinished), None), (outcome, silence), "it has died");
}

/// Goal: a request to a member that had lost its leader names that loss, and one that needs no
/// leader does not. Method: member 3 misses its leader at 900 ms, and is asked at 2 s; the others
/// go on. The same when it had found its leader again.
#[test]
fn a_get_names_how_its_member_had_lost_its_leader_before() {
    let of = |is_linearizable: bool, is_led: bool| {
        let mut script = Script::new();
        script.beat(0, 3);
        script.now_ns = 900 * MS;
        let silent = [("term", 3), ("leader", 1), ("silent", 890 * MS)];
        script.step(2, Stage::ElectionTimeout, 0, &silent);
        let asks = Turn { role: [FOLLOWER, PRE_CANDIDATE], term: [3; 2], leader: [1, 0] };
        let lost = script.turn(2, &asks);
        if is_led {
            script.follows(2, 3, 1);
        }
        script.now_ns = 2_000 * MS;
        script.message((0, 1), message::HEARTBEAT, 0, &[("term", 3)]);
        let rpc = script.begin(2, Stage::Rpc, PUT);
        if is_linearizable {
            script.begin(2, Stage::ReadIndexWait, PUT);
        }
        script.now_ns = 9_000 * MS;
        script.message((0, 1), message::HEARTBEAT, 0, &[("term", 3)]);
        let end = script.end(rpc, &[]);
        script.recording.events[end].result = 14;
        (through_of(&script.recording), lost)
    };
    let (through, lost) = of(true, false);
    let Some(LostBefore { member: 2, loss: Some((loss, ago)) }) = through.lost_before else {
        panic!("{through:?}")
    };
    assert!(matches!(loss, Loss::Unled(one) if (one.leader, one.event) == (1, lost)), "{loss:?}");
    assert!((1_099..1_101).contains(&(ago / i128::from(MS))), "{ago}");
    assert_eq!(None, of(false, false).0.lost_before, "a serializable read");
    assert_eq!(None, of(true, true).0.lost_before, "it followed its leader again");
}

fn elections(script: &Script) -> Vec<Incident> {
    let order = Order::of(&script.recording);
    let all = incidents(&Stories::new(&script.recording, &order)).into_iter();
    all.filter(|one| matches!(one.address, Address::Election { .. })).collect()
}

/// Goal: a candidate that was not heard of any more asks for no votes. Method: member 2 asks in
/// vain and dies; its own records say that it asked. The others go on, for a short and a long time.
#[test]
fn an_election_is_over_when_its_only_candidate_has_fallen_silent() {
    for (until_ms, expected) in [(1_500, End::Open), (3_500, End::NobodyWon)] {
        let mut script = Script::new();
        script.beat(0, 3);
        script.frames(&[0, 1, 2], 1_000);
        script.asks_in_vain(1, 4, 1);
        script.frames(&[0, 2], until_ms);
        let [one] = elections(&script)[..] else { panic!("{:?}", elections(&script)) };
        assert_eq!((expected, 2), (one.outcome, one.by), "{until_ms}");
    }
}

/// Goal: a term has one winner, and one election that it won. Method: the second member wins term 4
/// while the old leader is cut off; that one steps down, asks for the same term, and then learns
/// who leads.
#[test]
fn a_cut_off_leader_that_asks_for_a_term_that_another_has_won_is_no_second_winner() {
    let mut script = Script::new();
    script.beat(0, 3);
    script.now_ns = 900 * MS;
    script.wins(4, 1);
    script.turn(2, &Turn { role: [FOLLOWER; 2], term: [3, 4], leader: [1, 2] });
    let index = [("term", 4), ("index", INDEX)];
    script.step(1, Stage::RaftEntry, 0, &index);
    script.step(1, Stage::RaftCommit, 0, &[("term", 4), ("commit.new", INDEX)]);
    script.now_ns = 1_500 * MS;
    script.turn(0, &Turn { role: [LEADER, FOLLOWER], term: [3; 2], leader: [1, 0] });
    script.now_ns = 3_000 * MS;
    script.step(0, Stage::ElectionTimeout, 0, &[("term", 3)]);
    script.step(0, Stage::ElectionCampaign, 0, &[("pre", 1), ("term.old", 3), ("term.new", 3)]);
    script.turn(0, &Turn { role: [FOLLOWER, PRE_CANDIDATE], term: [3; 2], leader: [0; 2] });
    script.now_ns = 6_000 * MS;
    script.turn(0, &Turn { role: [PRE_CANDIDATE, FOLLOWER], term: [3, 4], leader: [0, 2] });
    let all = elections(&script);
    let told: Vec<(End, u64)> = all.iter().map(|one| (one.outcome, one.by)).collect();
    assert_eq!(vec![(End::Won(2), 2), (End::NobodyWon, 1)], told);
    assert_ne!(all[0].address, all[1].address);
}

/// Goal: where heartbeats were forgotten, nobody is said to have been without a leader before
/// something shows it. Method: members with a keyframe a second, whose newest heartbeat is of a
/// minute ago when one of them campaigns; its measure of the silence is missing. The same with all
/// keyframes, and with nothing that shows a loss.
#[test]
fn a_time_without_a_leader_is_not_longer_than_the_records_prove() {
    let of = |gap_ms: u64, is_shown: bool| {
        let mut script = Script::new();
        script.beat(0, 3);
        for _ in 0..60_000 / gap_ms {
            script.now_ns += gap_ms * MS;
            for member in [1, 2] {
                let at = script.step(member, Stage::Keyframe, 0, &[("term", 3), ("leader", 1)]);
                script.recording.events[at].kind = Kind::Keyframe;
            }
        }
        script.wins(4, 1);
        let shows = |event: &Event| match event.stage {
            Stage::ElectionTimeout => true,
            Stage::ElectionCampaign | Stage::RaftRole => !is_shown && event.member == 1,
            _ => false,
        };
        script.beat(1, 4);
        script.recording.events.retain(|event| !shows(event));
        script.cluster().1.leaderless
    };
    let [gap] = of(1_000, true)[..] else { panic!() };
    let length = |gap: &crate::story::query::cluster::Leaderless| gap.to.unwrap() - gap.from;
    assert_eq!((Sign::Shown, None), (gap.sign, gap.last));
    assert!(length(&gap) < i128::from(MS), "{gap:?}");
    let [whole] = of(100, true)[..] else { panic!() };
    assert_eq!(Sign::Heard, whole.sign);
    assert!(59_000 * i128::from(MS) < length(&whole), "{whole:?}");
    assert!(of(1_000, false).is_empty(), "{:?}", of(1_000, false));
}

/// The put of a leader that had its entry at 1 ms, and gave up at 2 s; its followers were stopped.
/// The second member wins term 4 at 2.5 s, and commits the entry.
fn inherited() -> Recording {
    let mut script = Script::new();
    script.turn(0, &Turn { role: [FOLLOWER, LEADER], term: [2, 3], leader: [0, 1] });
    let rpc = script.begin(0, Stage::Rpc, PUT);
    let propose = script.begin(0, Stage::RaftPropose, PUT);
    let event = &mut script.recording.events[propose];
    *event = event.clone().with(&[("leader", 1)]);
    script.step(0, Stage::RaftInbox, PUT, &[]);
    let entry = [("term", 3), ("index", INDEX)];
    script.step(0, Stage::RaftEntry, PUT, &entry);
    script.disk(0, INDEX, INDEX);
    script.now_ns = 2_000 * MS;
    for begin in [propose, rpc] {
        let end = script.end(begin, &[("leader", 1)][..usize::from(begin == propose)]);
        script.recording.events[end].result = 4;
    }
    let carries = [("index", INDEX - 1), ("last", INDEX), ("commit", INDEX - 1), ("term", 3)];
    for peer in [1, 2] {
        script.message((0, peer), message::APP, 0, &carries);
        script.step(peer, Stage::RaftEntry, PUT, &entry);
        script.disk(peer, INDEX, INDEX);
    }
    script.now_ns = 2_500 * MS;
    script.wins(4, 1);
    let matched = [("peer", 3), ("match.old", INDEX - 1), ("match.new", INDEX)];
    script.step(1, Stage::RaftProgress, 0, &matched);
    let commit = [("term", 4), ("commit.old", INDEX - 1), ("commit.new", INDEX + 1)];
    script.step(1, Stage::RaftCommit, 0, &commit);
    script.recording
}

/// Goal: a put whose entry has its place in its leader's log waits for a majority, also if
/// another leader commits it later.
#[test]
fn a_put_that_its_leader_had_taken_does_not_wait_for_a_place_in_a_log() {
    let recording = inherited();
    let order = Order::of(&recording);
    let story = Story::of(&recording, &order, PUT).unwrap();
    let graph = Graph::of(&recording, &order, &story);
    assert_eq!(Some(1), graph.quorum.leader, "another has committed it");
    let path = critical_path(&recording, &order, &story, &graph).unwrap();
    let of = |wait| path.iter().filter(move |piece| piece.wait == wait).map(|piece| piece.ns);
    assert_eq!(0, of(Wait::InVain(Awaited::Entry)).count(), "{path:#?}");
    let vain: u64 = of(Wait::InVain(Awaited::Quorum)).sum();
    assert!(1_990 * MS < vain, "{path:#?}");
    let all: u64 = path.iter().map(|piece| piece.ns).sum();
    assert_eq!(recording.events[graph.rpc.unwrap()].took_ns, all);
}

/// Goal: a request that ended with its leader was never without one. Method: a put whose bytes had
/// waited in the socket for 10 ms, to a leader that dies.
#[test]
fn a_put_that_ended_with_its_leader_was_not_without_a_leader_before_it_began() {
    let mut script = Script::new();
    script.turn(0, &Turn { role: [FOLLOWER, LEADER], term: [2, 3], leader: [0, 1] });
    script.beat(0, 3);
    script.now_ns = 50 * MS;
    let waited = script.step(0, Stage::SocketQueue, PUT, &[]);
    let event = &mut script.recording.events[waited];
    (event.clock, event.at_ns, event.took_ns) = (event.clock_end, 40 * MS, 10 * MS);
    script.begin(0, Stage::Rpc, PUT);
    script.step(0, Stage::RaftInbox, PUT, &[]);
    script.now_ns = 900 * MS;
    script.wins(4, 1);
    script.message((1, 2), message::HEARTBEAT, 0, &[("term", 4)]);
    let through = through_of(&script.recording);
    let [without] = through.without[..] else { panic!("{through:?}") };
    assert!(without.is_its_end, "{without:?}");
    assert_eq!((through.to, through.to), (without.from, without.to));
    assert!(through.from <= without.from);
}
