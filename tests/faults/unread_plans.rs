//! Transactions of many ranges: the plans of their unread answers have a bound.

use std::time::Duration;

use bytes::Bytes;
use glass_etcd::{
    clock,
    pb::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request},
};

use super::unread_answers::{PATIENCE, can_measure, go_on, held};
use crate::{
    client::Client,
    cluster::Cluster,
    programs::Kind,
    silent::{Silent, growth},
};

const KEYS: usize = 20_000;
/// Transactions, and the ranges in each. The plan of one transaction has 17 bytes for each of its
/// 2.4 million rows, 41 MB; those of all of them would take 490 MB.
const TXNS: usize = 12;
const RANGES: usize = 120;
/// Bytes that large answers of a member may hold, plans included.
const HELD_MAX: u64 = 256 << 20;
/// Bytes by which the member may grow. Without a bound for plans it was 1.7 GB.
const GROWTH_MAX: u64 = 450 << 20;
/// How long the transactions are left unread.
const UNREAD: Duration = Duration::from_secs(6);

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

/// Goal: an answer of many short rows, which is mostly plan, counts as much as it takes. Method:
/// twelve clients ask for every key a hundred times and read nothing, while another puts and gets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_of_unread_transactions_have_a_bound() {
    if !can_measure("plans of transactions") {
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    let (pid, address) = (cluster.process_id(0), cluster.members[0].client_address());
    let mut client = cluster.client(0);
    fill(&mut client).await;
    let (key, range_end) = ("plan/".into(), "plan0".into());
    let range = RangeRequest { key, range_end, ..RangeRequest::default() };
    let range = RequestOp { request: Some(Request::RequestRange(range)) };
    let txn = TxnRequest { success: vec![range; RANGES], ..TxnRequest::default() };
    let work = async {
        let mut silent = Vec::new();
        for _ in 0..TXNS {
            let mut one = Silent::connect(&address).await;
            let call = one.send("Txn", &txn).await;
            silent.push((one, call));
        }
        let (begin, mut longest, mut most) = (clock::now(), Duration::ZERO, 0);
        while begin.elapsed() < UNREAD {
            longest = longest.max(go_on(&mut client, 2).await);
            most = most.max(held(&address));
        }
        (silent, longest, most)
    };
    let ((silent, longest, most), grown) = growth(&[pid], work).await;
    // The first plan is counted in any case, and the second one next to it.
    assert!((80 << 20..HELD_MAX).contains(&most), "{most} bytes were held");
    assert!(grown[0] < GROWTH_MAX, "it has grown by {} MiB", grown[0] >> 20);
    assert!(longest < PATIENCE, "{longest:?}");
    drop(silent);
}
