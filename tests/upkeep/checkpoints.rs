//! Leases whose remaining time outlives their leader.

use std::time::Duration;

use glass_etcd::{
    clock,
    pb::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest},
    trace::Stage,
};

use super::SOON;
use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::{Kind, left_out},
    traces::listen::Listener,
};

/// Flags, with an interval short enough for a test.
const ENV: [(&str, &str); 3] = [
    ("ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT", "true"),
    ("ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT_PERSIST", "true"),
    ("FAILPOINTS", "lease-checkpoint-interval=return(1000)"),
];

/// The lease's id, and its TTL in seconds.
const LEASE: i64 = 700;
const TTL: i64 = 60;

/// Goal: a new leader continues with the remaining time of a lease, not with its full time; a
/// renewal restores the full time, for later leaders too; and both survive the death of all
/// members. Method: an interval of one second, and leaders that are killed. Without checkpoints
/// each would begin with 60 seconds.
#[tokio::test]
async fn the_remaining_time_of_a_lease_outlives_its_leader_and_a_renewal_restores_it() {
    if Kind::subject() != Kind::Glass {
        return left_out("lease checkpoints: etcd's interval is five minutes");
    }
    let mut cluster = Cluster::start_with(&Kind::Glass, 3, &ENV).await;
    let listener = Listener::start(&cluster).await;
    let mut client = cluster.client(0);
    client.lease.lease_grant(LeaseGrantRequest { id: LEASE, ttl: TTL }).await.unwrap();
    let left = checkpointed(&cluster, &listener, TTL - 12).await;

    let leader = cluster.leader().await;
    cluster.kill(leader);
    let next = cluster.leader().await;
    // One election timeout is added for the period in which no leader could renew it.
    let now = time_to_live(&mut cluster.client(next)).await;
    assert!(now <= left + 1, "{now} s left, and the last checkpoint had {left}");

    assert_eq!(renew(&mut cluster.client(next)).await, TTL);
    let renewed = clock::now();
    cluster.spawn(leader);
    cluster.wait_ready(leader).await;
    cluster.kill(next);
    let third = cluster.leader().await;
    let now = time_to_live(&mut cluster.client(third)).await;
    // Later checkpoints may have deducted the time that has passed, and no more.
    let passed = i64::try_from(renewed.elapsed().as_secs()).unwrap() + 1;
    assert!(TTL <= now + passed, "{now} s left, and {passed} s ago there were {TTL}");

    cluster.spawn(next);
    cluster.wait_ready(next).await;
    let left = checkpointed(&cluster, &listener, now - 3).await;
    // An applied entry reaches the file within a tenth of a second, or is read from the log again.
    (0..3).for_each(|at| cluster.kill(at));
    (0..3).for_each(|at| cluster.spawn(at));
    for at in 0..3 {
        cluster.wait_ready(at).await;
    }
    let now = time_to_live(&mut cluster.client(0)).await;
    assert!(now <= left + 1, "{now} s left after a restart of all, and {left} before");
}

/// Waits until every member has recorded at most `most` seconds; returns the largest value.
async fn checkpointed(cluster: &Cluster, listener: &Listener, most: i64) -> i64 {
    let noted = |stage_of: &glass_etcd::story::Recording, member: usize| {
        let name = format!("m{member}");
        let place = stage_of.members.iter().position(|member| member.name == name);
        let last = stage_of.events.iter().rfind(|event| {
            event.stage == Stage::LeaseCheckpoint
                && Some(usize::from(event.member)) == place
                && event.field("lease") == Some(LEASE as u64)
        });
        last.and_then(|event| event.field("remaining")).map(|seconds| seconds as i64)
    };
    listener
        .until("a checkpoint on each member", |recording| {
            let seconds: Vec<_> =
                (0..cluster.members.len()).map(|at| noted(recording, at)).collect();
            let worst = seconds.iter().map(|seconds| seconds.unwrap_or(i64::MAX)).max();
            match worst {
                Some(worst) if (1..=most).contains(&worst) => Ok(worst),
                _ => Err(format!("{seconds:?}, wanted {most}")),
            }
        })
        .await
}

async fn time_to_live(client: &mut Client) -> i64 {
    let request = LeaseTimeToLiveRequest { id: LEASE, keys: false };
    eventually("a leader tells", SOON, || {
        let (mut client, request) = (client.clone(), request);
        async move {
            let answer = client.lease.lease_time_to_live(request).await;
            Ok(answer.map_err(|status| status.to_string())?.into_inner().ttl)
        }
    })
    .await
}

async fn renew(client: &mut Client) -> i64 {
    let requests = tokio_stream::iter([LeaseKeepAliveRequest { id: LEASE }]);
    let mut answers = client.lease.lease_keep_alive(requests).await.unwrap().into_inner();
    let answer = tokio::time::timeout(Duration::from_secs(10), answers.message()).await;
    answer.expect("an answer in time").unwrap().unwrap().ttl
}
