//! Calls that wait in a queue, and whose session ends meanwhile.

use glass_etcd::{
    story::Event,
    trace::{Kind, Reason, Stage},
};

use super::{Scene, commands::glass, told::Told};
use crate::locks::{Locks, finish};

/// Goal: a call that loses its place with its lease says so, and the chain of the lease leads to
/// it. Method: a lock and an election that are held, each with a call behind that waits until its
/// lease has expired; then the first goes. On the leader, and on a follower.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_lease_expires_while_it_waits_says_why_it_ends() {
    let Some(scene) = Scene::start("expired sessions").await else { return };
    let [leader, follower, _] = scene.parts().await;
    for (at, lease) in [(leader, 7101), (follower, 7103)] {
        let mut locks = Locks::of(&scene.cluster, at);
        let [lock, election] = ["lock", "election"].map(|kind| format!("expired/{kind}/{at}"));
        let held = locks.lock(&lock, 0).await.unwrap();
        let led = locks.campaign(&election, 0, "first").await.unwrap();
        locks.grant(lease, 3).await;
        locks.grant(lease + 1, 3).await;
        let waits = locks.lock_later(&lock, lease);
        let campaigns = locks.campaign_later(&election, lease + 1, "second");
        for (name, length) in [(&lock, 2), (&election, 2), (&lock, 1), (&election, 1)] {
            locks.wait_queue(name, length).await;
        }
        locks.unlock(held.key).await.unwrap();
        locks.unlock(led.leader.unwrap().key).await.unwrap();
        let refused = [finish(waits).await.unwrap_err(), finish(campaigns).await.unwrap_err()];
        let texts = refused.map(|status| status.message().to_owned());
        assert_eq!(
            ["mutex: session is expired", "election: not leader"],
            texts.each_ref().map(|text| &text[..])
        );
        for (method, name, reason) in [
            ("Lock/Lock", &lock, Reason::SessionExpired),
            ("Election/Campaign", &election, Reason::ElectionNotLeader),
        ] {
            let told = scene.listener.told((method, name), |told| ended(told, at)).await;
            let rpc = end_of(&told).expect("it has ended");
            assert_eq!((2, Some(reason)), (rpc.result, rpc.reason), "{}", told.text());
            assert!(told.on(at, Stage::LockAcquired).is_empty(), "{}", told.text());
            let id = format!("{:016x}", told.story.id);
            let show = glass(&scene, &["trace", "show", &id]).await;
            assert!(show.contains(reason.text()), "{show}");
        }
        let chain = glass(&scene, &["trace", "chain", "--lease", &format!("{lease:x}")]).await;
        assert!(chain.contains("expired") && chain.contains(&lock), "{chain}");
    }
}

/// The end of the call's own rpc.
fn end_of(told: &Told) -> Option<&Event> {
    let is_end = |event: &&Event| {
        (event.id, event.stage, event.kind) == (told.story.id, Stage::Rpc, Kind::Span)
    };
    told.steps().map(|seen| seen.event).find(is_end)
}

/// Whether the call has waited, and has ended.
fn ended(told: &Told, at: usize) -> Result<(), String> {
    match !told.on(at, Stage::LockWait).is_empty() && end_of(told).is_some() {
        true => Ok(()),
        false => Err("it has not ended".to_owned()),
    }
}
