//! Answers that go out in pieces: byte by byte what etcd answers.
//!
//! The members of two clusters have ids of their own, so the header is taken off before. What is
//! left is compared as it came over the line, and not as it decodes.

use bytes::Bytes;
use glass_etcd::pb::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
    request_op::Request,
};
use prost::Message as _;

use crate::{
    cluster::Cluster,
    programs::{self, Kind},
    silent::Silent,
};

/// More than is read at once.
const BIG: usize = 700 << 10;

/// A value of which no part is like another.
fn value(of: usize, len: usize) -> Bytes {
    (0..len).map(|at| ((at * (2 * of + 3)) >> 5) as u8).collect::<Vec<u8>>().into()
}

fn key(at: usize) -> Bytes {
    format!("k{at:02}").into()
}

fn range(change: impl FnOnce(&mut RangeRequest)) -> RangeRequest {
    let mut request =
        RangeRequest { key: "k".into(), range_end: "l".into(), ..RangeRequest::default() };
    change(&mut request);
    request
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// Every order, with and without what leaves rows out.
fn ranges() -> Vec<RangeRequest> {
    let mut ranges = vec![
        range(|it| it.count_only = true),
        range(|it| it.min_mod_revision = 12),
        range(|it| (it.max_create_revision, it.limit) = (9, 3)),
        range(|it| it.revision = 11),
        range(|it| it.range_end = "\0".into()),
    ];
    for sort_order in 0..3 {
        for sort_target in 0..5 {
            for (limit, keys_only) in [(0, false), (5, false), (0, true)] {
                ranges.push(range(|it| {
                    (it.sort_order, it.sort_target) = (sort_order, sort_target);
                    (it.limit, it.keys_only) = (limit, keys_only);
                }));
            }
        }
    }
    ranges
}

/// Writes and reads in turns, and in each other.
fn busy() -> TxnRequest {
    let all = || op(Request::RequestRange(range(|_| {})));
    let put = |at: usize| {
        let (key, value, prev_kv) = (key(at), value(at + 7, BIG / 4), true);
        op(Request::RequestPut(PutRequest { key, value, prev_kv, ..PutRequest::default() }))
    };
    let delete = DeleteRangeRequest { key: key(2), range_end: key(5), prev_kv: true };
    let delete = op(Request::RequestDeleteRange(delete));
    let innermost = TxnRequest { success: vec![all(), put(9)], ..TxnRequest::default() };
    let nested = |txn: &TxnRequest| op(Request::RequestTxn(txn.encode_to_vec().into()));
    let inner = TxnRequest { success: vec![put(8), nested(&innermost)], ..TxnRequest::default() };
    let success = vec![all(), put(0), all(), delete, nested(&inner), put(90), all()];
    TxnRequest { success, ..TxnRequest::default() }
}

/// The answer without its header, and the header's revision.
fn without_header(bytes: &Bytes) -> (i64, Bytes) {
    let mut rest = bytes.clone();
    // Field 1, a message.
    assert_eq!(rest[0], 10);
    rest = rest.slice(1..);
    let len = prost::decode_length_delimiter(&mut rest).unwrap();
    let header = ResponseHeader::decode(rest.split_to(len)).unwrap();
    (header.revision, rest)
}

struct Both([Silent; 2]);

impl Both {
    /// Asks both, and returns how long the answer is.
    async fn ask(&mut self, method: &str, message: &impl prost::Message, what: &str) -> usize {
        let mut answers = Vec::new();
        for member in &mut self.0 {
            answers.push(without_header(&member.message(method, message).await));
        }
        let [ours, etcds] = &answers[..] else { unreachable!("two are asked") };
        assert_eq!((ours.0, ours.1.len()), (etcds.0, etcds.1.len()), "{what}");
        assert!(ours.1 == etcds.1, "{what}");
        ours.1.len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_are_etcds_byte_by_byte() {
    let Some(reference) = programs::reference() else {
        return programs::left_out("large answers: no etcd 3.5.1");
    };
    let clusters = [Cluster::start(&Kind::subject(), 1).await, Cluster::start(&reference, 1).await];
    let [ours, etcds] = [0, 1].map(|at: usize| clusters[at].members[0].client_address());
    let mut both = Both([Silent::connect(&ours).await, Silent::connect(&etcds).await]);
    // Values, versions and revisions are in orders of their own, and no two are the same: etcd does
    // not say which of equal ones comes first.
    for at in 0..12 {
        let versions = (at * 7) % 12 + 1;
        for version in 1..=versions {
            let len = if at % 3 == 0 && version == versions { BIG } else { 10 + at };
            let put = PutRequest { key: key(at), value: value(at, len), ..PutRequest::default() };
            both.ask("Put", &put, "a put").await;
        }
    }
    let mut large = 0;
    for range in ranges() {
        let len = both.ask("Range", &range, &format!("{range:?}")).await;
        large += usize::from(len > 512 << 10);
        let success = vec![op(Request::RequestRange(range.clone())); 2];
        let txn = TxnRequest { success, ..TxnRequest::default() };
        both.ask("Txn", &txn, &format!("in a transaction that only reads: {range:?}")).await;
    }
    assert!(large > 25, "{large} of them are large");
    let (key, value) = (key(0), value(50, BIG));
    let put = PutRequest { key, value, prev_kv: true, ..PutRequest::default() };
    assert!(both.ask("Put", &put, "a put with what was there").await > BIG);
    assert!(both.ask("Txn", &busy(), "a transaction that writes and reads").await > 6 * BIG);
    let delete = DeleteRangeRequest { key: "k".into(), range_end: "l".into(), prev_kv: true };
    assert!(both.ask("DeleteRange", &delete, "a deletion with what was there").await > 2 * BIG);
}
