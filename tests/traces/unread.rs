//! Unread answers, as seen in the traces of the requests that wait for room.

use std::time::Duration;

use bytes::Bytes;
use glass_etcd::{
    pb::etcdserverpb::{PutRequest, RangeRequest},
    story::{Recording, query},
    trace::Stage,
};

use super::{Scene, commands::glass, listen::Listener, order::sampled, told::Told};
use crate::{
    cluster::Cluster,
    programs::{Kind, left_out},
    silent::Silent,
};

/// Half of the member's 256 MiB goes to kept answers of this size, and the rest to windows of 2 MiB
/// for those that are not kept.
const VALUE: usize = 1200 << 10;
/// Connections, and requests of each: these need more windows than there are. They must be taken
/// before the first of them has stalled for long.
const SILENT: (usize, usize) = (3, 60);
/// A read that has taken this long must be waiting.
const WAITS: Duration = Duration::from_secs(1);

/// Goal: the trace of a read that waits for room shows the wait, the admission when stalled answers
/// are ended, and the rows that it had to read twice. Method: many clients that do not read, then
/// one that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_waits_for_room_shows_it_and_replaces_a_stalled_answer() {
    if Kind::subject() != Kind::Glass {
        left_out("traces of unread answers: etcd leaves no traces");
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    let listener = Listener::start(&cluster).await;
    let scene = Scene { cluster, listener };
    let mut client = scene.cluster.client(0);
    for at in 0..3 {
        let (key, value) = (Bytes::from(format!("room/{at}")), Bytes::from(vec![at; VALUE]));
        client.kv.put(PutRequest { key, value, ..PutRequest::default() }).await.unwrap();
    }
    let mut silent = Vec::new();
    for _ in 0..SILENT.0 {
        silent.push(Silent::connect(&scene.cluster.members[0].client_address()).await);
    }
    // On a connection of its own, where nothing else delays the notice of its end.
    let mut first = Silent::connect(&scene.cluster.members[0].client_address()).await;
    first.ask("Range", &get("room/0", "")).await;
    let mut others = Vec::new();
    let mut tries = 0..5;
    let waiting = loop {
        assert!(tries.next().is_some(), "no read waits");
        for number in 0..SILENT.0 * SILENT.1 {
            others.push(silent[number % SILENT.0].send("Range", &get("room/0", "")).await);
        }
        let mut client = scene.cluster.client(0);
        let read = async move { client.kv.range(sampled(get("room/", "room0"))).await };
        let mut read = tokio::spawn(read);
        if tokio::time::timeout(WAITS, &mut read).await.is_err() {
            break read;
        }
    };
    // One large read waits, and small ones do not.
    client.put("small", "1").await.unwrap();
    assert!(!waiting.is_finished(), "the small one has waited, too");
    let answer = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!(vec![VALUE; 3], answer.kvs.iter().map(|kv| kv.value.len()).collect::<Vec<_>>());
    tell(&scene).await;
    // The oldest stalled answer was ended for that. Its client sees the reason.
    let (len, reset) = first.read(0).await;
    assert!(len < VALUE, "{len} bytes");
    assert_eq!(Some(h2::Reason::ENHANCE_YOUR_CALM), reset);
    assert!(scene.cluster.log(0).contains("ended answers that their clients do not read"));
    let ended = scene
        .listener
        .until("the mark of the answer that was ended", |recording| {
            let mut events = recording.events.iter();
            let ended = events.find(|event| event.stage == Stage::AnswerEnded);
            ended.cloned().ok_or_else(|| "no mark".to_owned())
        })
        .await;
    let field = |name| ended.field(name).unwrap();
    let [sent, left] = ["sent", "left"].map(|name| usize::try_from(field(name)).unwrap());
    assert!(len <= sent + 100 && VALUE < sent + left && sent + left < VALUE + 100, "{ended:?}");
    assert_eq!(u64::from(u32::from(h2::Reason::ENHANCE_YOUR_CALM)), field("reason"));
}

fn get(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: range_end.into(), ..RangeRequest::default() }
}

async fn tell(scene: &Scene) {
    let id = scene.listener.until("the read that waited", waited).await;
    let told = scene
        .listener
        .until("its story", |recording| {
            let told = Told::of(recording, id).ok_or("no story")?;
            let pieces = told.on(0, Stage::AnswerPiece);
            let is_whole = pieces.last().is_some_and(|piece| piece.field("left") == 0);
            if is_whole { Ok(told) } else { Err(told.text()) }
        })
        .await;
    let room = told.one(0, Stage::AnswerRoom);
    told.begin(0, Stage::AnswerRoom);
    // A window, and the plan of three rows.
    assert_eq!([(2 << 20) + 3 * 17, 256 << 20], ["bytes", "limit"].map(|name| room.field(name)));
    assert!(room.field("in_flight") + room.field("bytes") > room.field("limit"));
    assert_eq!(0, room.field("of_connection"));
    assert!(room.event.took_ns > 100_000_000, "{room:?}");
    // Nothing was kept: the answer had a window, and no more.
    let pieces = told.on(0, Stage::AnswerPiece);
    let rows: u64 = pieces.iter().map(|piece| piece.field("rows")).sum();
    assert_eq!((3, 3), (rows, pieces.len()), "a piece has at least a MiB");
    let text = glass(scene, &["trace", "show", &format!("{id:016x}")]).await;
    for words in ["%  ", "answer.room", "answer.piece"] {
        assert!(text.contains(words), "{words} is not in:\n{text}");
    }
}

/// The id of the range that waited for room, and was answered.
fn waited(recording: &Recording) -> Result<u64, String> {
    let requests = query::requests(recording);
    let is_meant = |id: u64| {
        let of = |stage: Stage| {
            recording.events.iter().any(|event| (event.id, event.stage) == (id, stage))
        };
        of(Stage::AnswerRoom) && of(Stage::RpcContext)
    };
    let found = requests.iter().find(|request| is_meant(request.id));
    found.map(|request| request.id).ok_or_else(|| "no read has waited".to_owned())
}
