//! Tests of the key space as a whole.

mod compaction;
mod crash;
mod hashes;
mod install;
mod locks;
mod model;
mod scripts;
mod txns;
mod watchers;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;

use super::{reader::Source, *};
use crate::{
    pb::etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, TxnRequest,
        TxnResponse,
    },
    server::{Error, apply::key_space::KvRequest, txn::Txn},
    storage::backend::{Backend, Bucket, Options},
};

/// Opens a key space whose backend commits only when a test calls `commit_now`.
fn open(path: &Path) -> Arc<Store> {
    let options = Options { batch_interval: Duration::from_secs(3600), ..Options::default() };
    Store::open(Backend::open(path, options).unwrap()).unwrap()
}

/// A key space to which entries are applied, one in each batch.
struct Space {
    folder: TempDir,
    store: Arc<Store>,
    index: u64,
}

impl Space {
    fn new() -> Space {
        let folder = TempDir::new().unwrap();
        let store = open(&folder.path().join("db"));
        Space { folder, store, index: 0 }
    }

    fn apply(&mut self, request: KvRequest<'_>) -> Result<KvResponse, Error> {
        self.index += 1;
        let mut batch = self.store.batch();
        let reply = batch.kv(self.index, request, ReplyTo::Client);
        batch.set_applied(self.index, 1);
        drop(batch);
        let (source, mut budget) = (Source::Published(self.store.backend()), usize::MAX);
        Ok(reply?.whole(self.index, source, &mut budget).unwrap())
    }

    fn put(&mut self, key: &str, value: &str) -> i64 {
        let request = PutRequest { key: text(key), value: text(value), ..PutRequest::default() };
        match self.apply(KvRequest::Put(&request)) {
            Ok(KvResponse::Put(response)) => response.header.unwrap().revision,
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, key: &str, end: &str) -> (i64, i64) {
        let request = DeleteRangeRequest { key: text(key), range_end: text(end), prev_kv: false };
        match self.apply(KvRequest::DeleteRange(&request)) {
            Ok(KvResponse::DeleteRange(it)) => (it.deleted, it.header.unwrap().revision),
            other => panic!("{other:?}"),
        }
    }

    fn compact(&mut self, revision: i64) -> Result<(), Error> {
        let request = CompactionRequest { revision, physical: false };
        self.apply(KvRequest::Compact(&request)).map(drop)
    }

    fn compact_rows(&mut self, revision: i64) {
        self.compact(revision).unwrap();
        while self.store.step_compaction(3) {}
        assert_eq!(self.store.finished_compaction(), revision);
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.store.range(0, request)
    }

    /// Answers a transaction that only reads, however long it takes.
    fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        let mut reply = self.store.plan_txn(0, request, &mut 0)?;
        let (source, mut budget) = (Source::Published(self.store.backend()), usize::MAX);
        Ok(reply.whole(0, source, &mut budget).unwrap())
    }

    /// Keys and values of a range, in the order of the answer.
    fn pairs(&self, request: &RangeRequest) -> Vec<(String, String)> {
        let kvs = self.range(request).unwrap().kvs;
        kvs.iter().map(|kv| (show(&kv.key), show(&kv.value))).collect()
    }

    fn keys(&self, request: &RangeRequest) -> String {
        self.pairs(request).into_iter().map(|(key, _)| key).collect()
    }

    fn hash(&self, revision: i64) -> u32 {
        self.store.hash_kv(0, revision).unwrap().hash
    }

    fn restart(self) -> Space {
        let Space { folder, store, index } = self;
        store.backend().stop();
        drop(store);
        let store = open(&folder.path().join("db"));
        assert_eq!(store.backend().consistent_index().0, index);
        Space { folder, store, index }
    }
}

impl Store {
    fn compacted(&self) -> i64 {
        self.read().compacted
    }
}

fn expand(request: &TxnRequest) -> Txn {
    Txn::expand(request.clone(), usize::MAX).unwrap()
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn all() -> RangeRequest {
    RangeRequest { key: text("\0"), range_end: text("\0"), ..RangeRequest::default() }
}

/// `b` has version 2, and the values are in another order than the keys.
fn three_keys() -> Space {
    let mut space = Space::new();
    for (key, value) in [("b", "0"), ("a", "9"), ("b", "1"), ("c", "5")] {
        space.put(key, value);
    }
    space
}

#[test]
fn an_empty_key_space_is_at_revision_one() {
    let space = Space::new();
    let response = space.range(&all()).unwrap();
    assert_eq!((response.header.unwrap().revision, response.count), (1, 0));
    assert_eq!((space.store.revision(), space.store.compacted()), (1, -1));
}

#[test]
fn the_header_has_the_newest_revision_whichever_is_read() {
    let space = three_keys();
    let response = space.range(&RangeRequest { revision: 2, ..all() }).unwrap();
    assert_eq!(response.header.unwrap().revision, 5);
    assert_eq!(response.kvs.len(), 1);
}

#[test]
fn a_negative_revision_means_the_newest() {
    let space = three_keys();
    assert_eq!(space.keys(&RangeRequest { revision: -5, ..all() }), "abc");
}

#[test]
fn a_limit_sets_more_but_does_not_change_the_count() {
    let space = three_keys();
    for (limit, keys, more) in [(0, 3, false), (-1, 3, false), (2, 2, true), (3, 3, false)] {
        let response = space.range(&RangeRequest { limit, ..all() }).unwrap();
        assert_eq!((response.kvs.len(), response.more, response.count), (keys, more, 3));
    }
}

#[test]
fn count_only_returns_no_keys_and_never_sets_more() {
    let request = RangeRequest { count_only: true, limit: 1, ..all() };
    let response = three_keys().range(&request).unwrap();
    assert_eq!((response.kvs.len(), response.more, response.count), (0, false, 3));
}

#[test]
fn keys_only_returns_everything_but_values() {
    let response = three_keys().range(&RangeRequest { keys_only: true, ..all() }).unwrap();
    assert!(response.kvs.iter().all(|kv| kv.value.is_empty()));
    assert_eq!(response.kvs[1].version, 2);
}

#[test]
fn each_target_sorts_in_both_directions() {
    let space = three_keys();
    let orders = ["abc", "acb", "bac", "abc", "bca"];
    for (target, ascending) in (0..).zip(orders) {
        let request = RangeRequest { sort_target: target, sort_order: 1, ..all() };
        assert_eq!(space.keys(&request), ascending, "target {target}");
    }
    assert_eq!(space.keys(&RangeRequest { sort_order: 2, ..all() }), "cba");
    // Keys that compare equal stay in the order of keys.
    assert_eq!(space.keys(&RangeRequest { sort_order: 2, sort_target: 1, ..all() }), "bac");
    // By value, even if the answer has no values.
    let request = RangeRequest { sort_order: 2, sort_target: 4, keys_only: true, ..all() };
    assert_eq!(space.keys(&request), "acb");
}

#[test]
fn a_limit_applies_after_sorting() {
    let space = three_keys();
    let request = RangeRequest { sort_target: 4, sort_order: 2, limit: 1, ..all() };
    assert_eq!(space.keys(&request), "a");
    // Given a target without an order, etcd sorts the first limit + 1 keys, and so do we.
    let request = RangeRequest { sort_target: 2, limit: 1, ..all() };
    assert_eq!(space.keys(&request), "b");
    let mut space = space;
    space.put("a", "8");
    let request = RangeRequest { sort_target: 3, limit: 1, ..all() };
    assert_eq!(space.keys(&request), "b");
}

#[test]
fn an_unknown_sort_option_is_an_error() {
    let space = three_keys();
    for request in
        [RangeRequest { sort_order: 9, ..all() }, RangeRequest { sort_target: 9, ..all() }]
    {
        assert_eq!(space.range(&request), Err(Error::InvalidSortOption));
    }
}

#[test]
fn filters_apply_before_the_limit_and_do_not_change_the_count() {
    let space = three_keys();
    let check = |request: RangeRequest, keys: &str| {
        assert_eq!(space.keys(&request), keys);
        assert_eq!(space.range(&request).unwrap().count, 3);
    };
    check(RangeRequest { min_mod_revision: 4, ..all() }, "bc");
    check(RangeRequest { max_mod_revision: 3, ..all() }, "a");
    check(RangeRequest { min_create_revision: 3, ..all() }, "ac");
    check(RangeRequest { max_create_revision: 2, ..all() }, "b");
    check(RangeRequest { min_mod_revision: 4, limit: 1, ..all() }, "b");
    check(RangeRequest { min_mod_revision: 99, ..all() }, "");
}

#[test]
fn revisions_before_the_compacted_one_and_in_the_future_are_refused() {
    let mut space = three_keys();
    space.compact(3).unwrap();
    let at = |revision| space.range(&RangeRequest { revision, ..all() }).map(|it| it.kvs.len());
    assert_eq!(at(2), Err(Error::Compacted));
    assert_eq!(at(3), Ok(2));
    assert_eq!(at(6), Err(Error::FutureRevision));
}

#[test]
fn revision_zero_can_be_compacted_once() {
    let mut space = three_keys();
    assert_eq!(space.compact(-1), Err(Error::Compacted));
    assert_eq!(space.compact(0), Ok(()));
    assert_eq!(space.compact(0), Err(Error::Compacted));
    assert_eq!(space.compact(6), Err(Error::FutureRevision));
}

#[test]
fn a_row_does_not_keep_the_network_buffer_of_its_request_in_memory() {
    let mut space = Space::new();
    let network = Bytes::from(vec![b'x'; 16 << 10]);
    let (key, value) = (network.slice(..8), network.slice(8..16));
    let request = PutRequest { key, value, ..PutRequest::default() };
    space.apply(KvRequest::Put(&request)).unwrap();
    drop(request);
    assert!(network.is_unique());
}

#[test]
fn a_batch_becomes_visible_as_a_whole() {
    let mut space = Space::new();
    let over = std::sync::atomic::AtomicBool::new(false);
    let store = space.store.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Acquire) {
                let response = store.range(0, &all()).unwrap();
                let revision = response.header.unwrap().revision;
                assert_eq!((revision - 1) % 2, 0, "half a batch at {revision}");
                let values: Vec<_> = response.kvs.iter().map(|kv| kv.value.clone()).collect();
                assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{values:?}");
            }
        });
        for round in 0..400 {
            let mut batch = space.store.batch();
            for key in ["a", "b"] {
                space.index += 1;
                let (key, value) = (text(key), text(&round.to_string()));
                let request = PutRequest { key, value, ..PutRequest::default() };
                batch.kv(space.index, KvRequest::Put(&request), ReplyTo::Client).unwrap();
                batch.set_applied(space.index, 1);
            }
            drop(batch);
            if round % 50 == 0 {
                space.store.backend().commit_now();
            }
            if round % 70 == 60 {
                space.compact_rows(space.store.revision() - 1);
            }
        }
        over.store(true, std::sync::atomic::Ordering::Release);
    });
}

/// etcd 3.5.1 reported these hashes (`etcdctl endpoint hashkv`) after the same commands.
#[test]
fn hashes_equal_etcds() {
    let mut space = Space::new();
    assert_eq!(space.hash(0), 1_084_519_789);
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        space.put(key, value);
    }
    space.delete("b", "");
    space.put("b", "4");
    space.put("c", "5");
    space.delete("c", "");
    space.put("b", "6");
    assert_eq!(space.hash(0), 2_198_387_193);
    assert_eq!(space.hash(4), 2_069_675_932);
    space.txn_put_put_delete();
    assert_eq!(space.hash(0), 1_793_195_834);
    space.compact(5).unwrap();
    // The hash is that of the rows that can be read, before and after the others are deleted.
    for _ in 0..2 {
        assert_eq!(space.hash(0), 73_388_837);
        assert_eq!(space.hash(6), 3_244_272_178);
        while space.store.step_compaction(2) {}
    }
    space.compact_rows(8);
    assert_eq!(space.hash(0), 4_041_485_580);
    assert_eq!(space.hash(9), 3_741_044_977);
    assert_eq!(space.store.hash_kv(0, 7), Err(Error::Compacted));
    assert_eq!(space.store.hash_kv(0, 100), Err(Error::FutureRevision));
    space.compact_rows(10);
    assert_eq!(space.hash(0), 1_933_568_455);
    assert_eq!(space.put("z", "9"), 11);
    let mut space = space.restart();
    assert_eq!(space.hash(0), 3_963_851_162);
    space.put("z", "9");
    let hash = space.store.hash_kv(0, 11).unwrap();
    assert_eq!((hash.revision, hash.compacted, hash.hash_revision), (12, 10, 11));
}

#[test]
fn a_key_space_with_a_damaged_row_cannot_be_opened() {
    let space = three_keys();
    let backend = space.store.backend().clone();
    backend.write().put(Bucket::Key, b"no revision", text("?"));
    assert!(matches!(Store::open(backend.clone()), Err(OpenError::RowKey(_))));
    let mut guard = backend.write();
    guard.delete(Bucket::Key, b"no revision");
    guard.put(Bucket::Key, &Revision::new(99, 0).row_key(), text("\u{1}"));
    drop(guard);
    assert!(matches!(Store::open(backend.clone()), Err(OpenError::Row { .. })));
    let mut guard = backend.write();
    guard.delete(Bucket::Key, &Revision::new(99, 0).row_key());
    guard.put(Bucket::Meta, b"finishedCompactRev", text("x"));
    drop(guard);
    assert!(matches!(Store::open(backend), Err(OpenError::Mark(_))));
}
