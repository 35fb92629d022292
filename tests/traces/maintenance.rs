//! Maintenance in the trace: what a moved leader, a defragmentation and a snapshot leave.

use glass_etcd::{
    pb::etcdserverpb::{DefragmentRequest, MoveLeaderRequest, SnapshotRequest},
    story::{Event, Recording, query},
    trace::{Kind, Stage},
};

use super::Scene;

/// The end of a step of the last request with this method.
fn step<'r>(recording: &'r Recording, (method, stage): (&str, Stage)) -> Result<&'r Event, String> {
    let is_rpc = |event: &&Event| event.stage == Stage::Rpc && event.kind == Kind::Span;
    let mut ends = recording.events.iter().filter(is_rpc);
    let end = ends.rfind(|event| query::method_of(event) == method).ok_or("no rpc has ended")?;
    let is_step =
        |event: &&Event| (event.id, event.stage) == (end.id, stage) && event.kind == Kind::Span;
    recording.events.iter().find(is_step).ok_or(format!("it has no {}", stage.name()))
}

/// Goal: the story of a moved leader says to whom, and the election that did it is a story too.
/// That of a copy says how large it is. Method: one call of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_to_a_member_is_told() {
    let Some(scene) = Scene::start("maintenance").await else { return };
    let [leader, follower, third] = scene.parts().await;
    let status = async |at: usize| scene.cluster.client(at).status().await.unwrap();
    let target_id = status(follower).await.header.unwrap().member_id;
    let before = status(leader).await;
    let mut client = scene.cluster.client(leader);
    client.maintenance.move_leader(MoveLeaderRequest { target_id }).await.unwrap();
    let moved = |recording: &Recording| {
        let moved = step(recording, ("Maintenance/MoveLeader", Stage::LeaderMove))?;
        let fields = (moved.field("to"), moved.field("leader"));
        if fields != (Some(target_id), Some(target_id)) {
            return Err(format!("{fields:?}"));
        }
        let is_transfer = |event: &Event| {
            let asked = (event.field("term"), event.field("to"));
            event.stage == Stage::ElectionTransfer
                && asked == (Some(before.raft_term), Some(target_id))
        };
        let is_told = recording.events.iter().any(is_transfer);
        if is_told { Ok(()) } else { Err("no transfer".to_owned()) }
    };
    scene.listener.until("the move of the leader", moved).await;
    let revision = scene.cluster.client(third).put("maintenance", "1").await.unwrap();
    let mut client = scene.cluster.client(third);
    client.maintenance.defragment(DefragmentRequest {}).await.unwrap();
    let defragmented = |recording: &Recording| {
        let defrag = step(recording, ("Maintenance/Defragment", Stage::BackendDefrag))?;
        let sizes = (defrag.field("size.old"), defrag.field("size.new"));
        let is_smaller = sizes.1 > Some(0) && sizes.1 <= sizes.0;
        if is_smaller { Ok(()) } else { Err(format!("{sizes:?}")) }
    };
    scene.listener.until("the defragmentation", defragmented).await;
    let sent = client.maintenance.snapshot(SnapshotRequest {}).await.unwrap();
    let (mut sent, mut bytes) = (sent.into_inner(), 0);
    while let Some(message) = sent.message().await.unwrap() {
        bytes += message.blob.len() as u64;
    }
    let copied = |recording: &Recording| {
        let copy = step(recording, ("Maintenance/Snapshot", Stage::BackendSnapshot))?;
        let expected = (Some(bytes - 32), Some(u64::try_from(revision).unwrap()));
        let fields = (copy.field("size"), copy.field("revision"));
        if fields == expected { Ok(()) } else { Err(format!("{fields:?}, not {expected:?}")) }
    };
    scene.listener.until("the snapshot", copied).await;
}
