//! Who waits for whom: what takes long must not happen under a lock that apply needs.
//!
//! Each test stops at a failpoint in the middle of the work, and looks there whether the locks are
//! free. Other tests' threads come along the same failpoints, so each looks for its own thread.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use super::{
    watchers::{Client, request},
    *,
};

/// How long something may take that must not wait at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls `act` with `of` and a number whenever this thread comes to a failpoint; 0 is the first
/// time. It keeps nothing alive: what it knows is dropped under a lock that every failpoint needs.
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

/// Goal: whoever has locked readers out does not wait for the disk. Method: a commit hangs; the
/// buffer becomes full between the moment at which a batch finds room and the one at which it has
/// the index.
#[test]
fn a_batch_that_has_the_index_does_not_wait_for_room() {
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
            // Until the sender is gone.
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

/// Goal: a pass that has much to search for holds up nobody. Method: in the middle of it, write.
#[test]
fn a_watcher_that_is_far_behind_is_served_without_locks() {
    let _scenario = fail::FailScenario::setup();
    let mut space = Space::new();
    for _ in 0..1500 {
        space.put("a", "1");
    }
    let mut client = Client::of(&space, 16);
    client.create(&request("a", "", 2)).unwrap();
    let times = at("watch-sync-shares", &space.store, |store, _| {
        assert!(store.index.try_write().is_ok(), "apply would have to wait");
        assert_eq!(store.watchers.counts(), (0, 1, 0));
    });
    assert!(space.store.sync_watchers());
    assert!(!space.store.sync_watchers());
    assert_eq!(times.load(Ordering::Acquire), 2);
    assert_eq!(client.told().len(), 2);
}

/// Goal: a watcher that is near the present is served without the lock, too, and misses nothing: it
/// is held only for what was written meanwhile. Method: in the middle of a pass, write.
#[test]
fn a_watcher_that_is_near_the_present_is_served_without_locks() {
    let _scenario = fail::FailScenario::setup();
    for (compacts, passes) in [(false, 2), (true, 1)] {
        let mut space = Space::new();
        for _ in 0..500 {
            space.put("a", "1");
        }
        let mut client = Client::of(&space, 16);
        client.create(&request("a", "", 2)).unwrap();
        let times = at("watch-sync-shares", &space.store, move |store, time| {
            assert_eq!(time == 0, store.index.try_write().is_ok(), "time {time}");
            if time > 0 {
                return;
            }
            let mut batch = store.batch();
            for value in ["2", "3"] {
                let (key, value) = (text("a"), text(value));
                let put = PutRequest { key, value, ..PutRequest::default() };
                batch.kv(1, KvRequest::Put(&put), Asker::Here).unwrap();
            }
            if compacts {
                let revision = batch.revision();
                let compact = CompactionRequest { revision, physical: false };
                batch.kv(1, KvRequest::Compact(&compact), Asker::Here).unwrap();
            }
        });
        // What is compacted meanwhile is not read as if it were complete.
        assert_eq!(space.store.sync_watchers(), compacts);
        fail::remove("watch-sync-shares");
        assert_eq!(times.load(Ordering::Acquire), passes);
        let (revision, events) = if compacts { (501, 500) } else { (503, 502) };
        let told = client.told().join("; ");
        assert!(told.contains(&format!("past {revision}: ")), "{told}");
        assert_eq!(told.matches("a=").count(), events, "{told}");
        assert_eq!(
            space.store.watcher_counts(),
            (usize::from(!compacts), usize::from(compacts), 0)
        );
    }
}

/// Goal: a transaction that only reads lets apply go on while it reads what it compares, and still
/// stands at one revision. Method: in the middle of it, write; and once also compact what it needs.
#[test]
fn comparisons_of_a_transaction_that_only_reads_hold_up_nobody() {
    use crate::pb::etcdserverpb::{
        Compare, RequestOp, TxnRequest, compare::TargetUnion, request_op::Request,
    };
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
                // The range of the answer comes along here, too.
                return;
            }
            assert!(store.index.try_write().is_ok(), "apply would have to wait");
            let mut batch = store.batch();
            let put = PutRequest { key: text("d"), value: text("no"), ..PutRequest::default() };
            batch.kv(99, KvRequest::Put(&put), Asker::Here).unwrap();
            if compacts {
                let revision = batch.revision();
                let compact = CompactionRequest { revision, physical: false };
                batch.kv(99, KvRequest::Compact(&compact), Asker::Here).unwrap();
            }
        });
        let response = space.store.small_txn(0, &request, usize::MAX).unwrap().unwrap();
        fail::remove("backend-resolve");
        assert!(times.load(Ordering::Acquire) > 0);
        // As of the revision before the put; or, since that is gone, as of the one after it.
        assert_eq!(response.header.unwrap().revision, expected);
        assert_eq!(response.succeeded, !compacts);
        let crate::pb::etcdserverpb::response_op::Response::ResponseRange(range) =
            response.responses.into_iter().next().unwrap().response.unwrap()
        else {
            panic!("a range is answered with something else");
        };
        assert_eq!((range.header.unwrap().revision, range.count), (expected, expected - 2));
    }
}

/// Goal: `HashKV` lets apply go on while it walks through the index, and gives the hash of one
/// moment. Method: between two steps, write; and once also compact.
#[test]
fn a_hash_lets_go_of_the_index_between_its_steps() {
    let _scenario = fail::FailScenario::setup();
    let space = Space::new();
    let mut batch = space.store.batch();
    for key in 0..=crate::server::mvcc::hash::KEYS_STEP {
        let key = text(&format!("k{key}"));
        let put = PutRequest { key, ..PutRequest::default() };
        batch.kv(1, KvRequest::Put(&put), Asker::Here).unwrap();
    }
    drop(batch);
    let before = space.store.hash_kv(0).unwrap();
    let times = at("mvcc-hash-step", &space.store, |store, time| {
        assert!(store.index.try_write().is_ok(), "apply would have to wait");
        let mut batch = store.batch();
        if time < 2 {
            let put = PutRequest { key: text("k0"), ..PutRequest::default() };
            batch.kv(2, KvRequest::Put(&put), Asker::Here).unwrap();
        }
        if time == 1 {
            let revision = batch.revision();
            let compact = CompactionRequest { revision, physical: false };
            batch.kv(3, KvRequest::Compact(&compact), Asker::Here).unwrap();
        }
    });
    let same = space.store.hash_kv(before.hash_revision).unwrap();
    assert_eq!((same.hash, same.compacted), (before.hash, -1));
    assert_eq!(times.load(Ordering::Acquire), 1);
    // The second walk is overtaken by the compaction, and the third is through.
    let after = space.store.hash_kv(0).unwrap();
    assert_eq!((after.hash_revision, after.compacted), (after.revision, after.revision));
    assert_eq!(times.load(Ordering::Acquire), 3);
    fail::remove("mvcc-hash-step");
    assert_eq!(space.store.hash_kv(0), Ok(after));
}

/// More keys than are visited with the index locked.
fn many_keys() -> Space {
    let space = Space::new();
    let mut batch = space.store.batch();
    for key in 0..9000 {
        let key = text(&format!("k{key:04}"));
        let put = PutRequest { key, ..PutRequest::default() };
        batch.kv(1, KvRequest::Put(&put), Asker::Here).unwrap();
    }
    drop(batch);
    space
}

/// Goal: what visits many keys is not done at once, however few it returns; a count of the present
/// visits none. Method: an old revision, and keys that are deleted.
#[test]
fn a_range_that_visits_many_keys_is_not_short() {
    let space = many_keys();
    let at_once = |range: &RangeRequest| {
        space.store.small_range(0, range, usize::MAX).unwrap().map(|range| range.count)
    };
    let count = RangeRequest { count_only: true, ..all() };
    let first = RangeRequest { limit: 1, ..all() };
    assert_eq!(at_once(&first), Some(9000));
    assert_eq!(at_once(&count), Some(9000));
    for range in [first.clone(), count.clone()] {
        let old = RangeRequest { revision: 5000, ..range };
        assert_eq!(at_once(&old), None);
        assert_eq!(space.store.range(0, &old).unwrap().count, 4999);
        // Few keys are short at any revision.
        let few = RangeRequest { key: text("k0000"), range_end: text("k0020"), ..old };
        assert_eq!(at_once(&few), Some(20));
    }
    let mut batch = space.store.batch();
    let (key, range_end) = (text("k0000"), text("k8000"));
    let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
    batch.kv(1, KvRequest::DeleteRange(&delete), Asker::Here).unwrap();
    drop(batch);
    assert_eq!(at_once(&first), None);
    assert_eq!(at_once(&count), Some(1000));
    let found = space.store.range(0, &first).unwrap();
    assert_eq!((found.kvs[0].key.clone(), found.count, found.more), (text("k8000"), 1000, true));
}

/// Goal: a long range lets apply go on, and still stands at one revision. Method: between two
/// portions, write, and once also compact what it needs; in every order and with limits.
#[test]
fn a_long_range_lets_go_of_the_index_between_its_portions() {
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
                    batch.kv(9, KvRequest::Put(&put), Asker::Here).unwrap();
                }
                if compacts {
                    let revision = batch.revision();
                    let compact = CompactionRequest { revision, physical: false };
                    batch.kv(9, KvRequest::Compact(&compact), Asker::Here).unwrap();
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
