use super::*;
use crate::trace::record::Head;

const US: u64 = 1000;
const RAFT: u8 = 3;
const GRPC: u8 = 1;

/// A step from one time to another, in microseconds, which are its clocks too.
fn step(stage: Stage, id: u64, [from, to]: [u64; 2], fields: &[(&str, u64)]) -> Record {
    let mut words = [0; 8];
    for (name, value) in fields {
        words[stage.slot(name)] = *value;
    }
    let kind = if from == to { Kind::Mark } else { Kind::Span };
    let head = Head { stage: stage as u8, kind: kind as u8, ..Head::default() };
    let mut record = Record::new(head, from, from * US, id, &words);
    record.set_length(to - from, (to - from) * US);
    record
}

fn fsync(times: [u64; 2], [first, last]: [u64; 2]) -> Record {
    let fields =
        [("first", first), ("last", last), ("synced.old", first - 1), ("synced.new", last)];
    step(Stage::WalFsync, 0, times, &fields)
}

fn batch(times: [u64; 2], [first, last]: [u64; 2]) -> Record {
    step(Stage::ApplyBatch, 0, times, &[("first", first), ("last", last)])
}

fn entry(index: u64, at: u64) -> Record {
    step(Stage::RaftEntry, 100 + index, [at, at], &[("index", index)])
}

/// The beginnings of the steps before, in microseconds, and whether their requests are looked up.
fn told(before: &[Before]) -> Vec<(u64, bool)> {
    before.iter().map(|one| (one.record.clock(), one.is_for_ids)).collect()
}

/// Goal: of three fsyncs before the one of a kept entry, that which was in progress when the entry
/// was appended is kept with its requests; the one that proves that there was no other is kept
/// alone, and the one before that is not kept.
#[test]
fn an_fsync_is_kept_with_the_one_that_its_entry_stood_behind() {
    let mut ahead = Ahead::default();
    ahead.learn(&entry(10, 250));
    for (times, range) in [([1, 100], [1, 3]), ([101, 240], [4, 5]), ([251, 400], [6, 9])] {
        assert!(ahead.follow(&fsync(times, range), false, false).is_empty());
    }
    // The entry came after the fsync of 4 and 5, and before that of 6 to 9 began.
    let before = ahead.follow(&fsync([401, 500], [10, 12]), true, true);
    assert_eq!([(251, true), (101, false)], told(&before)[..]);
    let before = ahead.follow(&fsync([501, 600], [13, 13]), true, true);
    assert_eq!([(401, true)], told(&before)[..], "nothing is known of entry 13");
    assert!(before[0].is_sent);
    assert!(ahead.follow(&fsync([601, 700], [15, 15]), true, true).is_empty(), "one is missing");
}

/// Goal: a step that several kept ones stood behind has its requests looked up once.
#[test]
fn requests_are_looked_up_once() {
    let mut ahead = Ahead::default();
    let applied = |index| {
        let fields = [("index", index), ("waited", 50 * US)];
        step(Stage::ApplyEntry, 1, [130, 140], &fields)
    };
    ahead.follow(&batch([1, 100], [1, 9]), false, false);
    ahead.learn(&applied(10));
    assert_eq!([(1, true)], told(&ahead.follow(&batch([120, 150], [10, 12]), true, true))[..]);
    // The second batch was handed over when the first had ended: nothing was ahead of it.
    ahead.learn(&step(Stage::ApplyEntry, 1, [160, 170], &[("index", 13), ("waited", 5 * US)]));
    assert_eq!([(120, false)], told(&ahead.follow(&batch([158, 180], [13, 13]), true, true))[..]);
    let mut again = Ahead::default();
    again.follow(&batch([1, 100], [1, 9]), false, false);
    again.learn(&applied(10));
    again.follow(&batch([120, 150], [10, 10]), true, true);
    again.learn(&applied(11));
    again.follow(&batch([151, 160], [11, 11]), true, true);
    let steps = &again.steps[&Stage::ApplyBatch];
    assert!(steps[0].is_told && steps[0].is_sent);
}

#[test]
fn a_round_is_kept_with_the_one_that_was_in_progress() {
    let mut ahead = Ahead::default();
    let round = |id, times, before| step(Stage::ReadIndexRound, id, times, &[("before", before)]);
    ahead.follow(&round(7, [1, 10], 0), false, false);
    ahead.follow(&round(8, [11, 20], 7), false, false);
    assert_eq!([(11, true)], told(&ahead.follow(&round(9, [21, 30], 8), true, true))[..]);
    assert!(ahead.follow(&round(10, [40, 50], 0), true, true).is_empty());
}

#[test]
fn the_first_requests_of_a_step_are_found_in_the_rings() {
    let raft = Ring::new(RAFT, 256);
    let grpc = Ring::new(GRPC, 256);
    for index in 1..60 {
        raft.put_noted(&entry(index, index).words);
        // Other steps lie between them.
        let other = step(Stage::RaftProgress, 0, [index, index], &[]);
        (0..3).for_each(|_| raft.put_noted(&other.words));
    }
    for read in 1..20 {
        let fields = [("round", 7 + read % 2)];
        let wait = step(Stage::ReadIndexWait, 200 + read, [read, 100 + read], &fields);
        grpc.put_noted(&wait.words);
    }
    let rings = [&grpc, &raft];
    let of = |step: Record| ids(rings.into_iter(), &step);
    assert_eq!([140, 141, 142, 143, 144, 145], of(fsync([1, 2], [40, 58]))[..]);
    assert_eq!([157, 158, 0, 0, 0, 0], of(fsync([1, 2], [57, 58]))[..]);
    assert_eq!([140, 0, 0, 0, 0, 0], of(batch([1, 2], [40, 40]))[..]);
    let round = step(Stage::ReadIndexRound, 7, [1, 110], &[]);
    assert_eq!([210, 212, 214, 216, 218], of(round)[..], "earlier reads belong to another");
    // The ring holds 64 entries no more.
    for index in 60..200 {
        raft.put_noted(&entry(index, index).words);
        raft.put_noted(&entry(index, index).words);
    }
    assert!(of(fsync([1, 2], [40, 58])).is_empty());
}
