//! A client of one member: the generated stubs, with a deadline.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use glass_etcd::{
    clock,
    pb::etcdserverpb::{
        PutRequest, RangeRequest, RangeResponse, StatusRequest, StatusResponse,
        cluster_client::ClusterClient, kv_client::KvClient, lease_client::LeaseClient,
        maintenance_client::MaintenanceClient,
    },
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// Longer than the server's own 7 s, so that a test sees the server's answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Enough for whole key spaces.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Polling interval of [`eventually`].
const POLL: Duration = Duration::from_millis(20);

/// Connects to one member, and reconnects by itself after a restart.
#[derive(Clone)]
pub(crate) struct Client {
    /// The KV service.
    pub(crate) kv: KvClient<Channel>,
    /// The Maintenance service.
    pub(crate) maintenance: MaintenanceClient<Channel>,
    /// The Cluster service.
    pub(crate) cluster: ClusterClient<Channel>,
    /// The Lease service.
    pub(crate) lease: LeaseClient<Channel>,
}

impl Client {
    /// A client of the member on this port of loopback. Connects at the first call.
    pub(crate) fn new(port: u16) -> Self {
        let channel = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
            .expect("a port makes a valid URL")
            .timeout(CALL_TIMEOUT)
            .connect_lazy();
        Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX),
            maintenance: MaintenanceClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            lease: LeaseClient::new(channel),
        }
    }

    /// Puts one key and returns the revision.
    pub(crate) async fn put(&mut self, key: &str, value: &str) -> Result<i64, Status> {
        let request = PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..Default::default()
        };
        let response = self.kv.put(request).await?.into_inner();
        Ok(response.header.map_or(0, |header| header.revision))
    }

    /// All keys of the member, by a linearizable or a serializable read.
    pub(crate) async fn everything(&mut self, serializable: bool) -> Result<RangeResponse, Status> {
        let all = Bytes::from_static(b"\0");
        let request =
            RangeRequest { key: all.clone(), range_end: all, serializable, ..Default::default() };
        Ok(self.kv.range(request).await?.into_inner())
    }

    /// The member's status.
    pub(crate) async fn status(&mut self) -> Result<StatusResponse, Status> {
        Ok(self.maintenance.status(StatusRequest {}).await?.into_inner())
    }
}

/// Polls until `check` succeeds; panics with its last error if that takes too long.
pub(crate) async fn eventually<T, F, Fut>(what: &str, within: Duration, mut check: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let deadline = clock::now() + within;
    loop {
        match check().await {
            Ok(value) => return value,
            Err(complaint) if deadline <= clock::now() => {
                panic!("{what}: not within {} s: {complaint}", within.as_secs())
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
