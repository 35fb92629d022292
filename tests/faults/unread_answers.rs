//! Clients that ask for much and read none of it, and transactions that read more than there is.

use std::time::Duration;

use bytes::Bytes;
use glass_etcd::{
    clock,
    pb::{
        etcdserverpb::{
            DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
            request_op::Request, response_op::Response,
        },
        v3electionpb::LeaderRequest,
    },
};
use tokio::time::sleep;

use crate::{
    client::{Client, eventually},
    cluster::Cluster,
    programs::{Kind, left_out},
    silent::{Silent, growth, memory},
};

const MB: usize = 1_000_000;
/// How many values of a megabyte there are.
const VALUES: usize = 30;
/// How long a test's machine may take for an operation of milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The member's memory can be measured: Linux, and not etcd.
fn can_measure(what: &str) -> bool {
    if Kind::subject() != Kind::Glass || memory(std::process::id()).is_none() {
        left_out(&format!("{what}: no bound, or no /proc"));
        return false;
    }
    true
}

async fn fill(client: &mut Client) {
    for at in 0..VALUES {
        let key = Bytes::from(format!("big/{at:02}"));
        // Not the same everywhere: nothing may save memory by that.
        let value: Vec<u8> = (0..MB).map(|byte| ((byte * (at + 7)) >> 3) as u8).collect();
        let put = PutRequest { key, value: value.into(), ..PutRequest::default() };
        client.kv.put(put).await.unwrap();
    }
}

fn all_of_it() -> RangeRequest {
    RangeRequest { key: "big/".into(), range_end: "big0".into(), ..RangeRequest::default() }
}

/// Clients that have asked, and do not read.
async fn silent_clients(address: &str) -> Vec<Silent> {
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut one = Silent::connect(address).await;
        one.ask("Range", &all_of_it()).await;
        silent.push(one);
    }
    silent
}

/// Bytes that the answers of a member hold, by its metrics.
fn held(address: &str) -> u64 {
    let text = crate::traces::coverage::fetch(address, "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix("glass_answer_bytes "));
    line.expect("it is counted").parse().unwrap()
}

/// Puts and gets a small key, and says how long that took at most.
async fn go_on(client: &mut Client, rounds: usize) -> Duration {
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        let begin = clock::now();
        client.put("small", &round.to_string()).await.unwrap();
        let get = RangeRequest { key: "small".into(), ..RangeRequest::default() };
        assert_eq!(1, client.kv.range(get).await.unwrap().into_inner().kvs.len());
        longest = longest.max(begin.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    longest
}

/// Goal: unread answers have a bound, and delay no other client. Method: forty of them ask for 30
/// MB each, which makes 1.2 GB; others put, get, and read as much as one of them; then they go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_answers_have_a_bound_and_delay_no_other_client() {
    if !can_measure("answers that nobody reads") {
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    let mut client = cluster.client(0);
    fill(&mut client).await;
    let (pid, address) = (cluster.process_id(0), cluster.members[0].client_address());
    let work = async {
        let silent = silent_clients(&address).await;
        let longest = go_on(&mut client, 50).await;
        let mut reader = Silent::connect(&address).await;
        reader.ask("Range", &all_of_it()).await;
        let (len, reset) = reader.read(0).await;
        assert!(VALUES * MB < len && reset.is_none(), "{len} bytes, {reset:?}");
        (silent, longest)
    };
    let ((mut silent, longest), grown) = growth(&[pid], work).await;
    // 128 MiB are kept, and each answer has a window of which it uses half.
    assert!(grown[0] < 500 << 20, "{} MiB", grown[0] >> 20);
    assert!(held(&address) < 256 << 20, "{}", held(&address));
    assert!(longest < PATIENCE, "{longest:?}");
    // Nobody has waited for them, so each of them can still be read.
    let last = silent.len() - 1;
    let (len, reset) = silent[last].read(0).await;
    assert!(VALUES * MB < len && reset.is_none(), "{len} bytes, {reset:?}");
    drop(silent);
    eventually("memory is given back", Duration::from_secs(20), || async {
        if held(&address) == 0 { Ok(()) } else { Err(format!("{} bytes are held", held(&address))) }
    })
    .await;
    // The memory that the allocator keeps serves the next ones.
    let (silent, again) = growth(&[pid], silent_clients(&address)).await;
    assert!(grown[0] + again[0] < 500 << 20, "{} and {} MiB", grown[0] >> 20, again[0] >> 20);
    drop(silent);
}

/// Goal: an applied write is answered even without room; a read alone is refused. Method: there is
/// no room for answers, and none to wait for it.
#[tokio::test]
async fn an_applied_write_is_answered_without_room() {
    if Kind::subject() != Kind::Glass {
        return left_out("no room for answers: etcd has no bound for them");
    }
    let taken = [("FAILPOINTS", "answer-room-taken=return")];
    let cluster = Cluster::start_with(&Kind::Glass, 1, &taken).await;
    let mut client = cluster.client(0);
    fill(&mut client).await;
    let refused = client.kv.range(all_of_it()).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: too many requests");
    let count = RangeRequest { count_only: true, ..all_of_it() };
    let all = client.kv.range(count.clone()).await.unwrap().into_inner().count;
    let put = PutRequest { key: "done".into(), ..PutRequest::default() };
    let success = [Request::RequestPut(put), Request::RequestRange(all_of_it())]
        .map(|request| RequestOp { request: Some(request) });
    let txn = TxnRequest { success: success.into(), ..TxnRequest::default() };
    let answer = client.kv.txn(txn).await.unwrap().into_inner();
    let Some(Response::ResponseRange(range)) = &answer.responses[1].response else {
        panic!("{answer:?}");
    };
    assert_eq!((range.count, i64::try_from(range.kvs.len())), (all, Ok(all)));
    let delete = DeleteRangeRequest { prev_kv: true, key: "big/".into(), range_end: "big0".into() };
    let answer = client.kv.delete_range(delete).await.unwrap().into_inner();
    assert_eq!((answer.deleted, i64::try_from(answer.prev_kvs.len())), (all, Ok(all)));
}

/// Goal: answers of other services carry what clients have stored, too, and are counted. Method:
/// ask for the leader, a megabyte each time, and read nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_other_services_are_counted() {
    if !can_measure("answers of Election") {
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    let mut client = cluster.client(0);
    let put = PutRequest { key: "name/1".into(), value: vec![7; MB].into(), ..Default::default() };
    client.kv.put(put).await.unwrap();
    let address = cluster.members[0].client_address();
    let mut silent = Silent::connect(&address).await;
    let who = LeaderRequest { name: "name".into() };
    let mut asked = Vec::new();
    for _ in 0..12 {
        asked.push(silent.send_to("v3electionpb.Election", "Leader", &who).await);
    }
    go_on(&mut client, 50).await;
    assert!(11 * MB as u64 <= held(&address), "{} bytes are held", held(&address));
    drop((asked, silent));
    eventually("memory is given back", Duration::from_secs(20), || async {
        if held(&address) == 0 { Ok(()) } else { Err(format!("{} bytes", held(&address))) }
    })
    .await;
}

/// Goal: only the member that answers reads a transaction's ranges, and only as far as there is
/// room for it. Method: one that writes, and reads eight times all there is: 240 MB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_transaction_cost_the_other_members_nothing() {
    if !can_measure("transactions that read much") {
        return;
    }
    let mut cluster = Cluster::start(&Kind::Glass, 3).await;
    fill(&mut cluster.client(0)).await;
    let pids = [0, 1, 2].map(|at| cluster.process_id(at));
    let range = RequestOp { request: Some(Request::RequestRange(all_of_it())) };
    let key = Bytes::from_static(b"written");
    let put = PutRequest { key: key.clone(), value: "1".into(), ..PutRequest::default() };
    let mut success = vec![RequestOp { request: Some(Request::RequestPut(put)) }];
    success.extend(vec![range; 8]);
    let txn = TxnRequest { success, ..TxnRequest::default() };
    let address = cluster.members[1].client_address();
    // The rows must be out of the buffers of all members, or they would be there anyway.
    sleep(Duration::from_secs(1)).await;
    let work = async {
        let mut reader = Silent::connect(&address).await;
        reader.ask("Txn", &txn).await;
        reader.read(0).await
    };
    let ((len, reset), grown) = growth(&pids, work).await;
    assert!(8 * VALUES * MB < len && reset.is_none(), "{len} bytes, {reset:?}");
    let grown_mib: Vec<u64> = grown.iter().map(|bytes| bytes >> 20).collect();
    assert!(grown_mib[0] < 60 && grown_mib[2] < 60, "{grown_mib:?} MiB");
    assert!(grown_mib[1] < 200, "{grown_mib:?} MiB");
    // So does a deletion that returns what it deletes.
    let delete = DeleteRangeRequest { prev_kv: true, key: "big/".into(), range_end: "big0".into() };
    let work = async {
        let mut reader = Silent::connect(&address).await;
        reader.ask("DeleteRange", &delete).await;
        reader.read(0).await
    };
    let ((len, reset), grown) = growth(&pids, work).await;
    assert!(VALUES * MB < len && reset.is_none(), "{len} bytes, {reset:?}");
    assert!(grown[0] >> 20 < 60 && grown[2] >> 20 < 60, "{grown:?}");
    // The transaction is in all of them.
    for at in 0..3 {
        let get = RangeRequest { key: key.clone(), serializable: true, ..RangeRequest::default() };
        assert_eq!(1, cluster.client(at).kv.range(get).await.unwrap().into_inner().count);
        assert!(cluster.exited(at).is_none());
    }
}
