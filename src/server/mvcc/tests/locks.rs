//! Long work must not happen under a lock that apply needs.
//!
//! Each test stops at a failpoint in the middle of the work, and checks that the locks are free.
//! Threads of other tests reach the same failpoints, so a test acts on its own thread only.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use super::{
    super::{older_keys::OlderKeys, read_txn::Attempt},
    watchers::{Client, request},
    *,
};
use crate::{
    pb::etcdserverpb::{Compare, RequestOp, compare::TargetUnion, request_op::Request},
    trace::Stage,
};

/// The time after which a call counts as blocked.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls `act` with `of` and a number, counted from 0, whenever this thread reaches a failpoint. It
/// holds a weak reference only, because its state is dropped under a lock that every failpoint
/// takes.
fn at<T: Send + Sync + 'static>(
    failpoint: &str,
    of: &Arc<T>,
    act: impl Fn(&T, usize) + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let (own, times) = (thread::current().id(), Arc::new(AtomicUsize::new(0)));
    let (of_callback, of) = (Arc::clone(&times), Arc::downgrade(of));
    let callback = move || {
        if thread::current().id() == own
            && let Some(of) = of.upgrade()
        {
            act(&of, of_callback.fetch_add(1, Ordering::AcqRel));
        }
    };
    fail::cfg_callback(failpoint, callback).unwrap();
    times
}

fn fill(backend: &Backend) {
    let mut guard = backend.write();
    for row in 0..4_u8 {
        guard.put(Bucket::Meta, &[row], Bytes::new());
    }
}

/// Goal: apply does not wait for the disk while it holds the index lock. Method: a commit hangs,
/// and the buffer becomes full after a batch has found room and before it locks the index.
#[test]
fn a_batch_does_not_wait_for_room_while_it_holds_the_index() {
    let _scenario = fail::FailScenario::setup();
    let folder = TempDir::new().unwrap();
    let batch_interval = Duration::from_secs(3600);
    let options = Options { batch_interval, batch_limit: 4, fsync: false };
    let backend = Backend::open(&folder.path().join("db"), options).unwrap();
    let store = Store::open(Arc::clone(&backend)).unwrap();
    let (release, hangs) = mpsc::channel::<()>();
    let (hangs, commit_thread) = (Mutex::new(hangs), backend.commit_thread());
    let hang = move || {
        if thread::current().id() == commit_thread {
            // Until the sender is dropped.
            let _ = hangs.lock().unwrap().recv();
        }
    };
    fail::cfg_callback("backend-after-freeze", hang).unwrap();
    fill(&backend);
    let (done, is_done) = mpsc::channel();
    let of_batch = Arc::clone(&store);
    let batch = thread::spawn(move || {
        let times = at("mvcc-batch-before-index", &backend, |backend, _| fill(backend));
        drop(of_batch.batch());
        done.send(times.load(Ordering::Acquire)).unwrap();
    });
    let outcome = is_done.recv_timeout(PATIENCE);
    drop(release);
    batch.join().unwrap();
    assert_eq!(outcome, Ok(1));
}

/// Goal: a long pass of the sync thread delays no writes. Method: in the middle of it, check the
/// locks.
#[test]
fn a_watcher_that_is_far_behind_catches_up_without_locks() {
    let _scenario = fail::FailScenario::setup();
    let mut space = Space::new();
    for _ in 0..1500 {
        space.put("a", "1");
    }
    let mut client = Client::of(&space, 16);
    client.create(&request("a", "", 2)).unwrap();
    let times = at("watch-sync-batches", &space.store, |store, _| {
        assert!(store.index.try_write().is_ok(), "apply would have to wait");
        assert_eq!(store.watcher_counts(), (0, 1, 0));
    });
    assert!(space.store.sync_watchers());
    assert!(!space.store.sync_watchers());
    assert_eq!(times.load(Ordering::Acquire), 2);
    assert_eq!(client.received().len(), 2);
}

/// Goal: a watcher that is near the newest revision catches up without the lock, which is held only
/// to read later writes, and misses nothing. Method: in the middle of a pass, write, and once also
/// compact.
#[test]
fn a_watcher_that_is_nearly_synced_catches_up_without_locks() {
    let _scenario = fail::FailScenario::setup();
    for (compacts, passes) in [(false, 2), (true, 1)] {
        let mut space = Space::new();
        for _ in 0..500 {
            space.put("a", "1");
        }
        let mut client = Client::of(&space, 16);
        client.create(&request("a", "", 2)).unwrap();
        let times = at("watch-sync-batches", &space.store, move |store, time| {
            assert_eq!(time == 0, store.index.try_write().is_ok(), "time {time}");
            if time > 0 {
                return;
            }
            let mut batch = store.batch();
            for value in ["2", "3"] {
                let (key, value) = (text("a"), text(value));
                let put = PutRequest { key, value, ..PutRequest::default() };
                batch.kv(1, KvRequest::Put(&put), ReplyTo::Client).unwrap();
            }
            if compacts {
                let revision = batch.revision();
                let compact = CompactionRequest { revision, physical: false };
                batch.kv(1, KvRequest::Compact(&compact), ReplyTo::Client).unwrap();
            }
        });
        // Revisions that were compacted meanwhile are not read, because rows may be missing.
        assert_eq!(space.store.sync_watchers(), compacts);
        fail::remove("watch-sync-batches");
        assert_eq!(times.load(Ordering::Acquire), passes);
        let (revision, events) = if compacts { (501, 500) } else { (503, 502) };
        let received = client.received().join("; ");
        assert!(received.contains(&format!("past {revision}: ")), "{received}");
        assert_eq!(received.matches("a=").count(), events, "{received}");
        assert_eq!(
            space.store.watcher_counts(),
            (usize::from(!compacts), usize::from(compacts), 0)
        );
    }
}

/// Goal: a transaction that only reads does not block apply while it reads the rows that it
/// compares, and still reads at one revision. Method: in the middle of it, write, and once also
/// compact its revision.
#[test]
fn comparisons_of_a_transaction_that_only_reads_do_not_block_apply() {
    let _scenario = fail::FailScenario::setup();
    let compare = Compare {
        target: 3,
        result: 3,
        key: text("\0"),
        range_end: text("\0"),
        target_union: Some(TargetUnion::Value(text("no"))),
    };
    let read = RequestOp { request: Some(Request::RequestRange(all())) };
    let request =
        TxnRequest { compare: vec![compare], success: vec![read.clone()], failure: vec![read] };
    for (compacts, expected) in [(false, 5), (true, 6)] {
        let space = three_keys();
        space.store.backend().commit_now();
        let times = at("backend-resolve", &space.store, move |store, time| {
            if time > 0 {
                // The range of the answer reaches this failpoint, too.
                return;
            }
            assert!(store.index.try_write().is_ok(), "apply would have to wait");
            let mut batch = store.batch();
            let put = PutRequest { key: text("d"), value: text("no"), ..PutRequest::default() };
            batch.kv(99, KvRequest::Put(&put), ReplyTo::Client).unwrap();
            if compacts {
                let revision = batch.revision();
                let compact = CompactionRequest { revision, physical: false };
                batch.kv(99, KvRequest::Compact(&compact), ReplyTo::Client).unwrap();
            }
        });
        let response = space.read_txn(&request).unwrap();
        fail::remove("backend-resolve");
        assert!(times.load(Ordering::Acquire) > 0);
        // It reads at the revision before the put; or, if that is compacted, at the one after it.
        assert_eq!(response.header.unwrap().revision, expected);
        assert_eq!(response.succeeded, !compacts);
        let crate::pb::etcdserverpb::response_op::Response::ResponseRange(range) =
            response.responses.into_iter().next().unwrap().response.unwrap()
        else {
            panic!("the response to a range is of another kind");
        };
        assert_eq!((range.header.unwrap().revision, range.count), (expected, expected - 2));
    }
}

/// Goal: `HashKV` does not block apply while it walks through the index, and still hashes one
/// revision. Method: between two steps, write, and once also compact.
#[test]
fn a_hash_releases_the_index_between_its_steps() {
    let _scenario = fail::FailScenario::setup();
    let space = Space::new();
    let mut batch = space.store.batch();
    for key in 0..=crate::server::mvcc::hash::STEP_KEYS {
        let key = text(&format!("k{key}"));
        let put = PutRequest { key, ..PutRequest::default() };
        batch.kv(1, KvRequest::Put(&put), ReplyTo::Client).unwrap();
    }
    drop(batch);
    let before = space.store.hash_kv(0, 0).unwrap();
    let times = at("mvcc-hash-step", &space.store, |store, time| {
        assert!(store.index.try_write().is_ok(), "apply would have to wait");
        let mut batch = store.batch();
        if time < 2 {
            let put = PutRequest { key: text("k0"), ..PutRequest::default() };
            batch.kv(2, KvRequest::Put(&put), ReplyTo::Client).unwrap();
        }
        if time == 1 {
            let revision = batch.revision();
            let compact = CompactionRequest { revision, physical: false };
            batch.kv(3, KvRequest::Compact(&compact), ReplyTo::Client).unwrap();
        }
    });
    let same = space.store.hash_kv(0, before.hash_revision).unwrap();
    assert_eq!((same.hash, same.compacted), (before.hash, -1));
    assert_eq!(times.load(Ordering::Acquire), 1);
    // The compaction stops the second walk, and the third one completes.
    let after = space.store.hash_kv(0, 0).unwrap();
    assert_eq!((after.hash_revision, after.compacted), (after.revision, after.revision));
    assert_eq!(times.load(Ordering::Acquire), 3);
    fail::remove("mvcc-hash-step");
    assert_eq!(space.store.hash_kv(0, 0), Ok(after));
}

/// A key space with more keys than are visited before the index is released.
fn many_keys() -> Space {
    let space = Space::new();
    let mut batch = space.store.batch();
    for key in 0..9000 {
        let key = text(&format!("k{key:04}"));
        let put = PutRequest { key, ..PutRequest::default() };
        batch.kv(1, KvRequest::Put(&put), ReplyTo::Client).unwrap();
    }
    drop(batch);
    space
}

/// Goal: a range that visits many keys is not answered at once, even if it returns few; a count at
/// the newest revision visits none. Method: an old revision, and deleted keys.
#[test]
fn a_range_that_visits_many_keys_is_not_answered_at_once() {
    let space = many_keys();
    let at_once =
        |range: &RangeRequest| space.store.short_range(0, range).unwrap().map(|range| range.count);
    let count = RangeRequest { count_only: true, ..all() };
    let first = RangeRequest { limit: 1, ..all() };
    assert_eq!(at_once(&first), Some(9000));
    assert_eq!(at_once(&count), Some(9000));
    for range in [first.clone(), count.clone()] {
        let old = RangeRequest { revision: 5000, ..range };
        assert_eq!(at_once(&old), None);
        assert!(matches!(space.store.small_range(7, &old, 1), Ok(Attempt::Long)));
        // A range that was not begun leaves no record.
        let records = crate::trace::own_records();
        assert!(records.iter().any(|record| record.stage() == Some(Stage::MvccRange)));
        assert!(records.iter().all(|record| record.id() != 7));
        assert_eq!(space.store.range(0, &old).unwrap().count, 4999);
        // A range of few keys is answered at once at any revision.
        let few = RangeRequest { key: text("k0000"), range_end: text("k0020"), ..old };
        assert_eq!(at_once(&few), Some(20));
    }
    let mut batch = space.store.batch();
    let (key, range_end) = (text("k0000"), text("k8000"));
    let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
    batch.kv(1, KvRequest::DeleteRange(&delete), ReplyTo::Client).unwrap();
    drop(batch);
    assert_eq!(at_once(&first), None);
    assert_eq!(at_once(&count), Some(1000));
    let found = space.store.range(0, &first).unwrap();
    assert_eq!((found.kvs[0].key.clone(), found.count, found.more), (text("k8000"), 1000, true));
}

/// Goal: a long range does not block apply, and still reads at one revision. Method: between two
/// portions, write, and once also compact its revision; with several orders and limits.
#[test]
fn a_long_range_releases_the_index_between_its_portions() {
    let _scenario = fail::FailScenario::setup();
    for (limit, compacts) in [(0, false), (8000, false), (0, true)] {
        let space = many_keys();
        for (sort_target, sort_order) in [(0, 0), (0, 2), (4, 1)] {
            let range = RangeRequest { limit, sort_target, sort_order, ..all() };
            let mut expected = space.store.range(0, &range).unwrap();
            let times = at("range-portion", &space.store, move |store, time| {
                assert!(store.index.try_write().is_ok(), "apply would have to wait");
                if time > 0 {
                    return;
                }
                let mut batch = store.batch();
                for key in ["k0000", "k8999", "z"] {
                    let put =
                        PutRequest { key: text(key), value: text("new"), ..Default::default() };
                    batch.kv(9, KvRequest::Put(&put), ReplyTo::Client).unwrap();
                }
                if compacts {
                    let revision = batch.revision();
                    let compact = CompactionRequest { revision, physical: false };
                    batch.kv(9, KvRequest::Compact(&compact), ReplyTo::Client).unwrap();
                }
            });
            let found = space.store.range(0, &range).unwrap();
            fail::remove("range-portion");
            assert!(times.load(Ordering::Acquire) > 0);
            if compacts {
                expected = space.store.range(0, &range).unwrap();
                assert!(expected.count == 9001 && expected.header == found.header);
            }
            assert!(found == expected, "order {sort_order} by {sort_target}, limit {limit}");
        }
    }
}

/// Goal: a comparison that visits many keys does not block apply, and still compares one revision.
/// Method: between two portions, change the last key, and once also compact the revision; the index
/// decides, or the rows.
#[test]
fn a_comparison_of_many_keys_releases_the_index_between_its_portions() {
    let _scenario = fail::FailScenario::setup();
    let by_index = (0, TargetUnion::Version(1));
    let by_rows = (3, TargetUnion::Value(Bytes::new()));
    for ((target, union), compacts) in
        [by_index, by_rows].into_iter().flat_map(|by| [(by.clone(), false), (by, true)])
    {
        let space = many_keys();
        let compare = Compare {
            target,
            key: text("\0"),
            range_end: text("\0"),
            target_union: Some(union),
            ..Compare::default()
        };
        let request = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
        let times = at("range-portion", &space.store, move |store, time| {
            assert!(store.index.try_write().is_ok(), "apply would have to wait");
            if time > 0 {
                return;
            }
            let mut batch = store.batch();
            let put =
                PutRequest { key: text("k8999"), value: text("new"), ..PutRequest::default() };
            batch.kv(9, KvRequest::Put(&put), ReplyTo::Client).unwrap();
            if compacts {
                let revision = batch.revision();
                let compact = CompactionRequest { revision, physical: false };
                batch.kv(9, KvRequest::Compact(&compact), ReplyTo::Client).unwrap();
            }
        });
        let response = space.read_txn(&request).unwrap();
        fail::remove("range-portion");
        // 9000 keys are three portions. After the compaction the comparison begins again.
        assert_eq!(times.load(Ordering::Acquire), if compacts { 3 } else { 2 });
        assert_eq!(response.succeeded, !compacts, "target {target}");
        let revision = if compacts { 9002 } else { 9001 };
        assert_eq!(response.header.unwrap().revision, revision);
    }
}

/// Goal: a comparison ends with the portion that decides it. Method: the first key does not satisfy
/// it.
#[test]
fn a_comparison_that_is_decided_visits_no_further_portion() {
    let _scenario = fail::FailScenario::setup();
    let space = many_keys();
    let times = at("range-portion", &space.store, |_, _| {});
    let compare = Compare {
        key: text("\0"),
        range_end: text("\0"),
        target_union: Some(TargetUnion::Version(2)),
        ..Compare::default()
    };
    let request = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
    assert!(!space.read_txn(&request).unwrap().succeeded);
    assert_eq!(times.load(Ordering::Acquire), 0);
}

/// Goal: a transaction of many ranges, each of few keys, does not block apply for all of them.
/// Method: between its ranges, check the lock.
#[test]
fn a_transaction_of_many_ranges_releases_the_index_between_them() {
    let _scenario = fail::FailScenario::setup();
    let space = many_keys();
    let range = RangeRequest { range_end: text("k3000"), ..all() };
    let range = RequestOp { request: Some(Request::RequestRange(range)) };
    let request = TxnRequest { success: vec![range; 3], ..TxnRequest::default() };
    let times = at("range-portion", &space.store, |store, _| {
        assert!(store.index.try_write().is_ok(), "apply would have to wait");
    });
    assert_eq!(space.read_txn(&request).unwrap().responses.len(), 3);
    assert_eq!(times.load(Ordering::Acquire), 2);
}

/// Searches to the end. Calls `between` after each portion but the last, and returns the number of
/// portions.
fn search(space: &Space, older: &mut OlderKeys, mut between: impl FnMut(usize)) -> usize {
    let mut portions = 1;
    while space.store.find_older_keys(older) {
        assert!(space.store.index.try_write().is_ok(), "apply would have to wait");
        between(portions);
        portions += 1;
    }
    portions
}

/// Goal: the search for older keys does not block apply, and its result is right for a caller that
/// then watches the youngest key. Method: after its first portion, delete a key that it has found
/// and one that it has not, put one of them again, add another, and compact.
#[test]
fn a_search_for_older_keys_releases_the_index_between_its_portions() {
    // Key number n was created at revision n + 2.
    for (before, deleted, youngest) in [(8002, "k7999", "k7998"), (102, "k0099", "k0099")] {
        let space = many_keys();
        let mut older = OlderKeys::new(all(), before);
        let portions = search(&space, &mut older, |portion| {
            if portion > 1 {
                return;
            }
            let mut batch = space.store.batch();
            for key in ["k0000", deleted] {
                let delete = DeleteRangeRequest { key: text(key), ..Default::default() };
                batch.kv(9, KvRequest::DeleteRange(&delete), ReplyTo::Client).unwrap();
            }
            for key in [deleted, "k5000-new"] {
                let put = PutRequest { key: text(key), ..PutRequest::default() };
                batch.kv(9, KvRequest::Put(&put), ReplyTo::Client).unwrap();
            }
            let revision = batch.revision();
            let compact = CompactionRequest { revision, physical: false };
            batch.kv(9, KvRequest::Compact(&compact), ReplyTo::Client).unwrap();
        });
        assert_eq!(portions, 3);
        let number: i64 = youngest[1..].parse().unwrap();
        let missed = usize::from(youngest != deleted);
        assert_eq!(older.youngest.as_ref().unwrap(), &(text(youngest), number + 2));
        assert_eq!(older.count, before as usize - 2 - missed);
        // A watcher that begins after it receives every deletion.
        assert_eq!(older.revision, 9001);
    }
}

/// Goal: after the first search for older keys, later ones visit only the keys between the first
/// and the last that it found, and none if all of these are deleted. Method: count portions.
#[test]
fn a_later_search_for_older_keys_visits_only_the_keys_that_were_older() {
    let space = many_keys();
    let mut older = OlderKeys::new(all(), 5002);
    assert_eq!((search(&space, &mut older, |_| {}), older.count), (3, 5000));
    let delete = |key: &str, range_end: &str| {
        let mut batch = space.store.batch();
        let (key, range_end) = (text(key), text(range_end));
        let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
        batch.kv(9, KvRequest::DeleteRange(&delete), ReplyTo::Client).unwrap();
    };
    delete("k0010", "k4990");
    older = older.again();
    assert_eq!((search(&space, &mut older, |_| {}), older.count), (2, 20));
    assert_eq!(older.youngest.as_ref().unwrap(), &(text("k4999"), 5001));
    delete("k4999", "");
    older = older.again();
    assert_eq!((search(&space, &mut older, |_| {}), older.count), (2, 19));
    assert_eq!(older.youngest.as_ref().unwrap(), &(text("k4998"), 5000));
    delete("k0000", "k5000");
    older = older.again();
    assert_eq!((search(&space, &mut older, |_| {}), older.count), (1, 0));
    assert_eq!((older.youngest, older.revision), (None, space.store.revision()));
}
