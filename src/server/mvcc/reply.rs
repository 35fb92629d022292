//! The answer to a request of the KV service, with its reads planned and not done.
//!
//! Apply decides what a transaction does and what it sees, on every member alike. What it sees is
//! read by the member that answers, and only there: a reply says which rows, and the rows are read
//! when the answer is made, as [messages](Reply::whole) or [piece by piece](Reply::write).

use std::ops::ControlFlow;

use super::{
    plan::{Plan, header},
    reader::Source,
};
use crate::{
    pb::etcdserverpb::{
        CompactionResponse, DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader,
        TxnResponse, response_op::Response,
    },
    server::{answer::writer::Writer, txn::Answers},
    stage,
    trace::Span,
};

/// The field `responses` of a `TxnResponse`.
const RESPONSES: u8 = 3;
/// The field `response_txn` of a `ResponseOp`.
const RESPONSE_TXN: u8 = 4;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client of this member.
    Here,
    /// A client of another member, or nobody any more. Everything is decided and written all the
    /// same; only what would be read for the answer is left out.
    Elsewhere,
}

/// See the module's text.
#[derive(Debug)]
pub enum Reply {
    /// To a range.
    Range(Plan),
    /// To a put.
    Put {
        /// At which the key was put.
        revision: i64,
        /// The key before, if that is wanted.
        previous: Option<Plan>,
    },
    /// To a deletion.
    DeleteRange {
        /// After the deletion.
        revision: i64,
        /// How many keys there were.
        deleted: i64,
        /// The keys before, if they are wanted.
        previous: Option<Plan>,
    },
    /// To a transaction.
    Txn(TxnReply),
    /// To a compaction.
    Compact {
        /// The newest revision.
        revision: i64,
    },
}

/// The answer to a transaction, with those nested in it one after the other: depth costs no stack.
#[derive(Debug)]
pub struct TxnReply {
    /// After the transaction.
    pub revision: i64,
    /// As a walk through it comes along them; none if nobody waits for the answer.
    pub parts: Vec<Part>,
}

/// A part of the answer to a transaction.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most parts are replies: a box would be one more step"
)]
pub enum Part {
    /// A transaction begins, the outermost first; whether its comparisons held.
    Enter(bool),
    /// The reply to an operation that is no transaction; `None` for an empty one.
    Op(Option<Reply>),
    /// The transaction is over.
    Leave,
}

impl TxnReply {
    /// The replies to operations.
    fn ops(&self) -> impl Iterator<Item = &Reply> {
        self.parts.iter().filter_map(|part| match part {
            Part::Op(reply) => reply.as_ref(),
            Part::Enter(_) | Part::Leave => None,
        })
    }
}

/// A reply as a message, of the kind of its request. Headers have the revision only.
#[derive(Clone, Debug, PartialEq)]
pub enum KvResponse {
    /// To a range.
    Range(RangeResponse),
    /// To a put.
    Put(PutResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compact(CompactionResponse),
}

const NO_OPERATION: &str = "transactions are parts, and a compaction is no operation of one";

impl KvResponse {
    /// The answer to a put.
    pub(crate) fn put(self) -> PutResponse {
        match self {
            KvResponse::Put(response) => response,
            other => unexpected(&other),
        }
    }

    /// The answer to a deletion.
    pub(crate) fn delete_range(self) -> DeleteRangeResponse {
        match self {
            KvResponse::DeleteRange(response) => response,
            other => unexpected(&other),
        }
    }

    /// The answer to a transaction.
    pub(crate) fn txn(self) -> TxnResponse {
        match self {
            KvResponse::Txn(response) => response,
            other => unexpected(&other),
        }
    }

    /// As the answer to an operation of a transaction.
    fn of_operation(self) -> Response {
        match self {
            KvResponse::Range(response) => Response::ResponseRange(response),
            KvResponse::Put(response) => Response::ResponsePut(response),
            KvResponse::DeleteRange(response) => Response::ResponseDeleteRange(response),
            KvResponse::Txn(_) | KvResponse::Compact(_) => unreachable!("{NO_OPERATION}"),
        }
    }
}

/// Each request is answered with its own kind of reply.
fn unexpected<T>(response: &KvResponse) -> T {
    unreachable!("another request's response: {response:?}")
}

impl Reply {
    /// The revision in the header.
    pub fn revision(&self) -> i64 {
        match self {
            Reply::Range(plan) => plan.revision(),
            Reply::Put { revision, .. }
            | Reply::DeleteRange { revision, .. }
            | Reply::Compact { revision } => *revision,
            Reply::Txn(txn) => txn.revision,
        }
    }

    /// How many rows must be read.
    pub fn rows(&self) -> usize {
        match self {
            Reply::Range(plan) => plan.rows(),
            Reply::Put { previous, .. } | Reply::DeleteRange { previous, .. } => {
                previous.as_ref().map_or(0, Plan::rows)
            }
            Reply::Txn(txn) => txn.ops().map(Reply::rows).sum(),
            Reply::Compact { .. } => 0,
        }
    }

    /// The memory that the plans take.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Reply::Range(plan) => plan.bytes(),
            Reply::Put { previous, .. } | Reply::DeleteRange { previous, .. } => {
                previous.as_ref().map_or(0, Plan::bytes)
            }
            Reply::Txn(txn) => txn.ops().map(Reply::bytes).sum(),
            Reply::Compact { .. } => 0,
        }
    }

    /// Reads, on behalf of request `id`, all that the reply needs. Returns `None`, and can be read
    /// again, as soon as that takes more than is left of `budget` bytes.
    pub(crate) fn whole(
        &mut self,
        id: u64,
        source: Source<'_>,
        budget: &mut usize,
    ) -> Option<KvResponse> {
        let mut read = |plan: &mut Plan| plan.whole(source, budget, &mut stage!(MvccRange, id));
        Some(match self {
            Reply::Range(plan) => KvResponse::Range(read(plan)?),
            Reply::Put { revision, previous } => {
                let prev_kv = match previous {
                    Some(plan) => read(plan)?.kvs.pop(),
                    None => None,
                };
                KvResponse::Put(PutResponse { header: header(*revision), prev_kv })
            }
            Reply::DeleteRange { revision, deleted, previous } => {
                let prev_kvs = match previous {
                    Some(plan) => read(plan)?.kvs,
                    None => Vec::new(),
                };
                let (header, deleted) = (header(*revision), *deleted);
                KvResponse::DeleteRange(DeleteRangeResponse { header, deleted, prev_kvs })
            }
            Reply::Txn(txn) => KvResponse::Txn(txn.whole(id, source, budget)?),
            Reply::Compact { revision } => {
                KvResponse::Compact(CompactionResponse { header: header(*revision) })
            }
        })
    }

    /// Writes the reply but its header, on behalf of request `id`. Can be called again if it breaks.
    pub(crate) fn write(
        &mut self,
        id: u64,
        source: Source<'_>,
        writer: &mut Writer,
    ) -> ControlFlow<()> {
        let read = |plan: &mut Plan, writer: &mut Writer, tag| {
            plan.write(source, (writer, tag), &mut stage!(MvccRange, id))
        };
        match self {
            Reply::Range(plan) => write_range(plan, source, writer, &mut stage!(MvccRange, id))?,
            Reply::Put { previous: Some(plan), .. } => read(plan, writer, 2)?,
            Reply::DeleteRange { deleted, previous, .. } => {
                let deleted = *deleted;
                writer.fields(&DeleteRangeResponse { deleted, ..DeleteRangeResponse::default() });
                if let Some(plan) = previous {
                    read(plan, writer, 3)?;
                }
            }
            Reply::Txn(txn) => txn.write(id, source, writer)?,
            Reply::Put { previous: None, .. } | Reply::Compact { .. } => {}
        }
        ControlFlow::Continue(())
    }

    /// The field of a `ResponseOp` in which it stands.
    fn tag(&self) -> u8 {
        match self {
            Reply::Range(_) => 1,
            Reply::Put { .. } => 2,
            Reply::DeleteRange { .. } => 3,
            Reply::Txn(_) | Reply::Compact { .. } => unreachable!("{NO_OPERATION}"),
        }
    }
}

/// Writes the answer to a range but its header, as [`Reply::write`].
pub(crate) fn write_range(
    plan: &mut Plan,
    source: Source<'_>,
    writer: &mut Writer,
    span: &mut Span,
) -> ControlFlow<()> {
    plan.write(source, (writer, 2), span)?;
    let (more, count) = (plan.more(), plan.count());
    writer.fields(&RangeResponse { more, count, ..RangeResponse::default() });
    ControlFlow::Continue(())
}

impl TxnReply {
    /// As [`Reply::whole`].
    pub(crate) fn whole(
        &mut self,
        id: u64,
        source: Source<'_>,
        budget: &mut usize,
    ) -> Option<TxnResponse> {
        let mut answers = Answers::default();
        for part in &mut self.parts {
            match part {
                Part::Enter(succeeded) => answers.enter(*succeeded),
                Part::Op(Some(reply)) => {
                    answers.push(Some(reply.whole(id, source, budget)?.of_operation()));
                }
                Part::Op(None) => answers.push(None),
                Part::Leave => answers.leave(),
            }
        }
        Some(answers.into_response(header(self.revision)))
    }

    /// As [`Reply::write`].
    fn write(&mut self, id: u64, source: Source<'_>, writer: &mut Writer) -> ControlFlow<()> {
        // The messages around the one that is being written: the operation, and the answer in it.
        let mut open = Vec::new();
        let mut is_nested = false;
        for part in &mut self.parts {
            match part {
                Part::Enter(succeeded) => {
                    // The header of a nested answer is there, but says nothing.
                    let header = is_nested.then(ResponseHeader::default);
                    if is_nested {
                        open.push([writer.begin(), writer.begin()]);
                    }
                    is_nested = true;
                    let succeeded = *succeeded;
                    writer.fields(&TxnResponse { header, succeeded, ..TxnResponse::default() });
                }
                Part::Op(reply) => {
                    let op = writer.begin();
                    if let Some(reply) = reply {
                        let response = writer.begin();
                        // A message of which only the header is set is the same for all.
                        let header = header(reply.revision());
                        writer.fields(&PutResponse { header, prev_kv: None });
                        reply.write(id, source, writer)?;
                        writer.end(response, reply.tag());
                    }
                    writer.end(op, RESPONSES);
                }
                Part::Leave => {
                    if let Some([op, response]) = open.pop() {
                        writer.end(response, RESPONSE_TXN);
                        writer.end(op, RESPONSES);
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }
}
