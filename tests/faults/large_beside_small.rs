//! A large answer and small ones on one connection.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use glass_etcd::pb::etcdserverpb::{PutRequest, RangeRequest};

use crate::{
    cluster::Cluster,
    programs::{Kind, left_out},
    silent::Silent,
};

const MB: usize = 1_000_000;
/// Number of values of a megabyte in the large answer.
const VALUES: usize = 40;
const SMALL: usize = 50;

/// Goal: small answers do not wait for the end of a large one on their connection. Method: when the
/// first bytes of 40 MB are there, fifty small ones are asked for; all are read at the same time,
/// and the order in which they complete counts, not the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_answers_overtake_a_large_one_on_their_connection() {
    if Kind::subject() != Kind::Glass {
        left_out("small answers beside a large one: etcd's server has another way to write");
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    let mut client = cluster.client(0);
    for at in 0..VALUES {
        let (key, value) = (Bytes::from(format!("big/{at:02}")), vec![at as u8; MB].into());
        client.kv.put(PutRequest { key, value, ..PutRequest::default() }).await.unwrap();
    }
    client.put("small", "1").await.unwrap();
    let mut one = Silent::connect(&cluster.members[0].client_address()).await;
    let all = RangeRequest { key: "big/".into(), range_end: "big0".into(), ..Default::default() };
    one.ask("Range", &all).await;
    let mut large = one.answers.pop().unwrap();
    let first = large.data().await.unwrap().unwrap();
    let mut read = first.len();
    let small = RangeRequest { key: "small".into(), ..RangeRequest::default() };
    let mut asked = FuturesUnordered::new();
    for _ in 0..SMALL {
        let response = one.send("Range", &small).await;
        asked.push(async move {
            let mut answer = response.await.unwrap().into_body();
            while let Some(piece) = answer.data().await {
                answer.flow_control().release_capacity(piece.unwrap().len()).unwrap();
            }
            answer.trailers().await.unwrap().expect("a status")
        });
    }
    large.flow_control().release_capacity(read).unwrap();
    // How much of the large one had come when each small one was complete.
    let mut seen = Vec::new();
    loop {
        tokio::select! {
            Some(_) = asked.next() => seen.push(read),
            piece = large.data() => {
                let Some(piece) = piece else { break };
                let piece = piece.unwrap();
                read += piece.len();
                large.flow_control().release_capacity(piece.len()).unwrap();
            }
        }
    }
    assert!(VALUES * MB < read, "{read}");
    assert_eq!(SMALL, seen.len(), "small ones that were complete before the large one: {seen:?}");
    assert!(seen.iter().all(|seen| *seen < read / 2), "{seen:?} of {read}");
}
