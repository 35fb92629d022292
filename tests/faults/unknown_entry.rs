//! Entries of etcd members that this version cannot apply, or once could not.

use std::time::Duration;

use bytes::Bytes;
use glass_etcd::pb::etcdserverpb::{
    AuthStatusRequest, AuthUserAddRequest, HashKvRequest, MoveLeaderRequest, PutRequest, RequestOp,
    TxnRequest, TxnResponse, auth_client::AuthClient, request_op::Request, response_op::Response,
};
use prost::Message as _;
use tonic::transport::Endpoint;

use crate::{
    client::eventually,
    cluster::Cluster,
    programs::{self, Kind, left_out},
};

/// Goal: a member that cannot check auth must not continue to serve once auth is used. Method: in a
/// cluster of two etcds and one of ours, ask an etcd for the state of auth, which changes nothing,
/// and then to add a user.
#[tokio::test]
async fn a_member_ends_at_an_entry_that_it_cannot_carry_out_and_the_others_go_on() {
    let Some(etcd) = programs::reference().filter(|_| Kind::subject() == Kind::Glass) else {
        return left_out("auth in a mixed cluster: no etcd 3.5.1, or nothing of ours to test");
    };
    let kinds = [etcd.clone(), Kind::Glass, etcd];
    let (mut cluster, _wires) = Cluster::start_wired(&kinds, &[&[], &[], &[]]).await;
    let url = format!("http://{}", cluster.members[0].client_address());
    let mut auth = AuthClient::new(Endpoint::from_shared(url).unwrap().connect_lazy());
    auth.auth_status(AuthStatusRequest {}).await.unwrap();
    cluster.client(1).put("after", "the question").await.unwrap();
    // A leader of ours would not take the request.
    lead(&cluster, 0).await;
    let user = AuthUserAddRequest {
        name: "root".to_owned(),
        password: "secret".to_owned(),
        ..AuthUserAddRequest::default()
    };
    auth.user_add(user).await.unwrap();
    let says = |log: &str| {
        let line = "of the log is AuthUserAdd (kind 1100), which this version cannot carry out";
        assert!(log.contains(line), "{log}");
        assert!(!log.contains("secret"), "it tells the password");
    };
    for start in 0..2 {
        if 0 < start {
            // It reaches the same entry again.
            cluster.spawn(1);
        }
        let exit = cluster.wait_exit(1, Duration::from_secs(20)).await;
        assert_eq!(exit.and_then(|exit| exit.code()), Some(1), "start {start}");
        says(&cluster.log(1));
    }
    for at in [0, 2] {
        eventually("the others go on", Duration::from_secs(20), || {
            let mut client = cluster.client(at);
            async move { client.put("later", "").await.map_err(|status| status.to_string()) }
        })
        .await;
    }
}

/// Goal: a leader of ours does not take what would end it, and every other member of ours, for
/// good. Method: the same request to an etcd, which forwards it; it gets no answer, and all three
/// go on.
#[tokio::test]
async fn a_leader_does_not_take_a_request_that_it_cannot_carry_out() {
    let Some(etcd) = programs::reference().filter(|_| Kind::subject() == Kind::Glass) else {
        return left_out("auth under a leader of ours: no etcd 3.5.1, or nothing of ours to test");
    };
    let kinds = [etcd, Kind::Glass, Kind::Glass];
    let (cluster, _wires) = Cluster::start_wired(&kinds, &[&[], &[], &[]]).await;
    lead(&cluster, 1).await;
    let url = format!("http://{}", cluster.members[0].client_address());
    let mut auth = AuthClient::new(Endpoint::from_shared(url).unwrap().connect_lazy());
    let user = AuthUserAddRequest { name: "root".to_owned(), ..AuthUserAddRequest::default() };
    let refused = auth.user_add(user).await.unwrap_err();
    assert!(refused.message().contains("request timed out"), "{refused}");
    for at in 0..3 {
        cluster.client(at).put("after", "").await.unwrap();
    }
    let log = cluster.log(1);
    assert!(log.contains("it proposes AuthUserAdd (kind 1100)"), "{log}");
}

/// Makes this member the leader.
async fn lead(cluster: &Cluster, at: usize) {
    let target_id = cluster.client(at).status().await.unwrap().header.unwrap().member_id;
    eventually("it leads", Duration::from_secs(20), || async {
        let mut leader = cluster.client(cluster.leader().await);
        let moved = leader.maintenance.move_leader(MoveLeaderRequest { target_id }).await;
        moved.map_err(|status| status.to_string())
    })
    .await;
}

/// Goal: a member stores and applies entries that the others allow, even if they exceed its own
/// request limit. Method: two etcds that accept 32 MiB, and one of ours with the default; it is
/// killed after a large put, and reads it from its log.
#[tokio::test]
async fn a_large_entry_of_an_etcd_is_carried_out() {
    let Some(etcd) = programs::reference().filter(|_| Kind::subject() == Kind::Glass) else {
        return left_out("a large entry beside etcd: no etcd 3.5.1, or nothing of ours to test");
    };
    let kinds = [etcd.clone(), Kind::Glass, etcd];
    let large = [("ETCD_MAX_REQUEST_BYTES", "33554432")];
    let (mut cluster, _wires) = Cluster::start_wired(&kinds, &[&large, &[], &large]).await;
    let value = "v".repeat(12 << 20);
    let revision = cluster.client(0).put("deep/large", &value).await.unwrap();
    same_hashes(&cluster, revision, 1).await;
    let refused = cluster.client(1).put("deep/small", &value).await.unwrap_err();
    assert!(refused.message().contains("larger than max"), "{refused}");
    cluster.kill(1);
    cluster.spawn(1);
    cluster.wait_ready(1).await;
    let revision = cluster.client(1).put("last", "").await.unwrap();
    same_hashes(&cluster, revision, 1).await;
}

/// Transactions nested this deep, each with a put of its own.
fn deep(depth: usize) -> TxnRequest {
    let op = |request| RequestOp { request: Some(request) };
    let put = |level: usize| {
        let key = Bytes::from(format!("deep/{level:05}"));
        op(Request::RequestPut(PutRequest { key, ..PutRequest::default() }))
    };
    let mut txn = TxnRequest { success: vec![put(depth)], ..TxnRequest::default() };
    for level in (1..depth).rev() {
        let inner = op(Request::RequestTxn(txn.encode_to_vec().into()));
        txn = TxnRequest { success: vec![put(level), inner], ..TxnRequest::default() };
    }
    txn
}

/// Goal: all members apply nested transactions alike, as deep as etcd allows, whichever member is
/// asked; and again at the next start. Method: two etcds that allow more operations than usual, and
/// one of ours; each kind is sent what it allows.
#[tokio::test]
async fn deep_transactions_in_the_log_are_carried_out_by_every_member() {
    let Some(etcd) = programs::reference().filter(|_| Kind::subject() == Kind::Glass) else {
        return left_out(
            "deep transactions beside etcd: no etcd 3.5.1, or nothing of ours to test",
        );
    };
    let kinds = [etcd.clone(), Kind::Glass, etcd];
    let many = [("ETCD_MAX_TXN_OPS", "100000")];
    let (mut cluster, _wires) = Cluster::start_wired(&kinds, &[&many, &[], &many]).await;
    for (at, depth) in [(0, 50), (1, 64), (0, 127), (0, 2000)] {
        let answer = cluster.client(at).kv.txn(deep(depth)).await;
        let mut answer = answer.unwrap_or_else(|status| panic!("m{at}, {depth}: {status}"));
        let (mut level, mut levels) = (answer.get_mut().clone(), 1);
        while let Some(Response::ResponseTxn(inner)) =
            level.responses.get(1).and_then(|op| op.response.as_ref())
        {
            level = TxnResponse::decode(inner.clone()).unwrap();
            levels += 1;
        }
        assert_eq!(levels, depth, "m{at}");
        let revision = answer.get_ref().header.unwrap().revision;
        same_hashes(&cluster, revision, depth as i64).await;
    }
    // Ours allows what etcd allows by default: 64 levels of two operations each.
    let refused = cluster.client(1).kv.txn(deep(65)).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: too many operations in txn request");
    let revision = cluster.client(1).put("last", "").await.unwrap();
    cluster.kill(1);
    cluster.spawn(1);
    cluster.wait_ready(1).await;
    same_hashes(&cluster, revision, 2000).await;
}

/// Checks that all members have applied up to this revision, and have the same keys.
async fn same_hashes(cluster: &Cluster, revision: i64, keys: i64) {
    let mut hashes = Vec::new();
    for at in 0..3 {
        let hash = eventually("it has applied all", Duration::from_secs(20), || {
            let mut client = cluster.client(at);
            async move {
                let all = client.everything(true).await.map_err(|status| status.to_string())?;
                let deep = all.kvs.iter().filter(|kv| kv.key.starts_with(b"deep/")).count();
                if all.header.unwrap_or_default().revision < revision {
                    return Err(format!("{deep} keys"));
                }
                assert_eq!(deep as i64, keys, "m{at}");
                let hash = client.maintenance.hash_kv(HashKvRequest { revision }).await;
                hash.map(|hash| hash.get_ref().hash).map_err(|status| status.to_string())
            }
        })
        .await;
        hashes.push(hash);
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?} at {revision}");
}
