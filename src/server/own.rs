//! The requests that the member itself makes to the key space: for a lock, an election, or a check
//! of its health.
//!
//! Each is the same as a client's, under the call's own id. But the answers are not sent: they have
//! few keys, so they are read as a whole, and take no room from the answers to clients.

use crate::pb::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};

use super::{
    Error,
    answer::Connection,
    kv_server::KvServer,
    mvcc::{KvResponse, Reply, reader::Source},
};

impl KvServer {
    /// A range that may visit many keys, but returns few. If the rows are for a `client`, the read
    /// waits until it has read enough of its earlier answers. That wait comes after the read round,
    /// so that calls that share a round do not all pass at once.
    pub(super) async fn own_range(
        &self,
        id: u64,
        range: RangeRequest,
        client: Option<&Connection>,
    ) -> Result<RangeResponse, Error> {
        self.may_range(id, &range).await?;
        if let Some(client) = client {
            client.ready(id, self.settings.request_timeout).await?;
        }
        if let Some(response) = self.store.small_range(id, &range, usize::MAX)? {
            return Ok(response);
        }
        self.long_reads.read(id, move |store| store.range(id, &range)).await?
    }

    /// A transaction that writes.
    pub(super) async fn own_txn(&self, id: u64, txn: TxnRequest) -> Result<TxnResponse, Error> {
        let txn = self.check_txn(id, txn)?;
        Ok(self.whole(id, self.propose_txn(id, txn).await?).txn())
    }

    /// A deletion of one key or of a range.
    pub(super) async fn own_delete(
        &self,
        id: u64,
        delete: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        Ok(self.whole(id, self.propose_delete(id, delete).await?).delete_range())
    }

    fn whole(&self, id: u64, mut reply: Reply) -> KvResponse {
        let mut budget = usize::MAX;
        let response = reply.whole(id, Source::Published(self.store.backend()), &mut budget);
        response.expect("the budget has no limit")
    }
}
