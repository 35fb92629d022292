//! `hasleader: true`, on a member that has lost its quorum.

use std::{future::Future, time::Duration};

use glass_etcd::{
    clock,
    pb::etcdserverpb::{
        LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, RangeRequest,
        WatchCreateRequest, WatchRequest, WatchResponse, lease_client::LeaseClient,
        watch_client::WatchClient, watch_request::RequestUnion,
    },
};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::SOON;
use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{self, Kind},
};

/// The status that each of them gets.
const NO_LEADER: (Code, &str) = (Code::Unavailable, "etcdserver: no leader");

/// Goal: a call that requires a leader fails when there is none: a request at once, a stream of
/// watchers and one of keep-alives after three election timeouts; others stay. Method: kill two of
/// three.
#[tokio::test]
async fn calls_that_require_a_leader_fail_without_one() {
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let mut cluster = Cluster::start(&kind, 3).await;
        let url = format!("http://{}", cluster.members[0].client_address());
        let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
        cluster.client(0).lease.lease_grant(LeaseGrantRequest { id: 5, ttl: 600 }).await.unwrap();
        let mut watching = watch(channel.clone(), true).await;
        let mut renewing = keep_alive(channel.clone(), true).await;
        let mut careless = (watch(channel.clone(), false).await, keep_alive(channel, false).await);
        cluster.kill(1);
        cluster.kill(2);
        let killed = clock::now();
        let mut client = cluster.client(0);
        eventually("no leader", SOON, || {
            let mut client = client.clone();
            async move {
                let leader = client.status().await.map_err(|status| status.to_string())?.leader;
                if leader == 0 { Ok(()) } else { Err(format!("{leader:x} leads")) }
            }
        })
        .await;
        let refused = client.kv.range(wanting(range())).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), NO_LEADER, "{kind:?}");
        assert!(client.kv.range(range()).await.is_ok(), "{kind:?}");
        assert_eq!(end(watching.message()).await, NO_LEADER, "{kind:?}");
        assert_eq!(end(renewing.message()).await, NO_LEADER, "{kind:?}");
        // One election timeout until the leader counts as lost, and then three ticks, the first of
        // which may come at once.
        assert!(Duration::from_secs(2) < killed.elapsed(), "{kind:?}: {:?}", killed.elapsed());
        let silence = Duration::from_millis(200);
        assert!(timeout(silence, careless.0.message()).await.is_err(), "{kind:?}");
        assert!(timeout(silence, careless.1.message()).await.is_err(), "{kind:?}");
        // A new stream is refused at once.
        let request = wanting(tokio_stream::iter([LeaseKeepAliveRequest { id: 5 }]));
        let refused = match client.lease.lease_keep_alive(request).await {
            Ok(stream) => end(stream.into_inner().message()).await,
            Err(status) => text(&status),
        };
        assert_eq!(refused, NO_LEADER, "{kind:?}");
    }
}

fn wanting<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    request
}

/// A read that needs no leader.
fn range() -> RangeRequest {
    RangeRequest { key: "a".into(), serializable: true, ..RangeRequest::default() }
}

/// A stream that has been answered once, and that the client leaves open.
async fn watch(channel: Channel, wants_leader: bool) -> Streaming<WatchResponse> {
    let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let messages = tokio_stream::iter([create]).chain(tokio_stream::pending());
    let request = if wants_leader { wanting(messages) } else { Request::new(messages) };
    let mut stream = WatchClient::new(channel).watch(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().created);
    stream
}

async fn keep_alive(channel: Channel, wants_leader: bool) -> Streaming<LeaseKeepAliveResponse> {
    let messages = tokio_stream::iter([LeaseKeepAliveRequest { id: 5 }]);
    let messages = messages.chain(tokio_stream::pending());
    let request = if wants_leader { wanting(messages) } else { Request::new(messages) };
    let mut stream =
        LeaseClient::new(channel).lease_keep_alive(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().ttl, 600);
    stream
}

/// The status with which a stream ends.
async fn end<T: std::fmt::Debug>(
    message: impl Future<Output = Result<Option<T>, Status>>,
) -> (Code, &'static str) {
    text(&timeout(SOON, message).await.expect("the stream ends").unwrap_err())
}

fn text(status: &Status) -> (Code, &'static str) {
    assert_eq!(status.message(), NO_LEADER.1);
    (status.code(), NO_LEADER.1)
}
