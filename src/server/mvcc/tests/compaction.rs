//! Compactions that are interrupted, and compaction bugs of etcd. Test names end in the issue's
//! number.

use super::{crash::summary, *};
use crate::{
    pb::{
        etcdserverpb::{RequestOp, TxnRequest, request_op::Request},
        mvccpb::event::EventType,
    },
    server::mvcc::watch::{Filters, News, WatchRequest},
};

/// Copies the file as a kill would leave it now, and opens the copy.
fn killed(space: &Space) -> Arc<Store> {
    let backend = space.store.backend();
    backend.commit_now();
    let image = backend.path().with_extension("killed");
    std::fs::copy(backend.path(), &image).unwrap();
    open(&image)
}

fn rows(store: &Store) -> usize {
    store.backend().range(Bucket::Key, b"", None, 0).len()
}

fn marks(store: &Store) -> (i64, i64) {
    let mark = |name| compact::mark(store.backend(), name).unwrap();
    (mark(compact::SCHEDULED), mark(compact::FINISHED))
}

/// Goal: a kill during a compaction loses nothing that can be read, and the compaction is resumed
/// after the restart. Method: a kill after each step of the compaction.
#[test]
fn a_compaction_that_is_killed_between_two_steps_loses_nothing_and_is_resumed() {
    let mut space = Space::new();
    for round in 0..6 {
        for key in ["a", "b", "c", "d"] {
            space.put(key, &round.to_string());
        }
        space.delete("b", "");
    }
    space.put("b", "again");
    let (all_rows, compacted) = (rows(&space.store), 26);
    space.compact(compacted).unwrap();
    let expected = summary(&space.store);
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let has_more = space.store.step_compaction(2);
        let crashed = killed(&space);
        assert_eq!(summary(&crashed), expected);
        let finished = if has_more { -1 } else { compacted };
        assert_eq!(marks(&crashed), (compacted, finished));
        seen.insert(rows(&crashed));
        let before = crashed.finished_compaction();
        while crashed.step_compaction(3) {}
        assert_eq!((before, crashed.finished_compaction()), (finished, compacted));
        assert_eq!(summary(&crashed), expected);
        if !has_more {
            assert_eq!(rows(&crashed), rows(&space.store));
            break;
        }
    }
    // There were many steps to interrupt.
    assert_eq!(seen.last(), Some(&all_rows));
    assert!(10 < seen.len(), "{seen:?}");
}

/// The same holds after a restart.
#[test]
fn a_compaction_that_is_applied_during_another_finishes_both() {
    let mut space = Space::new();
    for round in 0..20 {
        space.put(["a", "b", "c"][round % 3], "x");
    }
    space.compact(10).unwrap();
    for _ in 0..4 {
        assert!(space.store.step_compaction(1));
    }
    space.compact(18).unwrap();
    let crashed = killed(&space);
    assert_eq!((marks(&crashed), crashed.finished_compaction()), ((18, -1), -1));
    for store in [&space.store, &crashed] {
        while store.step_compaction(2) {}
        assert_eq!((marks(store), rows(store)), ((18, 18), 6));
    }
}

/// The rows of the newest revisions may be missing, as after a compaction by etcd before 3.5.16.
/// Then the marks of the compaction tell the newest revision.
#[test]
fn the_revision_does_not_go_back_when_the_newest_rows_are_compacted_17780() {
    for is_finished in [false, true] {
        let mut space = Space::new();
        space.put("a", "1");
        let (_, revision) = space.delete("a", "");
        space.compact(revision).unwrap();
        if is_finished {
            while space.store.step_compaction(100) {}
        }
        let mut guard = space.store.backend().write();
        guard.delete(Bucket::Key, &Revision::new(2, 0).row_key());
        guard.delete(Bucket::Key, &Revision::new(3, 0).tombstone_key());
        drop(guard);
        let mut space = space.restart();
        assert_eq!(rows(&space.store), 0);
        assert_eq!((space.store.revision(), space.store.compacted()), (3, 3));
        assert_eq!(space.put("a", "2"), 4);
    }
}

/// The events that a watcher of all keys gets from a revision on, as `+a3` and `-a4`.
fn received(store: &Arc<Store>, start_revision: i64) -> Vec<String> {
    let (mut stream, mut notices) = store.watch_stream(64);
    let (key, range_end) = (text("\0"), text("\0"));
    let filters = Filters::new(&[]);
    let request =
        WatchRequest { key, range_end, start_revision, filters, ..WatchRequest::default() };
    stream.create(&request).unwrap();
    store.sync_watchers();
    let mut received = Vec::new();
    while let Ok(notice) = notices.try_recv() {
        match notice.news {
            News::Events(news) => received.extend(news.events.iter().map(|event| {
                let kv = event.kv.as_ref().unwrap();
                let sign = if event.r#type == EventType::Put as i32 { '+' } else { '-' };
                format!("{sign}{}{}", show(&kv.key), kv.mod_revision)
            })),
            News::Compacted(revision) => received.push(format!("compacted {revision}")),
            News::Progress(_) | News::StreamProgress(_) => {}
        }
    }
    received
}

/// Goal: a watcher that starts at the compacted revision or later gets every event, deletions too.
/// Method: every history of four writes to two keys, every compaction and every start, before and
/// after the rows are deleted, and after a restart.
#[test]
fn a_watcher_that_starts_at_the_compacted_revision_misses_no_deletion_18089_19179() {
    for history in 0..4_u32.pow(4) {
        for compacted in 2..=5 {
            let mut space = Space::new();
            let mut events = Vec::new();
            for step in 0..4 {
                let choice = history / 4_u32.pow(step) % 4;
                let key = if choice % 2 == 0 { "a" } else { "b" };
                let revision = space.store.revision() + 1;
                if choice < 2 {
                    events.push((space.put(key, "x"), format!("+{key}{revision}")));
                } else if space.delete(key, "").0 == 1 {
                    events.push((revision, format!("-{key}{revision}")));
                }
            }
            if space.store.revision() < compacted {
                continue;
            }
            space.compact(compacted).unwrap();
            let check = |store: &Arc<Store>, when: &str| {
                for start in compacted..=store.revision() {
                    let from = events.iter().filter(|(revision, _)| start <= *revision);
                    let expected: Vec<String> = from.map(|(_, event)| event.clone()).collect();
                    let received = received(store, start);
                    assert_eq!(received, expected, "{events:?}, {compacted}, {start}, {when}");
                }
                assert_eq!(received(store, compacted - 1), [format!("compacted {compacted}")]);
            };
            check(&space.store, "scheduled");
            while space.store.step_compaction(1) {}
            check(&space.store, "done");
            // Copying and opening the file takes time, so only some of the histories are restarted.
            if (31 * history + u32::try_from(compacted).unwrap()) % 13 == 0 {
                check(&killed(&space), "restarted");
            }
        }
    }
}

/// Goal: a call that waits for a compaction is woken by its last portion, and by no earlier one.
/// Method: a task waits while portions are done, one row at a time.
#[tokio::test]
async fn a_call_that_waits_for_a_compaction_is_woken_by_its_last_portion() {
    let mut space = three_keys();
    space.compact(4).unwrap();
    let store = Arc::clone(&space.store);
    let call = tokio::spawn(async move { store.compaction_finished(4).await });
    let mut portions = 0;
    loop {
        tokio::task::yield_now().await;
        assert!(!call.is_finished(), "after {portions} portions");
        portions += 1;
        if !space.store.step_compaction(1) {
            break;
        }
    }
    assert!(2 < portions);
    tokio::time::timeout(Duration::from_secs(20), call).await.expect("it is woken").unwrap();
    for revision in [3, 4] {
        let at_once = futures_util::FutureExt::now_or_never;
        assert!(at_once(space.store.compaction_finished(revision)).is_some(), "{revision}");
    }
}

/// Goal: a transaction that reads a compacted revision has the same outcome on all members, and
/// changes none of them. Method: one member has deleted the rows, one is still visiting its index,
/// one has not begun to, and one was restarted.
#[test]
fn a_transaction_that_reads_a_compacted_revision_is_refused_by_every_member_18667() {
    let mut members = [(); 4].map(|()| three_keys());
    for (steps, member) in [100, 1, 0, 2].into_iter().zip(&mut members) {
        member.compact(4).unwrap();
        for _ in 0..steps {
            member.store.step_compaction(2);
        }
    }
    let [first, second, third, fourth] = members;
    let mut members = [first, second, third, fourth.restart()];
    let range = |revision| RangeRequest { key: text("b"), revision, ..RangeRequest::default() };
    let put = PutRequest { key: text("new"), ..PutRequest::default() };
    let op = |request| RequestOp { request: Some(request) };
    for (revision, expected) in [
        (2, Err(Error::Compacted)),
        (3, Err(Error::Compacted)),
        (4, Ok(6)),
        (99, Err(Error::FutureRevision)),
    ] {
        let success =
            vec![op(Request::RequestPut(put.clone())), op(Request::RequestRange(range(revision)))];
        let request = TxnRequest { success, ..TxnRequest::default() };
        for (at, member) in members.iter_mut().enumerate() {
            let before = (member.store.revision(), member.hash(0));
            let outcome =
                member.apply(KvRequest::Txn(&expand(&request))).map(|response| match response {
                    KvResponse::Txn(response) => response.header.unwrap().revision,
                    other => panic!("{other:?}"),
                });
            assert_eq!(outcome, expected, "m{at} at {revision}");
            if outcome.is_err() {
                assert_eq!((member.store.revision(), member.hash(0)), before);
            }
        }
        let hashes = members.each_ref().map(|member| member.hash(0));
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?} at {revision}");
    }
}
