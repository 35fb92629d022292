//! Puts, deletions and transactions. The answers to nested transactions were compared with etcd
//! 3.5.1.

use prost::Message as _;

use super::{
    super::{older_keys::OlderKeys, read_txn::Attempt},
    *,
};
use crate::pb::{
    etcdserverpb::{
        Compare, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
        compare::TargetUnion, request_op::Request, response_op::Response,
    },
    mvccpb::KeyValue,
};

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put(key: &str, value: &str) -> RequestOp {
    let (key, value) = (text(key), text(value));
    op(Request::RequestPut(PutRequest { key, value, ..PutRequest::default() }))
}

fn keep_value(key: &str) -> RequestOp {
    let request = PutRequest { key: text(key), ignore_value: true, ..PutRequest::default() };
    op(Request::RequestPut(request))
}

fn delete(key: &str) -> RequestOp {
    let request = DeleteRangeRequest { key: text(key), ..DeleteRangeRequest::default() };
    op(Request::RequestDeleteRange(request))
}

fn get(key: &str, revision: i64) -> RequestOp {
    let request = RangeRequest { key: text(key), revision, ..RangeRequest::default() };
    op(Request::RequestRange(request))
}

fn nested(request: &TxnRequest) -> RequestOp {
    op(Request::RequestTxn(request.encode_to_vec().into()))
}

/// Decodes the answer to a nested transaction.
fn inner(response: &ResponseOp) -> TxnResponse {
    match &response.response {
        Some(Response::ResponseTxn(bytes)) => TxnResponse::decode(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn of(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

/// `result`: 0 equal, 1 greater, 2 less, 3 not equal. `target`: 0 version, 1 create, 2 mod,
/// 3 value, 4 lease.
fn compare(key: &str, result: i32, target: i32, union: TargetUnion) -> Compare {
    let target_union = Some(union);
    Compare { key: text(key), result, target, target_union, range_end: Bytes::new() }
}

impl Space {
    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        match self.apply(KvRequest::Txn(&expand(request)))? {
            KvResponse::Txn(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    /// A part of the commands after which etcd has reported hashes.
    pub(super) fn txn_put_put_delete(&mut self) {
        let mut request = of(vec![put("x", "1"), put("y", "2"), delete("a")]);
        request.compare.push(compare("x", 0, 2, TargetUnion::ModRevision(0)));
        assert!(self.txn(&request).unwrap().succeeded);
    }

    /// Applies a transaction that must be refused, and checks that it has written nothing.
    fn refuse(&mut self, request: &TxnRequest, error: Error) {
        let before = (self.store.revision(), self.hash(0), self.store.backend().buffered());
        assert_eq!(self.txn(request), Err(error), "{request:?}");
        let after = (self.store.revision(), self.hash(0), self.store.backend().buffered());
        assert_eq!(before, after);
    }
}

fn revisions(response: &TxnResponse) -> Vec<i64> {
    let header = |it: &ResponseOp| match it.response.as_ref().unwrap() {
        Response::ResponseRange(it) => it.header.unwrap(),
        Response::ResponsePut(it) => it.header.unwrap(),
        Response::ResponseDeleteRange(it) => it.header.unwrap(),
        Response::ResponseTxn(_) => inner(it).header.unwrap(),
    };
    response.responses.iter().map(|it| header(it).revision).collect()
}

fn values(response: &TxnResponse) -> Vec<String> {
    let ranges = response.responses.iter().filter_map(|it| match it.response.as_ref().unwrap() {
        Response::ResponseRange(it) => Some(it),
        _ => None,
    });
    ranges.map(|it| it.kvs.first().map_or(String::new(), |kv| show(&kv.value))).collect()
}

#[test]
fn a_put_counts_versions_and_returns_the_previous_key_value() {
    let mut space = Space::new();
    space.put("a", "1");
    let (key, value) = (text("a"), text("2"));
    let request = PutRequest { key, value, prev_kv: true, ..PutRequest::default() };
    let Ok(KvResponse::Put(response)) = space.apply(KvRequest::Put(&request)) else { panic!() };
    assert_eq!(response.header, Some(ResponseHeader { revision: 3, ..Default::default() }));
    let expected = KeyValue {
        key: text("a"),
        value: text("1"),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        lease: 0,
    };
    assert_eq!(response.prev_kv, Some(expected));
    let kv = space.range(&all()).unwrap().kvs.remove(0);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 3, 2));
}

#[test]
fn a_put_of_the_same_value_takes_a_revision() {
    let mut space = Space::new();
    assert_eq!([space.put("a", "1"), space.put("a", "1")], [2, 3]);
}

#[test]
fn a_put_that_ignores_the_value_keeps_that_of_an_existing_key() {
    let mut space = Space::new();
    let request = PutRequest { key: text("a"), ignore_value: true, ..PutRequest::default() };
    assert_eq!(space.apply(KvRequest::Put(&request)), Err(Error::KeyNotFound));
    let lease = PutRequest { key: text("a"), ignore_lease: true, ..PutRequest::default() };
    assert_eq!(space.apply(KvRequest::Put(&lease)), Err(Error::KeyNotFound));
    assert_eq!(space.store.revision(), 1);
    space.put("a", "1");
    space.apply(KvRequest::Put(&request)).unwrap();
    let kv = space.range(&all()).unwrap().kvs.remove(0);
    assert_eq!((show(&kv.value).as_str(), kv.version), ("1", 2));
}

#[test]
fn an_unknown_lease_is_refused_before_a_missing_key() {
    let mut space = Space::new();
    let request =
        PutRequest { key: text("a"), lease: 7, ignore_value: true, ..PutRequest::default() };
    assert_eq!(space.apply(KvRequest::Put(&request)), Err(Error::LeaseNotFound));
}

#[test]
fn a_deletion_of_many_keys_takes_one_revision() {
    let mut space = three_keys();
    let request = DeleteRangeRequest { key: text("a"), range_end: text("\0"), prev_kv: true };
    let Ok(KvResponse::DeleteRange(response)) = space.apply(KvRequest::DeleteRange(&request))
    else {
        panic!()
    };
    assert_eq!((response.deleted, response.header.unwrap().revision), (3, 6));
    let keys: String = response.prev_kvs.iter().map(|kv| show(&kv.key)).collect();
    assert_eq!(keys, "abc");
    assert_eq!(space.delete("a", "\0"), (0, 6));
    assert_eq!(space.keys(&RangeRequest { revision: 5, ..all() }), "abc");
}

#[test]
fn an_empty_transaction_succeeds_and_takes_no_revision() {
    let response = Space::new().txn(&TxnRequest::default()).unwrap();
    assert!(response.succeeded);
    assert_eq!(response.header.unwrap().revision, 1);
}

#[test]
fn all_writes_of_a_transaction_share_a_revision_and_later_reads_see_them() {
    let mut space = three_keys();
    let inside = of(vec![get("c", 0)]);
    let ops = vec![delete("nope"), get("a", 0), put("b", "7"), delete("nope"), get("b", 0)];
    let mut request = of(ops);
    request.success.push(nested(&inside));
    let response = space.txn(&request).unwrap();
    assert_eq!(response.header.unwrap().revision, 6);
    assert_eq!(revisions(&response), [5, 5, 6, 6, 6, 0]);
    assert_eq!(values(&response), ["9", "7"]);
    let inner = inner(&response.responses[5]);
    assert!(inner.succeeded);
    assert_eq!((revisions(&inner), values(&inner)), (vec![6], vec!["5".to_owned()]));
}

#[test]
fn nested_comparisons_see_the_state_before_the_transaction() {
    let mut space = Space::new();
    let mut inside = of(vec![put("then", "1")]);
    inside.compare.push(compare("n", 0, 0, TargetUnion::Version(1)));
    inside.failure.push(put("else", "1"));
    let response = space.txn(&of(vec![put("n", "7"), nested(&inside)])).unwrap();
    assert!(!inner(&response.responses[1]).succeeded);
    assert_eq!(space.keys(&all()), "elsen");
}

#[test]
fn a_key_can_be_put_and_deleted_by_two_nested_transactions() {
    let mut space = Space::new();
    let (first, second) = (of(vec![put("k", "1")]), of(vec![delete("k")]));
    let request = of(vec![nested(&first), nested(&second), get("k", 0)]);
    assert_eq!(values(&space.txn(&request).unwrap()), [""]);
    assert_eq!(space.keys(&all()), "");
    assert_eq!(space.put("k", "2"), 3);
    assert_eq!(space.restart().keys(&all()), "k");
}

/// Goal: members apply transactions of any depth in the log alike. Method: two members
/// apply an entry of ten thousand transactions nested in each other, every second one in the
/// failure branch, on a stack that has room for a few calls.
#[test]
fn a_transaction_of_any_depth_is_applied() {
    const DEPTH: usize = 10_000;
    let mut request = of(vec![put("innermost", "1"), get("innermost", 0)]);
    for level in (1..DEPTH).rev() {
        let mut around = of(vec![put(&format!("k{level}"), "1"), nested(&request)]);
        if level % 2 == 0 {
            around.compare.push(compare("none", 1, 0, TargetUnion::Version(0)));
            std::mem::swap(&mut around.success, &mut around.failure);
        }
        request = around;
    }
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let thread = small.spawn(move || {
        let mut members = [Space::new(), Space::new()];
        for space in &mut members {
            let mut level = space.txn(&request).unwrap();
            assert_eq!(level.header.unwrap().revision, 2);
            for depth in 1..DEPTH {
                assert_eq!(level.succeeded, depth % 2 == 1);
                level = inner(&level.responses[1]);
            }
            assert_eq!((revisions(&level), values(&level)), (vec![2, 2], vec!["1".to_owned()]));
            assert_eq!(space.range(&all()).unwrap().count, 10_000);
        }
        assert_eq!(members[0].hash(0), members[1].hash(0));
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn a_transaction_that_would_fail_writes_nothing() {
    let mut space = three_keys();
    space.compact(3).unwrap();
    let write = || put("a", "new");
    space.refuse(&of(vec![write(), get("a", 2)]), Error::Compacted);
    space.refuse(&of(vec![write(), get("a", -5)]), Error::Compacted);
    // Even its own revision is in the future.
    space.refuse(&of(vec![write(), get("a", 6)]), Error::FutureRevision);
    space.refuse(&of(vec![write(), keep_value("missing")]), Error::KeyNotFound);
    let lease = PutRequest { key: text("b"), lease: 77, ..PutRequest::default() };
    space.refuse(&of(vec![write(), op(Request::RequestPut(lease))]), Error::LeaseNotFound);
    space.refuse(&of(vec![write(), nested(&of(vec![get("a", 99)]))]), Error::FutureRevision);
    let unsorted = RangeRequest { key: text("a"), sort_target: 9, ..RangeRequest::default() };
    let unsorted = op(Request::RequestRange(unsorted));
    space.refuse(&of(vec![write(), unsorted]), Error::InvalidSortOption);
    // The branch that is not taken is not checked.
    let mut request = of(vec![write()]);
    request.failure = vec![get("a", 99)];
    assert!(space.txn(&request).is_ok());
}

/// The check refuses such requests. An entry in the log that was not checked must not end the
/// member.
#[test]
fn earlier_operations_of_a_transaction_decide_whether_a_put_may_keep_a_value() {
    let mut space = three_keys();
    space.refuse(&of(vec![put("x", "1"), delete("a"), keep_value("a")]), Error::KeyNotFound);
    let request = of(vec![put("new", "1"), keep_value("new"), get("new", 0)]);
    assert_eq!(values(&space.txn(&request).unwrap()), ["1"]);
    let response = space.txn(&of(vec![RequestOp { request: None }])).unwrap();
    assert_eq!(response.responses, [ResponseOp { response: None }]);
}

#[test]
fn comparisons_follow_etcds_table() {
    let mut space = three_keys();
    let mut check = |compare: Compare, expected: bool| {
        let request = TxnRequest { compare: vec![compare.clone()], ..TxnRequest::default() };
        let of_apply = space.txn(&request).unwrap().succeeded;
        assert_eq!(of_apply, expected, "{compare:?}");
        assert_eq!(space.read_txn(&request).unwrap().succeeded, expected, "{compare:?}");
    };
    // `b` was created at 2, modified at 4, has version 2 and the value "1".
    check(compare("b", 0, 0, TargetUnion::Version(2)), true);
    check(compare("b", 1, 0, TargetUnion::Version(1)), true);
    check(compare("b", 2, 1, TargetUnion::CreateRevision(2)), false);
    check(compare("b", 3, 2, TargetUnion::ModRevision(2)), true);
    check(compare("b", 0, 3, TargetUnion::Value(text("1"))), true);
    check(compare("b", 2, 3, TargetUnion::Value(text("10"))), true);
    check(compare("b", 0, 4, TargetUnion::Lease(0)), true);
    // A missing key compares as zero; its value satisfies no comparison.
    check(compare("no", 0, 0, TargetUnion::Version(0)), true);
    check(compare("no", 2, 2, TargetUnion::ModRevision(1)), true);
    check(compare("no", 0, 4, TargetUnion::Lease(0)), true);
    check(compare("no", 0, 3, TargetUnion::Value(text(""))), false);
    check(compare("no", 3, 3, TargetUnion::Value(text("x"))), false);
    // A value of another target compares as zero, an unknown target as equal, and an unknown result
    // always holds.
    check(compare("no", 0, 0, TargetUnion::ModRevision(9)), true);
    check(compare("b", 0, 9, TargetUnion::Version(99)), true);
    check(compare("b", 9, 0, TargetUnion::Version(99)), true);
    // Every key of a range must satisfy it.
    let mut range = compare("a", 1, 2, TargetUnion::ModRevision(2));
    range.range_end = text("\0");
    check(range.clone(), true);
    range.target_union = Some(TargetUnion::ModRevision(3));
    check(range.clone(), false);
    range.key = text("x");
    check(range, false);
}

fn small_txn(space: &Space, request: &TxnRequest) -> Result<TxnResponse, Error> {
    match space.store.small_txn(0, request, usize::MAX)? {
        Attempt::Answered(response) => Ok(response),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_transaction_that_only_reads_reads_at_one_revision() {
    let mut space = three_keys();
    let mut request = of(vec![get("a", 0), get("b", 2)]);
    request.compare.push(compare("c", 0, 0, TargetUnion::Version(1)));
    request.failure.push(get("c", 0));
    let response = small_txn(&space, &request).unwrap();
    assert_eq!(values(&response), ["9", "0"]);
    assert_eq!((revisions(&response), response.header.unwrap().revision), (vec![5, 5], 5));
    space.delete("c", "");
    let response = small_txn(&space, &request).unwrap();
    assert!(!response.succeeded);
    assert_eq!(values(&response), [""]);
    let request = of(vec![get("a", -5)]);
    assert_eq!(small_txn(&space, &request), Err(Error::Compacted));
    let request = of(vec![get("a", 7)]);
    assert_eq!(small_txn(&space, &request), Err(Error::FutureRevision));
}

/// Goal: selecting keys by the index returns what reading and sorting all rows would return.
/// Method: every target and order with filters, and every limit, against the range without a limit.
#[test]
fn a_limit_returns_the_first_of_all_sorted_keys() {
    let mut space = Space::new();
    for number in 0..60_u32 {
        let key = format!("k{}", number * 7919 % 17);
        if number % 5 == 4 {
            space.delete(&key, "");
        } else {
            space.put(&key, &format!("{}", number % 3));
        }
    }
    let (key, range_end) = (text("k"), text("l"));
    let all = RangeRequest { key, range_end, ..RangeRequest::default() };
    let mut compared = 0;
    for (target, order) in (0..5).flat_map(|target| (0..3).map(move |order| (target, order))) {
        for (revision, min, max) in [(0, 0, 0), (40, 0, 0), (0, 30, 0), (0, 0, 45), (50, 20, 40)] {
            let whole = RangeRequest {
                sort_target: target,
                sort_order: order,
                revision,
                min_create_revision: min,
                max_mod_revision: max,
                ..all.clone()
            };
            let expected = space.range(&whole).unwrap();
            for limit in 1..20 {
                let got = space.range(&RangeRequest { limit, ..whole.clone() }).unwrap();
                let cut = usize::try_from(limit).unwrap().min(expected.kvs.len());
                // Without an order the limit comes first, and then the first keys are sorted.
                if order != 0 {
                    assert_eq!(got.kvs, expected.kvs[..cut], "{whole:?}, {limit}");
                    assert_eq!((got.more, got.count), (cut < expected.kvs.len(), expected.count));
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 5 * 2 * 5 * 19);
}

#[test]
fn the_older_keys_of_a_range_are_counted_and_the_youngest_is_returned() {
    let mut space = Space::new();
    let revisions = ["q/c", "q/a", "q0", "q/b", "q/d"].map(|key| space.put(key, ""));
    space.put("q/c", "again");
    let range = RangeRequest { key: text("q/"), range_end: text("q0"), ..RangeRequest::default() };
    let older = |space: &Space, at: usize| {
        let mut older = OlderKeys::new(range.clone(), revisions[at]);
        while space.store.find_older_keys(&mut older) {}
        let youngest = older.youngest.map(|(key, created)| (show(&key), created));
        (youngest, older.count, older.revision)
    };
    assert_eq!(older(&space, 0), (None, 0, 7));
    assert_eq!(older(&space, 4), (Some(("q/b".to_owned(), revisions[3])), 3, 7));
    space.delete("q/b", "");
    assert_eq!(older(&space, 4), (Some(("q/a".to_owned(), revisions[1])), 2, 8));
}
