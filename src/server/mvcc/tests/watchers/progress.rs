//! Progress notices go only to watchers that have received everything, at a revision not before
//! their start.

use super::*;

#[test]
fn a_watcher_of_a_future_revision_gets_nothing_before_it() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 16);
    client.watch("a", "", 8);
    space.put("a", "6");
    client.stream.request_progress_all();
    space.put("a", "7");
    space.put("a", "8");
    client.stream.request_progress_all();
    assert_eq!(client.received(), ["0 8: a=8@8", "all progress 8"]);
}

/// As etcd since 3.6.2. A client that resumed from a progress notice before the start would get
/// events that it did not ask for.
#[test]
fn a_watcher_that_starts_at_the_next_revision_gets_no_progress_notice() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 16);
    client.watch("x", "", 6);
    client.stream.request_progress_all();
    client.stream.request_progress(0);
    assert_eq!(client.received(), Vec::<String>::new());
    space.put("a", "6");
    client.stream.request_progress_all();
    client.stream.request_progress(0);
    assert_eq!(client.received(), ["all progress 6", "0 progress 6"]);
}

/// The header of a cancellation must not have an older revision than an event that was sent before.
#[test]
fn the_revision_of_a_stream_is_not_older_than_the_events_in_its_queue() {
    let space = three_keys();
    let mut client = Client::of(&space, 16);
    client.watch("a", "", 0);
    let Client { stream, mut notices } = client;
    let put = PutRequest { key: text("a"), value: text("6"), ..PutRequest::default() };
    let mut batch = space.store.batch();
    batch.kv(9, KvRequest::Put(&put), ReplyTo::Client).unwrap();
    let news = notices.try_recv().expect("events are queued before readers see them").news;
    assert!(matches!(news, News::Events(Events { revision: 6, .. })));
    let asked = std::thread::scope(|scope| {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let stream = &stream;
        let asked = scope.spawn(move || {
            begun.send(()).unwrap();
            stream.revision()
        });
        has_begun.recv().unwrap();
        // A call that did not wait for the batch would have returned by then.
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(batch);
        asked.join().unwrap()
    });
    assert_eq!(asked, 6);
}

#[test]
fn a_progress_notice_comes_after_all_events_and_only_to_synced_watchers() {
    let space = three_keys();
    let mut client = Client::of(&space, 2);
    client.watch("a", "", 0);
    client.watch("b", "", 2);
    client.stream.request_progress_all();
    client.stream.request_progress(1);
    assert_eq!(client.received(), Vec::<String>::new());
    client.stream.request_progress(0);
    assert_eq!(client.received(), ["0 progress 5"]);
    space.store.sync_watchers();
    client.stream.request_progress_all();
    assert_eq!(client.received(), ["1 past 5: b=0@2 b=1@4", "all progress 5"]);
}

#[test]
fn a_stream_without_watchers_gets_no_progress_notice() {
    let mut space = three_keys();
    space.compact_rows(4);
    let mut client = Client::of(&space, 4);
    client.stream.request_progress_all();
    let id = client.watch("a", "", 0);
    assert!(client.stream.cancel(id));
    client.stream.request_progress_all();
    client.stream.request_progress(id);
    assert_eq!(client.received(), Vec::<String>::new());
    // A cancelled watcher still occupies its id, but is not waiting for anything.
    let id = client.watch("a", "", 3);
    space.store.sync_watchers();
    client.stream.request_progress_all();
    client.stream.request_progress(id);
    assert_eq!(client.received(), [format!("{id} compacted 4")]);
}

/// Goal: −1, which means all watchers in responses, is a valid watch id in requests, and so are
/// other numbers below zero. Method: such watchers beside one that starts in the future.
#[test]
fn a_client_may_choose_any_id_but_zero() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 8);
    for watch_id in [-1, i64::MIN, -7] {
        let wanted = WatchRequest { watch_id, ..request("a", "", 0) };
        assert_eq!(client.create(&wanted), Ok(watch_id));
        assert_eq!(client.create(&wanted), Err(Refusal::DuplicateId));
    }
    client.watch("x", "", 99);
    space.put("a", "6");
    let mut received = client.received();
    received.sort();
    assert_eq!(received, [-1, -7, i64::MIN].map(|id| format!("{id} 6: a=6@6")));
    client.stream.request_progress_all();
    assert_eq!(client.received(), Vec::<String>::new());
    client.stream.request_progress(-1);
    assert_eq!(client.received(), ["-1 progress 6"]);
    client.stream.request_progress(-1);
    assert!(client.stream.cancel(-1));
    assert!(!client.stream.cancel(-1));
    let stale = client.notices.try_recv().unwrap();
    assert!(!client.stream.is_wanted(&stale), "progress of a watcher that is gone");
    client.stream.request_progress(-1);
    space.put("a", "7");
    let mut received = client.received();
    received.sort();
    assert_eq!(received, [-7, i64::MIN].map(|id| format!("{id} 7: a=7@7")));
}

#[test]
fn a_stream_progress_notice_is_dropped_if_a_watcher_of_the_past_was_created_after_it() {
    let space = three_keys();
    let mut client = Client::of(&space, 4);
    client.watch("a", "", 0);
    client.stream.request_progress_all();
    client.watch("b", "", 0);
    client.stream.request_progress_all();
    client.watch("b", "", 2);
    for wanted in [false, false] {
        let notice = client.notices.try_recv().unwrap();
        assert_eq!(client.stream.is_wanted(&notice), wanted);
    }
    space.store.sync_watchers();
    client.stream.request_progress_all();
    while let Ok(notice) = client.notices.try_recv() {
        assert!(client.stream.is_wanted(&notice));
    }
}
