//! What the names of waits claim: which clocks measured them, what had not come, what was lost, and
//! what came of a write afterwards.

use super::*;
use crate::{
    story::query::{
        afterwards::Afterwards,
        ahead::ahead,
        graph::Graph,
        path::{Awaited, Segment, Taker, Wait, critical_path},
        through::StoodStill,
    },
    trace::Reason,
};

const OWN: u64 = 0x101;
const OTHER: u64 = 0x201;
const MS: u64 = 1_000_000;

fn graph_of(recording: &Recording, id: u64) -> (Order, Story, Graph) {
    let order = Order::of(recording);
    let story = Story::of(recording, &order, id).unwrap();
    let graph = Graph::of(recording, &order, &story);
    (order, story, graph)
}

fn path_of(recording: &Recording, id: u64) -> Vec<Segment> {
    let (order, story, graph) = graph_of(recording, id);
    critical_path(recording, &order, &story, &graph).unwrap()
}

fn afterwards(recording: &Recording, id: u64) -> Option<Afterwards> {
    let (order, story, graph) = graph_of(recording, id);
    Afterwards::of(recording, &order, &story, &graph)
}

/// Ends the call of a request when this step of it ends, with the code of a passed deadline.
fn given_up_at(recording: &mut Recording, id: u64, stage: Stage) {
    let at = recording
        .events
        .iter()
        .position(|event| (event.stage, event.id) == (stage, id) && event.kind != Kind::Begin);
    let over = recording.events[at.unwrap()].clone();
    let over_ns = over.at_ns + over.took_ns + 1;
    for event in recording.events.iter_mut().filter(|event| event.id == id) {
        let is_wait = matches!(event.stage, Stage::Rpc | Stage::RaftPropose);
        if is_wait && event.kind == Kind::Span {
            (event.result, event.took_ns) = (4, over_ns - event.at_ns);
            event.clock_end = over.clock_end;
        }
    }
}

/// Goal: `~` stands where two clocks were compared, and nowhere else. Method: real requests, some
/// of whose members' clocks are set wrong by an hour.
#[test]
fn only_a_piece_between_two_clocks_is_an_estimate() {
    const HOUR_NS: u64 = 3_600_000_000_000;
    for wrong in 0..3 {
        let mut recording = recorded();
        recording.members[wrong].boots.iter_mut().for_each(|boot| boot.wall_ns += HOUR_NS);
        for id in ALL {
            let path = path_of(&recording, id);
            assert!(path.iter().any(Segment::is_estimated));
            for piece in path {
                let [from, to] = [piece.from, piece.to].map(|at| recording.events[at].member);
                assert_eq!(from != to, piece.is_estimated(), "{piece:?}");
            }
        }
    }
}

/// Goal: a wait that ends with its call, or within the time without a leader, is measured by the
/// clock of its own member. Method: a put that gives up on the member that proposed it.
#[test]
fn a_wait_that_one_member_measured_alone_is_no_estimate_though_it_was_in_vain() {
    let mut recording = recorded();
    given_up_at(&mut recording, LEADER_PUT, Stage::RaftEntry);
    let path = path_of(&recording, LEADER_PUT);
    assert!(path.iter().any(|piece| matches!(piece.wait, Wait::InVain(_))), "{path:?}");
    assert!(!path.iter().any(Segment::is_estimated), "{path:?}");
}

/// Goal: what had not come is named. Method: the put of a follower, without the records after each
/// of its steps.
#[test]
fn a_wait_in_vain_says_what_had_not_come() {
    let whole = recorded();
    let of = |kept: &[Stage]| {
        let mut recording = whole.clone();
        let is_own = |event: &Event| event.id == FOLLOWER_PUT;
        recording.events.retain(|event| {
            let is_message = matches!(event.stage, Stage::RaftSend | Stage::RaftReceive);
            is_message || kept.contains(&event.stage) || is_own(event) && event.stage == Stage::Rpc
        });
        for event in recording.events.iter_mut().filter(|event| is_own(event)) {
            if matches!(event.stage, Stage::Rpc | Stage::RaftPropose) {
                event.result = 4;
            }
        }
        let path = path_of(&recording, FOLLOWER_PUT);
        let awaited = path.iter().find_map(|piece| match piece.wait {
            Wait::InVain(what) => Some(what),
            _ => None,
        });
        awaited.unwrap_or_else(|| panic!("{path:?}"))
    };
    let mut kept = vec![Stage::RaftPropose, Stage::RaftInbox];
    assert_eq!(Awaited::Entry, of(&kept));
    kept.push(Stage::RaftEntry);
    assert_eq!(Awaited::Quorum, of(&kept));
    kept.extend([Stage::WalWrite, Stage::WalFsync, Stage::RaftStable, Stage::RaftProgress]);
    assert_eq!(Awaited::Quorum, of(&kept));
    kept.push(Stage::RaftCommit);
    assert_eq!(Awaited::Apply, of(&kept));
}

/// Goal: a put that failed says whether it took effect, at which revision, and when.
#[test]
fn a_put_that_gave_up_says_what_came_of_it() {
    assert_eq!(None, afterwards(&recorded(), LEADER_PUT), "it was answered");
    let mut recording = recorded();
    given_up_at(&mut recording, LEADER_PUT, Stage::RaftEntry);
    let write = recording.events.iter().find(|event| {
        (event.stage, event.id, event.kind) == (Stage::MvccWrite, LEADER_PUT, Kind::Span)
    });
    let revision = write.and_then(|event| event.field("revision.new"));
    let Some(Afterwards::Applied { revision: told, after_ns, .. }) =
        afterwards(&recording, LEADER_PUT)
    else {
        panic!("{:?}", afterwards(&recording, LEADER_PUT));
    };
    assert_eq!(revision, told);
    assert!(0 < after_ns, "{after_ns}");
    let mut unseen = recording.clone();
    unseen.events.retain(|event| event.stage != Stage::ApplyEntry);
    assert_eq!(Some(Afterwards::Unknown), afterwards(&unseen, LEADER_PUT));
    for event in recording.events.iter_mut().filter(|event| event.stage == Stage::ApplyEntry) {
        event.reason = Some(crate::trace::Reason::LeaseNotFound);
    }
    assert_eq!(Some(Afterwards::Refused), afterwards(&recording, LEADER_PUT));
}

/// Goal: a standstill is what a member has recorded of itself; silence of its records is none.
#[test]
fn a_standstill_is_recorded_and_not_inferred_from_silence() {
    let mut script = Script::new();
    let rpc = script.begin(0, Stage::Rpc, OWN);
    script.now_ns += 700 * MS;
    script.end(rpc, &[]);
    let (.., graph) = graph_of(&script.recording, OWN);
    assert!(graph.through.is_empty(), "{:?}", graph.through);
    let stalled = script.step(0, Stage::ProcessStalled, 0, &[]);
    let event = &mut script.recording.events[stalled];
    (event.at_ns, event.took_ns) = (10 * MS, 600 * MS);
    let (.., graph) = graph_of(&script.recording, OWN);
    let [StoodStill { stall, before_ns, during_ns, after_ns, .. }] = graph.through.stalls[..]
    else {
        panic!("{:?}", graph.through)
    };
    assert_eq!((0, false, stalled), (stall.member, stall.is_leader, stall.event));
    assert_eq!([0, 600 * MS, 0], [before_ns, during_ns, after_ns]);
}

/// Goal: each step of a hash on its thread is named, the way there and the way back too.
#[test]
fn a_hash_names_its_queue_its_thread_and_the_ways_there_and_back() {
    let mut script = Script::new();
    let rpc = script.begin(0, Stage::Rpc, OWN);
    let queue = script.begin(0, Stage::ReadQueue, OWN);
    script.now_ns += MS;
    script.end(queue, &[("limit", 1)]);
    script.now_ns += 2 * MS;
    let thread = script.begin(0, Stage::ReadThread, OWN);
    let hash = script.begin(0, Stage::MvccHash, OWN);
    script.now_ns += 3 * MS;
    script.end(hash, &[]);
    script.end(thread, &[("waited", 2 * MS), ("limit", 1)]);
    let back = script.begin(0, Stage::ThreadReturn, OWN);
    script.now_ns += 4 * MS;
    script.end(back, &[]);
    script.recording.events.remove(back);
    script.end(rpc, &[("method", 23)]);
    let path = path_of(&script.recording, OWN);
    let of = |wait: Wait| {
        let of = path.iter().filter(|piece| piece.wait == wait);
        of.map(|piece| piece.ns / MS).sum::<u64>()
    };
    let names = [
        Wait::Step(Stage::ReadQueue),
        Wait::HandOver(Taker::Blocking),
        Wait::Step(Stage::MvccHash),
        Wait::HandOver(Taker::Grpc),
    ];
    assert_eq!([1, 2, 3, 4], names.map(of), "{path:#?}");
    let unnamed = path.iter().filter(|piece| !names.contains(&piece.wait));
    assert!(unnamed.map(|piece| piece.ns).sum::<u64>() < MS, "{path:#?}");
}

/// Goal: a physical compaction names the pauses of the thread that compacts, and the commit; but
/// none of a process that has ended.
#[test]
fn a_physical_compaction_names_the_pauses_and_the_commit() {
    let mut script = Script::new();
    let entry = [("term", 3), ("index", 1)];
    script.recording.members.truncate(1);
    let rpc = script.begin(0, Stage::Rpc, OWN);
    let propose = script.begin(0, Stage::RaftPropose, OWN);
    script.step(0, Stage::RaftEntry, OWN, &entry);
    script.disk(0, 1, 1);
    script.step(0, Stage::RaftCommit, 0, &[("commit.new", 1), ("completed_by", 1)]);
    script.step(0, Stage::ApplyEntry, OWN, &entry);
    script.end(propose, &[("leader", 1)]);
    let wait = script.begin(0, Stage::CompactWait, OWN);
    let revision = [("revision", 8)];
    for stage in [Stage::CompactIndex, Stage::CompactPause, Stage::CompactBatch] {
        let begin = script.begin(0, stage, 0);
        script.now_ns += 10 * MS;
        script.end(begin, &revision);
        script.recording.events.remove(begin);
    }
    script.end(wait, &revision);
    let commit = script.begin(0, Stage::CompactCommit, OWN);
    let file = script.begin(0, Stage::BackendCommit, 0);
    script.now_ns += 20 * MS;
    script.end(file, &[("index.old", 0), ("index.new", 1)]);
    script.end(commit, &[("waited", 1000)]);
    script.end(rpc, &[]);
    // A commit of the start before, which ended with its process.
    let earlier = BootInfo { boot: 0, wall_ns: 999_000_000 };
    script.recording.members[0].boots.push(earlier);
    let cut_off = Event { boot: 0, kind: Kind::Begin, ..Event::mark(0, Stage::BackendCommit, 1) };
    script.recording.events.push(cut_off);
    let (order, story, graph) = graph_of(&script.recording, OWN);
    let path = critical_path(&script.recording, &order, &story, &graph).unwrap();
    let stories = Stories::new(&script.recording, &order);
    let found: Vec<(Stage, u64)> = (ahead(&stories, &story, &path).iter())
        .flat_map(|one| one.behind.iter().map(|it| (it.stage, it.overlap_ns / MS)))
        .collect();
    let expected = [
        (Stage::CompactIndex, 10),
        (Stage::CompactPause, 10),
        (Stage::CompactBatch, 10),
        (Stage::BackendCommit, 20),
    ];
    assert_eq!(expected, found[..]);
}

/// A read that waits 20 ms for the round before its own, of whose end there is no record.
fn behind_a_round_without_an_end() -> Recording {
    const FIRST: u64 = 0x501;
    const SECOND: u64 = 0x601;
    let mut script = Script::new();
    script.begin(0, Stage::ReadIndexRound, FIRST);
    let rpc = script.begin(0, Stage::Rpc, OWN);
    let wait = script.begin(0, Stage::ReadIndexWait, OWN);
    script.now_ns += 20 * MS;
    let round = script.begin(0, Stage::ReadIndexRound, SECOND);
    let before = ("before", FIRST);
    script.recording.events[round].set(Stage::ReadIndexRound.slot("before"), FIRST);
    script.end(round, &[("reads", 1), ("attempt", 1), ("index", 9), before]);
    script.end(wait, &[("round", SECOND)]);
    script.step(0, Stage::MvccRange, OWN, &[]);
    script.end(rpc, &[]);
    script.recording
}

/// Goal: work whose end may have been lost is unknown, and not said to be in progress still.
#[test]
fn work_whose_end_may_have_been_lost_is_unknown() {
    let of = |recording: &Recording| {
        let (order, story, graph) = graph_of(recording, OWN);
        let path = critical_path(recording, &order, &story, &graph).unwrap();
        let stood = ahead(&Stories::new(recording, &order), &story, &path);
        let [found] = &stood[..] else { panic!("{stood:#?}") };
        (found.behind.len(), found.is_unknown)
    };
    let mut recording = behind_a_round_without_an_end();
    assert_eq!((1, false), of(&recording), "it is in progress, as far as captured");
    let clock = recording.events.last().unwrap().clock_end + 1;
    recording.events.push(Event::mark(0, Stage::Lost, clock));
    assert_eq!((0, true), of(&recording), "records were lost since");
    recording.events.pop();
    recording.events.push(Event::mark(0, Stage::Lost, 1));
    assert_eq!((1, false), of(&recording), "they were lost before");
    recording.events.pop();
    recording.dropped[0] = 3;
    assert_eq!((0, true), of(&recording), "nobody knows when they were lost");
}

/// Goal: a read of whose wait only the beginning was captured has the round that this names.
#[test]
fn a_read_without_the_end_of_its_wait_has_the_round_that_its_beginning_names() {
    let mut recording = recorded();
    let round = graph_of(&recording, LEADER_GET).2.round.unwrap().id;
    let is_end = |event: &Event| {
        (event.stage, event.id, event.kind) == (Stage::ReadIndexWait, LEADER_GET, Kind::Span)
    };
    recording.events.retain(|event| !is_end(event));
    // Members of this version name the round at once.
    for event in recording.events.iter_mut().filter(|event| event.id == LEADER_GET) {
        if event.stage == Stage::ReadIndexWait {
            event.set(Stage::ReadIndexWait.slot("round"), round);
        }
    }
    let found = graph_of(&recording, LEADER_GET).2.round.unwrap();
    assert_eq!((round, None), (found.id, found.gave_up));
    assert!(found.confirmed.is_some(), "{found:?}");
    let path = path_of(&recording, LEADER_GET);
    assert!(path.iter().any(|piece| matches!(piece.wait, Wait::Unknown(..))), "{path:?}");
}

/// Goal: from a watcher's story its passes are found, and from a pass the watchers; another start's
/// pass of the same number is another pass.
#[test]
fn a_pass_is_joined_to_the_watchers_that_it_brought_forward() {
    let mut script = Script::new();
    for id in [OWN, OTHER] {
        script.begin(1, Stage::Rpc, id);
    }
    let sync = script.begin(1, Stage::WatchSync, 0);
    for (id, watcher) in [(OWN, 3), (OTHER, 4)] {
        let fields = [("watcher", watcher), ("next.old", 2), ("next.new", 9), ("pass", 7)];
        let at = script.step(1, Stage::WatchForward, id, &fields);
        script.recording.events[at].kind = Kind::Mark;
    }
    let of_pass = [("from", 2), ("to", 8), ("watchers", 5), ("pass", 7)];
    let sync = script.end(sync, &of_pass);
    let elsewhere = script.step(2, Stage::WatchSync, 0, &of_pass);
    let order = Order::of(&script.recording);
    let stories = Stories::new(&script.recording, &order);
    let story = stories.of(OWN).unwrap();
    let [pass] = &stories.passes(&story)[..] else { panic!() };
    assert_eq!((7, 1, Some(sync)), (pass.number, pass.member, pass.event));
    assert_eq!(vec![OWN, OTHER], pass.watchers);
    let has = |at: usize| story.steps.iter().any(|step| step.event == at);
    assert_eq!([true, false], [sync, elsewhere].map(has));
}

/// Goal: a write that nobody was there to take is known to have no effect. Method: the same call
/// with one fact changed at a time.
#[test]
fn a_put_that_was_parked_until_its_timeout_was_never_proposed() {
    const SECOND_NS: u64 = 1_000_000_000;
    let parked = |changed: &dyn Fn(&mut Script)| {
        let mut script = Script::new();
        let rpc = script.begin(1, Stage::Rpc, PUT);
        let propose = script.begin(1, Stage::RaftPropose, PUT);
        script.step(1, Stage::RaftInbox, PUT, &[]);
        script.step(1, Stage::RaftPark, PUT, &[("term", 3)]);
        changed(&mut script);
        script.now_ns += 5 * SECOND_NS;
        for begun in [propose, rpc] {
            let end = script.end(begun, &[]);
            let event = &mut script.recording.events[end];
            (event.result, event.reason) = (14, Some(Reason::Timeout));
        }
        script
    };
    let known = |mut script: Script, later_ns: u64| {
        script.now_ns += later_ns;
        script.step(1, Stage::RaftCommit, 0, &[]);
        afterwards(&script.recording, PUT)
    };
    assert_eq!(Some(Afterwards::Parked(1)), known(parked(&|_| ()), 2 * SECOND_NS));
    let unknown = Some(Afterwards::Unknown);
    assert_eq!(unknown, known(parked(&|_| ()), SECOND_NS / 2), "it may yet propose it");
    let sends = parked(&|script| script.message((1, 0), message::PROP, 0, &[]));
    assert_eq!(unknown, known(sends, 2 * SECOND_NS), "a leader has come, with its batch");
    let again = parked(&|script| _ = script.step(1, Stage::RaftInbox, PUT, &[]));
    assert_eq!(unknown, known(again, 2 * SECOND_NS), "and once more, of which nothing is known");
    let mut lossy = parked(&|_| ());
    lossy.recording.dropped[1] = 1;
    assert_eq!(unknown, known(lossy, 2 * SECOND_NS), "records were lost");
}
