//! The answer to a transaction, with the answers to the transactions nested in it.
//!
//! In a `TxnResponse` a nested answer is bytes, as a nested transaction is in a request. A message
//! begins with its length, which is known only at its end. So [`Frames`] reserves room where a
//! nested answer begins, and fills in the lengths when it ends:
//!
//! ```text
//!   ┌─────────────────────────────────────────┬────────┬───────────┬────────────┐
//!   │ responses, length, response_txn, length │ header │ succeeded │ operations │
//!   └─ reserved by enter, written by leave ───┴────────┴───────────┴────────────┘
//! ```
//!
//! Nothing recurses, so depth costs no stack. (prost would recurse, and compute the length of each
//! answer again at every level around it.)
//!
//! Both forms of an answer share these frames: a message ([`ResponseBuilder`]), and the parts of a
//! large answer ([`crate::server::answer::rope`]).

use crate::{
    pb::etcdserverpb::{ResponseHeader, ResponseOp, TxnResponse, response_op::Response},
    server::answer::rope::{Begun, Parts},
};

/// The field `responses` of a `TxnResponse`.
pub(crate) const RESPONSES: u8 = 3;
/// The field `response_txn` of a `ResponseOp`.
const RESPONSE_TXN: u8 = 4;

/// The nested answers that have begun and not ended, outermost first.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    open: Vec<Begun>,
}

impl Frames {
    /// Begins the answer to a nested transaction.
    pub(crate) fn enter(&mut self, succeeded: bool, to: &mut Parts) {
        self.open.push(to.begin());
        begin_nested(succeeded, to);
    }

    /// Ends the innermost answer, and writes its lengths.
    pub(crate) fn leave(&mut self, to: &mut Parts) {
        if let Some(begun) = self.open.pop() {
            to.end(begun, [RESPONSE_TXN, RESPONSES]);
        }
    }
}

/// Adds the fields before the operations. As in etcd, the header of a nested answer is present and
/// empty.
fn begin_nested(succeeded: bool, to: &mut Parts) {
    let header = Some(ResponseHeader::default());
    to.fields(&TxnResponse { header, succeeded, ..TxnResponse::default() });
}

/// Builds the message: the operations of the outermost transaction are messages, and the answers
/// nested directly in it are bytes.
#[derive(Debug, Default)]
pub(crate) struct ResponseBuilder {
    response: TxnResponse,
    /// How many transactions have begun and not ended.
    depth: usize,
    /// The nested answer under way, if the depth is 2 or more.
    nested: Parts,
    /// The answers inside `nested`.
    frames: Frames,
}

impl ResponseBuilder {
    /// Begins the outermost answer, or one nested in the innermost.
    pub(crate) fn enter(&mut self, succeeded: bool) {
        match self.depth {
            0 => self.response.succeeded = succeeded,
            1 => begin_nested(succeeded, &mut self.nested),
            _ => self.frames.enter(succeeded, &mut self.nested),
        }
        self.depth += 1;
    }

    /// Adds the response to an operation of the innermost transaction.
    pub(crate) fn push(&mut self, response: Option<Response>) {
        let op = ResponseOp { response };
        if self.depth < 2 {
            self.response.responses.push(op);
        } else {
            self.nested.message(RESPONSES, &op);
        }
    }

    /// Ends the innermost answer.
    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
        match self.depth {
            0 => {}
            1 => {
                let nested = self.nested.take();
                self.push(Some(Response::ResponseTxn(nested)));
            }
            _ => self.frames.leave(&mut self.nested),
        }
    }

    /// Returns the message under this header.
    pub(crate) fn finish(self, header: Option<ResponseHeader>) -> TxnResponse {
        TxnResponse { header, ..self.response }
    }
}
