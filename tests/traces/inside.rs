//! What happens inside a request: the comparisons of a transaction and the branch that they choose,
//! the keys and revisions of a range, and what the index looked at.

use bytes::Bytes;
use glass_etcd::{
    pb::etcdserverpb::{
        Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest,
        RangeRequest, RequestOp, TxnRequest, compare::*, request_op::Request,
    },
    story::query,
    trace::Stage,
};
use prost::Message as _;

use super::{
    Scene,
    commands::glass,
    order::sampled,
    told::{Seen, Told, assert_in_order},
};

fn compare(
    key: &str,
    target: CompareTarget,
    result: CompareResult,
    wanted: TargetUnion,
) -> Compare {
    Compare {
        target: target as i32,
        result: result as i32,
        key: Bytes::copy_from_slice(key.as_bytes()),
        target_union: Some(wanted),
        ..Compare::default()
    }
}

fn ops(requests: impl IntoIterator<Item = Request>) -> Vec<RequestOp> {
    requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
}

fn put(key: &str) -> Request {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Request::RequestPut(PutRequest { key, ..PutRequest::default() })
}

fn range(key: &str) -> RangeRequest {
    RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..RangeRequest::default() }
}

/// The key that a step names.
fn key_of(step: &Seen<'_>) -> String {
    let key = step.event.key.as_ref().map(|key| key.display());
    key.unwrap_or_else(|| panic!("no key: {step:?}"))
}

/// A transaction whose third comparison does not hold, with a nested one in its other branch.
fn with_a_nested_one() -> TxnRequest {
    let nested = TxnRequest {
        compare: vec![Compare {
            range_end: Bytes::from_static(b"inside/c"),
            ..compare(
                "inside/a",
                CompareTarget::Version,
                CompareResult::Less,
                TargetUnion::Version(5),
            )
        }],
        success: ops([put("inside/d"), put("inside/e")]),
        ..TxnRequest::default()
    };
    let value = TargetUnion::Value("secret".into());
    TxnRequest {
        compare: vec![
            compare("inside/a", CompareTarget::Value, CompareResult::Equal, value),
            compare(
                "inside/none",
                CompareTarget::Create,
                CompareResult::Greater,
                TargetUnion::CreateRevision(-1 << 40),
            ),
            compare(
                "inside/b",
                CompareTarget::Version,
                CompareResult::NotEqual,
                TargetUnion::Version(1),
            ),
            compare("inside/a", CompareTarget::Lease, CompareResult::Equal, TargetUnion::Lease(0)),
        ],
        success: ops([put("inside/f")]),
        failure: ops([Request::RequestTxn(nested.encode_to_vec().into())]),
    }
}

/// Goal: every member says how each comparison came out, and which operations followed, also of a
/// nested transaction. Method: on a follower, a transaction whose second comparison does not hold,
/// and in its other branch one whose comparison of a range of keys holds.
pub(super) async fn a_transaction_tells_its_comparisons_and_its_branches(scene: &Scene) {
    let [_, asked, _] = scene.parts().await;
    let mut client = scene.cluster.client(asked);
    for key in ["inside/a", "inside/b"] {
        client.put(key, "secret").await.unwrap();
    }
    assert!(!client.kv.txn(with_a_nested_one()).await.unwrap().into_inner().succeeded);
    let told = scene.listener.told(("KV/Txn", "inside/a"), Told::is_complete).await;
    for at in 0..3 {
        let compares: Vec<_> = told
            .on(at, Stage::TxnCompare)
            .iter()
            .map(|step| {
                let fields = ["level", "target", "operator", "keys", "holds"];
                let numbers = ["wanted", "found"].map(|name| step.field(name).cast_signed());
                (key_of(step), fields.map(|name| step.field(name)), numbers)
            })
            .collect();
        let expected = [
            ("inside/a", [0, 3, 0, 1, 1], [0, 0]),
            ("inside/none", [0, 1, 1, 0, 1], [-1 << 40, 0]),
            // The third decides, and the fourth is not looked at.
            ("inside/b", [0, 0, 3, 1, 0], [1, 1]),
            ("inside/a", [1, 0, 2, 2, 1], [5, 1]),
        ];
        let expected = expected.map(|(key, fields, numbers)| (key.to_owned(), fields, numbers));
        assert_eq!(expected.as_slice(), compares, "m{at}\n{}", told.text());
        let range = told.on(at, Stage::TxnCompare)[3].event.range_end.as_ref().unwrap();
        assert_eq!("inside/c", range.display());
        let branches = told.on(at, Stage::TxnBranch);
        let fields = ["level", "compares", "branch", "operations"];
        let branches: Vec<_> =
            branches.iter().map(|step| fields.map(|name| step.field(name))).collect();
        assert_eq!([[0, 4, 0, 1], [1, 1, 1, 2]], branches[..], "m{at}\n{}", told.text());
        assert_eq!(2, told.one(at, Stage::MvccWrite).field("operations"));
    }
    show_tells_them(scene, &told).await;
}

async fn show_tells_them(scene: &Scene, told: &Told) {
    let text = glass(scene, &["trace", "show", &format!("{:016x}", told.story.id)]).await;
    for expected in [
        "level=0 target=value operator=equal keys=1 holds=yes key=inside/a",
        "level=0 target=create operator=greater wanted=-1099511627776 found=0 keys=0 holds=yes \
         key=inside/none",
        "level=0 target=version operator=not equal wanted=1 found=1 keys=1 holds=no key=inside/b",
        "key=inside/a range_end=inside/c",
        "level=0 compares=4 branch=failure operations=1",
        "level=1 compares=1 branch=success operations=2",
    ] {
        assert_eq!(3, text.matches(expected).count(), "{expected}\n{text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

/// Goal: the same of a transaction that is not proposed: only the member that reads it compares,
/// and each of its ranges names its keys.
pub(super) async fn a_transaction_that_only_reads_tells_the_same_where_it_is_read(scene: &Scene) {
    let [leader, asked, other] = scene.parts().await;
    let mut client = scene.cluster.client(asked);
    client.put("inside/r", "v").await.unwrap();
    let all = RangeRequest { range_end: Bytes::from_static(b"inside/s"), ..range("inside/r") };
    let txn = TxnRequest {
        compare: vec![compare(
            "inside/r",
            CompareTarget::Version,
            CompareResult::Equal,
            TargetUnion::Version(7),
        )],
        success: Vec::new(),
        failure: ops([range("inside/r"), all].map(Request::RequestRange)),
    };
    client.kv.txn(txn).await.unwrap();
    let told = scene.listener.told(("KV/Txn", "inside/r"), Told::is_complete).await;
    let compared = told.one(asked, Stage::TxnCompare);
    assert_eq!([7, 1, 0], ["wanted", "found", "holds"].map(|name| compared.field(name)));
    let branch = told.one(asked, Stage::TxnBranch);
    assert_eq!([0, 2], ["branch", "operations"].map(|name| branch.field(name)));
    let looked = told.on(asked, Stage::TreeIndexGet);
    let keys: Vec<_> = looked
        .iter()
        .map(|step| (key_of(step), step.event.range_end.as_ref().map(|end| end.display())))
        .collect();
    let expected = [("inside/r", None), ("inside/r", Some("inside/s".to_owned()))];
    assert_eq!(expected.map(|(key, end)| (key.to_owned(), end)).as_slice(), keys);
    assert_eq!(2, told.on(asked, Stage::MvccRange).len());
    for stage in [Stage::TxnCompare, Stage::TxnBranch, Stage::TreeIndexGet, Stage::MvccRange] {
        assert_eq!([0, 0], [leader, other].map(|at| told.on(at, stage).len()), "{stage:?}");
    }
}

/// Goal: a range says for which revision it was asked and at which it read, how many keys the index
/// looked at, and how many revisions it gave; a plain get has no record more than before. Method:
/// three keys, one of them deleted, in the past and in the present; with a limit, with a filter,
/// and as a count.
pub(super) async fn a_range_tells_what_was_asked_and_what_the_index_looked_at(scene: &Scene) {
    let [_, asked, _] = scene.parts().await;
    let mut client = scene.cluster.client(asked);
    client.put("inside/x1", "v").await.unwrap();
    let second = client.put("inside/x2", "v").await.unwrap();
    let third = client.put("inside/x3", "v").await.unwrap();
    let delete = DeleteRangeRequest { key: "inside/x1".into(), ..Default::default() };
    let deleted = client.kv.delete_range(delete).await.unwrap().into_inner();
    let gone = deleted.header.unwrap().revision;
    let all = || RangeRequest { range_end: Bytes::from_static(b"inside/y"), ..range("inside/x") };
    // The request; then: asked, read at, returned, in the range, limit, more; visited, given.
    let at = |number: i64| u64::try_from(number).unwrap();
    let cases = [
        (all(), [0, at(gone), 2, 2, 0, 0], [3, 2]),
        (RangeRequest { limit: 1, ..all() }, [0, at(gone), 1, 2, 1, 1], [2, 1]),
        (RangeRequest { revision: third, ..all() }, [at(third), at(third), 3, 3, 0, 0], [3, 3]),
        (RangeRequest { min_mod_revision: third, ..all() }, [0, at(gone), 1, 2, 0, 0], [3, 1]),
        (RangeRequest { count_only: true, ..all() }, [0, at(gone), 0, 2, 0, 0], [0, 0]),
        (
            RangeRequest { count_only: true, revision: second, ..all() },
            [at(second), at(second), 0, 2, 0, 0],
            [3, 0],
        ),
    ];
    for (request, ranged, looked) in cases {
        let (asked_for, begun) = (format!("{request:?}"), scene.listener.recording().events.len());
        client.kv.range(request).await.unwrap();
        let id = scene
            .listener
            .until("the range", |recording| {
                let mut new = recording.events.iter().skip(begun);
                let end = new.find(|event| {
                    (event.stage, event.kind) == (Stage::Rpc, glass_etcd::trace::Kind::Span)
                        && event.key.as_ref().is_some_and(|key| key.display() == "inside/x")
                });
                end.map(|event| event.id).ok_or_else(|| "not yet".to_owned())
            })
            .await;
        let told = Told::of(&scene.listener.recording(), id).unwrap();
        let step = told.one(asked, Stage::MvccRange);
        let fields = ["asked", "revision", "keys", "total", "limit", "more"];
        assert_eq!(ranged, fields.map(|name| step.field(name)), "{asked_for}\n{}", told.text());
        let step = told.one(asked, Stage::TreeIndexGet);
        let fields = ["visited", "revisions"];
        assert_eq!(looked, fields.map(|name| step.field(name)), "{asked_for}\n{}", told.text());
        // The rpc names the range.
        assert_eq!(None, step.event.key);
        let rpc = told.one(asked, Stage::Rpc);
        let end = rpc.event.range_end.as_ref().map(|end| end.display());
        assert_eq!(("inside/x".to_owned(), Some("inside/y")), (key_of(&rpc), end.as_deref()));
    }
}

/// Goal: what the leader does for the client of a follower is part of that request's story, after
/// the question and before the end of it; and the time in it is accounted for. Method: a question
/// for the remaining time of a lease.
pub(super) async fn a_question_about_a_lease_is_joined_to_its_answer_on_the_leader(scene: &Scene) {
    let [leader, asked, other] = scene.parts().await;
    let mut client = scene.cluster.client(asked);
    client.lease.lease_grant(LeaseGrantRequest { id: 7100, ttl: 600 }).await.unwrap();
    let ask = LeaseTimeToLiveRequest { id: 7100, keys: false };
    client.lease.lease_time_to_live(sampled(ask)).await.unwrap();
    let id = scene
        .listener
        .until("a question about a lease", |recording| {
            let requests = query::requests(recording);
            let is_meant = |request: &&query::Summary| request.method == "Lease/LeaseTimeToLive";
            let request = requests.iter().rfind(is_meant).ok_or("not in the list")?;
            let told = Told::of(recording, request.id).ok_or("no story")?;
            told.is_complete()?;
            let ends = [(asked, Stage::Rpc), (leader, Stage::LeaseServe)];
            let missing = ends.iter().find(|(at, stage)| told.on(*at, *stage).is_empty());
            missing.map_or(Ok(request.id), |(_, stage)| Err(format!("no {}", stage.name())))
        })
        .await;
    let told = Told::of(&scene.listener.recording(), id).unwrap();
    let ends = [(asked, Stage::LeaseForward), (leader, Stage::LeaseServe)];
    let [question, answer] = ends.map(|(at, stage)| (told.begin(at, stage), told.one(at, stage)));
    let round = told.one(leader, Stage::ReadIndexWait);
    assert_in_order(&told, &[question.0, answer.0, round, answer.1, question.1]);
    assert_ne!(0, question.1.event.link);
    assert_eq!(question.1.event.link, answer.1.event.link);
    assert_eq!(told.member_id(leader), question.1.field("leader"));
    assert_eq!(told.member_id(asked), answer.1.field("from"));
    assert_eq!([7100, 0], ["lease", "renews"].map(|name| answer.1.field(name)));
    assert!((599..=600).contains(&told.one(asked, Stage::LeaseRemaining).field("ttl")));
    told.one(leader, Stage::ReadIndexRound);
    assert!(told.on(other, Stage::LeaseServe).is_empty());
    let text = glass(scene, &["trace", "show", &format!("{id:016x}")]).await;
    for expected in [
        format!("  a question to m{leader} over HTTP, "),
        format!("m{leader}          in transit"),
        format!("m{asked}          in transit"),
    ] {
        assert!(text.contains(&expected), "{expected}\n{text}");
    }
    let is_unknown = |line: &&str| line.contains(" %  ") && line.contains("not captured");
    assert_eq!(None, text.lines().find(is_unknown), "{text}");
}
