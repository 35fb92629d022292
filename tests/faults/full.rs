//! A member whose backend is full.

use std::time::Duration;

use bytes::Bytes;
use glass_etcd::pb::etcdserverpb::{AlarmRequest, AlarmType, LeaseGrantRequest, PutRequest};
use tonic::{Code, Status};

use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::{Kind, left_out},
};

/// A quota for a nearly empty database, and one that is large enough for everything.
const SMALL: &[(&str, &str)] = &[("ETCD_QUOTA_BACKEND_BYTES", "4194304")];
const QUOTA: i64 = 4 << 20;
const VALUE: usize = 256 << 10;

/// Goal: the member that finds no room raises the alarm once, even if it serves no request; refused
/// writes leave nothing in the log, and the alarm is stored when the client receives the error.
/// Method: one of three members has a small quota. First the test writes to the others until that
/// member's alarm comes; then to that member itself; then the alarm is disarmed and raised again.
#[tokio::test]
async fn a_full_member_raises_its_alarm_from_apply_and_refuses_without_filling_the_log() {
    if Kind::subject() != Kind::Glass {
        left_out("alarms of a full member: etcd's file grows otherwise, and so does its log");
        return;
    }
    let kinds = [Kind::Glass, Kind::Glass, Kind::Glass];
    let (cluster, _wires) = Cluster::start_wired(&kinds, &[&[], SMALL, &[]]).await;
    let (mut other, mut full) = (cluster.client(0), cluster.client(1));
    let id = full.status().await.unwrap().header.unwrap().member_id;
    for number in 0..64 {
        if let Err(status) = put(&mut other, number).await {
            is_refused(&status);
            break;
        }
    }
    eventually("the full member's alarm", Duration::from_secs(20), || {
        let mut other = other.clone();
        async move { if alarms(&mut other).await == [id] { Ok(()) } else { Err("none".into()) } }
    })
    .await;
    is_refused(&put(&mut other, 100).await.unwrap_err());
    // A write that found no room was applied, and counts once it is in the file.
    eventually("the full member's file is full", Duration::from_secs(20), || {
        let mut full = full.clone();
        async move {
            let in_use = full.status().await.unwrap().db_size_in_use;
            if QUOTA < in_use { Ok(()) } else { Err(format!("{in_use} in use")) }
        }
    })
    .await;
    refused_without_an_entry(&mut full).await;
    let end = AlarmRequest { action: 2, member_id: id, alarm: AlarmType::Nospace as i32 };
    other.maintenance.alarm(end).await.unwrap();
    assert!(alarms(&mut other).await.is_empty());
    // There is still no room, and the only way to report it is to raise the alarm again.
    is_refused(&put(&mut full, 101).await.unwrap_err());
    let errors = full.status().await.unwrap().errors;
    assert!(errors.iter().any(|error| error.contains("NOSPACE")), "answered before: {errors:?}");
    eventually("the full member's alarm, again", Duration::from_secs(20), || {
        let mut other = other.clone();
        async move { if alarms(&mut other).await == [id] { Ok(()) } else { Err("none".into()) } }
    })
    .await;
}

async fn refused_without_an_entry(full: &mut Client) {
    let index = |status: glass_etcd::pb::etcdserverpb::StatusResponse| status.raft_index;
    full.everything(false).await.unwrap();
    let before = index(full.status().await.unwrap());
    for number in 0..20 {
        is_refused(&put(full, number).await.unwrap_err());
        let grant = LeaseGrantRequest { ttl: 60, id: 0 };
        is_refused(&full.lease.lease_grant(grant).await.unwrap_err());
    }
    full.everything(false).await.unwrap();
    let after = index(full.status().await.unwrap());
    // The leader may have decided the cluster's version meanwhile.
    assert!(after - before <= 2, "40 refused requests left {} entries", after - before);
}

async fn put(client: &mut Client, number: usize) -> Result<(), Status> {
    let (key, value) = (Bytes::from(format!("full/{number}")), Bytes::from(vec![7; VALUE]));
    client.kv.put(PutRequest { key, value, ..PutRequest::default() }).await.map(|_| ())
}

fn is_refused(status: &Status) {
    let expected = (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
    assert_eq!((status.code(), status.message()), expected);
}

async fn alarms(client: &mut Client) -> Vec<u64> {
    let list = client.maintenance.alarm(AlarmRequest::default()).await.unwrap().into_inner();
    list.alarms.iter().map(|alarm| alarm.member_id).collect()
}
