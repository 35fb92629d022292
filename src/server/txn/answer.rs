//! What a transaction answers, with the answers of those nested in it.
//!
//! The outermost answer is a message; the nested ones in it are bytes. They are encoded at the end,
//! in two passes over a list. The first goes backwards and computes the lengths, because the length
//! of an answer stands before it and includes the answers in it. The second goes forwards and writes
//! the bytes. So the cost depends on the length of the answer alone, and not on its depth. (prost
//! would compute the lengths again at each level, and recurse.)

use bytes::Bytes;
use prost::{Message as _, encode_length_delimiter, length_delimiter_len};

use crate::pb::etcdserverpb::{ResponseHeader, ResponseOp, TxnResponse, response_op::Response};

/// The key of `TxnResponse.responses`: field 3, with a length.
const RESPONSES: u8 = 3 << 3 | 2;
/// The key of `ResponseOp.response_txn`: field 4, with a length.
const RESPONSE_TXN: u8 = 4 << 3 | 2;

/// The answers of a transaction as they come about.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// In the order in which the transactions began.
    all: Vec<Answer>,
    /// Those that are not over, by their places in `all`.
    open: Vec<usize>,
}

#[derive(Debug)]
struct Answer {
    succeeded: bool,
    /// A nested answer has its place here, which is empty, and comes later in the list.
    responses: Vec<ResponseOp>,
}

impl Answers {
    /// A transaction begins: the outermost, or one nested in the last that is not over.
    pub(crate) fn enter(&mut self, succeeded: bool) {
        self.push(Some(Response::ResponseTxn(Bytes::new())));
        self.open.push(self.all.len());
        self.all.push(Answer { succeeded, responses: Vec::new() });
    }

    /// Adds the answer to an operation of the transaction under way.
    pub(crate) fn push(&mut self, response: Option<Response>) {
        if let Some(at) = self.open.last() {
            self.all[*at].responses.push(ResponseOp { response });
        }
    }

    /// The transaction under way is over.
    pub(crate) fn leave(&mut self) {
        self.open.pop();
    }

    /// The whole answer, under this header. As in etcd, the nested ones have an empty header.
    pub(crate) fn into_response(mut self, header: Option<ResponseHeader>) -> TxnResponse {
        let (mut next, mut responses) = (1, Vec::new());
        if let Some(root) = self.all.first_mut() {
            responses = std::mem::take(&mut root.responses);
        }
        if 1 < self.all.len() {
            let lengths = self.lengths();
            for op in responses.iter_mut().filter(|op| is_nested(op)) {
                op.response = Some(Response::ResponseTxn(self.encode(&mut next, &lengths)));
            }
        }
        let succeeded = self.all.first().is_some_and(|root| root.succeeded);
        TxnResponse { header, succeeded, responses }
    }

    /// How long each answer is.
    fn lengths(&self) -> Vec<usize> {
        let mut lengths = vec![0; self.all.len()];
        // Of answers whose place has not come yet; that of the first is the last.
        let mut done: Vec<usize> = Vec::new();
        for (at, answer) in self.all.iter().enumerate().rev() {
            let mut length = answer.begin().encoded_len();
            for op in &answer.responses {
                let inner = is_nested(op).then(|| done.pop()).flatten();
                let op = inner.map_or_else(|| op.encoded_len(), delimited);
                length += delimited(op);
            }
            lengths[at] = length;
            done.push(length);
        }
        lengths
    }

    /// Encodes the answer at `next` with those in it, and moves `next` behind them.
    fn encode(&self, next: &mut usize, lengths: &[usize]) -> Bytes {
        let mut out = Vec::with_capacity(lengths[*next]);
        let mut open = vec![self.begin(next, &mut out)];
        while let Some(ops) = open.last_mut() {
            match ops.next() {
                None => _ = open.pop(),
                Some(op) if is_nested(op) => {
                    let length = lengths[*next];
                    begin_field(RESPONSES, delimited(length), &mut out);
                    begin_field(RESPONSE_TXN, length, &mut out);
                    open.push(self.begin(next, &mut out));
                }
                Some(op) => {
                    begin_field(RESPONSES, op.encoded_len(), &mut out);
                    op.encode_raw(&mut out);
                }
            }
        }
        out.into()
    }

    /// Writes what comes before the operations of the answer at `next`, and returns these.
    fn begin(&self, next: &mut usize, out: &mut Vec<u8>) -> std::slice::Iter<'_, ResponseOp> {
        let answer = &self.all[*next];
        *next += 1;
        answer.begin().encode_raw(out);
        answer.responses.iter()
    }
}

impl Answer {
    /// The answer without its operations. They are its last field, so the bytes may follow.
    fn begin(&self) -> TxnResponse {
        let header = Some(ResponseHeader::default());
        TxnResponse { header, succeeded: self.succeeded, responses: Vec::new() }
    }
}

fn is_nested(op: &ResponseOp) -> bool {
    matches!(op.response, Some(Response::ResponseTxn(_)))
}

/// The length of a field of which the message has this length. Both fields' keys take one byte.
fn delimited(length: usize) -> usize {
    1 + length_delimiter_len(length) + length
}

fn begin_field(key: u8, length: usize, out: &mut Vec<u8>) {
    out.push(key);
    encode_length_delimiter(length, out).expect("a Vec grows");
}
