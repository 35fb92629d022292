//! Locks and elections in the trace: who waits for whom, and what woke it.

use glass_etcd::{
    pb::v3electionpb::{LeaderRequest, ProclaimRequest},
    trace::{Kind, METHODS, Recording, Stage, query},
};

use super::{
    Scene,
    told::{Told, assert_in_order},
};
use crate::locks::{Locks, finish};

/// The requests of a method, in the order in which they came.
fn ids_of(recording: &Recording, method: &str) -> Vec<u64> {
    let requests = query::requests(recording);
    requests.iter().filter(|request| request.method == method).map(|request| request.id).collect()
}

/// Goal: the story of a call that waits says for whom, for how many, and which request woke it; that
/// of a client that gives up says which request took its key away. Method: three callers of one
/// lock, at the leader and at followers.
pub(super) async fn a_lock_that_waits_tells_for_whom(scene: &Scene) {
    let [leader, follower, _] = scene.parts().await;
    let mut first = Locks::of(&scene.cluster, leader);
    let second = Locks::of(&scene.cluster, follower);
    let held = first.lock("traces/lock", 0).await.unwrap();
    second.clone().grant(9001, 600).await;
    second.clone().grant(9002, 600).await;
    let waiting = second.lock_later("traces/lock", 9001);
    first.wait_queue("traces/lock", 2).await;
    is_seen_waiting(scene).await;
    let gives_up = second.lock_later("traces/lock", 9002);
    first.wait_queue("traces/lock", 3).await;
    gives_up.abort();
    first.wait_queue("traces/lock", 2).await;
    first.unlock(held.key).await.unwrap();
    finish(waiting).await.unwrap();
    scene
        .listener
        .until("three stories of locks", |recording| {
            let [alone, waits, gone] = ids_of(recording, "Lock/Lock")[..] else {
                return Err("not three of them".to_owned());
            };
            let unlock = *ids_of(recording, "Lock/Unlock").first().ok_or("no unlock")?;
            let told = |id| Told::of(recording, id).ok_or_else(|| "no story".to_owned());
            let (alone, waits, gone) = (told(alone)?, told(waits)?, told(gone)?);
            let has = |told: &Told, at, stage| {
                let count = told.on(at, stage).len();
                if count == 1 { Ok(()) } else { Err(format!("{count} {stage:?}\n{}", told.text())) }
            };
            has(&alone, leader, Stage::SessionGrant)?;
            has(&alone, leader, Stage::LockAcquired)?;
            has(&waits, follower, Stage::LockAcquired)?;
            has(&waits, follower, Stage::Rpc)?;
            has(&gone, follower, Stage::LockRelease)?;
            has(&gone, follower, Stage::LockWait)?;
            tells_why(&alone, &waits, (follower, unlock));
            let wait = gone.one(follower, Stage::LockWait);
            assert_eq!((wait.field("ahead"), wait.field("deleted")), (2, 0), "{}", gone.text());
            let release = gone.one(follower, Stage::LockRelease).field("request");
            let is_release = |event: &glass_etcd::trace::Event| {
                event.id == release && event.stage == Stage::MvccWrite
            };
            match recording.events.iter().filter(|event| is_release(event)).count() {
                3 => Ok(()),
                others => Err(format!("{others} members have applied the release")),
            }
        })
        .await;
}

/// While it waits, the list has it under way, and the story says for whom.
async fn is_seen_waiting(scene: &Scene) {
    scene
        .listener
        .until("a lock that waits", |recording| {
            let begun = |event: &&glass_etcd::trace::Event| {
                (event.stage, event.kind) == (Stage::LockWait, Kind::Begin)
            };
            let begun = recording.events.iter().find(begun).ok_or("no wait has begun")?;
            assert_eq!(begun.field("ahead"), Some(1));
            assert!(begun.field("before") < begun.field("own"));
            let requests = query::requests(recording);
            let request = requests.iter().find(|request| request.id == begun.id);
            let request = request.ok_or("its rpc is unknown")?;
            assert_eq!((request.method, request.code), ("Lock/Lock", None));
            Ok(())
        })
        .await;
}

fn tells_why(alone: &Told, waits: &Told, (at, unlock): (usize, u64)) {
    let own = waits.one(at, Stage::LockEnter);
    assert!(own.field("first") < own.field("own"), "{}", waits.text());
    let wait = waits.one(at, Stage::LockWait);
    let first = alone.steps().find(|seen| seen.event.stage == Stage::LockEnter).unwrap();
    assert_eq!(wait.field("before"), first.field("own"), "{}", waits.text());
    assert_eq!(wait.field("by"), unlock, "{}", waits.text());
    let acquired = waits.one(at, Stage::LockAcquired);
    assert_eq!(acquired.field("waits"), 1);
    assert!(wait.field("deleted") <= acquired.field("revision"));
    let steps = [waits.one(at, Stage::RaftPropose), own, wait, acquired, waits.one(at, Stage::Rpc)];
    assert_in_order(waits, &steps);
    // The put of the key is the call's own entry, on all members.
    let applied = |at| waits.on(at, Stage::ApplyEntry).len();
    assert_eq!([0, 1, 2].map(applied), [1, 1, 1], "{}", waits.text());
}

/// Goal: an observer's story has each change of leader; a campaign that is repeated names the
/// request that says something new.
pub(super) async fn an_election_tells_who_leads(scene: &Scene) {
    let [_, follower, _] = scene.parts().await;
    let mut locks = Locks::of(&scene.cluster, follower);
    locks.grant(9003, 600).await;
    let leader = locks.campaign("traces/race", 9003, "one").await.unwrap().leader;
    let request = LeaderRequest { name: "traces/race".into() };
    let mut news = locks.election.observe(request).await.unwrap().into_inner();
    news.message().await.unwrap().unwrap();
    locks.campaign("traces/race", 9003, "two").await.unwrap();
    news.message().await.unwrap().unwrap();
    let proclaim = ProclaimRequest { leader, value: "three".into() };
    locks.election.proclaim(proclaim).await.unwrap();
    news.message().await.unwrap().unwrap();
    drop(news);
    let told = scene
        .listener
        .told(("Election/Observe", "traces/race"), |told| {
            let count = told.on(follower, Stage::ObserveLeader).len();
            if count == 3 && told.on(follower, Stage::Rpc).len() == 1 {
                Ok(())
            } else {
                Err(format!("{count} answers"))
            }
        })
        .await;
    let answers = told.on(follower, Stage::ObserveLeader);
    let new = answers[0].field("leader.new");
    let olds: Vec<u64> = answers.iter().map(|answer| answer.field("leader.old")).collect();
    assert_eq!(olds, [0, new, new]);
    scene
        .listener
        .told(("Election/Campaign", "traces/race"), |told| {
            let proclaims = told.on(follower, Stage::CampaignProclaim);
            let [proclaim] = proclaims[..] else { return Err("no proclamation".to_owned()) };
            let request = proclaim.field("request");
            let wrote = |event: &&glass_etcd::trace::Event| {
                event.id == request && event.stage == Stage::MvccWrite
            };
            match told.recording.events.iter().filter(wrote).count() {
                3 => Ok(()),
                others => Err(format!("{others} members have applied the proclamation")),
            }
        })
        .await;
    assert!(METHODS.contains(&"Election/Resign"));
}
