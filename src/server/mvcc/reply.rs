//! The answer to a request of the KV service, with its reads planned and not done.
//!
//! Apply decides what a transaction does and what it sees, on every member alike. What it sees is
//! read by the member that answers, and only there: a reply says which rows, and the rows are read
//! when the answer is made, as [messages](Reply::whole) or [piece by piece](Reply::write).

use std::ops::ControlFlow;

use super::plan::{Plan, Source, header};
use crate::{
    pb::etcdserverpb::{
        CompactionResponse, DeleteRangeResponse, PutResponse, RangeResponse, ResponseOp,
        TxnResponse, response_op::Response,
    },
    server::answer::rope::Writer,
    stage,
};

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

/// The answer to a transaction.
#[derive(Debug)]
pub struct TxnReply {
    /// After the transaction; 0 for one inside of another.
    pub revision: i64,
    /// Whether its comparisons held.
    pub succeeded: bool,
    /// Of the operations of the branch that was taken; `None` for those that are none.
    pub replies: Vec<Option<Reply>>,
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

const NO_OPERATION: &str = "a compaction is no operation of a transaction";

impl KvResponse {
    /// As the answer to an operation of a transaction.
    fn of_operation(self) -> Response {
        match self {
            KvResponse::Range(response) => Response::ResponseRange(response),
            KvResponse::Put(response) => Response::ResponsePut(response),
            KvResponse::DeleteRange(response) => Response::ResponseDeleteRange(response),
            KvResponse::Txn(response) => Response::ResponseTxn(response),
            KvResponse::Compact(_) => unreachable!("{NO_OPERATION}"),
        }
    }
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
            Reply::Txn(txn) => txn.replies.iter().flatten().map(Reply::rows).sum(),
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
            Reply::Range(plan) => {
                read(plan, writer, 2)?;
                let (more, count) = (plan.more(), plan.count());
                writer.fields(&RangeResponse { more, count, ..RangeResponse::default() });
            }
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

    /// The field of a [`ResponseOp`] in which it stands.
    fn tag(&self) -> u8 {
        match self {
            Reply::Range(_) => 1,
            Reply::Put { .. } => 2,
            Reply::DeleteRange { .. } => 3,
            Reply::Txn(_) => 4,
            Reply::Compact { .. } => unreachable!("{NO_OPERATION}"),
        }
    }
}

impl TxnReply {
    /// As [`Reply::whole`].
    pub(crate) fn whole(
        &mut self,
        id: u64,
        source: Source<'_>,
        budget: &mut usize,
    ) -> Option<TxnResponse> {
        let mut responses = Vec::with_capacity(self.replies.len());
        for reply in &mut self.replies {
            let response = match reply {
                Some(reply) => Some(reply.whole(id, source, budget)?.of_operation()),
                None => None,
            };
            responses.push(ResponseOp { response });
        }
        let (header, succeeded) = (header(self.revision), self.succeeded);
        Some(TxnResponse { header, succeeded, responses })
    }

    fn write(&mut self, id: u64, source: Source<'_>, writer: &mut Writer) -> ControlFlow<()> {
        writer.fields(&TxnResponse { succeeded: self.succeeded, ..TxnResponse::default() });
        for reply in &mut self.replies {
            let op = writer.begin();
            if let Some(reply) = reply {
                let response = writer.begin();
                // A message of which nothing but the header is set is the same for all four.
                writer.fields(&PutResponse { header: header(reply.revision()), prev_kv: None });
                reply.write(id, source, writer)?;
                writer.end(response, reply.tag());
            }
            writer.end(op, 3);
        }
        ControlFlow::Continue(())
    }
}
