//! Tests of watchers without sockets and threads: they call the sync thread's passes themselves.
//!
//! This file tests which events a watcher gets, and how watchers are created and cancelled.
//! [`past`] tests unsynced watchers and victims, [`progress`] progress notices, and [`world`]
//! everything against a model.

mod past;
mod progress;
mod world;

use super::*;
use crate::{
    pb::{
        etcdserverpb::{RequestOp, TxnRequest, request_op::Request},
        mvccpb::{Event, event::EventType},
    },
    server::mvcc::watch::{
        Events, Filters, News, Notice, Path as Way, QUEUE_LEN, Refusal, WatchRequest, WatchStream,
        queue::{BYTES_MAX, Notices},
    },
};

/// A stream, and the receiving end of its queue.
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

    /// Takes all notices out of the queue, and formats each as a line.
    pub(super) fn received(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn next(&mut self) -> Option<String> {
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
fn a_write_notifies_the_watchers_of_its_keys_once_for_each_revision() {
    let mut space = three_keys();
    let mut client = Client::of(&space, 16);
    client.watch("a", "", 0);
    client.watch("b", "d", 0);
    client.watch("a", "\0", 0);
    space.put("a", "x");
    assert_eq!(client.received(), ["0 6: a=x@6", "2 6: a=x@6"]);
    let success = vec![put_op("c", "1"), delete_op("b"), put_op("a", "2"), put_op("0", "3")];
    let txn = TxnRequest { success, ..TxnRequest::default() };
    space.apply(KvRequest::Txn(&expand(&txn))).unwrap();
    let expected = ["0 7: a=2@7", "1 7: c=1@7 -b@7", "2 7: c=1@7 -b@7 a=2@7"];
    assert_eq!(client.received(), expected);
    assert_eq!(space.delete("x", "y").0, 0);
    assert_eq!(client.received(), Vec::<String>::new());
}

#[test]
fn a_put_event_has_the_whole_key_value_and_a_deletion_only_key_and_revision() {
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
fn filters_apply_to_synced_and_to_unsynced_watchers() {
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
        client.received().iter().for_each(|line| {
            let is_put = line.contains('=');
            let watcher = line.split(' ').next().unwrap();
            assert_eq!(matches!(watcher, "1" | "4"), is_put, "{line}");
            assert!(!matches!(watcher, "2" | "5"), "{line}");
        });
    }
    assert_eq!(Filters::new(&[1, 7]), Filters { puts: false, deletes: true });
}

#[test]
fn watch_ids_are_assigned_from_zero_or_chosen_and_are_unique() {
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
fn invalid_watch_requests_are_refused_with_etcds_messages() {
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
fn a_cancelled_watcher_gets_no_events_and_a_stream_removes_its_watchers_at_its_end() {
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
