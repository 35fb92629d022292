use bytes::Bytes;

use super::*;
use crate::pb::etcdserverpb::{
    PutRequest, PutResponse, RangeResponse, ResponseHeader, TxnResponse, response_op::Response,
};

fn put(key: &'static str) -> RequestOp {
    let put = PutRequest { key: key.into(), ..PutRequest::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

fn nest(txn: &TxnRequest) -> RequestOp {
    RequestOp { request: Some(Request::RequestTxn(txn.encode_to_vec().into())) }
}

fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { compare: Vec::new(), success, failure }
}

/// `depth` transactions nested in each other, with a put in the innermost.
fn deep(depth: usize) -> TxnRequest {
    (1..depth).fold(txn(vec![put("a")], vec![]), |inner, _| txn(vec![nest(&inner)], vec![]))
}

fn walked(txn: &Txn, branches: impl Fn(usize) -> Branches) -> String {
    let step = |step| match step {
        Step::Enter(level) => format!("({level}"),
        Step::Op(Some(Request::RequestPut(put))) => String::from_utf8_lossy(&put.key).into_owned(),
        Step::Op(_) => "-".to_owned(),
        Step::Leave(_) => ")".to_owned(),
    };
    txn.walk(branches).map(step).collect::<Vec<_>>().join(" ")
}

/// The transaction of the module's text, with a second branch.
fn pictured() -> Txn {
    let third = txn(vec![put("d")], vec![]);
    let first = txn(vec![put("b"), nest(&third)], vec![nest(&txn(vec![], vec![put("e")]))]);
    let second = txn(vec![put("c")], vec![]);
    let failure = vec![RequestOp { request: None }, nest(&txn(vec![put("f")], vec![]))];
    let root = txn(vec![put("a"), nest(&first), nest(&second)], failure);
    Txn::expand(root, 128).unwrap()
}

#[test]
fn a_walk_enters_each_nested_transaction_at_its_position() {
    let pictured = pictured();
    let all = "(0 a (1 b (4 d ) (5 e ) ) (2 c ) - (3 f ) )";
    assert_eq!(walked(&pictured, |_| Branches::Both), all);
    assert_eq!(walked(&pictured, |_| Branches::Success), "(0 a (1 b (4 d ) ) (2 c ) )");
    assert_eq!(walked(&pictured, |_| Branches::Failure), "(0 - (3 ) )");
    let second = |level| if level == 1 { Branches::Failure } else { Branches::Success };
    assert_eq!(walked(&pictured, second), "(0 a (1 (5 ) ) (2 c ) )");
    assert_eq!(pictured.inner(0, Branches::Both), 1..4);
    assert_eq!(pictured.inner(1, Branches::Failure), 5..6);
    assert_eq!(walked(&Txn::expand(txn(vec![], vec![]), 0).unwrap(), |_| Branches::Both), "(0 )");
}

#[test]
fn an_expanded_transaction_returns_its_request_unchanged() {
    let request = deep(3);
    assert_eq!(Txn::expand(request.clone(), 128).unwrap().into_request(), request);
}

#[test]
fn levels_beyond_the_limit_of_operations_stay_bytes() {
    for (max_ops, levels) in [(0, 1), (1, 2), (2, 3), (5, 5), (128, 5)] {
        let txn = Txn::expand(deep(5), max_ops).unwrap();
        assert_eq!(txn.levels(), levels, "{max_ops}");
        let mut steps = 0;
        txn.walk(|_| Branches::Both).for_each(|_| steps += 1);
        assert!(2 * levels <= steps);
    }
}

#[test]
fn a_nested_transaction_that_does_not_decode_is_an_error() {
    let broken = RequestOp { request: Some(Request::RequestTxn(Bytes::from_static(b"\xff"))) };
    let inner = txn(vec![], vec![broken.clone()]);
    for request in [txn(vec![broken], vec![]), txn(vec![nest(&inner)], vec![])] {
        assert!(Txn::expand(request, 128).is_err());
    }
}

/// Goal: depth costs no stack. Method: a transaction as deep as an entry of 10 MiB can be, on a
/// stack that has room for some hundred calls. Its bytes are built from the innermost level
/// outwards.
#[test]
fn a_million_levels_need_no_stack() {
    let depth = 700_000;
    // In reverse: each level puts two keys and two lengths around the previous one.
    let mut bytes: Vec<u8> = Vec::new();
    for _ in 1..depth {
        for key in [4_u8 << 3 | 2, 2 << 3 | 2] {
            let mut field = vec![key];
            prost::encode_length_delimiter(bytes.len(), &mut field).unwrap();
            bytes.extend(field.iter().rev());
        }
    }
    bytes.reverse();
    assert!(bytes.len() < 10 << 20, "{}", bytes.len());
    let small = std::thread::Builder::new().stack_size(128 << 10);
    let thread = small.spawn(move || {
        let request = TxnRequest::decode(Bytes::from(bytes)).unwrap();
        let txn = Txn::expand(request, usize::MAX).unwrap();
        assert_eq!(txn.levels(), depth);
        let mut builder = ResponseBuilder::default();
        for step in txn.walk(|_| Branches::Success) {
            match step {
                Step::Enter(_) => builder.enter(true),
                Step::Op(_) => builder.push(None),
                Step::Leave(_) => builder.leave(),
            }
        }
        let response = builder.finish(None);
        let Some(Response::ResponseTxn(inner)) = &response.responses[0].response else { panic!() };
        // Each level has a header, `succeeded`, two keys and two lengths.
        assert!(8 * (depth - 1) <= inner.len());
    });
    thread.unwrap().join().unwrap();
}

/// etcd's own messages, in which nested answers are messages and not bytes.
mod recursive {
    use super::{PutResponse, RangeResponse, ResponseHeader};

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Txn {
        #[prost(message, optional, tag = "1")]
        pub(super) header: Option<ResponseHeader>,
        #[prost(bool, tag = "2")]
        pub(super) succeeded: bool,
        #[prost(message, repeated, tag = "3")]
        pub(super) responses: Vec<Op>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Op {
        #[prost(oneof = "Response", tags = "1, 2, 4")]
        pub(super) response: Option<Response>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Response {
        #[prost(message, tag = "1")]
        Range(RangeResponse),
        #[prost(message, tag = "2")]
        Put(PutResponse),
        #[prost(message, tag = "4")]
        Txn(Txn),
    }
}

/// Builds a random tree of answers in both forms.
struct Grown {
    seed: u64,
    builder: ResponseBuilder,
}

impl Grown {
    fn below(&mut self, sides: u64) -> u64 {
        self.seed = crate::trace::id::hash(self.seed);
        self.seed % sides
    }

    fn grow(&mut self, depth: u64) -> recursive::Txn {
        let succeeded = self.below(2) == 0;
        self.builder.enter(succeeded);
        let responses = (0..self.below(4)).map(|_| self.op(depth)).collect();
        self.builder.leave();
        recursive::Txn { header: Some(ResponseHeader::default()), succeeded, responses }
    }

    fn op(&mut self, depth: u64) -> recursive::Op {
        let revision = self.below(1000) as i64;
        let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
        let response = match self.below(5) {
            0 => None,
            1 => {
                let range = RangeResponse { header, count: revision, ..RangeResponse::default() };
                self.builder.push(Some(Response::ResponseRange(range.clone())));
                Some(recursive::Response::Range(range))
            }
            2 if depth == 0 => {
                let put = PutResponse { header, prev_kv: None };
                self.builder.push(Some(Response::ResponsePut(put.clone())));
                Some(recursive::Response::Put(put))
            }
            _ if 0 < depth => Some(recursive::Response::Txn(self.grow(depth - 1))),
            _ => None,
        };
        if response.is_none() {
            self.builder.push(None);
        }
        recursive::Op { response }
    }
}

/// Goal: the encoded answer is that of etcd's messages. Method: random trees, which prost encodes.
#[test]
fn nested_answers_are_encoded_as_nested_messages() {
    let mut nested = 0;
    for seed in 1..2000 {
        let mut grown = Grown { seed, builder: ResponseBuilder::default() };
        let expected = grown.grow(1 + seed % 6);
        let header = Some(ResponseHeader { revision: 7, ..ResponseHeader::default() });
        let response: TxnResponse = grown.builder.finish(header);
        let expected = recursive::Txn { header, ..expected };
        assert_eq!(response.encode_to_vec(), expected.encode_to_vec(), "seed {seed}");
        let is_nested =
            |op: &recursive::Op| matches!(op.response, Some(recursive::Response::Txn(_)));
        nested += usize::from(expected.responses.iter().any(is_nested));
    }
    assert!(500 < nested, "{nested}");
}
