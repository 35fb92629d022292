//! The reply to a request of the KV service: decided and planned, with its rows not read yet.
//!
//! Apply decides on every member alike what a request changes and which rows its answer contains.
//! Only the member whose client waits reads these rows, when it makes the answer: as a
//! [message](Reply::whole), or [as the parts of a large answer](Reply::write).

use std::ops::ControlFlow;

use super::{
    plan::{Plan, header},
    reader::Source,
};
use crate::{
    pb::etcdserverpb::{
        CompactionResponse, DeleteRangeResponse, PutResponse, RangeResponse, ResponseOp,
        TxnResponse, response_op::Response,
    },
    server::{
        answer::writer::Writer,
        txn::{Frames, RESPONSES, ResponseBuilder},
    },
    stage,
    trace::Span,
};

/// Whether a client of this member waits for the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyTo {
    Client,
    /// No client waits here: it is another member's client, or it is gone. The request is carried
    /// out all the same, and nothing is planned that only its answer would contain.
    Nobody,
}

/// A reply whose rows are not read yet. See the module's text.
#[derive(Debug)]
pub(crate) enum Reply {
    Range(Plan),
    Put {
        /// The revision of the key.
        revision: i64,
        /// The previous key-value pair, if the request asks for it.
        previous: Option<Plan>,
    },
    DeleteRange {
        /// The newest revision after the deletion.
        revision: i64,
        /// The number of keys deleted.
        deleted: i64,
        /// The previous key-value pairs, if the request asks for them.
        previous: Option<Plan>,
    },
    Txn(TxnReply),
    Compact {
        /// The newest revision, not the compacted one.
        revision: i64,
    },
}

/// The reply to a transaction. Nested ones are part of the same list, so depth costs no stack.
#[derive(Debug)]
pub(crate) struct TxnReply {
    /// The newest revision after the transaction.
    pub(crate) revision: i64,
    /// In the order of a walk ([`crate::server::txn::Txn::walk`]); empty if no client waits.
    pub(crate) steps: Vec<ReplyStep>,
}

/// A step of the walk through a transaction, with its reply.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most steps are operations: a box would be one more allocation for each"
)]
pub(crate) enum ReplyStep {
    /// A transaction begins, the outermost first; whether its comparisons held.
    Enter(bool),
    /// An operation that is not a transaction; `None` if the request's operation is empty.
    Op(Option<Reply>),
    /// The innermost transaction ends.
    Leave,
}

impl TxnReply {
    fn ops(&self) -> impl Iterator<Item = &Reply> {
        self.steps.iter().filter_map(|step| match step {
            ReplyStep::Op(reply) => reply.as_ref(),
            ReplyStep::Enter(_) | ReplyStep::Leave => None,
        })
    }
}

/// A reply as a message of its request's kind. Headers have the revision only.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KvResponse {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
}

const NO_OPERATION: &str = "a nested transaction is a list of steps, and a compaction is never one";

impl KvResponse {
    pub(crate) fn put(self) -> PutResponse {
        match self {
            KvResponse::Put(response) => response,
            other => unexpected(&other),
        }
    }

    pub(crate) fn delete_range(self) -> DeleteRangeResponse {
        match self {
            KvResponse::DeleteRange(response) => response,
            other => unexpected(&other),
        }
    }

    pub(crate) fn txn(self) -> TxnResponse {
        match self {
            KvResponse::Txn(response) => response,
            other => unexpected(&other),
        }
    }

    /// As the response to an operation of a transaction.
    fn into_operation(self) -> Response {
        match self {
            KvResponse::Range(response) => Response::ResponseRange(response),
            KvResponse::Put(response) => Response::ResponsePut(response),
            KvResponse::DeleteRange(response) => Response::ResponseDeleteRange(response),
            KvResponse::Txn(_) | KvResponse::Compact(_) => unreachable!("{NO_OPERATION}"),
        }
    }
}

fn unexpected<T>(response: &KvResponse) -> T {
    unreachable!("the response to a request of another kind: {response:?}")
}

impl Reply {
    /// The revision in the header.
    pub(crate) fn revision(&self) -> i64 {
        match self {
            Reply::Range(plan) => plan.revision(),
            Reply::Put { revision, .. }
            | Reply::DeleteRange { revision, .. }
            | Reply::Compact { revision } => *revision,
            Reply::Txn(txn) => txn.revision,
        }
    }

    /// The number of rows to read.
    pub(crate) fn rows(&self) -> usize {
        self.plans().map(Plan::rows).sum()
    }

    /// The memory of the plans, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.plans().map(Plan::bytes).sum()
    }

    fn plans(&self) -> impl Iterator<Item = &Plan> {
        let (own, ops) = match self {
            Reply::Txn(txn) => (None, Some(txn.ops().filter_map(Reply::plan))),
            reply => (reply.plan(), None),
        };
        own.into_iter().chain(ops.into_iter().flatten())
    }

    /// The plan of a request that is not a transaction, if it has one.
    fn plan(&self) -> Option<&Plan> {
        match self {
            Reply::Range(plan) => Some(plan),
            Reply::Put { previous, .. } | Reply::DeleteRange { previous, .. } => previous.as_ref(),
            Reply::Txn(_) | Reply::Compact { .. } => None,
        }
    }

    /// Reads the rows of the reply to request `id`. Returns `None` as soon as they take more than
    /// is left of `budget` bytes; then the reply can be read again.
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

    /// Writes the reply to request `id`, without its header. If it breaks, it can be called again
    /// with another writer.
    pub(crate) fn write(
        &mut self,
        id: u64,
        source: Source<'_>,
        writer: &mut Writer,
    ) -> ControlFlow<()> {
        let write = |plan: &mut Plan, writer: &mut Writer, tag| {
            plan.write(source, writer, tag, &mut stage!(MvccRange, id))
        };
        match self {
            Reply::Range(plan) => write_range(plan, source, writer, &mut stage!(MvccRange, id))?,
            Reply::Put { previous: Some(plan), .. } => write(plan, writer, 2)?,
            Reply::DeleteRange { deleted, previous, .. } => {
                let fields =
                    DeleteRangeResponse { deleted: *deleted, ..DeleteRangeResponse::default() };
                writer.parts().fields(&fields);
                if let Some(plan) = previous {
                    write(plan, writer, 3)?;
                }
            }
            Reply::Txn(txn) => txn.write(id, source, writer)?,
            Reply::Put { previous: None, .. } | Reply::Compact { .. } => {}
        }
        ControlFlow::Continue(())
    }

    /// The field of a `ResponseOp` whose value the reply is.
    fn tag(&self) -> u8 {
        match self {
            Reply::Range(_) => 1,
            Reply::Put { .. } => 2,
            Reply::DeleteRange { .. } => 3,
            Reply::Txn(_) | Reply::Compact { .. } => unreachable!("{NO_OPERATION}"),
        }
    }
}

/// Writes the answer to a range, as [`Reply::write`].
pub(crate) fn write_range(
    plan: &mut Plan,
    source: Source<'_>,
    writer: &mut Writer,
    span: &mut Span,
) -> ControlFlow<()> {
    plan.write(source, writer, 2, span)?;
    let (more, count) = (plan.more(), plan.count());
    writer.parts().fields(&RangeResponse { more, count, ..RangeResponse::default() });
    ControlFlow::Continue(())
}

impl TxnReply {
    /// [`Reply::whole`] for a transaction: `None` beyond the budget.
    pub(crate) fn whole(
        &mut self,
        id: u64,
        source: Source<'_>,
        budget: &mut usize,
    ) -> Option<TxnResponse> {
        let mut response = ResponseBuilder::default();
        for step in &mut self.steps {
            match step {
                ReplyStep::Enter(succeeded) => response.enter(*succeeded),
                ReplyStep::Op(Some(reply)) => {
                    response.push(Some(reply.whole(id, source, budget)?.into_operation()));
                }
                ReplyStep::Op(None) => response.push(None),
                ReplyStep::Leave => response.leave(),
            }
        }
        Some(response.finish(header(self.revision)))
    }

    /// [`Reply::write`] for a transaction, one operation after the other.
    fn write(&mut self, id: u64, source: Source<'_>, writer: &mut Writer) -> ControlFlow<()> {
        let mut frames = Frames::default();
        for (at, step) in self.steps.iter_mut().enumerate() {
            match step {
                ReplyStep::Enter(succeeded) if at == 0 => {
                    let fields = TxnResponse { succeeded: *succeeded, ..TxnResponse::default() };
                    writer.parts().fields(&fields);
                }
                ReplyStep::Enter(succeeded) => frames.enter(*succeeded, writer.parts()),
                ReplyStep::Op(Some(reply)) => {
                    let begun = writer.parts().begin();
                    // The header is the same field of each kind of response.
                    let header = header(reply.revision());
                    writer.parts().fields(&PutResponse { header, prev_kv: None });
                    reply.write(id, source, writer)?;
                    writer.parts().end(begun, [reply.tag(), RESPONSES]);
                }
                ReplyStep::Op(None) => {
                    writer.parts().message(RESPONSES, &ResponseOp { response: None });
                }
                ReplyStep::Leave => frames.leave(writer.parts()),
            }
        }
        ControlFlow::Continue(())
    }
}
