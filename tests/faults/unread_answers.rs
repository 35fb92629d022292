//! Clients that ask for long answers and do not read them, and transactions that read more than the
//! whole key space.

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

pub(super) const MB: usize = 1_000_000;
/// Values in the key space, each of 1 MB.
pub(super) const VALUES: usize = 30;
/// How long a busy test machine may take for a request of milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the subject has a bound and its memory can be measured; reports if not.
pub(super) fn can_measure(what: &str) -> bool {
    if Kind::subject() != Kind::Glass || memory(std::process::id()).is_none() {
        left_out(&format!("{what}: no bound, or no /proc"));
        return false;
    }
    true
}

pub(super) async fn fill(client: &mut Client) {
    for at in 0..VALUES {
        let key = Bytes::from(format!("big/{at:02}"));
        // Values that differ, so that sharing them cannot save memory.
        let value: Vec<u8> = (0..MB).map(|byte| ((byte * (at + 7)) >> 3) as u8).collect();
        let put = PutRequest { key, value: value.into(), ..PutRequest::default() };
        client.kv.put(put).await.unwrap();
    }
}

pub(super) fn all_of_it() -> RangeRequest {
    RangeRequest { key: "big/".into(), range_end: "big0".into(), ..RangeRequest::default() }
}

/// Forty clients, each of which has asked for everything and reads nothing.
async fn silent_clients(address: &str) -> Vec<Silent> {
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut one = Silent::connect(address).await;
        one.ask("Range", &all_of_it()).await;
        silent.push(one);
    }
    silent
}

/// Bytes that answers hold, by the member's own count.
pub(super) fn held(address: &str) -> u64 {
    let text = crate::traces::coverage::fetch(address, "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix("glass_answer_bytes "));
    // A large number has an exponent, as Go writes it.
    line.expect("it is counted").parse::<f64>().unwrap() as u64
}

/// Waits until a member has given back the memory of all answers.
pub(super) async fn nothing_is_held(address: &str) {
    eventually("memory is given back", Duration::from_secs(20), || async {
        let held = held(address);
        if held == 0 { Ok(()) } else { Err(format!("{held} bytes are held")) }
    })
    .await;
}

/// Puts and gets a small key again and again. Returns the longest time for one put and get.
pub(super) async fn go_on(client: &mut Client, rounds: usize) -> Duration {
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

/// Goal: unread answers have a bound and delay no other client. Method: forty clients ask for 30 MB
/// each, 1.2 GB in all; others put, get, and read as much as one of the forty; then the forty
/// disconnect.
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
    // Kept rows take 128 MiB, and each answer uses half of its window.
    assert!(grown[0] < 500 << 20, "{} MiB", grown[0] >> 20);
    assert!(held(&address) < 256 << 20, "{}", held(&address));
    assert!(longest < PATIENCE, "{longest:?}");
    // No answer has waited for room, so none was ended.
    let last = silent.len() - 1;
    let (len, reset) = silent[last].read(0).await;
    assert!(VALUES * MB < len && reset.is_none(), "{len} bytes, {reset:?}");
    drop(silent);
    nothing_is_held(&address).await;
    // The allocator reuses that memory for the next answers.
    let (silent, again) = growth(&[pid], silent_clients(&address)).await;
    assert!(grown[0] + again[0] < 500 << 20, "{} and {} MiB", grown[0] >> 20, again[0] >> 20);
    drop(silent);
}

/// Goal: without room, a write that reads is carried out and answered, and a long read is refused.
/// Method: a failpoint takes the ledger and its queue.
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

/// Goal: other services' answers, which may carry stored values too, are counted. Method: twelve
/// calls of Leader, with a value of 1 MB, whose answers nobody reads.
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
    nothing_is_held(&address).await;
}

/// Goal: the reads of a transaction cost memory only on the member that answers, and only as far as
/// there is room. Method: one that writes, and reads the whole key space eight times: 240 MB.
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
    // The values must have left the write buffers of all members, which would hold them anyway.
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
    // The same for a deletion that returns the deleted pairs.
    let delete = DeleteRangeRequest { prev_kv: true, key: "big/".into(), range_end: "big0".into() };
    let work = async {
        let mut reader = Silent::connect(&address).await;
        reader.ask("DeleteRange", &delete).await;
        reader.read(0).await
    };
    let ((len, reset), grown) = growth(&pids, work).await;
    assert!(VALUES * MB < len && reset.is_none(), "{len} bytes, {reset:?}");
    assert!(grown[0] >> 20 < 60 && grown[2] >> 20 < 60, "{grown:?}");
    // All members have applied the transaction.
    for at in 0..3 {
        let get = RangeRequest { key: key.clone(), serializable: true, ..RangeRequest::default() };
        assert_eq!(1, cluster.client(at).kv.range(get).await.unwrap().into_inner().count);
        assert!(cluster.exited(at).is_none());
    }
}
