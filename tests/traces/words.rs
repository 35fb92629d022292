//! What waits and ends are said to be, where a test arranges it: why a watcher ended and which pass
//! brought it forward, the ways to a blocking thread and back, the pauses of a compaction, a TTL
//! that was raised, and a put that took effect after its caller had given up.

use std::{collections::HashSet, time::Duration};

use glass_etcd::{
    pb::etcdserverpb::{
        CompactionRequest, HashKvRequest, LeaseGrantRequest, PutRequest, WatchCreateRequest,
        WatchRequest, watch_client::WatchClient, watch_request::RequestUnion,
    },
    story::query::{
        self, Stories,
        afterwards::Afterwards,
        graph::Graph,
        path::{Awaited, Segment, Taker, Wait, critical_path},
    },
    trace::Stage,
};
use tonic::{Request as Call, transport::Endpoint};

use super::{
    Scene,
    commands::glass,
    news::next,
    told::{Told, assert_in_order},
};

/// Makes a request kept, however many there are in this second.
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// The deadline of a put that cannot be committed in time: less than an election timeout.
const SOON: Duration = Duration::from_millis(300);
/// How often a machine may be too slow for that.
const ATTEMPTS: usize = 5;

fn sampled<T>(message: T) -> Call<T> {
    let mut call = Call::new(message);
    call.metadata_mut().insert("traceparent", SAMPLED.parse().unwrap());
    call
}

fn path_of(told: &Told) -> Vec<Segment> {
    let graph = Graph::of(&told.recording, &told.order, &told.story);
    critical_path(&told.recording, &told.order, &told.story, &graph).expect("the rpc has ended")
}

async fn show(scene: &Scene, told: &Told) -> String {
    glass(scene, &["trace", "show", &format!("{:016x}", told.story.id)]).await
}

/// The story of the last request with this method, once it has these stages on the member.
async fn with(scene: &Scene, method: &str, at: usize, stages: &[Stage]) -> Told {
    scene
        .listener
        .until(method, |recording| {
            let requests = query::requests(recording);
            let request = requests.iter().rfind(|request| request.method == method);
            let told =
                Told::of(recording, request.ok_or("not in the list")?.id).ok_or("no story")?;
            match stages.iter().find(|stage| told.on(at, **stage).is_empty()) {
                Some(stage) => Err(format!("no {}\n{}", stage.name(), told.text())),
                None => Ok(told),
            }
        })
        .await
}

/// Goal: waits and ends have the names of what was done. Method: one cluster, and one request after
/// another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_and_ends_are_told_as_they_were() {
    let Some(scene) = Scene::start("waits and ends").await else { return };
    a_hash_names_the_ways_to_its_thread_and_back(&scene).await;
    a_lease_with_too_short_a_ttl_says_both(&scene).await;
    a_put_says_what_the_quota_was_compared_with(&scene).await;
    a_watcher_that_was_behind_names_its_pass(&scene).await;
    a_watcher_that_a_compaction_cancels_says_so(&scene).await;
    a_put_that_took_effect_after_its_caller_gave_up_says_so(&scene).await;
}

async fn a_hash_names_the_ways_to_its_thread_and_back(scene: &Scene) {
    let mut client = scene.cluster.client(1);
    client.put("words/hash", "1").await.unwrap();
    client.maintenance.hash_kv(sampled(HashKvRequest::default())).await.unwrap();
    let stages = [Stage::Rpc, Stage::ReadThread, Stage::MvccHash, Stage::ThreadReturn];
    let told = with(scene, "Maintenance/HashKV", 1, &stages).await;
    let waits: HashSet<Wait> = path_of(&told).iter().map(|piece| piece.wait).collect();
    let names =
        [Wait::HandOver(Taker::Blocking), Wait::Step(Stage::MvccHash), Wait::HandOver(Taker::Grpc)];
    assert!(names.iter().all(|name| waits.contains(name)), "{waits:?}\n{}", told.text());
    assert_ne!(0, told.one(1, Stage::ReadThread).field("waited"));
}

async fn a_lease_with_too_short_a_ttl_says_both(scene: &Scene) {
    let mut client = scene.cluster.client(0);
    for (ttl, is_raised) in [(1, true), (600, false)] {
        let grant = LeaseGrantRequest { ttl, ..LeaseGrantRequest::default() };
        let granted = client.lease.lease_grant(sampled(grant)).await.unwrap().into_inner();
        assert_eq!(is_raised, ttl < granted.ttl);
        let told = scene
            .listener
            .until("a grant on each member", |recording| {
                let mine = recording.events.iter().find(|event| {
                    event.stage == Stage::LeaseGrant
                        && event.field("lease") == u64::try_from(granted.id).ok()
                });
                let told = Told::of(recording, mine.ok_or("no grant")?.id).ok_or("no story")?;
                told.is_complete().map(|()| told)
            })
            .await;
        for at in 0..3 {
            let grant = told.one(at, Stage::LeaseGrant);
            let said = ["ttl", "raised", "asked"].map(|name| grant.field(name));
            let asked = if is_raised { [1, 1] } else { [0, 0] };
            assert_eq!([u64::try_from(granted.ttl).unwrap(), asked[0], asked[1]], said);
        }
        let text = show(scene, &told).await;
        assert_eq!(is_raised, text.contains(" raised=yes asked=1"), "{text}");
        assert!(is_raised || !text.contains("asked="), "{text}");
    }
}

async fn a_put_says_what_the_quota_was_compared_with(scene: &Scene) {
    let put = PutRequest { key: "words/quota".into(), ..PutRequest::default() };
    scene.cluster.client(0).kv.put(sampled(put)).await.unwrap();
    let told = scene.listener.told(("KV/Put", "words/quota"), Told::is_complete).await;
    let check = told.one(0, Stage::QuotaCheck);
    let [used, adds, in_use, file] =
        ["used", "adds", "in_use", "file"].map(|name| check.field(name));
    // The key, and the 256 bytes that etcd counts for each.
    assert_eq!("words/quota".len() as u64 + 256, adds);
    assert!(in_use <= used && used <= file, "{in_use} {used} {file}");
    let text = show(scene, &told).await;
    assert!(text.contains(&format!("adds={adds}B in_use={in_use}B file={file}B")), "{text}");
}

/// Asks for the events of this key from its first revision on.
async fn watch(
    scene: &Scene,
    at: usize,
    key: &'static str,
) -> tonic::Streaming<glass_etcd::pb::etcdserverpb::WatchResponse> {
    let url = format!("http://{}", scene.cluster.members[at].client_address());
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let create =
        WatchCreateRequest { key: key.into(), start_revision: 2, ..WatchCreateRequest::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests =
        tokio_stream::StreamExt::chain(tokio_stream::iter([create]), tokio_stream::pending());
    let mut news = WatchClient::new(channel).watch(requests).await.unwrap().into_inner();
    assert!(next(&mut news).await.created);
    news
}

async fn a_watcher_that_was_behind_names_its_pass(scene: &Scene) {
    let revision = scene.cluster.client(1).put("words/behind", "1").await.unwrap();
    let mut news = watch(scene, 1, "words/behind").await;
    assert_eq!(1, next(&mut news).await.events.len());
    let told = scene
        .listener
        .told(("Watch/Watch", "words/behind"), |told| {
            let has = |stage| !told.on(1, stage).is_empty();
            let all = [Stage::WatchForward, Stage::WatchSync, Stage::WatchSend];
            if all.into_iter().all(has) { Ok(()) } else { Err("it has not caught up".to_owned()) }
        })
        .await;
    let (forward, sync) = (told.one(1, Stage::WatchForward), told.one(1, Stage::WatchSync));
    let created = told.one(1, Stage::WatchCreate);
    assert_eq!(created.field("watcher"), forward.field("watcher"));
    assert_in_order(&told, &[created, forward, told.one(1, Stage::WatchSend)]);
    assert_in_order(&told, &[forward, sync]);
    let said = ["next.old", "events", "synced"].map(|name| forward.field(name));
    assert_eq!([2, 1, 1], said, "{}", told.text());
    assert!(u64::try_from(revision).unwrap() < forward.field("next.new"));
    assert_eq!(forward.field("pass"), sync.field("pass"));
    let stories = Stories::new(&told.recording, &told.order);
    let [pass] = &stories.passes(&told.story)[..] else { panic!("{}", told.text()) };
    assert_eq!((Some(sync.place), vec![told.story.id]), (pass.event, pass.watchers.clone()));
    let text = show(scene, &told).await;
    let said = format!("pass {} of m1 read revisions 2 to ", pass.number);
    assert!(text.contains(&said), "{said}\n{text}");
}

/// A physical compaction, which names its pauses and its commit; and a watcher whose first event is
/// gone with it.
async fn a_watcher_that_a_compaction_cancels_says_so(scene: &Scene) {
    let mut client = scene.cluster.client(1);
    client.put("words/old", "1").await.unwrap();
    let revision = client.put("words/old", "2").await.unwrap();
    let compact = CompactionRequest { revision, physical: true };
    client.kv.compact(sampled(compact)).await.unwrap();
    let stages = [Stage::Rpc, Stage::CompactWait, Stage::CompactCommit, Stage::ThreadReturn];
    let told = with(scene, "KV/Compact", 1, &stages).await;
    let waits: Vec<Wait> = path_of(&told).iter().map(|piece| piece.wait).collect();
    for stage in [Stage::CompactWait, Stage::CompactCommit] {
        assert!(waits.contains(&Wait::Step(stage)), "{waits:?}\n{}", told.text());
    }
    let [index, pause] = [Stage::CompactIndex, Stage::CompactPause].map(|it| told.one(1, it));
    assert_in_order(&told, &[index, pause, told.one(1, Stage::CompactBatch)]);
    let text = show(scene, &told).await;
    assert!(text.contains("  the pauses between its portions"), "{text}");

    let mut news = watch(scene, 1, "words/gone").await;
    let end = next(&mut news).await;
    assert_eq!((true, revision), (end.canceled, end.compact_revision));
    let ended = |told: &Told| match told.on(1, Stage::Rpc).is_empty() {
        true => Err("it is open".to_owned()),
        false => Ok(()),
    };
    let told = scene.listener.told(("Watch/Watch", "words/gone"), ended).await;
    let cancel = told.one(1, Stage::WatchCancel);
    assert_eq!(
        [2, u64::try_from(revision).unwrap()],
        ["why", "compacted"].map(|n| cancel.field(n))
    );
    let text = show(scene, &told).await;
    let said = format!("why=its next revision is compacted compacted={revision}");
    assert!(text.contains(&said), "{said}\n{text}");
    let id = format!("{:016x}", told.story.id);
    let json = glass(scene, &["trace", "show", &id, "--json"]).await;
    let line = json.lines().find(|line| line.contains("\"watch.cancel\"")).expect("it is there");
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!("its next revision is compacted", line["fields"]["why"], "{line}");
    assert_eq!(revision, line["fields"]["compacted"], "{line}");
}

/// Both followers are stopped for less than an election timeout, and the caller of a put gives up
/// meanwhile.
async fn a_put_that_took_effect_after_its_caller_gave_up_says_so(scene: &Scene) {
    for attempt in 0..ATTEMPTS {
        let key = format!("words/late/{attempt}");
        let [leader, second, third] = scene.parts().await;
        let mut put = sampled(PutRequest { key: key.clone().into(), ..PutRequest::default() });
        put.set_timeout(SOON);
        [second, third].into_iter().for_each(|at| scene.cluster.pause(at));
        let failed = scene.cluster.client(leader).kv.put(put).await;
        [second, third].into_iter().for_each(|at| scene.cluster.resume(at));
        failed.unwrap_err();
        let is_applied = |told: &Told| {
            let over = !told.on(leader, Stage::Rpc).is_empty();
            let applied = (0..3).all(|at| !told.on(at, Stage::ApplyEntry).is_empty());
            let is_decided = applied || told.story.is_lost;
            if over && is_decided { Ok(()) } else { Err("nothing came of it".to_owned()) }
        };
        let told = scene.listener.told(("KV/Put", &key), is_applied).await;
        let graph = Graph::of(&told.recording, &told.order, &told.story);
        let known = Afterwards::of(&told.recording, &told.order, &told.story, &graph);
        let Some(Afterwards::Applied { revision, after_ns, .. }) = known else { continue };
        let write = told.one(leader, Stage::MvccWrite).field("revision.new");
        assert_eq!(Some(write), revision);
        assert!(0 < after_ns, "{after_ns}");
        // For the part in which a follower has recorded that it stood still, that is the cause.
        let path = path_of(&told);
        let causes = [Wait::InVain(Awaited::Quorum), Wait::Step(Stage::ProcessStalled)];
        let in_vain = path.iter().filter(|piece| causes.contains(&piece.wait));
        let ns: u64 = in_vain.map(|piece| piece.ns).sum();
        assert!(SOON.as_nanos() / 2 < ns.into(), "{path:#?}\n{}", told.text());
        let text = show(scene, &told).await;
        let said = format!("The write took effect at revision {write} after the caller gave up: m");
        assert!(text.contains(&said), "{said}\n{text}");
        return;
    }
    panic!("the leader changed in each of {ATTEMPTS} attempts");
}
