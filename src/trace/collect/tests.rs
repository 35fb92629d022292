use std::{collections::BTreeSet, sync::mpsc, thread};

use tokio::sync::mpsc::error::TryRecvError;

use super::*;
use crate::{
    field, fields, slot,
    trace::{
        Configuration, Slot, message,
        record::{FLAG_KEPT, Kind, Record},
        ring,
        stage::Stage,
    },
};

const MS: u64 = 1_000_000;

/// A collector without its thread: the test says when it reads. Each test has a member prefix of
/// its own, because the rings belong to the process and tests run side by side.
fn collector(prefix: u64) -> Collector {
    let collector = collector_as_started(prefix);
    // A machine that is busy must not make a request slow.
    collector.set_slow(Duration::from_secs(3600));
    collector
}

fn collector_as_started(prefix: u64) -> Collector {
    Collector::new(Info {
        member_id: prefix,
        cluster_id: 1,
        name: "m".to_owned(),
        version: "0".to_owned(),
        boot: 2,
        wall_ns: 0,
    })
}

fn id(prefix: u64, counter: u64, is_kept: bool) -> u64 {
    prefix << 48 | counter << 1 | u64::from(is_kept)
}

/// Enough passes for everything written to come out.
fn settle(collector: &Collector) {
    (0..4).for_each(|_| collector.pass(now_ns()));
}

fn received(subscription: &mut Subscription) -> Vec<Record> {
    let mut records = Vec::new();
    while let Ok(batch) = subscription.batches.try_recv() {
        records.extend(batch.records);
    }
    records
}

fn stages_of(records: &[Record], id: u64) -> Vec<(Stage, Kind)> {
    let own = records.iter().filter(|record| record.id() == id);
    own.map(|record| (record.stage().unwrap(), record.kind().unwrap())).collect()
}

/// Drives every loop of the test's own thread above the quiet rate, so that only rules decide.
fn noise() {
    (0..=QUIET).for_each(|_| crate::mark!(RaftProgress, 0, peer = 1));
}

#[test]
fn kept_requests_come_out_in_clock_order_and_others_stay() {
    const OWN: u64 = 0x6001;
    let collector = collector(OWN);
    let mut subscription = collector.subscribe(Filter::default());
    let (kept, other) = (id(OWN, 1, true), id(OWN, 2, false));
    for id in [kept, other] {
        let rpc = crate::stage!(Rpc, id, method = 2_u64).begun();
        ring::key(id, b"foo");
        drop(crate::stage!(RpcValidate, id));
        drop(rpc);
    }
    settle(&collector);
    let records = received(&mut subscription);
    let expected = vec![
        (Stage::Rpc, Kind::Begin),
        (Stage::Key, Kind::Key),
        (Stage::RpcValidate, Kind::Span),
        (Stage::Rpc, Kind::Span),
    ];
    assert_eq!(expected, stages_of(&records, kept));
    assert_eq!(Vec::<(Stage, Kind)>::new(), stages_of(&records, other));
    let own: Vec<&Record> = records.iter().filter(|record| record.id() == kept).collect();
    assert!(own.iter().all(|r| r.head().flags & FLAG_KEPT != 0 && r.head().boot == 2));
}

#[test]
fn a_request_that_fails_is_kept_after_all_with_the_fsync_that_covers_it() {
    const OWN: u64 = 0x6002;
    const INDEX: u64 = 6_000_200;
    let collector = collector(OWN);
    let mut subscription = collector.subscribe(Filter::default());
    let failed = id(OWN, 1, false);
    let mut rpc = crate::stage!(Rpc, failed, method = 2_u64).begun();
    crate::mark!(RaftEntry, failed, term = 1, index = INDEX);
    drop(crate::stage!(WalFsync, 0, first = INDEX - 1, last = INDEX));
    drop(crate::stage!(WalFsync, 0, first = INDEX + 1, last = INDEX + 2));
    noise();
    // The loops' records are read and left behind before anybody knows.
    settle(&collector);
    assert_eq!(0, stages_of(&received(&mut subscription), failed).len());
    rpc.result(14);
    drop(rpc);
    noise();
    (0..16).for_each(|_| collector.pass(now_ns()));
    let records = received(&mut subscription);
    let own = stages_of(&records, failed);
    let expected =
        [(Stage::Rpc, Kind::Begin), (Stage::RaftEntry, Kind::Mark), (Stage::Rpc, Kind::Span)];
    assert_eq!(BTreeSet::from(expected), own.into_iter().collect());
    let fsyncs: Vec<_> =
        records.iter().filter(|r| r.stage() == Some(Stage::WalFsync)).map(|r| r.words[8]).collect();
    assert!(fsyncs.contains(&INDEX), "{fsyncs:?}");
    assert!(!fsyncs.contains(&(INDEX + 2)), "{fsyncs:?}");
}

/// Goal: a request that turns out to be slow or to fail is kept with what it stood behind, though
/// nobody had chosen it. Method: its entry was appended during an fsync for another request.
#[test]
fn a_request_that_fails_is_kept_with_the_fsync_that_it_stood_behind() {
    const OWN: u64 = 0x6019;
    const INDEX: u64 = 6_001_900;
    let collector = collector(OWN);
    let mut subscription = collector.subscribe(Filter::default());
    let (failed, other) = (id(OWN, 1, false), id(OWN, 2, false));
    let mut rpc = crate::stage!(Rpc, failed, method = 2_u64).begun();
    let fsync = |last: u64| {
        crate::stage!(
            WalFsync,
            0,
            first = last,
            last = last,
            synced_old = last - 1,
            synced_new = last
        )
    };
    let (written, is_written) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    // Where requests of a step are looked up, entries are those of the raft thread.
    let steps = move || {
        ring::set_thread("raft");
        drop(fsync(INDEX - 2));
        crate::mark!(RaftEntry, other, term = 1, index = INDEX - 1);
        let before = fsync(INDEX - 1);
        crate::mark!(RaftEntry, failed, term = 1, index = INDEX);
        drop(before);
        drop(fsync(INDEX));
        written.send(()).unwrap();
        // The ring of a thread that has ended is not searched again.
        let _ = stopped.recv();
    };
    let raft = thread::spawn(steps);
    is_written.recv().unwrap();
    noise();
    settle(&collector);
    let early = received(&mut subscription);
    rpc.result(14);
    drop(rpc);
    (0..16).for_each(|_| collector.pass(now_ns()));
    let records = [early, received(&mut subscription)].concat();
    let all = |stage| records.iter().filter(move |record| record.stage() == Some(stage));
    let fsyncs = all(Stage::WalFsync).filter(|record| record.head().flags & FLAG_KEPT != 0);
    let own = |record: &&Record| (INDEX - 2..=INDEX).contains(&field!(record, WalFsync, last));
    let kept: BTreeSet<u64> =
        fsyncs.clone().filter(own).map(|record| field!(record, WalFsync, last)).collect();
    assert_eq!(BTreeSet::from([INDEX - 2, INDEX - 1, INDEX]), kept, "and what ended before it");
    let is_before = |record: &&Record| field!(record, WalFsync, last) == INDEX - 1;
    let before = fsyncs.clone().find(is_before).unwrap();
    let shared: Vec<u64> = all(Stage::Shared)
        .filter(|record| field!(record, Shared, step) == before.clock())
        .map(|record| field!(record, Shared, first))
        .collect();
    assert_eq!([other], shared[..], "whom it was for, once");
    drop(stop);
    raft.join().unwrap();
}

#[test]
fn under_load_loops_keep_only_passes_that_cover_a_kept_entry() {
    const OWN: u64 = 0x6003;
    const INDEX: u64 = 6_000_300;
    let collector = collector(OWN);
    let mut subscription = collector.subscribe(Filter::default());
    noise();
    let send = |index: u64| {
        let app = message::APP;
        drop(
            crate::stage!(RaftSend, 0, peer = 6003_u64, type = app, index = index - 1, last = index),
        );
    };
    // The send is read before the entry is: both are there when it is decided.
    send(INDEX);
    collector.pass(now_ns());
    crate::mark!(RaftEntry, id(OWN, 1, true), term = 1, index = INDEX);
    send(INDEX + 1);
    noise();
    settle(&collector);
    let records = received(&mut subscription);
    let sends: Vec<_> = records
        .iter()
        .filter(|r| r.stage() == Some(Stage::RaftSend) && field!(r, RaftSend, peer) == 6003)
        .map(|r| field!(r, RaftSend, last))
        .collect();
    assert_eq!(vec![INDEX], sends);
}

#[test]
fn a_subscriber_gets_history_on_request_and_keyframes() {
    const OWN: u64 = 0x6004;
    let collector = collector(OWN);
    let kept = id(OWN, 1, true);
    drop(crate::stage!(RpcValidate, kept));
    settle(&collector);
    let mut without = collector.subscribe(Filter::default());
    let mut with = collector.subscribe(Filter { history: true, ..Filter::default() });
    collector.pass(now_ns());
    assert_eq!(0, stages_of(&received(&mut without), kept).len());
    let records = received(&mut with);
    assert_eq!(vec![(Stage::RpcValidate, Kind::Span)], stages_of(&records, kept));
    let parts = [Stage::Keyframe, Stage::KeyframeBackend, Stage::KeyframeProcess];
    let is_frame = |r: &&Record| r.stage().is_some_and(|stage| parts.contains(&stage));
    assert_eq!(3, records.iter().filter(is_frame).count());
    // Five minutes later it is still remembered.
    collector.pass(now_ns() + 300_000 * MS);
    let mut late = collector.subscribe(Filter { history: true, ..Filter::default() });
    collector.pass(now_ns() + 300_000 * MS);
    assert_eq!(1, stages_of(&received(&mut late), kept).len());
}

#[test]
fn the_watermark_passes_only_records_that_were_sent() {
    const OWN: u64 = 0x6005;
    let collector = collector(OWN);
    let everything = Filter { traces_per_second: 10_000, ..Filter::default() };
    let mut subscription = collector.subscribe(everything);
    let (mut expected, mut sent) = (BTreeSet::new(), BTreeSet::new());
    let mut watermark = 0;
    for counter in 0..200 {
        let kept = id(OWN, counter, true);
        // The step is open while the rings are read.
        let step = crate::stage!(RpcValidate, kept);
        collector.pass(now_ns());
        drop(step);
        expected.insert(kept);
        while let Ok(batch) = subscription.batches.try_recv() {
            for record in batch.records.iter().filter(|record| expected.contains(&record.id())) {
                assert!(watermark < record.clock_end(), "{watermark} was said to be complete");
                sent.insert(record.id());
            }
            watermark = batch.watermark;
        }
    }
    settle(&collector);
    sent.extend(received(&mut subscription).iter().map(Record::id));
    assert_eq!(0, expected.difference(&sent).count());
}

#[test]
fn records_overwritten_before_they_were_read_are_reported_as_lost() {
    const OWN: u64 = 0x6006;
    let collector = collector(OWN);
    let mut subscription = collector.subscribe(Filter::default());
    settle(&collector);
    let _ = received(&mut subscription);
    let (stop, stopped) = mpsc::channel::<()>();
    let writer = thread::spawn(move || {
        (0..10_000).for_each(|_| drop(crate::stage!(RpcValidate, id(OWN, 1, true))));
        let _ = stopped.recv();
    });
    let mut lost = 0;
    while lost == 0 {
        settle(&collector);
        while let Ok(batch) = subscription.batches.try_recv() {
            let records = batch.records.iter().filter(|r| r.stage() == Some(Stage::Lost));
            lost += records.map(|r| field!(r, Lost, records)).sum::<u64>();
            assert!(lost <= batch.dropped, "{lost} of {}", batch.dropped);
        }
    }
    drop(stop);
    writer.join().unwrap();
}

#[test]
fn an_armed_filter_recognises_requests_until_its_subscriber_goes() {
    let collector = collector(0x6007);
    assert!(!collector.is_armed(2, b"foo"));
    let all = collector.subscribe(Filter::default());
    assert!(!collector.is_armed(2, b"foo"));
    let filter = Filter { method: Some(2), key_prefix: b"fo".to_vec(), ..Filter::default() };
    let armed = collector.subscribe(filter);
    let answers =
        [(2, b"foo"), (1, b"foo"), (2, b"bar")].map(|(m, key)| collector.is_armed(m, key));
    assert_eq!([true, false, false], answers);
    drop((all, armed));
    settle(&collector);
    assert!(!collector.is_armed(2, b"foo"));
}

#[test]
fn a_leaders_first_entry_belongs_to_no_request_and_reaches_every_subscriber() {
    const OWN: u64 = 0x6008;
    const INDEX: u64 = 6_000_800;
    let collector = collector(OWN);
    let filter = Filter { key_prefix: b"foo".to_vec(), errors_only: true, ..Filter::default() };
    let mut subscription = collector.subscribe(filter);
    noise();
    crate::mark!(RaftEntry, 0, term = 7, index = INDEX);
    crate::mark!(RaftCommit, 0, term = 7, commit_old = INDEX - 1, commit_new = INDEX);
    settle(&collector);
    let records = received(&mut subscription);
    let has = |slot: Slot| {
        let of_stage = records.iter().filter(|r| r.stage() == Some(slot.stage()));
        of_stage.map(|r| r.number(&[slot])).any(|index| index == INDEX)
    };
    assert!(has(slot!(RaftEntry, index)) && has(slot!(RaftCommit, commit_new)));
}

/// Goal: threads that serve peers and clients do not wait for a pass. Method: hold the lock that a
/// pass holds while they call, and see that the next pass does what they asked for.
#[test]
fn requests_of_peers_and_observers_wait_for_the_next_pass() {
    const OWN: u64 = 0x6009;
    let collector = collector(OWN);
    let reported = id(OWN, 1, false);
    drop(crate::stage!(RpcValidate, reported));
    let method = Filter { method: Some(2), ..Filter::default() };
    let mut subscription = {
        let _pass = collector.state.lock().unwrap();
        collector.pin_reported(reported);
        (100..1000).for_each(|counter| collector.pin_reported(id(OWN, counter, false)));
        let armed = collector.subscribe(method);
        assert!(collector.is_armed(2, b"foo"));
        drop(armed);
        collector.subscribe(Filter::default())
    };
    assert_eq!(WAITING_MAX, collector.left.lock().unwrap().reported.len());
    settle(&collector);
    let records = received(&mut subscription);
    assert_eq!(vec![(Stage::RpcValidate, Kind::Span)], stages_of(&records, reported));
    assert!(!collector.is_armed(2, b"foo"), "its subscriber has gone");
}

#[test]
fn a_subscriber_that_no_pass_has_served_ends_with_the_collector_too() {
    let collector = collector(0x600a);
    let mut late = collector.subscribe(Filter::default());
    collector.finish();
    while late.batches.try_recv().is_ok() {}
    assert_eq!(Err(TryRecvError::Disconnected), late.batches.try_recv());
}

/// Goal: a reader knows how long a method usually takes, whether it asked for the history or not.
/// Method: kept requests with a method that no other test uses.
#[test]
fn every_subscriber_learns_what_is_usual() {
    const OWN: u64 = 0x6017;
    const METHOD: u64 = 20;
    let collector = collector(OWN);
    for counter in 1..=30 {
        let is_kept = counter <= 20;
        drop(crate::stage!(Rpc, id(OWN, counter, is_kept), method = METHOD));
    }
    let usual = |records: Vec<Record>| {
        let stage = |record: &Record| field!(record, Usual, stage) == Stage::Rpc as u64;
        let is_meant = |record: &&Record| {
            record.stage() == Some(Stage::Usual)
                && stage(record)
                && field!(record, Usual, method) == METHOD
        };
        let found: Vec<u64> =
            records.iter().filter(is_meant).map(|it| field!(it, Usual, samples)).collect();
        found
    };
    let mut early = collector.subscribe(Filter::default());
    settle(&collector);
    assert_eq!([20], usual(received(&mut early))[..]);
    for history in [true, false] {
        let mut late = collector.subscribe(Filter { history, ..Filter::default() });
        settle(&collector);
        assert_eq!([20], usual(received(&mut late))[..], "history: {history}");
    }
}

/// Goal: a reader knows the voters and the learners, after each change and however long ago the
/// last one was.
#[test]
fn every_subscriber_learns_who_the_members_are() {
    let (collector, marks) = (collector(0x6019), crate::trace::Watermarks::new());
    // As the collector's own pass, but with watermarks that no other test writes.
    let pass = |count: u64| {
        for _ in 0..count {
            let mut state = collector.lock();
            let left = mem::take(&mut *collector.lock_left());
            state.begin(left.subscribers, now_ns());
            state.pass(now_ns(), &marks);
        }
    };
    let configuration = |index: u64, learners: &[u64]| Configuration {
        index,
        voters: vec![1, 2],
        learners: learners.to_vec(),
    };
    let told = |subscription: &mut Subscription| {
        let records = received(subscription).into_iter();
        let records = records.filter(|record| record.stage() == Some(Stage::RaftMembers));
        records
            .map(|it| fields!(it, RaftMembers: index, subject, learner, number, members))
            .collect::<Vec<[u64; 5]>>()
    };
    let mut early = collector.subscribe(Filter::default());
    marks.configured(Configuration::default());
    pass(10);
    assert!(told(&mut early).is_empty(), "a member that joins knows no members");
    // Two changes between two looks.
    marks.configured(configuration(4, &[]));
    marks.configured(configuration(5, &[3]));
    pass(10);
    let last = [[5, 1, 0, 1, 3], [5, 2, 0, 2, 3], [5, 3, 1, 3, 3]];
    assert_eq!(told(&mut early), [&[[4, 1, 0, 1, 2], [4, 2, 0, 2, 2]], &last[..]].concat());
    pass(10);
    assert!(told(&mut early).is_empty(), "once is enough");
    for history in [true, false] {
        let mut late = collector.subscribe(Filter { history, ..Filter::default() });
        pass(10);
        let told = told(&mut late);
        assert!(told.ends_with(&last), "history: {history}: {told:?}");
    }
}

/// Goal: a reader knows that quick steps are left out, however long ago that began.
#[test]
fn every_subscriber_learns_that_quick_steps_are_left_out() {
    let collector = collector(0x6018);
    collector.lock().note_brief(true, 7, now_ns());
    settle(&collector);
    // Ten minutes later, the member's memory of loops is long over.
    (0..4).for_each(|_| collector.pass(now_ns() + 600_000 * MS));
    for history in [true, false] {
        let mut late = collector.subscribe(Filter { history, ..Filter::default() });
        settle(&collector);
        let records = received(&mut late);
        let told: Vec<_> = records.iter().filter(|it| it.stage() == Some(Stage::Brief)).collect();
        let told: Vec<u64> = told.iter().map(|record| field!(record, Brief, on)).collect();
        assert_eq!([1], told[..], "history: {history}");
    }
}
