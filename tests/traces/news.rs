//! Watchers and leases in the trace: which watchers received a put, and how a lease lives and ends.

use std::time::Duration;

use glass_etcd::{
    pb::etcdserverpb::{
        LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest,
        WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_client::WatchClient, watch_request::RequestUnion,
    },
    story::{Event, query},
    trace::Stage,
};
use tokio_stream::StreamExt as _;
use tonic::transport::Endpoint;

use super::{
    Scene,
    commands::glass,
    listen::HEARD_WITHIN,
    told::{Seen, Told},
};
use crate::client::eventually;

/// How long an event may take to reach its watcher.
const EVENT_WITHIN: Duration = Duration::from_secs(10);

/// Goal: a put's story names the watcher that got its event, and when the event left on the stream.
/// Method: one watcher of the past, which catches up, and then a put that it receives as synced.
pub(super) async fn a_put_reaches_its_watcher_in_the_trace(scene: &Scene) {
    let revision = scene.cluster.client(1).put("news/first", "1").await.unwrap();
    let url = format!("http://{}", scene.cluster.members[1].client_address());
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: "news/".into(),
            range_end: "news0".into(),
            start_revision: revision,
            ..WatchCreateRequest::default()
        })),
    };
    let requests = tokio_stream::iter([create]).chain(tokio_stream::pending());
    let mut news = WatchClient::new(channel).watch(requests).await.unwrap().into_inner();
    let created = next(&mut news).await;
    assert!(created.created);
    assert_eq!(next(&mut news).await.events.len(), 1, "the watcher has caught up");
    // By its revision: catching up is not related to a request.
    scene
        .listener
        .told(("KV/Put", "news/first"), |told| {
            let sent = |step: &&query::Step| {
                let event = &told.recording.events[step.event];
                event.stage == Stage::WatchSend && event.field("path") == Some(1)
            };
            told.story.steps.iter().find(sent).map(|_| ()).ok_or("no watcher caught up".to_owned())
        })
        .await;
    scene.cluster.client(1).put("news/second", "2").await.unwrap();
    assert_eq!(next(&mut news).await.events.len(), 1, "the watcher is synced");
    scene
        .listener
        .told(("KV/Put", "news/second"), |told| {
            let has = |stage| {
                told.story.steps.iter().any(|step| told.recording.events[step.event].stage == stage)
            };
            if has(Stage::WatchNotify) && has(Stage::WatchSend) {
                Ok(())
            } else {
                Err("no watcher got it".to_owned())
            }
        })
        .await;
}

/// Goal: the story of a watcher stays open until it ends, has every event that was sent to it, and
/// ends with the reason. Method: on one stream, a watcher that receives a put, reports progress and
/// is cancelled; one whose id is taken; and one that ends with the stream.
pub(super) async fn a_watcher_is_open_until_it_ends_and_says_why(scene: &Scene) {
    let url = format!("http://{}", scene.cluster.members[1].client_address());
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let create = |key: &'static str, watch_id| {
        let key = key.into();
        let create = WatchCreateRequest { key, watch_id, ..WatchCreateRequest::default() };
        WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    };
    let (ask, asked) = tokio::sync::mpsc::channel(4);
    ask.send(create("news/open", 7)).await.unwrap();
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut news = WatchClient::new(channel).watch(asked).await.unwrap().into_inner();
    assert!(next(&mut news).await.created);
    scene.cluster.client(0).put("news/open", "1").await.unwrap();
    assert_eq!(1, next(&mut news).await.events.len());
    let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
    ask.send(WatchRequest { request_union: Some(progress) }).await.unwrap();
    assert!(next(&mut news).await.events.is_empty());
    let told = told_with(scene, "news/open", &[Stage::WatchSend, Stage::WatchProgress]).await;
    assert!(told.on(1, Stage::Rpc).is_empty(), "it is open\n{}", told.text());
    assert_eq!(1, told.one(1, Stage::WatchProgress).field("whole_stream"));
    let list = glass(scene, &["trace", "list"]).await;
    let line = list.lines().find(|line| line.ends_with("Watch/Watch news/open"));
    assert!(line.is_some_and(|line| line.contains("  open  ")), "{list}");
    // Of a member that no CPU was free for, no more is known than of a silent one.
    let id = format!("{:016x}", told.story.id);
    eventually("the story of an open watcher", HEARD_WITHIN, || async {
        let show = glass(scene, &["trace", "show", &id]).await;
        let is_open = show.contains("  open for ") && show.contains("watch.send");
        if is_open { Ok(()) } else { Err(show) }
    })
    .await;
    let stream = stream_of(scene, told.story.id, "open").await;
    // The first ends by its client's wish, the second is refused, and the third ends with all.
    ask.send(create("news/taken", 7)).await.unwrap();
    ask.send(create("news/last", 8)).await.unwrap();
    let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7 });
    ask.send(WatchRequest { request_union: Some(cancel) }).await.unwrap();
    let answers = [next(&mut news).await, next(&mut news).await, next(&mut news).await];
    assert_eq!([true, false, true], answers.map(|answer| answer.canceled));
    drop((news, ask));
    for (key, why, code) in [("news/open", 1, 0), ("news/taken", 6, 0), ("news/last", 4, 1)] {
        let told = told_with(scene, key, &[Stage::WatchCancel, Stage::Rpc]).await;
        let ended = told.one(1, Stage::WatchCancel);
        assert_eq!(why, ended.field("why"), "{key}\n{}", told.text());
        assert_eq!(code, told.one(1, Stage::Rpc).event.result, "{key}\n{}", told.text());
    }
    let ended = stream_of(scene, told.story.id, "Canceled").await;
    assert_eq!(stream, ended, "it is one story");
}

/// Goal: the stream of a watcher is a story of its own, open as long as it lasts, which says how
/// much has come through it so far, and names the watcher; and the watcher names the stream.
/// Returns the id of the stream, once its line of the list has this result.
async fn stream_of(scene: &Scene, watcher: u64, result: &str) -> String {
    let watcher = format!("{watcher:016x}");
    let flow = match result {
        "open" => "2 messages received, 3 sent, 1 event",
        _ => "5 messages received, 6 sent, 1 event",
    };
    let stream = eventually("the line of the stream", HEARD_WITHIN, || async {
        let show = glass(scene, &["trace", "show", &watcher]).await;
        let stream = show.split("  on stream ").nth(1).map(|rest| rest[..16].to_owned());
        let stream = stream.ok_or(show)?;
        let list = glass(scene, &["trace", "list"]).await;
        let line = list.lines().find(|line| line.starts_with(&stream)).unwrap_or_default();
        let has_result = line.contains(&format!("  {result}  "));
        let is_meant = has_result && line.ends_with(&format!("  Watch/Watch(stream)  {flow}"));
        if is_meant { Ok(stream) } else { Err(list) }
    })
    .await;
    let show = glass(scene, &["trace", "show", &stream]).await;
    let named = show.lines().find(|line| line.contains("stream.flow")).unwrap_or_default();
    assert!(named.contains(&format!("request={watcher} received=1")), "{show}");
    assert!(show.contains(" events=1 "), "{show}");
    stream
}

/// The story of a watcher of this key, once it has these stages on member 1.
async fn told_with(scene: &Scene, key: &str, stages: &[Stage]) -> Told {
    let has_all = |told: &Told| {
        let missing = stages.iter().find(|stage| told.on(1, **stage).is_empty());
        missing.map_or(Ok(()), |stage| Err(format!("no {}", stage.name())))
    };
    scene.listener.told(("Watch/Watch", key), has_all).await
}

pub(super) async fn next(news: &mut tonic::Streaming<WatchResponse>) -> WatchResponse {
    let message = tokio::time::timeout(EVENT_WITHIN, news.message()).await;
    message.expect("an event in time").unwrap().expect("the stream continues")
}

/// Goal: a lease can be followed from its grant to its end, by a revocation and by expiry.
pub(super) async fn leases_are_traced_from_grant_to_end(scene: &Scene) {
    let mut client = scene.cluster.client(0);
    for (id, ttl) in [(7001, 3600), (7002, 2)] {
        client.lease.lease_grant(LeaseGrantRequest { id, ttl }).await.unwrap();
        let put = PutRequest {
            key: format!("leased/{id}").into(),
            value: "x".into(),
            lease: id,
            ..PutRequest::default()
        };
        client.kv.put(put).await.unwrap();
    }
    let renewals = tokio_stream::iter([LeaseKeepAliveRequest { id: 7001 }]);
    let mut answers = client.lease.lease_keep_alive(renewals).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 3600);
    client.lease.lease_revoke(LeaseRevokeRequest { id: 7001 }).await.unwrap();
    scene
        .listener
        .until("both leases have ended", |recording| {
            let of = |stage: Stage, lease: u64| {
                let is_meant = move |event: &&Event| {
                    event.stage == stage && event.field("lease") == Some(lease)
                };
                recording.events.iter().filter(is_meant).count()
            };
            // Every member applies both ends; only the leader notices the expiry.
            let counts = (of(Stage::LeaseRevoke, 7001), of(Stage::LeaseRevoke, 7002));
            let expired = of(Stage::LeaseExpire, 7002);
            if counts == (3, 3) && expired == 1 {
                Ok(())
            } else {
                Err(format!("{counts:?} {expired}"))
            }
        })
        .await;
    an_expiry_is_a_story_of_its_own(scene).await;
    let list = glass(scene, &["trace", "list"]).await;
    let flow = "Lease/LeaseKeepAlive(stream)  1 message received, 1 sent, 0 events";
    assert!(list.lines().any(|line| line.ends_with(flow)), "{list}");
}

/// No client asked for it, but it is listed, and its story begins with the step that noticed it.
async fn an_expiry_is_a_story_of_its_own(scene: &Scene) {
    let recording = scene.listener.recording();
    let requests = query::requests(&recording);
    let is_of_lease = |request: &&query::Summary| {
        let told = Told::of(&recording, request.id);
        let of_lease =
            |step: Seen<'_>| step.event.stage == Stage::LeaseExpire && step.field("lease") == 7002;
        request.method == "internal/LeaseExpire"
            && told.is_some_and(|told| told.steps().any(of_lease))
    };
    let found: Vec<&query::Summary> = requests.iter().filter(is_of_lease).collect();
    assert_eq!(1, found.len(), "{requests:#?}");
    let told = Told::of(&recording, found[0].id).unwrap();
    let revoked = (0..3).filter(|at| !told.on(*at, Stage::LeaseRevoke).is_empty()).count();
    assert_eq!(3, revoked, "{}", told.text());
}
