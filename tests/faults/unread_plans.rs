//! Transactions that read much and return little: their plans, unread, have a bound.

use std::time::Duration;

use bytes::Bytes;
use glass_etcd::pb::etcdserverpb::{
    PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
};
use tokio::time::timeout;

use super::unread_answers::{can_measure, go_on, held};
use crate::{
    client::Client,
    cluster::Cluster,
    programs::Kind,
    silent::{Silent, growth},
};

const KEYS: usize = 20_000;
const TXNS: usize = 12;
const RANGES: usize = 120;

async fn fill(client: &mut Client) {
    for portion in 0..KEYS / 100 {
        let ops = (0..100).map(|at| {
            let key = Bytes::from(format!("plan/{portion:04}/{at:02}"));
            let put = PutRequest { key, value: "v".into(), ..PutRequest::default() };
            RequestOp { request: Some(Request::RequestPut(put)) }
        });
        let txn = TxnRequest { success: ops.collect(), ..TxnRequest::default() };
        client.kv.txn(txn).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_have_a_bound() {
    let cluster = Cluster::start(&Kind::subject(), 1).await;
    let mut client = cluster.client(0);
    fill(&mut client).await;
    let (pid, address) = (cluster.process_id(0), cluster.members[0].client_address());
    let range =
        RangeRequest { key: "plan/".into(), range_end: "plan0".into(), ..Default::default() };
    let range = RequestOp { request: Some(Request::RequestRange(range)) };
    let txn = TxnRequest { success: vec![range; RANGES], ..TxnRequest::default() };
    let begin = glass_etcd::clock::now();
    let work = async {
        let mut calls = Vec::new();
        for _ in 0..TXNS {
            let mut one = Silent::connect(&address).await;
            let call = one.send("Txn", &txn).await;
            calls.push(tokio::spawn(async move {
                (timeout(Duration::from_secs(120), call).await, one)
            }));
        }
        let longest = go_on(&mut client, 200).await;
        let mut got = Vec::new();
        for call in calls {
            let (answer, one) = call.await.unwrap();
            let status = answer.map(|a| a.map(|a| format!("{:?}", a.headers().get("grpc-status"))));
            eprintln!("{:?} {status:?}", begin.elapsed());
            got.push(one);
        }
        (longest, got)
    };
    let ((longest, got), grown) = growth(&[pid], work).await;
    eprintln!("longest {longest:?}, grown {} MiB", grown[0] >> 20);
    if can_measure("plans") {
        eprintln!("held {} MiB", held(&address) >> 20);
    }
    drop(got);
}
