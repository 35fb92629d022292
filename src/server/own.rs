//! The requests that the member itself makes to the key space: for a lock, an election, or a check
//! of its health.
//!
//! Each is the same as a client's, under the call's own id. The answers have few keys, so they are
//! read as a whole, without a place in the ledger of [`super::answer`]. Only those that are sent to
//! a client are counted, from the moment they are read.

use std::{sync::Arc, time::Duration};

use prost::Message as _;

use crate::pb::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};

use super::{
    Error,
    answer::{Connection, UnsentBytes},
    kv_server::KvServer,
    mvcc::{KvResponse, Reply, Store, reader::Source},
};

impl KvServer {
    /// A range that may visit many keys, but returns few.
    pub(super) async fn own_range(
        &self,
        id: u64,
        range: RangeRequest,
    ) -> Result<RangeResponse, Error> {
        self.prepare_range(id, &range).await?;
        if let Some(response) = self.store.short_range(id, &range)? {
            return Ok(response);
        }
        self.long_reads.read(id, move |store| store.range(id, &range)).await?
    }

    /// A range whose answer is sent to a client, with its bytes, which are counted. Fails if the
    /// client has read too little of its earlier answers for `patience`. This is checked after the
    /// read round, and again after the wait for a permit: calls that share these waits would
    /// otherwise all pass before the first answer is counted.
    pub(super) async fn range_for(
        &self,
        id: u64,
        range: &RangeRequest,
        client: &Arc<Connection>,
        patience: Duration,
    ) -> Result<(RangeResponse, UnsentBytes), Error> {
        self.prepare_range(id, range).await?;
        loop {
            client.ready(id, patience).await?;
            if let Some(response) = self.store.short_range(id, range)? {
                let unsent = client.hold(response.encoded_len());
                return Ok((response, unsent));
            }
            let (range, client) = (range.clone(), Arc::clone(client));
            let read = move |store: &Store| {
                if !client.is_ready() {
                    return Ok(None);
                }
                let response = store.range(id, &range)?;
                let unsent = client.hold(response.encoded_len());
                Ok(Some((response, unsent)))
            };
            if let Some(read) = self.long_reads.read_within(id, patience, read).await?? {
                return Ok(read);
            }
        }
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
