//! Watchers that are behind: they start in the past, a compaction overtakes them, or their queue is
//! full.

use std::collections::BTreeMap;

use prost::Message as _;

use super::*;
use crate::pb::etcdserverpb::WatchResponse;

#[test]
fn a_watcher_of_the_past_catches_up_with_one_notice_and_then_gets_new_events() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 16);
    client.watch("b", "", 2);
    client.watch("a", "c", 3);
    // The watchers are unsynced, so this event comes with the others.
    space.put("b", "2");
    assert_eq!(client.received(), Vec::<String>::new());
    assert!(!space.store.sync_watchers());
    let expected = ["0 past 6: b=0@2 b=1@4 b=2@6", "1 past 6: a=9@3 b=1@4 b=2@6"];
    assert_eq!(client.received(), expected);
    space.delete("b", "");
    assert_eq!(client.received(), ["0 7: -b@7", "1 7: -b@7"]);
    assert_eq!(space.store.watcher_counts(), (2, 0, 0));
}

#[test]
fn a_watcher_of_a_compacted_revision_is_cancelled_with_a_notice() {
    let mut space = three_keys();
    space.compact_rows(4);
    let mut client = Client::of(&space, 16);
    client.watch("a", "z", 3);
    client.watch("a", "z", 4);
    space.store.sync_watchers();
    assert_eq!(client.received(), ["0 compacted 4", "1 past 5: b=1@4 c=5@5"]);
    space.put("a", "x");
    assert_eq!(client.received(), ["1 6: a=x@6"]);
    // It does not prevent progress notices to the other, and it still occupies its id.
    client.stream.request_progress_all();
    assert_eq!(client.received(), ["all progress 6"]);
    assert!(client.stream.cancel(0));
}

#[test]
fn a_watcher_that_a_compaction_overtakes_is_notified_even_if_its_queue_is_full() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 1);
    client.watch("a", "", 0);
    client.watch("a", "z", 3);
    space.put("a", "x");
    space.compact_rows(6);
    space.store.sync_watchers();
    assert_eq!(space.store.watcher_counts(), (1, 0, 1));
    assert!(space.store.retry_victims());
    assert_eq!(client.received(), ["0 6: a=x@6"]);
    assert!(!space.store.retry_victims());
    assert_eq!(client.received(), ["1 compacted 6"]);
    assert_eq!(space.store.watcher_counts(), (1, 0, 0));
}

#[test]
fn a_watcher_that_starts_at_the_compacted_revision_gets_a_deletion_at_it() {
    let mut space = three_keys();
    space.delete("a", "");
    space.compact_rows(6);
    let mut client = Client::of(&space, 16);
    client.watch("a", "", 6);
    space.store.sync_watchers();
    assert_eq!(client.received(), ["0 past 6: -a@6"]);
}

#[test]
fn a_slow_reader_becomes_a_victim_and_misses_nothing_and_delays_no_other() {
    let mut space = Space::new();
    let mut slow = Client::of(&space, 2);
    let mut quick = Client::of(&space, 16);
    slow.watch("a", "", 0);
    quick.watch("a", "", 0);
    for value in ["1", "2", "3", "4", "5"] {
        space.put("a", value);
    }
    assert_eq!(quick.received().len(), 5);
    assert_eq!(space.store.watcher_counts(), (1, 0, 1));
    // The queue is still full, so the retry fails.
    assert!(space.store.retry_victims());
    assert_eq!(slow.next().unwrap(), "0 2: a=1@2");
    slow.stream.request_progress_all();
    assert!(!space.store.retry_victims());
    assert_eq!(space.store.watcher_counts(), (1, 1, 0));
    assert_eq!(slow.received(), ["0 3: a=2@3", "0 4: a=3@4"]);
    assert!(!space.store.sync_watchers());
    space.put("a", "6");
    assert_eq!(slow.received(), ["0 past 6: a=4@5 a=5@6", "0 7: a=6@7"]);
}

#[test]
fn a_watcher_of_a_long_past_gets_a_thousand_revisions_at_a_time() {
    let mut space = Space::new();
    for _ in 0..2500 {
        space.put("a", "1");
    }
    let mut client = Client::of(&space, 16);
    client.watch("a", "", 2);
    let mut passes = 1;
    while space.store.sync_watchers() {
        passes += 1;
    }
    assert_eq!(passes, 3);
    let received = client.received();
    let counts: Vec<usize> = received.iter().map(|line| line.matches("a=1").count()).collect();
    assert_eq!(counts, [1000, 1000, 500]);
    assert!(received.iter().all(|line| line.starts_with("0 past 2501: ")));
}

/// Goal: a notice fits into a message of 4 MiB, unless one revision does not (etcd #19441). Method:
/// four transactions of 1.2 MB, one of 5 MB, fifty thousand small events, and one of a megabyte.
#[test]
fn a_transaction_that_does_not_fit_behind_others_comes_in_the_next_notice() {
    let mut space = Space::new();
    let txn = |space: &mut Space, count: usize, len: usize| {
        let puts = (0..count).map(|at| put_op(&format!("a{at}"), &"v".repeat(len)));
        let txn = TxnRequest { success: puts.collect(), ..TxnRequest::default() };
        space.apply(KvRequest::Txn(&expand(&txn))).unwrap();
    };
    (0..4).for_each(|_| txn(&mut space, 12, 100_000));
    txn(&mut space, 5, 1_000_000);
    (0..400).for_each(|_| txn(&mut space, 128, 60));
    space.put("a", &"v".repeat(1_000_000));
    let mut client = Client::of(&space, 64);
    client.watch("a", "b", 2);
    let (mut ranges, mut longest) = (Vec::new(), 0);
    loop {
        let is_behind = space.store.sync_watchers();
        while let Ok(notice) = client.notices.try_recv() {
            let News::Events(news) = notice.news else { panic!("{notice:?}") };
            let of = |event: &Event| event.kv.as_ref().unwrap().mod_revision;
            ranges.push((of(&news.events[0]), of(news.events.last().unwrap())));
            let response = WatchResponse { events: news.events, ..WatchResponse::default() };
            if ranges.last() != Some(&(6, 6)) {
                longest = longest.max(response.encoded_len());
            }
        }
        if !is_behind {
            break;
        }
        space.store.retry_victims();
    }
    assert_eq!(ranges[..3], [(2, 4), (5, 5), (6, 6)]);
    assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "{ranges:?}");
    assert_eq!(ranges.last().unwrap().1, space.store.revision());
    assert!((3_500_000..4 << 20).contains(&longest), "{longest}");
}

/// A pass reads no more revisions than one notice may have, even if no watcher wants them.
#[test]
fn revisions_that_no_watcher_wants_are_skipped_a_thousand_at_a_time() {
    let mut space = Space::new();
    for _ in 0..2500 {
        space.put("a", "1");
    }
    let mut client = Client::of(&space, 16);
    client.watch("b", "", 2);
    let mut passes = 1;
    while space.store.sync_watchers() {
        passes += 1;
    }
    assert_eq!((passes, client.received()), (3, Vec::new()));
    assert_eq!(space.store.watcher_counts(), (1, 0, 0));
    space.put("b", "2");
    assert_eq!(client.received(), ["0 2502: b=2@2502"]);
}

#[test]
fn the_sync_thread_wakes_for_a_new_watcher_and_for_a_victim() {
    let mut space = three_keys();
    let store = Arc::clone(&space.store);
    // It runs until the test process ends.
    std::thread::spawn(move || store.run_watch_sync());
    let mut client = Client::of(&space, 1);
    client.watch("a", "", 1);
    let first = client.notices.blocking_recv().unwrap();
    assert!(matches!(first.news, News::Events(news) if news.path == Way::CatchUp));
    let mut last = 3;
    let newest = (0..100).map(|n| space.put("a", &n.to_string())).last().unwrap();
    while last < newest {
        let News::Events(news) = client.notices.blocking_recv().unwrap().news else { panic!() };
        for event in news.events {
            let revision = event.kv.unwrap().mod_revision;
            assert_eq!(revision, if last == 3 { 6 } else { last + 1 });
            last = revision;
        }
    }
}

/// Goal: a stream that is not read occupies little memory, however large and many its events
/// and watchers are, and misses nothing when it is read later. Method: 200 MB of events for a
/// watcher of all keys, for thirty watchers of one key each, and for one that starts in the past.
/// Then the stream is read. Its memory is checked at every step.
#[test]
fn a_stream_that_is_not_read_occupies_little_memory_and_gets_everything_later() {
    const MB: usize = 1_000_000;
    const PUTS: i64 = 200;
    let mut space = Space::new();
    let mut client = Client::of(&space, QUEUE_LEN);
    client.watch("k", "l", 0);
    (0..30).for_each(|key| _ = client.watch(&format!("k{key:02}"), "", 0));
    // A small event comes before the large ones.
    space.put("k00", "small");
    client.watch("k", "l", 1);
    let value = "v".repeat(MB);
    let mut most = 0;
    for at in 0..PUTS {
        space.put(&format!("k{:02}", at % 30), &value);
        if at % 10 == 0 {
            space.store.backend().commit_now();
            space.store.retry_victims();
            space.store.sync_watchers();
        }
        most = most.max(client.notices.queued());
    }
    assert!((BYTES_MAX / 2..=BYTES_MAX).contains(&most), "{most}");
    let (last, mut received) = (space.store.revision(), BTreeMap::<i64, Vec<i64>>::new());
    loop {
        let has_victims = space.store.retry_victims();
        let is_behind = space.store.sync_watchers();
        let mut was_read = false;
        while let Ok(notice) = client.notices.try_recv() {
            was_read = true;
            assert!(client.notices.queued() <= BYTES_MAX, "{}", client.notices.queued());
            let News::Events(news) = notice.news else { panic!("{notice:?}") };
            let revisions = news.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision);
            received.entry(notice.watch_id).or_default().extend(revisions);
        }
        if !(has_victims || is_behind || was_read) {
            break;
        }
    }
    let all: Vec<i64> = (2..=last).collect();
    assert_eq!((received.len(), &received[&0], &received[&31]), (32, &all, &all));
    for key in 0..30 {
        let own = all.iter().copied().filter(|at| *at > 2 && (at - 3) % 30 == key);
        let first = (key == 0).then_some(2);
        assert_eq!(received[&(key + 1)], first.into_iter().chain(own).collect::<Vec<_>>());
    }
    assert_eq!((client.notices.queued(), space.store.watch_bytes()), (0, 0));
    // Notices that are dropped with their stream no longer count.
    space.put("k00", &value);
    assert!(space.store.watch_bytes() > MB);
    drop(client);
    assert_eq!(space.store.watch_bytes(), 0);
}

/// Goal: previous values count towards the bytes that are sent at once; no revision is split, and
/// none is lost. Method: a value of a megabyte that is overwritten, two that are deleted together,
/// and small ones.
#[test]
fn events_with_large_previous_values_are_sent_in_parts() {
    const MB: usize = 1_000_000;
    let mut space = Space::new();
    let mut client = Client::of(&space, 64);
    client.watch("a", "z", 0);
    for (key, len) in [("a", MB), ("b", MB), ("c", MB), ("a", MB), ("s", 1)] {
        space.put(key, &"v".repeat(len));
    }
    for (from, to) in [("b", "d"), ("a", ""), ("s", "")] {
        space.delete(from, to);
    }
    let mut left = Vec::new();
    while let Ok(notice) = client.notices.try_recv() {
        let News::Events(news) = notice.news else { panic!("{notice:?}") };
        left.extend(news.events);
    }
    let mut parts = Vec::new();
    while !left.is_empty() {
        let (part, rest) = space.store.with_previous(left);
        let previous = |event: &Event| event.prev_kv.as_ref().map_or(0, |kv| kv.value.len());
        let revision = |event: &Event| event.kv.as_ref().unwrap().mod_revision;
        parts.push(part.iter().map(|event| (revision(event), previous(event))).collect::<Vec<_>>());
        left = rest;
    }
    let first = vec![(2, 0), (3, 0), (4, 0), (5, MB), (6, 0), (7, MB), (7, MB)];
    assert_eq!(parts, [first, vec![(8, MB), (9, 1)]]);
}
