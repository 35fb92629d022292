//! Watchers: without sockets, without threads, every pass of the sync thread taken by hand.

use std::collections::BTreeMap;

use super::{model::Random, *};
use crate::{
    pb::{
        etcdserverpb::{RequestOp, TxnRequest, request_op::Request},
        mvccpb::{Event, event::EventType},
    },
    server::mvcc::watch::{
        Events, Filters, News, Notice, Path as Way, QUEUE_LEN, Refusal, WatchRequest, WatchStream,
        queue::{BYTES, Notices},
    },
};

/// A stream and its reader.
pub(super) struct Client {
    stream: WatchStream,
    notices: Notices,
}

impl Client {
    pub(super) fn of(space: &Space, queue_len: usize) -> Client {
        let (stream, notices) = space.store.watch_stream(queue_len);
        Client { stream, notices }
    }

    fn watch(&mut self, key: &str, end: &str, start_revision: i64) -> i64 {
        self.create(&request(key, end, start_revision)).unwrap()
    }

    pub(super) fn create(&mut self, request: &WatchRequest) -> Result<i64, Refusal> {
        self.stream.create(request).map(|(watch_id, _)| watch_id)
    }

    /// What is in the queue now, a line a notice.
    pub(super) fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.one()).collect()
    }

    fn one(&mut self) -> Option<String> {
        let Notice { watch_id, news, .. } = self.notices.try_recv().ok()?;
        Some(match news {
            News::Compacted(revision) => format!("{watch_id} compacted {revision}"),
            News::Progress(revision) => format!("{watch_id} progress {revision}"),
            News::StreamProgress(revision) => format!("all progress {revision}"),
            News::Events(Events { revision, events, path, .. }) => {
                let events: Vec<String> = events.iter().map(line).collect();
                let path = if path == Way::Synced { "" } else { "past " };
                format!("{watch_id} {path}{revision}: {}", events.join(" "))
            }
        })
    }
}

pub(super) fn request(key: &str, end: &str, start_revision: i64) -> WatchRequest {
    WatchRequest { key: text(key), range_end: text(end), start_revision, ..WatchRequest::default() }
}

fn line(event: &Event) -> String {
    let kv = event.kv.as_ref().unwrap();
    match event.r#type == EventType::Put as i32 {
        true => format!("{}={}@{}", show(&kv.key), show(&kv.value), kv.mod_revision),
        false => format!("-{}@{}", show(&kv.key), kv.mod_revision),
    }
}

fn put_op(key: &str, value: &str) -> RequestOp {
    let put = PutRequest { key: text(key), value: text(value), ..PutRequest::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

fn delete_op(key: &str) -> RequestOp {
    let delete = DeleteRangeRequest { key: text(key), ..DeleteRangeRequest::default() };
    RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

#[test]
fn a_write_is_told_to_those_who_watch_its_key_and_all_of_a_revision_at_once() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 16);
    client.watch("a", "", 0);
    client.watch("b", "d", 0);
    client.watch("a", "\0", 0);
    space.put("a", "x");
    assert_eq!(client.told(), ["0 6: a=x@6", "2 6: a=x@6"]);
    let success = vec![put_op("c", "1"), delete_op("b"), put_op("a", "2"), put_op("0", "3")];
    let txn = TxnRequest { success, ..TxnRequest::default() };
    space.apply(KvRequest::Txn(&expand(&txn))).unwrap();
    let expected = ["0 7: a=2@7", "1 7: c=1@7 -b@7", "2 7: c=1@7 -b@7 a=2@7"];
    assert_eq!(client.told(), expected);
    assert_eq!(space.delete("x", "y").0, 0);
    assert_eq!(client.told(), Vec::<String>::new());
}

#[test]
fn an_event_has_the_whole_key_value_and_a_tombstone_only_key_and_revision() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 16);
    for start in [0, 6] {
        client.watch("b", "", start);
    }
    let (kv, tombstone) = {
        space.put("b", "2");
        space.delete("b", "");
        space.store.sync_watchers();
        let kv = space.range(&RangeRequest { key: text("b"), revision: 6, ..all() }).unwrap();
        let kv = kv.kvs.into_iter().find(|kv| kv.key == "b").unwrap();
        let tombstone =
            crate::pb::mvccpb::KeyValue { key: text("b"), mod_revision: 7, ..Default::default() };
        (kv, tombstone)
    };
    let mut past = Client::of(&space, 16);
    past.watch("b", "", 6);
    space.store.sync_watchers();
    for client in [&mut client, &mut past] {
        let mut kvs = Vec::new();
        while let Ok(notice) = client.notices.try_recv() {
            let News::Events(news) = notice.news else { panic!("{notice:?}") };
            if notice.watch_id == 0 {
                kvs.extend(news.events.into_iter().map(|event| event.kv.unwrap()));
            }
        }
        assert_eq!(kvs, [kv.clone(), tombstone.clone()]);
    }
}

#[test]
fn a_watcher_of_the_past_catches_up_in_one_notice_and_then_gets_what_is_new() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 16);
    client.watch("b", "", 2);
    client.watch("a", "c", 3);
    // Not synced yet: this comes with the rest.
    space.put("b", "2");
    assert_eq!(client.told(), Vec::<String>::new());
    assert!(!space.store.sync_watchers());
    let expected = ["0 past 6: b=0@2 b=1@4 b=2@6", "1 past 6: a=9@3 b=1@4 b=2@6"];
    assert_eq!(client.told(), expected);
    space.delete("b", "");
    assert_eq!(client.told(), ["0 7: -b@7", "1 7: -b@7"]);
    assert_eq!(space.store.watcher_counts(), (2, 0, 0));
}

#[test]
fn a_watcher_of_the_future_hears_nothing_before() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 16);
    client.watch("a", "", 8);
    space.put("a", "6");
    client.stream.request_progress_all();
    space.put("a", "7");
    space.put("a", "8");
    client.stream.request_progress_all();
    assert_eq!(client.told(), ["0 8: a=8@8", "all progress 8"]);
}

/// As etcd since 3.6.2: a revision before the start says nothing to a watcher, and a client that
/// goes on from there would ask for what it did not want.
#[test]
fn progress_is_not_told_to_a_watcher_that_begins_with_the_next_revision() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 16);
    client.watch("x", "", 6);
    client.stream.request_progress_all();
    client.stream.request_progress(0);
    assert_eq!(client.told(), Vec::<String>::new());
    space.put("a", "6");
    client.stream.request_progress_all();
    client.stream.request_progress(0);
    assert_eq!(client.told(), ["all progress 6", "0 progress 6"]);
}

/// The header of a cancellation must not be older than an event that was told before it.
#[test]
fn a_stream_knows_no_revision_that_is_older_than_what_stands_in_its_queue() {
    let space = three_keys();
    let mut client = Client::of(&space, 16);
    client.watch("a", "", 0);
    let Client { stream, mut notices } = client;
    let put = PutRequest { key: text("a"), value: text("6"), ..PutRequest::default() };
    let mut batch = space.store.batch();
    batch.kv(9, KvRequest::Put(&put), Asker::Here).unwrap();
    let news = notices.try_recv().expect("it is told before readers can see it").news;
    assert!(matches!(news, News::Events(Events { revision: 6, .. })));
    let asked = std::thread::scope(|scope| {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let stream = &stream;
        let asked = scope.spawn(move || {
            begun.send(()).unwrap();
            stream.revision()
        });
        has_begun.recv().unwrap();
        // Whoever does not wait for the batch has answered by then.
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(batch);
        asked.join().unwrap()
    });
    assert_eq!(asked, 6);
}

#[test]
fn filters_leave_out_puts_or_deletions_on_both_ways() {
    let mut space = Space::new();
    let mut client = Client::of(&space, 16);
    for start_revision in [0, 2] {
        for (puts, deletes) in [(true, false), (false, true), (true, true)] {
            let filters = Filters { puts, deletes };
            client.create(&WatchRequest { filters, ..request("a", "", start_revision) }).unwrap();
        }
        space.put("a", "1");
        space.delete("a", "");
        space.store.sync_watchers();
        client.told().iter().for_each(|line| {
            let is_put = line.contains('=');
            let watcher = line.split(' ').next().unwrap();
            assert_eq!(matches!(watcher, "1" | "4"), is_put, "{line}");
            assert!(!matches!(watcher, "2" | "5"), "{line}");
        });
    }
    assert_eq!(Filters::new(&[1, 7]), Filters { puts: false, deletes: true });
}

#[test]
fn ids_are_given_from_zero_or_chosen_and_never_twice() {
    let space = Space::new();
    let mut client = Client::of(&space, 16);
    let mut create = |watch_id| client.create(&WatchRequest { watch_id, ..request("a", "", 0) });
    assert_eq!([0, 0, 2, 0, 17].map(&mut create), [Ok(0), Ok(1), Ok(2), Ok(3), Ok(17)]);
    assert_eq!(create(2), Err(Refusal::DuplicateId));
    assert!(client.stream.cancel(2));
    assert!(!client.stream.cancel(2));
    assert_eq!(client.create(&WatchRequest { watch_id: 2, ..request("a", "", 0) }), Ok(2));
}

#[test]
fn what_cannot_be_watched_is_refused_in_etcds_words() {
    let space = three_keys();
    let mut client = Client::of(&space, 16);
    let mut refused =
        |key, end, start| client.create(&request(key, end, start)).unwrap_err().to_string();
    assert_eq!(refused("b", "a", 0), "mvcc: watcher range is empty");
    assert_eq!(refused("b", "b", 0), "mvcc: watcher range is empty");
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(refused("b", "", -1), compacted);
    assert_eq!(space.store.watcher_counts(), (0, 0, 0));
    let duplicate = Refusal::DuplicateId.to_string();
    assert_eq!(duplicate, "mvcc: duplicate watch ID provided on the WatchStream");
}

#[test]
fn who_asks_for_what_is_compacted_is_told_so_and_gets_nothing_more() {
    let mut space = three_keys();
    space.compact_rows(4);
    let mut client = Client::of(&space, 16);
    client.watch("a", "z", 3);
    client.watch("a", "z", 4);
    space.store.sync_watchers();
    assert_eq!(client.told(), ["0 compacted 4", "1 past 5: b=1@4 c=5@5"]);
    space.put("a", "x");
    assert_eq!(client.told(), ["1 6: a=x@6"]);
    // It is no obstacle to the others' progress, and still has its id.
    client.stream.request_progress_all();
    assert_eq!(client.told(), ["all progress 6"]);
    assert!(client.stream.cancel(0));
}

#[test]
fn a_compaction_that_overtakes_a_watcher_is_told_even_if_its_queue_is_full() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 1);
    client.watch("a", "", 0);
    client.watch("a", "z", 3);
    space.put("a", "x");
    space.compact_rows(6);
    space.store.sync_watchers();
    assert_eq!(space.store.watcher_counts(), (1, 0, 1));
    assert!(space.store.retry_victims());
    assert_eq!(client.told(), ["0 6: a=x@6"]);
    assert!(!space.store.retry_victims());
    assert_eq!(client.told(), ["1 compacted 6"]);
    assert_eq!(space.store.watcher_counts(), (1, 0, 0));
}

#[test]
fn a_deletion_at_the_compacted_revision_is_still_heard() {
    let mut space = three_keys();
    space.delete("a", "");
    space.compact_rows(6);
    let mut client = Client::of(&space, 16);
    client.watch("a", "", 6);
    space.store.sync_watchers();
    assert_eq!(client.told(), ["0 past 6: -a@6"]);
}

#[test]
fn a_slow_reader_becomes_a_victim_loses_nothing_and_holds_up_nobody() {
    let mut space = Space::new();
    let mut slow = Client::of(&space, 2);
    let mut quick = Client::of(&space, 16);
    slow.watch("a", "", 0);
    quick.watch("a", "", 0);
    for value in ["1", "2", "3", "4", "5"] {
        space.put("a", value);
    }
    assert_eq!(quick.told().len(), 5);
    assert_eq!(space.store.watcher_counts(), (1, 0, 1));
    // The queue is still full, and so nothing changes.
    assert!(space.store.retry_victims());
    assert_eq!(slow.one().unwrap(), "0 2: a=1@2");
    slow.stream.request_progress_all();
    assert!(!space.store.retry_victims());
    assert_eq!(space.store.watcher_counts(), (1, 1, 0));
    assert_eq!(slow.told(), ["0 3: a=2@3", "0 4: a=3@4"]);
    assert!(!space.store.sync_watchers());
    space.put("a", "6");
    assert_eq!(slow.told(), ["0 past 6: a=4@5 a=5@6", "0 7: a=6@7"]);
}

/// Goal: a stream that is not read holds few bytes, however large the events and however many its
/// watchers are, and misses nothing when it is read. Method: 200 MB of events for a watcher of all
/// keys, for thirty of one key each, and for one that begins in the past; then the stream is read, and
/// what it holds is looked at all the time.
#[test]
fn a_stream_that_is_not_read_holds_few_bytes_and_gets_everything_later() {
    const MB: usize = 1_000_000;
    const PUTS: i64 = 200;
    let mut space = Space::new();
    let mut client = Client::of(&space, QUEUE_LEN);
    client.watch("k", "l", 0);
    (0..30).for_each(|key| _ = client.watch(&format!("k{key:02}"), "", 0));
    // Little, and then much.
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
        most = most.max(client.notices.held());
    }
    assert!((BYTES / 2..=BYTES).contains(&most), "{most}");
    let (last, mut told) = (space.store.revision(), BTreeMap::<i64, Vec<i64>>::new());
    loop {
        let has_victims = space.store.retry_victims();
        let is_behind = space.store.sync_watchers();
        let mut was_read = false;
        while let Ok(notice) = client.notices.try_recv() {
            was_read = true;
            assert!(client.notices.held() <= BYTES, "{}", client.notices.held());
            let News::Events(news) = notice.news else { panic!("{notice:?}") };
            let revisions = news.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision);
            told.entry(notice.watch_id).or_default().extend(revisions);
        }
        if !(has_victims || is_behind || was_read) {
            break;
        }
    }
    let all: Vec<i64> = (2..=last).collect();
    assert_eq!((told.len(), &told[&0], &told[&31]), (32, &all, &all));
    for key in 0..30 {
        let own = all.iter().copied().filter(|at| *at > 2 && (at - 3) % 30 == key);
        let first = (key == 0).then_some(2);
        assert_eq!(told[&(key + 1)], first.into_iter().chain(own).collect::<Vec<_>>());
    }
    assert_eq!((client.notices.held(), space.store.watch_bytes()), (0, 0));
    // What nobody takes any more is not counted for ever.
    space.put("k00", &value);
    assert!(space.store.watch_bytes() > MB);
    drop(client);
    assert_eq!(space.store.watch_bytes(), 0);
}

/// Goal: what is sent at once is bounded by the previous values, too; no revision is torn apart, and
/// none is lost. Method: a key of a megabyte that is overwritten, two others that are deleted together,
/// and small ones.
#[test]
fn events_with_large_previous_values_are_sent_a_few_at_a_time() {
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

#[test]
fn progress_is_told_only_to_those_who_have_everything_and_behind_it() {
    let space = three_keys();
    let mut client = Client::of(&space, 2);
    client.watch("a", "", 0);
    client.watch("b", "", 2);
    client.stream.request_progress_all();
    client.stream.request_progress(1);
    assert_eq!(client.told(), Vec::<String>::new());
    client.stream.request_progress(0);
    assert_eq!(client.told(), ["0 progress 5"]);
    space.store.sync_watchers();
    client.stream.request_progress_all();
    assert_eq!(client.told(), ["1 past 5: b=0@2 b=1@4", "all progress 5"]);
}

#[test]
fn a_stream_without_watchers_gets_no_progress() {
    let mut space = three_keys();
    space.compact_rows(4);
    let mut client = Client::of(&space, 4);
    client.stream.request_progress_all();
    let id = client.watch("a", "", 0);
    assert!(client.stream.cancel(id));
    client.stream.request_progress_all();
    client.stream.request_progress(id);
    assert_eq!(client.told(), Vec::<String>::new());
    // Its id is still taken, but there is nothing that it waits for.
    let id = client.watch("a", "", 3);
    space.store.sync_watchers();
    client.stream.request_progress_all();
    client.stream.request_progress(id);
    assert_eq!(client.told(), [format!("{id} compacted 4")]);
}

/// Goal: −1, which stands for all watchers in responses, is an id like others in requests, and so
/// are other numbers below zero. Method: such watchers beside one that is behind.
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
    let mut heard = client.told();
    heard.sort();
    assert_eq!(heard, [-1, -7, i64::MIN].map(|id| format!("{id} 6: a=6@6")));
    client.stream.request_progress_all();
    assert_eq!(client.told(), Vec::<String>::new());
    client.stream.request_progress(-1);
    assert_eq!(client.told(), ["-1 progress 6"]);
    client.stream.request_progress(-1);
    assert!(client.stream.cancel(-1));
    assert!(!client.stream.cancel(-1));
    let stale = client.notices.try_recv().unwrap();
    assert!(!client.stream.is_wanted(&stale), "progress of a watcher that is gone");
    client.stream.request_progress(-1);
    space.put("a", "7");
    let mut heard = client.told();
    heard.sort();
    assert_eq!(heard, [-7, i64::MIN].map(|id| format!("{id} 7: a=7@7")));
}

#[test]
fn progress_that_was_queued_before_a_watcher_of_the_past_came_is_not_for_it() {
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

#[test]
fn a_long_past_comes_a_thousand_revisions_at_a_time() {
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
    let told = client.told();
    let counts: Vec<usize> = told.iter().map(|line| line.matches("a=1").count()).collect();
    assert_eq!(counts, [1000, 1000, 500]);
    assert!(told.iter().all(|line| line.starts_with("0 past 2501: ")));
}

/// A pass reads no more than one notice can have, whether a watcher wants it or not.
#[test]
fn a_long_past_of_others_is_passed_over_a_thousand_revisions_at_a_time() {
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
    assert_eq!((passes, client.told()), (3, Vec::new()));
    assert_eq!(space.store.watcher_counts(), (1, 0, 0));
    space.put("b", "2");
    assert_eq!(client.told(), ["0 2502: b=2@2502"]);
}

#[test]
fn what_is_cancelled_is_heard_no_more_and_a_stream_takes_its_watchers_along() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 16);
    client.watch("a", "", 0);
    client.watch("a", "c", 1);
    client.watch("a", "c", 0);
    space.put("a", "x");
    assert!(client.stream.cancel(0));
    let notice = client.notices.try_recv().unwrap();
    assert_eq!((notice.watch_id, client.stream.is_wanted(&notice)), (0, false));
    let notice = client.notices.try_recv().unwrap();
    assert_eq!((notice.watch_id, client.stream.is_wanted(&notice)), (2, true));
    assert_eq!(space.store.watcher_counts(), (1, 1, 0));
    drop(client);
    assert_eq!(space.store.watcher_counts(), (0, 0, 0));
    assert!(!space.store.sync_watchers());
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

// ---- against a model ----

/// A watcher as the model sees it: from which revision on it has heard nothing.
struct Expected {
    key: String,
    end: String,
    filters: Filters,
    next: i64,
}

impl Expected {
    fn wants(&self, event: &Event) -> bool {
        let kv = event.kv.as_ref().unwrap();
        let is_put = event.r#type == EventType::Put as i32;
        KeyRange::new(self.key.as_bytes(), self.end.as_bytes()).contains(&kv.key)
            && !(if is_put { self.filters.puts } else { self.filters.deletes })
    }

    /// What it should hear of these revisions.
    fn of(&self, history: &[(i64, Vec<Event>)], last: i64) -> Vec<String> {
        let wanted = history.iter().filter(|(at, _)| self.next <= *at && *at <= last);
        let events = wanted.flat_map(|(_, events)| events).filter(|event| self.wants(event));
        events.map(line).collect()
    }
}

struct World {
    random: Random,
    seed: u64,
    space: Space,
    /// All events that there ever were.
    history: Vec<(i64, Vec<Event>)>,
    clients: Vec<(Client, BTreeMap<i64, Expected>)>,
    told_compacted: usize,
    victims: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            random: Random::new(seed),
            seed,
            space: Space::new(),
            history: Vec::new(),
            clients: Vec::new(),
            told_compacted: 0,
            victims: 0,
        };
        for _ in 0..4 {
            let queue_len = 1 + usize::try_from(world.random.below(3)).unwrap();
            let client = Client::of(&world.space, queue_len);
            world.clients.push((client, BTreeMap::new()));
        }
        world
    }

    fn key(&mut self) -> String {
        format!("k{}", self.random.below(8))
    }

    /// One to three puts and deletions, of different keys.
    fn write(&mut self) {
        let mut ops: BTreeMap<String, Option<String>> = BTreeMap::new();
        for _ in 0..=self.random.below(3) {
            let (key, value) = (self.key(), self.random.below(1000).to_string());
            ops.insert(key, (self.random.below(3) > 0).then_some(value));
        }
        let revision = self.space.store.revision() + 1;
        let keys = self.space.keys(&all());
        let event = |key: &str, value: &Option<String>| {
            let kind = if value.is_some() { EventType::Put } else { EventType::Delete };
            let value = text(value.as_deref().unwrap_or_default());
            let (key, mod_revision) = (text(key), revision);
            let kv = Some(crate::pb::mvccpb::KeyValue {
                key,
                value,
                mod_revision,
                ..Default::default()
            });
            Event { r#type: kind as i32, kv, prev_kv: None }
        };
        let happens = |(key, value): &(&String, &Option<String>)| {
            value.is_some() || keys.contains(key.as_str())
        };
        let events: Vec<Event> =
            ops.iter().filter(happens).map(|(key, value)| event(key, value)).collect();
        let success = ops.iter().map(|(key, value)| match value {
            Some(value) => put_op(key, value),
            None => delete_op(key),
        });
        let txn = TxnRequest { success: success.collect(), ..TxnRequest::default() };
        self.space.apply(KvRequest::Txn(&expand(&txn))).unwrap();
        if !events.is_empty() {
            self.history.push((revision, events));
        }
    }

    fn watch(&mut self) {
        let at = usize::try_from(self.random.below(4)).unwrap();
        let current = self.space.store.revision();
        let start = i64::try_from(self.random.below(u64::try_from(current).unwrap() + 8)).unwrap();
        let (key, mut end) = (self.key(), String::new());
        match self.random.below(4) {
            0 => end = "\0".to_owned(),
            1 => end = self.key(),
            _ => {}
        }
        let filters =
            Filters { puts: self.random.below(6) == 0, deletes: self.random.below(6) == 0 };
        let (client, expected) = &mut self.clients[at];
        if let Ok(id) = client.create(&WatchRequest { filters, ..request(&key, &end, start) }) {
            let next = if start == 0 { current + 1 } else { start };
            expected.insert(id, Expected { key, end, filters, next });
        }
    }

    fn cancel(&mut self) {
        let at = usize::try_from(self.random.below(4)).unwrap();
        let (client, expected) = &mut self.clients[at];
        if let Some((id, _)) = expected.pop_first() {
            assert!(client.stream.cancel(id));
        }
    }

    /// Takes one notice out of a queue, and compares it with what ought to be in it.
    fn read(&mut self, at: usize) -> bool {
        let (client, expected) = &mut self.clients[at];
        let Ok(notice) = client.notices.try_recv() else { return false };
        let is_wanted = client.stream.is_wanted(&notice);
        let told = format!("seed {}: {notice:?}", self.seed);
        match notice.news {
            News::StreamProgress(revision) if is_wanted => {
                for watcher in expected.values() {
                    assert!(watcher.of(&self.history, revision).is_empty(), "{told}");
                }
            }
            News::StreamProgress(_) => {}
            _ if !is_wanted => assert!(!expected.contains_key(&notice.watch_id), "{told}"),
            News::Compacted(revision) => {
                let watcher = expected.remove(&notice.watch_id).expect(&told);
                assert!(watcher.next < revision, "{told}");
                assert!(revision <= self.space.store.compacted(), "{told}");
                assert!(client.stream.cancel(notice.watch_id));
                self.told_compacted += 1;
            }
            News::Progress(revision) => {
                let watcher = expected.get(&notice.watch_id).expect(&told);
                assert!(watcher.of(&self.history, revision).is_empty(), "{told}");
            }
            News::Events(news) => {
                let watcher = expected.get_mut(&notice.watch_id).expect(&told);
                let last = news.events.last().unwrap().kv.as_ref().unwrap().mod_revision;
                assert!(last <= news.revision, "{told}");
                let events: Vec<String> = news.events.iter().map(line).collect();
                assert_eq!(events, watcher.of(&self.history, last), "{told}");
                watcher.next = last + 1;
            }
        }
        true
    }

    fn step(&mut self) {
        let at = usize::try_from(self.random.below(4)).unwrap();
        match self.random.below(20) {
            0..7 => self.write(),
            7..9 => self.watch(),
            9 => self.cancel(),
            10..15 => _ = self.read(at),
            15 => match self.clients[at].1.first_key_value() {
                Some((id, _)) if self.random.below(2) == 0 => {
                    self.clients[at].0.stream.request_progress(*id);
                }
                _ => self.clients[at].0.stream.request_progress_all(),
            },
            16 => _ = self.space.store.sync_watchers(),
            17 => _ = self.space.store.retry_victims(),
            18 => _ = self.space.store.step_compaction(3),
            _ => {
                let current = self.space.store.revision();
                let back = i64::try_from(self.random.below(30)).unwrap();
                let _ = self.space.compact((current - back).max(1));
            }
        }
        self.victims += self.space.store.watcher_counts().2;
    }

    /// Lets everybody read on, and wants everything to have arrived then.
    fn finish(&mut self) {
        loop {
            let has_victims = self.space.store.retry_victims();
            let is_behind = self.space.store.sync_watchers();
            let mut was_read = false;
            for at in 0..4 {
                while self.read(at) {
                    was_read = true;
                }
            }
            if !(has_victims || is_behind || was_read) {
                break;
            }
        }
        let current = self.space.store.revision();
        for (_, expected) in &self.clients {
            for (id, watcher) in expected {
                let missing = watcher.of(&self.history, current);
                assert!(missing.is_empty(), "seed {}, {id} missed {missing:?}", self.seed);
            }
        }
    }
}

#[test]
fn whatever_happens_watchers_hear_everything_once_and_in_order() {
    let (mut told_compacted, mut victims) = (0, 0);
    for seed in 1..=40 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
        }
        world.finish();
        told_compacted += world.told_compacted;
        victims += world.victims;
    }
    // Otherwise it has tested nothing.
    assert!(told_compacted > 20 && victims > 1000, "{told_compacted}, {victims}");
}
