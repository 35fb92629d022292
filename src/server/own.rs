//! What the member itself asks of the key space: for a lock, an election, a check of its health.
//!
//! The same as a client would ask, under the call's own id. But the answers stay here: they have a
//! few keys, so they are read as a whole, and take no room from those that are sent.

use crate::pb::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};

use super::{
    Error, Server,
    answer::Connection,
    mvcc::{KvResponse, Reply, reader::Source},
};

impl Server {
    /// A range. It may look at many keys, and returns a few. If a client is sent what is read, it
    /// must have read enough of its earlier answers: asked behind the round, so that calls which
    /// share one do not all pass.
    pub(super) async fn own_range(
        &self,
        id: u64,
        range: RangeRequest,
        client: Option<&Connection>,
    ) -> Result<RangeResponse, Error> {
        self.prepare_range(id, &range).await?;
        if let Some(client) = client {
            self.ready(id, client).await?;
        }
        if let Some(response) = self.store.small_range(id, &range, usize::MAX)? {
            return Ok(response);
        }
        self.read_long(id, move |store| store.range(id, &range)).await?
    }

    /// A transaction that writes.
    pub(super) async fn own_txn(&self, id: u64, txn: TxnRequest) -> Result<TxnResponse, Error> {
        let txn = self.check_txn(id, txn)?;
        Ok(self.whole(id, self.propose_txn(id, txn).await?).txn())
    }

    /// A deletion.
    pub(super) async fn own_delete(
        &self,
        id: u64,
        delete: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        Ok(self.whole(id, self.propose_delete(id, delete).await?).delete_range())
    }

    fn whole(&self, id: u64, mut reply: Reply) -> KvResponse {
        let mut budget = usize::MAX;
        let response = reply.whole(id, Source::Published(&self.backend), &mut budget);
        response.expect("nothing is beyond the budget")
    }
}
