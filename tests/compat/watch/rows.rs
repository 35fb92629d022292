//! The table of a watcher's life: each message, and the responses.

use glass_etcd::pb::etcdserverpb::{
    CompactionRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    WatchResponse, watch_request::RequestUnion,
};

use super::Stream;
use crate::{
    cluster::Cluster,
    compat::http,
    programs::{self, Kind},
};

/// A row: the rule, the message, the responses, and whether etcd 3.5.1 gets it too.
type Row = (&'static str, RequestUnion, &'static [&'static str], bool);

/// The content of a response, without ids of the cluster.
fn said(response: &WatchResponse) -> String {
    let revision = response.header.as_ref().map_or(-1, |header| header.revision);
    let WatchResponse { watch_id, created, canceled, compact_revision, cancel_reason, .. } =
        response;
    let flags = [(*created, "created "), (*canceled, "canceled ")];
    let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    format!("{flags}{watch_id} at {revision} compacted {compact_revision} [{cancel_reason}]")
}

fn create(watch_id: i64, request: WatchCreateRequest) -> RequestUnion {
    RequestUnion::CreateRequest(WatchCreateRequest { watch_id, ..request })
}

/// Watches all keys.
fn all(start_revision: i64) -> WatchCreateRequest {
    super::create("a", "\0", start_revision)
}

fn cancel(watch_id: i64) -> RequestUnion {
    RequestUnion::CancelRequest(WatchCancelRequest { watch_id })
}

fn ask() -> RequestUnion {
    RequestUnion::ProgressRequest(WatchProgressRequest {})
}

/// The key space is at 5, and 4 is compacted.
fn rows() -> Vec<Row> {
    vec![
        ("ids from 0 on", create(0, all(0)), &["created 0 at 5 compacted 0 []"], true),
        ("the next", create(0, all(6)), &["created 1 at 5 compacted 0 []"], true),
        ("chosen", create(9, all(0)), &["created 9 at 5 compacted 0 []"], true),
        (
            "chosen twice",
            create(9, all(0)),
            &["created canceled -1 at 5 compacted 0 [mvcc: duplicate watch ID provided on the \
               WatchStream]"],
            true,
        ),
        (
            "empty range",
            create(0, super::create("b", "a", 0)),
            &["created canceled -1 at 5 compacted 0 [mvcc: watcher range is empty]"],
            true,
        ),
        // 3.5.1 treats it as the present.
        (
            "negative",
            create(0, all(-1)),
            &[
                "created canceled -1 at 5 compacted 0 [etcdserver: mvcc: required revision has been \
               compacted]",
            ],
            false,
        ),
        (
            "compacted",
            create(20, all(3)),
            &["created 20 at 5 compacted 0 []", "canceled 20 at 0 compacted 4 []"],
            true,
        ),
        ("the future", create(21, all(99)), &["created 21 at 5 compacted 0 []"], true),
        ("cancel", cancel(1), &["canceled 1 at 5 compacted 0 []"], true),
        ("cancel twice", cancel(1), &[], true),
        ("cancel an unknown id", cancel(777), &[], true),
        // 3.5.1 also sends it to watchers that wait for a later revision (etcd #20221).
        ("no progress before the start", ask(), &[], false),
        ("cancel the future", cancel(21), &["canceled 21 at 5 compacted 0 []"], true),
        ("progress", ask(), &["-1 at 5 compacted 0 []"], true),
    ]
}

/// The rest of this stream: ids below zero, and no watchers.
fn later_rows() -> Vec<Row> {
    vec![
        ("-1 is an id like others", create(-1, all(0)), &["created -1 at 5 compacted 0 []"], true),
        (
            "and so is the least",
            create(i64::MIN, all(3)),
            &[
                "created -9223372036854775808 at 5 compacted 0 []",
                "canceled -9223372036854775808 at 0 compacted 4 []",
            ],
            true,
        ),
        ("progress with -1", ask(), &["-1 at 5 compacted 0 []"], true),
        ("cancel -1", cancel(-1), &["canceled -1 at 5 compacted 0 []"], true),
        ("cancel -1 twice", cancel(-1), &[], true),
        ("cancel 0", cancel(0), &["canceled 0 at 5 compacted 0 []"], true),
        ("cancel 9", cancel(9), &["canceled 9 at 5 compacted 0 []"], true),
        // Not since 3.5.8: a watcher ended by a compaction does not count either.
        ("no progress without watchers", ask(), &[], false),
        ("ids continue", create(0, all(0)), &["created 2 at 5 compacted 0 []"], true),
        ("progress again", ask(), &["-1 at 5 compacted 0 []"], true),
        ("another one", create(0, all(0)), &["created 3 at 5 compacted 0 []"], true),
    ]
}

/// Goal: each rule of a watcher's life has its answer. Method: the rows in order on one stream, of
/// ours and of etcd; the next row's answer shows that a row had none.
#[tokio::test]
async fn every_row_of_the_watchers_table_is_answered_as_it_says() {
    let mut wrong = Vec::new();
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let cluster = Cluster::start(&kind, 1).await;
        let mut client = cluster.client(0);
        for key in ["a", "b", "c", "d"] {
            client.put(key, "").await.unwrap();
        }
        client.kv.compact(CompactionRequest { revision: 4, physical: true }).await.unwrap();
        let mut stream = Stream::open(&cluster, 0).await;
        for (rule, request, expected, etcd) in rows().into_iter().chain(later_rows()) {
            if kind != Kind::Glass && !etcd {
                continue;
            }
            stream.send(WatchRequest { request_union: Some(request) });
            for expected in expected {
                let answer = said(&stream.next().await.unwrap());
                if answer != *expected {
                    wrong.push(format!("{kind:?}: {rule}: {answer:?}, not {expected:?}"));
                }
            }
        }
        // Watchers that were neither refused nor cancelled; etcd still counts those that a
        // compaction has ended.
        let metric = |name| http::metric(&cluster, 0, &format!("etcd_debugging_mvcc_{name}"));
        let watchers = if kind == Kind::Glass { 2 } else { 4 };
        assert_eq!(metric("watcher_total"), Some(watchers), "{kind:?}");
        assert_eq!(metric("slow_watcher_total"), Some(0), "{kind:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
