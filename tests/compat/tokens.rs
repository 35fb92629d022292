//! A token without meaning, while auth is off.
//!
//! A client with a user and a password sends its token even to a cluster in which auth has been
//! turned off meanwhile. etcd up to 3.5.9 looks the token up all the same, and refuses unknown
//! ones; since 3.5.10 it ignores tokens while auth is off, and so does this server. The answers of
//! 3.5.1 are here as well, so that they are not mistaken for the rule.

use std::{fmt::Debug, process::Command, time::Duration};

use glass_etcd::pb::{
    etcdserverpb::{
        AlarmRequest, AuthenticateRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest,
        HashRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest,
        LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberListRequest, PutRequest, RangeRequest,
        RequestOp, StatusRequest, TxnRequest, WatchCreateRequest, WatchRequest,
        auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient,
        lease_client::LeaseClient, maintenance_client::MaintenanceClient, request_op::Request,
        watch_client::WatchClient, watch_request::RequestUnion,
    },
    v3electionpb::{CampaignRequest, election_client::ElectionClient},
    v3lockpb::{LockRequest, lock_client::LockClient},
};
use tonic::{Code, Response, Status, transport::Endpoint};

use crate::{
    cluster::Cluster,
    programs::{self, Kind},
};

/// Calls with the same token: the name of each, and whether it was served.
struct Asked(Vec<(&'static str, Result<(), Status>)>);

impl Asked {
    fn note<T: Debug>(&mut self, call: &'static str, answer: Result<Response<T>, Status>) {
        self.0.push((call, answer.map(drop)));
    }
}

/// `number` keeps the traces of one round apart from the next.
async fn ask(cluster: &Cluster, field: &'static str, value: &'static str, number: i64) -> Asked {
    let url = format!("http://{}", cluster.members[0].client_address());
    // 3.5.1 waits without end for the index that a token names after its dot, if there is one.
    let endpoint = Endpoint::from_shared(url).unwrap().timeout(PATIENCE);
    let channel = endpoint.connect().await.unwrap();
    let with = move |mut request: tonic::Request<()>| {
        request.metadata_mut().insert(field, value.parse().unwrap());
        Ok(request)
    };
    let mut asked = Asked(Vec::new());
    let mut kv = KvClient::with_interceptor(channel.clone(), with);
    let (key, id) = (format!("k{number}"), 100 + number);
    let put = PutRequest { key: key.clone().into(), ..Default::default() };
    let range = RangeRequest { key: key.clone().into(), ..Default::default() };
    let local = RangeRequest { serializable: true, ..range.clone() };
    let delete = DeleteRangeRequest { key: key.into(), ..Default::default() };
    asked.note("Range", kv.range(range.clone()).await);
    asked.note("Range, serializable", kv.range(local).await);
    asked.note("Put", kv.put(put.clone()).await);
    asked.note("DeleteRange", kv.delete_range(delete).await);
    for (call, request) in
        [("Txn", Request::RequestPut(put)), ("Txn, read only", Request::RequestRange(range))]
    {
        let success = vec![RequestOp { request: Some(request) }];
        asked.note(call, kv.txn(TxnRequest { success, ..Default::default() }).await);
    }
    let compact = CompactionRequest { revision: number, ..Default::default() };
    asked.note("Compact", kv.compact(compact).await);
    let mut lease = LeaseClient::with_interceptor(channel.clone(), with);
    asked.note("LeaseGrant", lease.lease_grant(LeaseGrantRequest { ttl: 100, id }).await);
    let renew = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
    asked.note("LeaseKeepAlive", lease.lease_keep_alive(renew).await);
    let view = LeaseTimeToLiveRequest { id, keys: true };
    asked.note("LeaseTimeToLive", lease.lease_time_to_live(view).await);
    asked.note("LeaseLeases", lease.lease_leases(LeaseLeasesRequest {}).await);
    let revoke = lease.lease_revoke(LeaseRevokeRequest { id }).await;
    asked.note("LeaseRevoke", revoke);
    let mut cluster = ClusterClient::with_interceptor(channel.clone(), with);
    asked.note("MemberList", cluster.member_list(MemberListRequest { linearizable: true }).await);
    let mut maintenance = MaintenanceClient::with_interceptor(channel.clone(), with);
    asked.note("Status", maintenance.status(StatusRequest {}).await);
    asked.note("Alarm", maintenance.alarm(AlarmRequest::default()).await);
    asked.note("Hash", maintenance.hash(HashRequest {}).await);
    asked.note("HashKV", maintenance.hash_kv(HashKvRequest { revision: 0 }).await);
    let mut lock = LockClient::with_interceptor(channel.clone(), with);
    let name = format!("l{number}").into();
    asked.note("Lock", lock.lock(LockRequest { name, lease: 0 }).await);
    let mut election = ElectionClient::with_interceptor(channel.clone(), with);
    let name = format!("e{number}").into();
    let campaign = CampaignRequest { name, lease: 0, value: "v".into() };
    asked.note("Campaign", election.campaign(campaign).await);
    let create = WatchCreateRequest { key: "k".into(), ..Default::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let mut watch = WatchClient::with_interceptor(channel, with);
    let watched = watch.watch(tokio_stream::iter([create])).await.unwrap();
    let created = watched.into_inner().message().await.unwrap().unwrap();
    let refused = || Status::unknown(created.cancel_reason.clone());
    asked.0.push(("Watch", if created.canceled { Err(refused()) } else { Ok(()) }));
    asked
}

/// Every call is answered within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls that 3.5.1 serves without looking at the token.
const NOT_ASKED_FOR: [&str; 5] =
    ["LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases", "MemberList", "Status"];

/// Goal: with auth off no call is refused for its token. Method: each kind of call with tokens that
/// no member has issued, in each field that clients use; also to 3.5.1, which refuses most of them.
#[tokio::test]
async fn a_token_means_nothing_while_auth_is_off() {
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let cluster = Cluster::start(&kind, 1).await;
        let fields = [
            ("token", "nonsense"),
            ("token", ""),
            ("authorization", "nonsense"),
            ("authorization", "Bearer nonsense"),
        ];
        for ((field, value), number) in fields.into_iter().zip(1..) {
            for (call, answer) in ask(&cluster, field, value, number).await.0 {
                let what = format!("{kind:?}: {call}, {field}: {value:?}: {answer:?}");
                match answer {
                    Ok(()) => {
                        assert!(kind == Kind::Glass || NOT_ASKED_FOR.contains(&call), "{what}");
                    }
                    Err(status) => {
                        assert!(kind != Kind::Glass, "{what}");
                        // A watch is refused with the text of another reason.
                        let says_so = status.message().ends_with("invalid auth token");
                        assert!(says_so || call == "Watch", "{what}");
                        assert!([Code::Unauthenticated, Code::Unknown].contains(&status.code()));
                    }
                }
            }
        }
    }
}

/// Goal: a client with a user and a password is served while auth is off. Method: etcdctl with a
/// user, which first asks for a token, and that request itself: its answer must say that auth is
/// off, so that the client continues without a token.
#[tokio::test]
async fn a_password_keeps_no_client_out_while_auth_is_off() {
    for kind in [Some(Kind::subject()), programs::reference()].into_iter().flatten() {
        let cluster = Cluster::start(&kind, 1).await;
        let address = cluster.members[0].client_address();
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let request = AuthenticateRequest { name: "root".to_owned(), password: "x".to_owned() };
        let refused = AuthClient::new(channel).authenticate(request).await.unwrap_err();
        let expected = (Code::FailedPrecondition, "etcdserver: authentication is not enabled");
        assert_eq!((refused.code(), refused.message()), expected, "{kind:?}");
        for etcdctl in programs::etcdctls() {
            let run = |words: &[&str]| {
                let mut command = Command::new(&etcdctl.path);
                command.env("ETCDCTL_API", "3").args(["--endpoints", &address]);
                let output = command.args(["--user", "root:x"]).args(words).output().unwrap();
                String::from_utf8_lossy(&output.stdout).into_owned()
            };
            assert_eq!(run(&["put", "a", "b"]), "OK\n", "{kind:?}, {}", etcdctl.version);
            assert_eq!(run(&["get", "a"]), "a\nb\n", "{kind:?}, {}", etcdctl.version);
        }
    }
}
