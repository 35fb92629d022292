//! Entries of etcd members that this version cannot carry out.

use std::time::Duration;

use glass_etcd::pb::etcdserverpb::{
    AuthStatusRequest, AuthUserAddRequest, auth_client::AuthClient,
};
use tonic::transport::Endpoint;

use crate::{
    cluster::Cluster,
    programs::{self, Kind, left_out},
};

/// Goal: a member that does not check auth is not there when it is used: it must not go on and
/// serve everybody. Method: in a cluster of two etcds and one of ours, ask an etcd for the state of
/// auth, which changes nothing, and then to add a user.
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
            // It comes to the same entry again.
            cluster.spawn(1);
        }
        let exit = cluster.wait_exit(1, Duration::from_secs(20)).await;
        assert_eq!(exit.and_then(|exit| exit.code()), Some(1), "start {start}");
        says(&cluster.log(1));
    }
    for at in [0, 2] {
        cluster.client(at).put("later", "").await.unwrap();
    }
}
