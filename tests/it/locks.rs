//! Helpers for tests of locks and elections: clients, leases, and calls that wait.

use std::time::Duration;

use bytes::Bytes;
use glass_etcd::pb::{
    etcdserverpb::{LeaseGrantRequest, RangeRequest, ResponseHeader},
    mvccpb::KeyValue,
    v3electionpb::{CampaignRequest, CampaignResponse, election_client::ElectionClient},
    v3lockpb::{LockRequest, LockResponse, UnlockRequest, lock_client::LockClient},
};
use tokio::task::JoinHandle;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{
    client::{Client, eventually},
    cluster::Cluster,
};

/// How long a step may take.
pub(crate) const WITHIN: Duration = Duration::from_secs(30);

/// A client of one member for locks and elections, without a deadline.
#[derive(Clone)]
pub(crate) struct Locks {
    /// The KV and Lease services.
    pub(crate) client: Client,
    /// The Lock service.
    pub(crate) lock: LockClient<Channel>,
    /// The Election service.
    pub(crate) election: ElectionClient<Channel>,
}

impl Locks {
    /// A client of the member `at`.
    pub(crate) fn of(cluster: &Cluster, at: usize) -> Self {
        let url = format!("http://{}", cluster.members[at].client_address());
        let channel = Endpoint::from_shared(url).unwrap().connect_lazy();
        let lock = LockClient::new(channel.clone());
        Self { client: cluster.client(at), lock, election: ElectionClient::new(channel) }
    }

    /// Grants a lease with this id.
    pub(crate) async fn grant(&mut self, id: i64, ttl: i64) {
        self.client.lease.lease_grant(LeaseGrantRequest { id, ttl }).await.unwrap();
    }

    /// Waits for the lock.
    pub(crate) async fn lock(&mut self, name: &str, lease: i64) -> Result<LockResponse, Status> {
        let request = LockRequest { name: name.to_owned().into(), lease };
        Ok(self.lock.lock(request).await?.into_inner())
    }

    /// Releases a lock. Returns the header's revision.
    pub(crate) async fn unlock(&mut self, key: Bytes) -> Result<i64, Status> {
        let response = self.lock.unlock(UnlockRequest { key }).await?.into_inner();
        Ok(revision(&response.header))
    }

    /// Campaigns, and waits until it leads.
    pub(crate) async fn campaign(
        &mut self,
        name: &str,
        lease: i64,
        value: &str,
    ) -> Result<CampaignResponse, Status> {
        let (name, value) = (name.to_owned().into(), value.to_owned().into());
        Ok(self.election.campaign(CampaignRequest { name, lease, value }).await?.into_inner())
    }

    /// [`Locks::lock`] as a task. Dropping the handle does not end it; aborting does, like a client
    /// that disconnects.
    pub(crate) fn lock_later(
        &self,
        name: &str,
        lease: i64,
    ) -> JoinHandle<Result<LockResponse, Status>> {
        let (mut locks, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move { locks.lock(&name, lease).await })
    }

    /// [`Locks::campaign`] as a task; see [`Locks::lock_later`].
    pub(crate) fn campaign_later(
        &self,
        name: &str,
        lease: i64,
        value: &str,
    ) -> JoinHandle<Result<CampaignResponse, Status>> {
        let (mut locks, name, value) = (self.clone(), name.to_owned(), value.to_owned());
        tokio::spawn(async move { locks.campaign(&name, lease, &value).await })
    }

    /// The keys below a name, the oldest first.
    pub(crate) async fn queue(&mut self, name: &str) -> Result<Vec<KeyValue>, Status> {
        let (key, range_end) = (format!("{name}/").into(), format!("{name}0").into());
        let request = RangeRequest { key, range_end, ..RangeRequest::default() };
        let mut kvs = self.client.kv.range(request).await?.into_inner().kvs;
        kvs.sort_by_key(|kv| kv.create_revision);
        Ok(kvs)
    }

    /// Waits until `length` keys are below a name.
    pub(crate) async fn wait_queue(&self, name: &str, length: usize) {
        eventually(&format!("{length} in the queue of {name}"), WITHIN, || {
            let mut locks = self.clone();
            async move {
                let queue = locks.queue(name).await.map_err(|status| status.to_string())?;
                if queue.len() == length { Ok(()) } else { Err(format!("{queue:?}")) }
            }
        })
        .await;
    }
}

/// The revision of a header; −1 for none.
pub(crate) fn revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().map_or(-1, |header| header.revision)
}

/// Waits for a call that was begun as a task.
pub(crate) async fn finish<T>(call: JoinHandle<T>) -> T {
    tokio::time::timeout(WITHIN, call).await.expect("the call ends").unwrap()
}
