//! The requests of the KV service, one line per step (etcd: `EtcdServer`).

use std::sync::Arc;

use super::{
    Error, Settings,
    admit::{put_cost, txn_cost},
    answer::{Answer, Connection},
    answer_reader::{AnswerReader, Question},
    auth::AuthStore,
    blocking, check,
    command::Command,
    error::note,
    long_reads::LongReads,
    mvcc::{KvResponse, Reply, Store, plan, read_txn::Attempt},
    propose::Proposer,
    read_index::ReadIndex,
    slow::{self, SlowRequests, error_text},
    stopping::Stopping,
    txn::{Txn, deleted_range},
    wait_step::WaitStep,
};
use crate::{
    clock,
    metrics::recorded,
    pb::etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
    },
    stage,
};

/// Serves KV: writes through the log, reads after a read round.
pub(crate) struct KvServer {
    pub(crate) settings: Settings,
    pub(crate) proposer: Arc<Proposer>,
    pub(crate) reads: Arc<ReadIndex>,
    pub(crate) store: Arc<Store>,
    pub(crate) auth: Arc<AuthStore>,
    pub(crate) long_reads: Arc<LongReads>,
    pub(crate) answers: AnswerReader,
    pub(crate) slow: Arc<SlowRequests>,
    /// Ends calls that wait for a compaction.
    pub(crate) stopping: Stopping,
}

impl KvServer {
    // ANCHOR: put
    /// KV.Put. With `prev_kv` it waits for room for the answer before it is proposed.
    pub(crate) async fn put(
        &self,
        id: u64,
        put: PutRequest,
        from: &Arc<Connection>,
    ) -> Result<Answer<PutResponse>, Error> {
        validate(id, 1, || check::check_put(&put))?;
        if put.prev_kv && !from.is_free() {
            from.free(id, 0, self.settings.request_timeout).await?;
        }
        self.proposer.check_quota(id, put_cost(&put)).await?;
        let header = self.proposer.prepare(id)?;
        let reply = self.proposer.propose(header, Command::Put(put)).await?.kv();
        Ok(self.answers.finish(id, reply, from, None).await?.map(KvResponse::put))
    }
    // ANCHOR_END: put

    /// KV.Range. A short range is answered at once; a longer one is read on a blocking thread.
    pub(crate) async fn range(
        &self,
        id: u64,
        range: RangeRequest,
        from: &Arc<Connection>,
    ) -> Result<Answer<RangeResponse>, Error> {
        // Key and end are shared, so this copies no text.
        let (began, asked) = (clock::now(), range.clone());
        let result = self.read_range(id, range, from).await;
        self.slow.read("read-only range ", id, began.elapsed(), || {
            (slow::range_text(&asked), error_text(result.as_ref().err()))
        });
        result
    }

    async fn read_range(
        &self,
        id: u64,
        range: RangeRequest,
        from: &Arc<Connection>,
    ) -> Result<Answer<RangeResponse>, Error> {
        self.prepare_range(id, &range).await?;
        from.ready(id, self.settings.request_timeout).await?;
        let began = clock::now();
        let result = self.answer_range(id, range, from).await;
        match &result {
            Ok(_) => recorded::RANGES_TOOK.observe_duration(began.elapsed()),
            Err(_) => recorded::FAILED_RANGES_TOOK.observe_duration(began.elapsed()),
        }
        result
    }

    async fn answer_range(
        &self,
        id: u64,
        range: RangeRequest,
        from: &Arc<Connection>,
    ) -> Result<Answer<RangeResponse>, Error> {
        let plan = match self.store.small_range(id, &range, from.small())? {
            Attempt::Answered(response) => return Ok(Answer::Whole(response)),
            Attempt::Planned(plan) => Some(plan),
            Attempt::Long => None,
        };
        self.answers.read_large(id, Question::Range(range, plan), from).await.map(Answer::Large)
    }

    // ANCHOR: prepare-range
    /// The steps before a range is read.
    pub(super) async fn prepare_range(&self, id: u64, range: &RangeRequest) -> Result<(), Error> {
        validate(id, 1, || check::check_range(range))?;
        if !range.serializable {
            self.reads.linearize(id).await?;
        }
        self.auth.authenticate(id);
        Ok(())
    }
    // ANCHOR_END: prepare-range

    /// KV.DeleteRange. With `prev_kv` it waits for room for the answer before it is proposed.
    pub(crate) async fn delete_range(
        &self,
        id: u64,
        delete_range: DeleteRangeRequest,
        from: &Arc<Connection>,
    ) -> Result<Answer<DeleteRangeResponse>, Error> {
        let seat = match delete_range.prev_kv {
            true => {
                let deleted = std::iter::once(deleted_range(&delete_range));
                self.answers.room_for(id, deleted, from).await?
            }
            false => None,
        };
        let reply = self.propose_delete(id, delete_range).await?;
        Ok(self.answers.finish(id, reply, from, seat).await?.map(KvResponse::delete_range))
    }

    /// Deletes keys. The rows of the reply are not read yet.
    pub(super) async fn propose_delete(
        &self,
        id: u64,
        delete_range: DeleteRangeRequest,
    ) -> Result<Reply, Error> {
        validate(id, 1, || check::check_delete_range(&delete_range))?;
        let header = self.proposer.prepare(id)?;
        Ok(self.proposer.propose(header, Command::DeleteRange(delete_range)).await?.kv())
    }

    /// KV.Txn. A transaction that only reads is not proposed.
    pub(crate) async fn txn(
        &self,
        id: u64,
        txn: TxnRequest,
        from: &Arc<Connection>,
    ) -> Result<Answer<TxnResponse>, Error> {
        let txn = self.check_txn(id, txn)?;
        if check::txn_is_read_only(txn.request(0)) {
            return self.read_txn(id, txn.into_request(), from).await;
        }
        let seat = match txn.reads() {
            true => self.answers.room_for(id, txn.ranges(), from).await?,
            false => None,
        };
        let reply = self.propose_txn(id, txn).await?;
        Ok(self.answers.finish(id, reply, from, seat).await?.map(KvResponse::txn))
    }

    async fn read_txn(
        &self,
        id: u64,
        txn: TxnRequest,
        from: &Arc<Connection>,
    ) -> Result<Answer<TxnResponse>, Error> {
        let began = clock::now();
        let shape = (txn.compare.len(), txn.success.len(), txn.failure.len());
        let result = self.answer_txn(id, txn, from).await;
        self.slow.read("read-only txn ", id, began.elapsed(), || {
            let (compares, success, failure) = shape;
            let text = format!("compares:{compares} success:{success} failure:{failure}");
            (text, error_text(result.as_ref().err()))
        });
        result
    }

    async fn answer_txn(
        &self,
        id: u64,
        txn: TxnRequest,
        from: &Arc<Connection>,
    ) -> Result<Answer<TxnResponse>, Error> {
        if !check::txn_is_serializable(&txn) {
            self.reads.linearize(id).await?;
        }
        self.auth.authenticate(id);
        from.ready(id, self.settings.request_timeout).await?;
        let plan = match self.store.small_txn(id, &txn, from.small())? {
            Attempt::Answered(response) => return Ok(Answer::Whole(response)),
            Attempt::Planned(plan) => Some(plan),
            Attempt::Long => None,
        };
        self.answers.read_large(id, Question::Txn(txn, plan), from).await.map(Answer::Large)
    }

    /// Decodes and checks a transaction with those nested in it.
    pub(super) fn check_txn(&self, id: u64, txn: TxnRequest) -> Result<Txn, Error> {
        let operations = txn.compare.len() + txn.success.len() + txn.failure.len();
        let max_ops = self.settings.max_txn_ops;
        validate(id, operations, || {
            let txn = Txn::expand(txn, max_ops).map_err(|_| Error::Malformed)?;
            check::check_txn(&txn, max_ops).map(|()| txn)
        })
    }

    /// Proposes a transaction that writes. The rows of the reply are not read yet.
    pub(super) async fn propose_txn(&self, id: u64, txn: Txn) -> Result<Reply, Error> {
        self.proposer.check_quota(id, txn_cost(&txn)).await?;
        let header = self.proposer.prepare(id)?;
        Ok(self.proposer.propose(header, Command::Txn(txn)).await?.kv())
    }

    /// KV.Compact. A physical compaction also waits until its rows are deleted from the file, as
    /// long as its client does: it has no timeout, as in etcd.
    pub(crate) async fn compact(
        &self,
        id: u64,
        compaction: CompactionRequest,
    ) -> Result<CompactionResponse, Error> {
        let physical = compaction.physical;
        let revision = compaction.revision;
        let header = self.proposer.prepare(id)?;
        let reply = self.proposer.propose(header, Command::Compact(compaction)).await?.kv();
        if physical {
            let mut step = WaitStep::begin(stage!(CompactWait, id, revision = revision));
            step.end(self.wait_compacted(revision).await)?;
            drop(step);
            let backend = Arc::clone(self.store.backend());
            let commit = move |waited| {
                let _span = stage!(CompactCommit, id, waited = waited).begun();
                backend.commit_now();
            };
            blocking::run(id, commit).await?;
        }
        Ok(CompactionResponse { header: plan::header(reply.revision()) })
    }

    /// Waits until the rows of a compaction are deleted. Fails if the member stops first.
    async fn wait_compacted(&self, revision: i64) -> Result<(), Error> {
        tokio::select! {
            () = self.store.compaction_finished(revision) => Ok(()),
            () = self.stopping.given() => Err(Error::Stopped),
        }
    }
}

/// Runs a check inside its stage.
fn validate<T>(
    id: u64,
    operations: usize,
    check: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut span = stage!(RpcValidate, id, operations = operations);
    note(&mut span, check())
}
