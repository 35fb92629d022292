//! A leader that is stopped for a while and then continues.

use std::time::Duration;

use glass_etcd::pb::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{Kind, left_out},
};

/// Which thread runs first is chance; this is the worst order.
const RAFT_LAST: &[(&str, &str)] = &[("FAILPOINTS", "raft-wakes-last=sleep(1000)")];
const LEASE: i64 = 7;

/// Goal: no client gets the answer that a lease lives after another leader has revoked it. Method:
/// SIGSTOP the leader, send it a renewal, revoke the lease at its successor, and resume it: the
/// renewal is in its socket before it can learn of anything.
#[tokio::test]
async fn a_leader_that_was_stopped_does_not_renew_a_lease_that_its_successor_revoked() {
    if Kind::subject() != Kind::Glass {
        left_out("renewals at a stopped leader: etcd asks a quorum only since 3.5.13");
        return;
    }
    let cluster = Cluster::start_with(&Kind::Glass, 3, RAFT_LAST).await;
    let old = cluster.leader().await;
    let mut successor = cluster.client((old + 1) % 3);
    let leader = successor.status().await.unwrap().leader;
    let grant = LeaseGrantRequest { ttl: 600, id: LEASE };
    successor.lease.lease_grant(grant).await.unwrap();
    let (ask, asked) = tokio::sync::mpsc::channel(4);
    let renewal = LeaseKeepAliveRequest { id: LEASE };
    ask.send(renewal).await.unwrap();
    let stream = ReceiverStream::new(asked);
    let answers = cluster.client(old).lease.lease_keep_alive(stream).await;
    let mut answers = answers.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 600);
    cluster.pause(old);
    ask.send(renewal).await.unwrap();
    eventually("another leader", Duration::from_secs(20), || {
        let mut client = successor.clone();
        async move {
            let now = client.status().await.map_err(|status| status.to_string())?.leader;
            if now == 0 || now == leader { Err(format!("{now:x}")) } else { Ok(()) }
        }
    })
    .await;
    let revoke = LeaseRevokeRequest { id: LEASE };
    successor.lease.lease_revoke(revoke).await.unwrap();
    cluster.resume(old);
    let answer = answers.message().await.unwrap().expect("each message is answered");
    assert_eq!(answer.ttl, 0, "renewed although it was revoked");
}
