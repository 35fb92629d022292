//! Long answers whose rows are compacted before they are sent.

use glass_etcd::{
    pb::etcdserverpb::{CompactionRequest, PutRequest, RequestOp, TxnRequest, request_op::Request},
    story::Event,
    trace::{Stage, record::FLAG_ERROR},
};
use h2::Reason;

use super::unread_answers::{MB, VALUES, all_of_it, fill, nothing_is_held};
use crate::{
    cluster::Cluster,
    programs::{Kind, left_out},
    silent::Silent,
    traces::listen::Listener,
};

/// How often each transaction reads all values. That is more than a connection may keep (64 MiB),
/// so the last rows are read again when they are sent.
const LISTS: usize = 3;

/// Goal: a client whose answer cannot be completed learns whether it may repeat the request, and
/// the trace shows the failed read. Method: a transaction that only reads, and one that also
/// writes; after both have begun to answer, all values are overwritten and compacted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_rows_are_compacted_is_reset_and_a_read_may_be_repeated() {
    if Kind::subject() != Kind::Glass {
        return left_out("compacted answers: etcd keeps the whole answer in memory");
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    let listener = Listener::start(&cluster).await;
    let mut client = cluster.client(0);
    fill(&mut client).await;
    let range = RequestOp { request: Some(Request::RequestRange(all_of_it())) };
    let put = PutRequest { key: "written".into(), ..PutRequest::default() };
    let reads = TxnRequest { success: vec![range; LISTS], ..TxnRequest::default() };
    let mut writes = reads.clone();
    writes.success.push(RequestOp { request: Some(Request::RequestPut(put)) });
    let address = cluster.members[0].client_address();
    let mut silent = [Silent::connect(&address).await, Silent::connect(&address).await];
    silent[0].ask("Txn", &reads).await;
    silent[1].ask("Txn", &writes).await;
    let mut revision = 0;
    for at in 0..VALUES {
        revision = client.put(&format!("big/{at:02}"), "new").await.unwrap();
    }
    client.kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
    for (silent, expected) in
        silent.iter_mut().zip([Reason::REFUSED_STREAM, Reason::INTERNAL_ERROR])
    {
        let (len, reset) = silent.read(0).await;
        assert!((64 * MB..LISTS * VALUES * MB).contains(&len), "{len} bytes");
        assert_eq!(Some(expected), reset);
        // Its reader has failed, and the answer was ended for that reason.
        let (piece, ended) = listener
            .until("the end of the answer", |recording| {
                let reason = u64::from(u32::from(expected));
                let mut events = recording.events.iter();
                let is_meant = |event: &&Event| event.field("reason") == Some(reason);
                let ended =
                    events.find(|event| event.stage == Stage::AnswerEnded && is_meant(event));
                let ended = ended.ok_or("the answer has no end")?;
                let is_piece =
                    |event: &&Event| (event.id, event.stage) == (ended.id, Stage::AnswerPiece);
                let piece =
                    recording.events.iter().rfind(is_piece).ok_or("the answer has no pieces")?;
                Ok((piece.clone(), ended.clone()))
            })
            .await;
        assert_ne!(0, piece.flags & FLAG_ERROR, "{piece:?}");
        let [sent, left] = ["sent", "left"].map(|name| ended.field(name).unwrap());
        assert!(u64::try_from(LISTS * VALUES * MB).unwrap() < sent + left, "{ended:?}");
        assert!(len <= usize::try_from(sent).unwrap() + 100, "{len}, {ended:?}");
    }
    drop(silent);
    nothing_is_held(&address).await;
}
