use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::pb::etcdserverpb::Compare;

const MAX_OPS: usize = 128;

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str) -> RequestOp {
    op(Request::RequestPut(PutRequest { key: text(key), ..PutRequest::default() }))
}

fn delete(key: &str, end: &str) -> RequestOp {
    let request = DeleteRangeRequest { key: text(key), range_end: text(end), prev_kv: false };
    op(Request::RequestDeleteRange(request))
}

fn range(key: &str) -> RequestOp {
    op(Request::RequestRange(RangeRequest { key: text(key), ..RangeRequest::default() }))
}

fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { compare: vec![], success, failure }
}

fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    nest(&txn(success, failure))
}

fn nest(txn: &TxnRequest) -> RequestOp {
    op(Request::RequestTxn(txn.encode_to_vec().into()))
}

fn check_txn(request: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    super::check_txn(&Txn::expand(request.clone(), max_ops).unwrap(), max_ops)
}

/// Checks these operations as either branch of a transaction.
fn check(ops: &[RequestOp], expected: Result<(), Error>) {
    assert_eq!(check_txn(&txn(ops.to_vec(), vec![]), MAX_OPS), expected, "success: {ops:?}");
    assert_eq!(check_txn(&txn(vec![], ops.to_vec()), MAX_OPS), expected, "failure: {ops:?}");
}

#[test]
fn an_empty_key_is_refused_everywhere() {
    assert_eq!(check_range(&RangeRequest::default()), Err(Error::EmptyKey));
    assert_eq!(check_put(&PutRequest::default()), Err(Error::EmptyKey));
    assert_eq!(check_delete_range(&DeleteRangeRequest::default()), Err(Error::EmptyKey));
    check(&[put("")], Err(Error::EmptyKey));
    check(&[range("")], Err(Error::EmptyKey));
    check(&[delete("", "b")], Err(Error::EmptyKey));
    let request = TxnRequest { compare: vec![Compare::default()], ..TxnRequest::default() };
    assert_eq!(check_txn(&request, MAX_OPS), Err(Error::EmptyKey));
}

#[test]
fn an_unknown_sort_option_is_refused_after_an_empty_key() {
    let mut request = RangeRequest { sort_order: 7, ..RangeRequest::default() };
    assert_eq!(check_range(&request), Err(Error::EmptyKey));
    request.key = text("a");
    assert_eq!(check_range(&request), Err(Error::InvalidSortOption));
    request.sort_order = 2;
    assert_eq!(check_range(&request), Ok(()));
    request.sort_target = 5;
    assert_eq!(check_range(&request), Err(Error::InvalidSortOption));
}

#[test]
fn an_ignored_value_or_lease_must_not_be_given() {
    let mut request = PutRequest { key: text("a"), value: text("1"), ..PutRequest::default() };
    request.lease = 1;
    request.ignore_lease = true;
    request.ignore_value = true;
    assert_eq!(check_put(&request), Err(Error::ValueProvided));
    request.value = text("");
    assert_eq!(check_put(&request), Err(Error::LeaseProvided));
    request.lease = 0;
    assert_eq!(check_put(&request), Ok(()));
}

#[test]
fn the_longest_of_the_three_lists_counts() {
    let ranges = |count| vec![range("a"); count];
    check(&ranges(128), Ok(()));
    check(&ranges(129), Err(Error::TooManyOps));
    let request = txn(ranges(128), ranges(128));
    assert_eq!(check_txn(&request, MAX_OPS), Ok(()));
}

#[test]
fn a_nested_transaction_may_have_the_operations_that_its_parent_leaves() {
    let inner = |count| nested(vec![range("a"); count], vec![]);
    check(&[inner(127)], Ok(()));
    check(&[inner(128)], Err(Error::TooManyOps));
    check(&[inner(126), range("b")], Ok(()));
    check(&[inner(127), range("b")], Err(Error::TooManyOps));
}

#[test]
fn an_empty_operation_is_key_not_found() {
    check(&[RequestOp { request: None }], Err(Error::KeyNotFound));
    check(&[nested(vec![RequestOp { request: None }], vec![])], Err(Error::KeyNotFound));
}

#[test]
fn a_key_is_put_once() {
    check(&[put("a"), put("b")], Ok(()));
    check(&[put("a"), range("a"), put("a")], Err(Error::DuplicateKey));
    assert_eq!(check_txn(&txn(vec![put("a")], vec![put("a")]), MAX_OPS), Ok(()));
}

#[test]
fn a_key_is_not_both_put_and_deleted() {
    check(&[put("a"), delete("a", "")], Err(Error::DuplicateKey));
    check(&[delete("a", ""), put("a")], Err(Error::DuplicateKey));
    check(&[delete("a", "c"), put("b")], Err(Error::DuplicateKey));
    check(&[delete("a", "c"), put("c")], Ok(()));
    check(&[delete("a", ""), put("aa")], Ok(()));
    check(&[delete("c", "a"), put("b")], Ok(()));
}

#[test]
fn deletions_may_overlap() {
    check(&[delete("a", "c"), delete("b", "d"), delete("b", "")], Ok(()));
    check(&[delete("a", "c"), delete("b", "d"), put("c")], Err(Error::DuplicateKey));
    check(&[delete("a", "z"), delete("b", ""), put("m")], Err(Error::DuplicateKey));
    check(&[delete("m", ""), delete("x", "z"), put("a")], Ok(()));
}

#[test]
fn a_deletion_to_the_last_key_passes_as_it_does_in_etcd() {
    check(&[put("b"), delete("a", "\0")], Ok(()));
}

#[test]
fn nested_transactions_are_checked_with_their_parent() {
    check(&[put("a"), nested(vec![put("a")], vec![])], Err(Error::DuplicateKey));
    check(&[put("a"), nested(vec![], vec![put("a")])], Err(Error::DuplicateKey));
    check(&[put("a"), nested(vec![delete("a", "")], vec![])], Err(Error::DuplicateKey));
    check(&[delete("a", ""), nested(vec![], vec![put("a")])], Err(Error::DuplicateKey));
    check(
        &[nested(vec![put("a")], vec![]), nested(vec![put("a")], vec![])],
        Err(Error::DuplicateKey),
    );
}

#[test]
fn the_two_branches_of_one_nested_transaction_may_put_the_same_key() {
    check(&[nested(vec![put("a")], vec![put("a"), put("b")])], Ok(()));
    check(&[put("b"), nested(vec![put("a")], vec![put("b")])], Err(Error::DuplicateKey));
}

#[test]
fn a_nested_deletion_conflicts_only_with_later_puts() {
    let (first, second) = (nested(vec![put("k")], vec![]), nested(vec![delete("k", "")], vec![]));
    check(&[first.clone(), second.clone()], Ok(()));
    check(&[second, first], Err(Error::DuplicateKey));
}

/// A transaction of this depth around these operations.
fn deep(depth: usize, innermost: Vec<RequestOp>) -> TxnRequest {
    (1..depth).fold(txn(innermost, vec![]), |inner, _| txn(vec![nest(&inner)], vec![]))
}

/// The same depths as in etcd 3.5.1: each level is an operation of its parent.
#[test]
fn the_number_of_operations_limits_the_depth_of_transactions() {
    for innermost in [put("a"), range("a"), delete("a", "b")] {
        assert_eq!(check_txn(&deep(128, vec![innermost.clone()]), MAX_OPS), Ok(()));
        let too_deep = deep(129, vec![innermost.clone()]);
        assert_eq!(check_txn(&too_deep, MAX_OPS), Err(Error::TooManyOps));
        assert_eq!(check_txn(&deep(5000, vec![innermost]), 5000), Ok(()));
    }
    assert_eq!(check_txn(&deep(129, vec![]), MAX_OPS), Ok(()));
    assert_eq!(check_txn(&deep(130, vec![]), MAX_OPS), Err(Error::TooManyOps));
    assert_eq!(check_txn(&deep(5000, vec![put("a")]), MAX_OPS), Err(Error::TooManyOps));
}

/// The first fault in etcd's order decides: level by level, in the order of the operations.
#[test]
fn of_two_faults_the_first_one_is_reported() {
    let too_many = || nested(vec![range("a"); 128], vec![]);
    check(&[put(""), too_many()], Err(Error::EmptyKey));
    check(&[too_many(), put("")], Err(Error::TooManyOps));
    check(&[nested(vec![put(""), too_many()], vec![]), too_many()], Err(Error::EmptyKey));
    let inner = vec![put("a"), put("a")];
    check(&[nested(inner, vec![]), RequestOp { request: None }], Err(Error::KeyNotFound));
}

/// Goal: the check of many levels needs no stack, and does not visit all keys again at each level.
/// Method: many puts in the innermost of some levels, and many levels, on a small stack.
#[test]
fn many_levels_around_many_puts_are_cheap_to_check() {
    let keys: Vec<String> = (0..20_000).map(|number| format!("k{number}")).collect();
    let mut request = txn(keys.iter().map(|key| put(key)).collect(), vec![]);
    for level in 0..40 {
        request = txn(vec![nest(&request), put(&format!("l{level}"))], vec![]);
    }
    let deep = deep(30_000, vec![put("a")]);
    let small = std::thread::Builder::new().stack_size(128 << 10);
    let thread = small.spawn(move || {
        assert_eq!(check_txn(&request, 50_000), Ok(()));
        assert_eq!(check_txn(&deep, 50_000), Ok(()));
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn a_transaction_of_ranges_only_reads() {
    assert!(txn_is_read_only(&txn(vec![], vec![])));
    assert!(txn_is_read_only(&txn(vec![range("a")], vec![range("b")])));
    assert!(!txn_is_read_only(&txn(vec![range("a")], vec![put("b")])));
    assert!(!txn_is_read_only(&txn(vec![nested(vec![range("a")], vec![])], vec![])));
    assert!(!txn_is_serializable(&txn(vec![range("a")], vec![])));
}
