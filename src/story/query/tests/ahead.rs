//! What waits stood behind, where the script determines it.

use super::*;
use crate::story::query::{
    ahead::{self, Ahead, Resource},
    path::{Awaited, Taker, Wait, critical_path},
    slow::{Causes, Window},
};

/// The request whose waits are looked at.
const OWN: u64 = 0x101;
/// Requests that are served before it.
const EARLIER: u64 = 0x201;
const FELLOW: u64 = 0x301;
const SLOW_NS: u64 = 30_000_000;

/// The beginnings of a write's rpc and proposal.
struct Begun {
    rpc: usize,
    propose: usize,
}

impl Script {
    fn mark(&mut self, stage: Stage, id: u64, fields: &[(&str, u64)]) -> usize {
        let at = self.step(0, stage, id, fields);
        let event = &mut self.recording.events[at];
        (event.kind, event.at_ns, event.took_ns) = (Kind::Mark, event.at_ns + event.took_ns, 0);
        event.clock = event.clock_end;
        at
    }

    /// A write whose entry is in the log of the first member.
    fn proposed(&mut self, id: u64, index: u64) -> Begun {
        let rpc = self.begin(0, Stage::Rpc, id);
        let propose = self.begin(0, Stage::RaftPropose, id);
        self.mark(Stage::RaftInbox, id, &[]);
        self.mark(Stage::RaftEntry, id, &[("term", 3), ("index", index)]);
        Begun { rpc, propose }
    }

    /// Entries from `first` to `last` are written, and their fsync begins.
    fn written(&mut self, first: u64, last: u64) -> usize {
        let fields = [("first", first), ("last", last), ("gathered", 100)];
        self.step(0, Stage::WalWrite, 0, &fields);
        self.begin(0, Stage::WalFsync, 0)
    }

    fn synced(&mut self, begin: usize, first: u64, last: u64) -> usize {
        let synced = [("synced.old", first - 1), ("synced.new", last)];
        self.end(begin, &[&[("first", first), ("last", last)], &synced[..]].concat())
    }

    fn committed(&mut self, old: u64, new: u64) {
        let fields = [("commit.old", old), ("commit.new", new), ("completed_by", 1)];
        self.mark(Stage::RaftCommit, 0, &fields);
    }

    /// Applies an entry in this time, after it was handed over that long ago.
    fn applied(&mut self, id: u64, index: u64, took_ns: u64, waited: u64) -> usize {
        let begin = self.begin(0, Stage::ApplyEntry, id);
        self.now_ns += took_ns;
        let fields = [("term", 3), ("index", index), ("waited", waited)];
        let at = self.end(begin, &fields);
        self.recording.events.remove(begin);
        at - 1
    }

    fn answered(&mut self, Begun { rpc, propose }: Begun) {
        self.end(propose, &[("leader", 1)]);
        self.end(rpc, &[]);
    }
}

fn ahead_of(recording: &Recording, id: u64) -> Vec<Ahead> {
    let order = Order::of(recording);
    let stories = Stories::new(recording, &order);
    let story = stories.of(id).unwrap();
    let graph = stories.graph(&story);
    let path = critical_path(recording, &order, &story, &graph).unwrap();
    ahead::ahead(&stories, &story, &path)
}

/// A put whose entry comes while the disk syncs those of two others.
fn behind_an_fsync() -> (Recording, usize) {
    let mut script = Script::new();
    script.proposed(EARLIER, 1);
    script.proposed(FELLOW, 2);
    let fsync = script.written(1, 2);
    let own = script.proposed(OWN, 3);
    script.now_ns += SLOW_NS;
    let before = script.synced(fsync, 1, 2);
    let fsync = script.written(3, 3);
    script.synced(fsync, 3, 3);
    script.committed(0, 3);
    for (id, index) in [(EARLIER, 1), (FELLOW, 2), (OWN, 3)] {
        script.step(0, Stage::ApplyEntry, id, &[("term", 3), ("index", index)]);
    }
    script.answered(own);
    (script.recording, before)
}

#[test]
fn a_put_names_the_fsync_before_its_own_and_the_requests_that_shared_it() {
    let (recording, before) = behind_an_fsync();
    let [found] = &ahead_of(&recording, OWN)[..] else {
        panic!("{:#?}", ahead_of(&recording, OWN))
    };
    assert_eq!((Wait::HandOver(Taker::Wal), Resource::Disk), (found.wait, found.resource));
    let [behind] = &found.behind[..] else { panic!("{found:#?}") };
    assert_eq!((before, &[EARLIER, FELLOW][..], 0), (behind.event, &behind.ids[..], behind.others));
    assert!(SLOW_NS <= behind.overlap_ns && behind.overlap_ns <= found.ns, "{found:#?}");
    assert!(!found.is_unknown);
}

#[test]
fn a_request_ahead_that_was_not_captured_is_counted() {
    let (mut recording, _) = behind_an_fsync();
    recording.events.retain(|event| event.id != FELLOW);
    let found = &ahead_of(&recording, OWN)[0];
    assert_eq!((&[EARLIER][..], 1), (&found.behind[0].ids[..], found.behind[0].others));
}

#[test]
fn an_fsync_ahead_that_was_not_captured_is_unknown_and_not_nothing() {
    let (mut recording, before) = behind_an_fsync();
    recording.events.remove(before);
    let [found] = &ahead_of(&recording, OWN)[..] else { panic!() };
    assert_eq!((true, true), (found.behind.is_empty(), found.is_unknown));
}

#[test]
fn many_requests_are_told_what_they_stood_behind_in_sum() {
    let (recording, before) = behind_an_fsync();
    let causes = Causes::of(&recording, &Order::of(&recording), Window::default());
    let [first] = &causes.blockers[..] else { panic!("{:#?}", causes.blockers) };
    assert_eq!(
        (Resource::Disk, Some(Stage::WalFsync), 1),
        (first.resource, first.stage, first.requests)
    );
    assert_eq!((OWN, Some(before), first.ns), (first.worst, first.worst_event, first.worst_ns));
    assert!(SLOW_NS <= first.ns);
    let mut recording = recording;
    recording.events.remove(before);
    let causes = Causes::of(&recording, &Order::of(&recording), Window::default());
    assert_eq!((Resource::Disk, None), (causes.blockers[0].resource, causes.blockers[0].stage));
}

/// The other fact: the disk was free, and the wal thread only slow to take the write.
#[test]
fn a_put_that_found_the_disk_free_stood_behind_nothing() {
    let mut script = Script::new();
    script.proposed(EARLIER, 1);
    let fsync = script.written(1, 1);
    script.synced(fsync, 1, 1);
    let own = script.proposed(OWN, 2);
    script.now_ns += SLOW_NS;
    let fsync = script.written(2, 2);
    script.synced(fsync, 2, 2);
    script.committed(0, 2);
    script.applied(EARLIER, 1, 0, 0);
    script.applied(OWN, 2, 0, 0);
    script.answered(own);
    assert_eq!(Vec::<Ahead>::new(), ahead_of(&script.recording, OWN));
}

/// A put that is handed to apply together with two others, of which one takes long.
fn behind_entries() -> Recording {
    let mut script = Script::new();
    script.proposed(EARLIER, 1);
    script.proposed(FELLOW, 2);
    let own = script.proposed(OWN, 3);
    let fsync = script.written(1, 3);
    script.synced(fsync, 1, 3);
    script.committed(0, 3);
    let handed = script.now_ns;
    script.applied(EARLIER, 1, 1000, 0);
    script.applied(FELLOW, 2, SLOW_NS, 0);
    let waited = script.now_ns + 1000 - handed;
    script.applied(OWN, 3, 0, waited);
    script.answered(own);
    script.recording
}

#[test]
fn a_put_names_the_entries_that_were_applied_before_it_and_how_long_each_took() {
    let recording = behind_entries();
    let [found] = &ahead_of(&recording, OWN)[..] else {
        panic!("{:#?}", ahead_of(&recording, OWN))
    };
    assert_eq!((Wait::HandOver(Taker::Apply), Resource::Apply), (found.wait, found.resource));
    let ids: Vec<&[u64]> = found.behind.iter().map(|one| &one.ids[..]).collect();
    assert_eq!([&[EARLIER][..], &[FELLOW]], ids[..]);
    let [short, long] = [0, 1].map(|at| found.behind[at].overlap_ns);
    assert!(short < SLOW_NS && SLOW_NS <= long && long <= found.ns, "{found:#?}");
    assert!(!found.is_unknown);
}

#[test]
fn an_entry_ahead_that_was_not_captured_is_unknown() {
    let mut recording = behind_entries();
    recording.events.retain(|event| (event.stage, event.id) != (Stage::ApplyEntry, FELLOW));
    let [found] = &ahead_of(&recording, OWN)[..] else { panic!() };
    assert_eq!((true, true), (found.behind.is_empty(), found.is_unknown));
}

/// Goal: an entry that waits for the commit of the file, because the write buffer is full, says so.
#[test]
fn a_put_that_waited_for_the_full_write_buffer_names_the_commit() {
    let mut script = Script::new();
    let own = script.proposed(OWN, 2);
    let fsync = script.written(2, 2);
    script.synced(fsync, 2, 2);
    let commit = script.begin(0, Stage::BackendCommit, 0);
    script.committed(1, 2);
    let handed = script.now_ns;
    let wait = script.begin(0, Stage::BufferWait, 0);
    script.now_ns += SLOW_NS;
    let commit = script.end(commit, &[("index.old", 0), ("index.new", 1)]);
    script.end(wait, &[]);
    let waited = script.now_ns + 1000 - handed;
    script.applied(OWN, 2, 0, waited);
    script.answered(own);
    let found = ahead_of(&script.recording, OWN);
    let apply = found.iter().find(|one| one.resource == Resource::Apply).unwrap();
    assert_eq!([commit], apply.behind.iter().map(|one| one.event).collect::<Vec<_>>()[..]);
    assert!(SLOW_NS <= apply.behind[0].overlap_ns, "{apply:#?}");
}

#[test]
fn a_put_names_the_entries_of_its_batch_whose_end_it_waited_for() {
    let mut script = Script::new();
    let own = script.proposed(OWN, 1);
    script.proposed(FELLOW, 2);
    let fsync = script.written(1, 2);
    script.synced(fsync, 1, 2);
    script.committed(0, 2);
    script.applied(OWN, 1, 0, 0);
    let later = script.applied(FELLOW, 2, SLOW_NS, 0);
    script.answered(own);
    let [found] = &ahead_of(&script.recording, OWN)[..] else { panic!() };
    assert_eq!((later, &[FELLOW][..]), (found.behind[0].event, &found.behind[0].ids[..]));
}

/// A read that comes while a round of two others is in progress.
fn behind_a_round(before: u64) -> (Recording, usize) {
    const FIRST: u64 = 0x501;
    const SECOND: u64 = 0x601;
    let mut script = Script::new();
    let waits: Vec<usize> =
        [EARLIER, FELLOW].iter().map(|id| script.begin(0, Stage::ReadIndexWait, *id)).collect();
    let round = script.begin(0, Stage::ReadIndexRound, FIRST);
    let rpc = script.begin(0, Stage::Rpc, OWN);
    let wait = script.begin(0, Stage::ReadIndexWait, OWN);
    script.now_ns += SLOW_NS;
    let end = script.end(round, &[("reads", 3), ("attempt", 1), ("index", 9)]);
    waits.into_iter().for_each(|wait| _ = script.end(wait, &[("round", FIRST)]));
    let round = script.begin(0, Stage::ReadIndexRound, SECOND);
    let begun = &mut script.recording.events[round];
    begun.set(Stage::ReadIndexRound.slot("before"), before);
    script.end(round, &[("reads", 1), ("attempt", 1), ("index", 9), ("before", before)]);
    script.end(wait, &[("round", SECOND)]);
    script.step(0, Stage::MvccRange, OWN, &[]);
    script.end(rpc, &[]);
    (script.recording, end)
}

#[test]
fn a_read_names_the_round_before_its_own_and_the_reads_in_it() {
    let (recording, end) = behind_a_round(0x501);
    let [found] = &ahead_of(&recording, OWN)[..] else {
        panic!("{:#?}", ahead_of(&recording, OWN))
    };
    assert_eq!((Wait::HandOver(Taker::Coordinator), Resource::Round), (found.wait, found.resource));
    let behind = &found.behind[0];
    assert_eq!((end, &[EARLIER, FELLOW][..], 1), (behind.event, &behind.ids[..], behind.others));
    assert!(SLOW_NS <= behind.overlap_ns);
}

#[test]
fn a_read_whose_round_began_late_for_another_reason_names_no_round() {
    let (mut recording, end) = behind_a_round(0x501);
    recording.events.retain(|event| event.id != 0x501);
    assert!(ahead_of(&recording, OWN)[0].is_unknown, "the round before was not captured");
    let (mut recording, _) = behind_a_round(0);
    assert_eq!(Stage::ReadIndexRound, recording.events[end].stage);
    recording.events.retain(|event| event.id != 0x501);
    assert_eq!(Vec::<Ahead>::new(), ahead_of(&recording, OWN), "there was none");
    // The end of an earlier round is missing: its own record says that it was none before this one.
    let (mut recording, end) = behind_a_round(0);
    recording.events.remove(end);
    assert_eq!(Vec::<Ahead>::new(), ahead_of(&recording, OWN), "it was over");
    let (mut recording, end) = behind_a_round(0x501);
    recording.events.remove(end);
    let begun = &ahead_of(&recording, OWN)[0].behind[0];
    assert_eq!(Kind::Begin, recording.events[begun.event].kind, "it was in progress");
}

/// Goal: a read that gave up before its own round began names the round that was in progress.
#[test]
fn a_read_that_gave_up_before_its_round_names_the_one_before() {
    let (mut recording, end) = behind_a_round(0x501);
    // The call ends 10 µs before the end of the round that it stands behind.
    let over_ns = recording.events[end].at_ns + recording.events[end].took_ns - 10_000;
    let clock = recording.events[end].clock_end - 1;
    for event in &mut recording.events {
        let is_end = event.kind == Kind::Span;
        if is_end && event.id == OWN && event.stage != Stage::MvccRange {
            (event.result, event.took_ns) = (1, over_ns - event.at_ns);
            event.clock_end = clock;
        }
    }
    recording.events.retain(|event| event.stage != Stage::MvccRange);
    let [found] = &ahead_of(&recording, OWN)[..] else {
        panic!("{:#?}", ahead_of(&recording, OWN))
    };
    assert_eq!((Wait::InVain(Awaited::Round), Resource::Round), (found.wait, found.resource));
    assert_eq!([end], found.behind.iter().map(|one| one.event).collect::<Vec<_>>()[..]);
    assert!(SLOW_NS - 20_000 <= found.ns && found.ns == found.behind[0].overlap_ns, "{found:#?}");
}

/// A read that waits for one of two permits, which two others hold; the second is still at work.
fn behind_long_reads() -> Recording {
    let mut script = Script::new();
    let limit = ("limit", 2);
    let first = script.begin(0, Stage::ReadThread, EARLIER);
    let second = script.begin(0, Stage::ReadThread, FELLOW);
    let hash = script.begin(0, Stage::ReadThread, 0x701);
    for begun in [first, second] {
        script.recording.events[begun].set(Stage::ReadThread.slot("limit"), 2);
    }
    // The second has its permit, and its thread begins only after the read has begun to wait.
    let late = &mut script.recording.events[second];
    late.at_ns += 5_000;
    late.set(Stage::ReadThread.slot("waited"), 5_000);
    let rpc = script.begin(0, Stage::Rpc, OWN);
    let queue = script.begin(0, Stage::ReadQueue, OWN);
    script.now_ns += SLOW_NS;
    script.end(hash, &[("limit", 1)]);
    script.end(first, &[limit]);
    script.end(queue, &[("ahead", 0), limit]);
    let own = script.begin(0, Stage::ReadThread, OWN);
    script.step(0, Stage::MvccRange, OWN, &[]);
    script.end(own, &[limit]);
    script.end(rpc, &[]);
    script.recording
}

#[test]
fn a_long_read_names_those_that_held_the_permits() {
    let [found] = &ahead_of(&behind_long_reads(), OWN)[..] else { panic!() };
    assert_eq!(Resource::LongReads, found.resource);
    let ids: Vec<u64> = found.behind.iter().flat_map(|one| one.ids.clone()).collect();
    assert_eq!(([EARLIER, FELLOW], false), ([ids[0], ids[1]], found.is_unknown), "{found:#?}");
    assert_eq!(2, ids.len(), "neither the hash nor the read itself");
}

#[test]
fn a_holder_of_a_permit_that_was_not_captured_is_unknown() {
    let mut recording = behind_long_reads();
    recording.events.retain(|event| event.id != FELLOW);
    assert!(ahead_of(&recording, OWN)[0].is_unknown);
}

/// A Lock call behind the key of another.
fn behind_a_lock() -> Recording {
    let mut script = Script::new();
    script.mark(Stage::LockEnter, EARLIER, &[("own", 7), ("first", 7)]);
    let own = script.proposed(OWN, 1);
    let fsync = script.written(1, 1);
    script.synced(fsync, 1, 1);
    script.committed(0, 1);
    script.applied(OWN, 1, 0, 0);
    script.end(own.propose, &[("leader", 1)]);
    let wait = script.begin(0, Stage::LockWait, OWN);
    script.now_ns += SLOW_NS;
    let fields = [("own", 9), ("before", 7), ("ahead", 1), ("deleted", 12), ("by", FELLOW)];
    script.end(wait, &fields);
    script.end(own.rpc, &[]);
    script.recording
}

#[test]
fn a_lock_names_the_call_with_the_key_before_its_own_and_who_deleted_it() {
    let [found] = &ahead_of(&behind_a_lock(), OWN)[..] else { panic!() };
    assert_eq!(Resource::Lock, found.resource);
    assert_eq!([EARLIER, FELLOW], found.behind[0].ids[..]);
    assert_eq!(found.ns, found.behind[0].overlap_ns);
    let mut recording = behind_a_lock();
    recording.events.retain(|event| event.stage != Stage::LockEnter);
    assert!(ahead_of(&recording, OWN)[0].is_unknown);
}

#[test]
fn a_physical_compaction_names_the_passes_over_its_own_revision() {
    let mut script = Script::new();
    let own = script.proposed(OWN, 1);
    let fsync = script.written(1, 1);
    script.synced(fsync, 1, 1);
    script.committed(0, 1);
    script.applied(OWN, 1, 0, 0);
    script.end(own.propose, &[("leader", 1)]);
    let wait = script.begin(0, Stage::CompactWait, OWN);
    let (mut index, mut other) = (0, 0);
    for (revision, place) in [(5, &mut index), (4, &mut other)] {
        let begin = script.begin(0, Stage::CompactIndex, 0);
        script.now_ns += SLOW_NS;
        *place = script.end(begin, &[("revision", revision)]);
    }
    script.end(wait, &[("revision", 5)]);
    script.end(own.rpc, &[]);
    script
        .recording
        .events
        .retain(|event| (event.stage, event.kind) != (Stage::CompactIndex, Kind::Begin));
    let [found] = &ahead_of(&script.recording, OWN)[..] else { panic!() };
    let [behind] = &found.behind[..] else { panic!("{found:#?}") };
    let event = &script.recording.events[behind.event];
    assert_eq!((5, Stage::CompactIndex), (field!(event, CompactIndex, revision), event.stage));
    assert!((SLOW_NS..2 * SLOW_NS).contains(&behind.overlap_ns));
}
