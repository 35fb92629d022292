//! Stories of puts.

use bytes::Bytes;
use glass_etcd::{
    pb::etcdserverpb::{
        Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, request_op::Request,
    },
    trace::{METHODS, Stage, message},
};

use super::{
    Scene,
    told::{Told, assert_in_order},
    way,
};

/// Steps that only the serving member takes.
const OWN: [Stage; 7] = [
    Stage::Rpc,
    Stage::RpcValidate,
    Stage::QuotaCheck,
    Stage::Admit,
    Stage::AuthAuthenticate,
    Stage::RaftPropose,
    Stage::RaftInbox,
];

/// Steps that every member takes.
const EVERYWHERE: [Stage; 12] = [
    Stage::RaftEntry,
    Stage::WalWrite,
    Stage::WalFsync,
    Stage::RaftCommit,
    Stage::ApplyEntry,
    Stage::AuthAuthorize,
    Stage::MvccWrite,
    Stage::TreeIndexPut,
    Stage::BufferPut,
    Stage::BufferFreeze,
    Stage::BackendCommit,
    Stage::RaftReceive,
];

/// The story of a put is complete when nothing is missing and both followers have acknowledged.
pub(super) fn is_complete(told: &Told) -> Result<(), String> {
    told.is_complete()?;
    both_have_acknowledged(told)
}

pub(super) fn both_have_acknowledged(told: &Told) -> Result<(), String> {
    let acknowledged: usize = (0..3).map(|at| told.on(at, Stage::RaftProgress).len()).sum();
    if acknowledged == 2 { Ok(()) } else { Err(format!("{acknowledged} acknowledgements")) }
}

/// Returns the put's id.
pub(super) async fn a_put_on_a_follower_is_traced_on_all_members(scene: &Scene) -> u64 {
    let key = "traces/put";
    let [leader, follower, other] = scene.parts().await;
    let revision = scene.cluster.client(follower).put(key, "a value").await.unwrap();
    let told = scene.listener.told(("KV/Put", key), is_complete).await;
    told.assert_no_strangers(&[]);
    each_step_is_there_once(&told, [leader, follower, other]);
    the_fields_agree(&told, [leader, follower, other], u64::try_from(revision).unwrap());
    the_proposal_reaches_the_leader(&told, leader, follower);
    for at in [follower, other] {
        a_follower_syncs_before_it_acknowledges(&told, leader, at);
    }
    for at in 0..3 {
        committed_entries_are_applied_and_then_stored(&told, at);
    }
    assert_in_order(
        &told,
        &[
            told.one(follower, Stage::ApplyEntry),
            told.one(follower, Stage::RaftPropose),
            told.one(follower, Stage::Rpc),
        ],
    );
    told.story.id
}

fn each_step_is_there_once(told: &Told, [leader, follower, other]: [usize; 3]) {
    for stage in OWN {
        told.one(follower, stage);
        for at in [leader, other] {
            assert_eq!(0, told.on(at, stage).len(), "{} on m{at}", stage.name());
        }
    }
    for stage in EVERYWHERE.iter().filter(|stage| **stage != Stage::RaftReceive) {
        (0..3).for_each(|at| _ = told.one(at, *stage));
    }
    // To each follower the entry and its commit index, from each an acknowledgement, and the
    // proposal.
    let count = |stage| [leader, follower, other].map(|at| told.on(at, stage).len());
    assert_eq!([4, 2, 1], count(Stage::RaftSend), "{}", told.text());
    assert_eq!([3, 2, 2], count(Stage::RaftReceive), "{}", told.text());
    assert_eq!([2, 0, 0], count(Stage::RaftProgress));
}

fn the_fields_agree(told: &Told, [leader, follower, other]: [usize; 3], revision: u64) {
    let (term, index) = told.story.entry.unwrap();
    let rpc = told.one(follower, Stage::Rpc);
    assert_eq!("KV/Put", METHODS[usize::try_from(rpc.field("method")).unwrap()]);
    assert_eq!((revision, 0), (rpc.field("revision"), rpc.field("code")));
    assert_eq!("KV/Put traces/put", told.story.title);
    let propose = told.one(follower, Stage::RaftPropose);
    assert_eq!(told.member_id(leader), propose.field("leader"));
    for at in [leader, follower, other] {
        let entry = told.one(at, Stage::RaftEntry);
        assert_eq!((term, index), (entry.field("term"), entry.field("index")));
        assert_eq!(propose.field("bytes"), entry.field("bytes"));
        for stage in [Stage::WalWrite, Stage::WalFsync] {
            let disk = told.one(at, stage);
            assert!((disk.field("first")..=disk.field("last")).contains(&index), "{disk:?}");
        }
        assert!(index <= told.one(at, Stage::WalFsync).field("synced.new"));
        let commit = told.one(at, Stage::RaftCommit);
        assert!(commit.field("commit.old") < index && index <= commit.field("commit.new"));
        let apply = told.one(at, Stage::ApplyEntry);
        assert_eq!((index - 1, index), (apply.field("applied.old"), apply.field("applied.new")));
        let write = told.one(at, Stage::MvccWrite);
        assert_eq!(
            (revision - 1, revision),
            (write.field("revision.old"), write.field("revision.new"))
        );
        let put = told.one(at, Stage::TreeIndexPut);
        assert_eq!((revision, 1), (put.field("main"), put.field("version")));
        assert_eq!("traces/put", put.event.key.as_ref().unwrap().display());
        let buffer = told.one(at, Stage::BufferPut);
        assert_eq!(buffer.field("length.old") + 1, buffer.field("length.new"));
        let stored = told.one(at, Stage::BackendCommit);
        assert!(stored.field("index.old") < index && index <= stored.field("index.new"));
        assert!(revision <= stored.field("revision.new") && 0 < stored.field("writes"));
    }
}

fn the_proposal_reaches_the_leader(told: &Told, leader: usize, follower: usize) {
    let [sent, received] = told.message(message::PROP, follower, leader);
    assert_in_order(
        told,
        &[
            told.begin(follower, Stage::Rpc),
            told.one(follower, Stage::RpcValidate),
            told.one(follower, Stage::QuotaCheck),
            told.one(follower, Stage::Admit),
            told.one(follower, Stage::AuthAuthenticate),
            told.begin(follower, Stage::RaftPropose),
            told.one(follower, Stage::RaftInbox),
            sent,
            received,
            told.one(leader, Stage::RaftEntry),
            told.one(leader, Stage::WalWrite),
            told.begin(leader, Stage::WalFsync),
            told.one(leader, Stage::WalFsync),
        ],
    );
}

fn a_follower_syncs_before_it_acknowledges(told: &Told, leader: usize, at: usize) {
    let index = told.story.entry.unwrap().1;
    let entry_of = |kind: u64, from: usize, to: usize| {
        let mut sends = told.on(from, Stage::RaftSend);
        sends.retain(|send| {
            let carries = send.field("index") < index && index <= send.field("last");
            send.field("type") == kind && send.field("peer") == told.member_id(to) && carries
        });
        assert_eq!(1, sends.len(), "{}", told.text());
        let receive = told.order.partner[&sends[0].place];
        let receive = told.steps().find(|seen| seen.place == receive).unwrap();
        [sends[0], receive]
    };
    let [sent, received] = entry_of(message::APP, leader, at);
    let [acknowledged, heard] = told.message(message::APP_RESP, at, leader);
    assert!(index <= acknowledged.field("index"));
    let mut progress = told.on(leader, Stage::RaftProgress);
    progress.retain(|progress| progress.field("peer") == told.member_id(at));
    assert_eq!(1, progress.len(), "{}", told.text());
    assert_in_order(
        told,
        &[
            told.one(leader, Stage::RaftEntry),
            sent,
            received,
            told.one(at, Stage::RaftEntry),
            told.one(at, Stage::WalWrite),
            told.begin(at, Stage::WalFsync),
            told.one(at, Stage::WalFsync),
            acknowledged,
            heard,
            progress[0],
        ],
    );
    let news = told.on(at, Stage::RaftReceive).into_iter().find(|receive| {
        let can_tell = [message::APP, message::HEARTBEAT].contains(&receive.field("type"));
        can_tell && index <= receive.field("commit")
    });
    let commit = told.one(leader, Stage::RaftCommit);
    assert_in_order(told, &[commit, news.unwrap(), told.one(at, Stage::RaftCommit)]);
}

fn committed_entries_are_applied_and_then_stored(told: &Told, at: usize) {
    // A step is played at its end, so outer steps come after inner ones.
    assert_in_order(
        told,
        &[
            told.one(at, Stage::RaftCommit),
            told.one(at, Stage::AuthAuthorize),
            told.one(at, Stage::TreeIndexPut),
            told.one(at, Stage::MvccWrite),
            told.one(at, Stage::ApplyEntry),
            told.one(at, Stage::BufferFreeze),
            told.one(at, Stage::BackendCommit),
        ],
    );
    let (buffer, write) = (told.one(at, Stage::BufferPut), told.one(at, Stage::ApplyEntry));
    assert!(write.event.clock < buffer.event.clock && buffer.rank < write.rank);
}

/// A put on the leader needs no MsgProp. That of a later put on a follower is not its own.
pub(super) async fn a_put_on_the_leader_sends_no_proposal(scene: &Scene) {
    let [leader, follower, _] = scene.parts().await;
    scene.cluster.client(leader).put("traces/led", "v").await.unwrap();
    scene.cluster.client(follower).put("traces/followed", "v").await.unwrap();
    scene.listener.told(("KV/Put", "traces/followed"), is_complete).await;
    let told = scene.listener.told(("KV/Put", "traces/led"), is_complete).await;
    told.assert_no_strangers(&[]);
    assert_eq!(4, told.on(leader, Stage::RaftSend).len(), "{}", told.text());
    way::is_that_of_the_table(&told, leader, way::PUT);
}

/// The same after the leader was killed and has become a follower, whose puts do need one.
pub(super) async fn a_put_of_a_former_leader_stays_without_proposal(scene: &Scene) {
    let leader = scene.cluster.leader().await;
    for at in (0..3).filter(|at| *at != leader) {
        scene.cluster.client(at).put(&format!("traces/{at}"), "v").await.unwrap();
        let key = format!("traces/{at}");
        scene.listener.told(("KV/Put", &key), is_complete).await.assert_no_strangers(&[]);
    }
    let told = scene.listener.told(("KV/Put", "traces/led"), is_complete).await;
    told.assert_no_strangers(&[]);
}

/// Goal: a transaction's reads are made where it is answered, and only there; every member makes
/// its comparisons and writes. Method: on a follower, one that writes, reads, and returns the
/// previous value.
pub(super) async fn a_transaction_reads_only_where_it_is_answered(scene: &Scene) {
    let [leader, asked, other] = scene.parts().await;
    let key = Bytes::from_static(b"traces/txn");
    let put =
        PutRequest { key: key.clone(), value: "1".into(), prev_kv: true, ..PutRequest::default() };
    let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    let txn = TxnRequest {
        compare: vec![Compare {
            target: compare::CompareTarget::Version as i32,
            result: compare::CompareResult::Equal as i32,
            key,
            ..Compare::default()
        }],
        success: [Request::RequestPut(put), Request::RequestRange(range)]
            .map(|request| RequestOp { request: Some(request) })
            .into(),
        ..TxnRequest::default()
    };
    let response = scene.cluster.client(asked).kv.txn(txn).await.unwrap().into_inner();
    assert!(response.succeeded);
    let told = scene.listener.told(("KV/Txn", "traces/txn"), Told::is_complete).await;
    for at in [leader, asked, other] {
        told.one(at, Stage::MvccWrite);
        told.one(at, Stage::BufferPut);
    }
    // Before the put, nothing; after it, the new value, which was in the buffer.
    let reads = [Stage::TreeIndexGet, Stage::BufferGet, Stage::MvccRange];
    for stage in reads {
        assert_eq!(2, told.on(asked, stage).len(), "{stage:?}\n{}", told.text());
        assert_eq!([0, 0], [leader, other].map(|at| told.on(at, stage).len()), "{stage:?}");
    }
    let ranges = told.on(asked, Stage::MvccRange);
    assert_eq!([0, 1], [0, 1].map(|at: usize| ranges[at].field("keys")));
    // Planned by apply, and read when the transaction is over.
    let (write, rpc) = (told.one(asked, Stage::MvccWrite), told.one(asked, Stage::Rpc));
    assert_in_order(
        &told,
        &[told.on(asked, Stage::BufferGet)[1], write, ranges[0], ranges[1], rpc],
    );
}
