//! Locks and elections in the trace: which call waits for which, and which request woke it.

use std::time::Duration;

use glass_etcd::{
    pb::{
        etcdserverpb::CompactionRequest,
        v3electionpb::{LeaderRequest, ProclaimRequest},
        v3lockpb::LockRequest,
    },
    story::{Recording, query},
    trace::{FLAG_CANCELLED, Kind, Stage},
};

use super::{
    Scene,
    commands::glass,
    listen::Listener,
    told::{Told, assert_in_order},
};
use crate::{
    cluster::Cluster,
    locks::{Locks, WITHIN, finish},
    programs,
    raw::{Call, Raw},
};

/// Slows each member once between its look at the queue and its watch.
const SLOW_WATCH: [(&str, &str); 1] = [("FAILPOINTS", "lock-before-watch=1*sleep(2000)")];

/// The requests of a method that a member has served, in order of arrival. Requests of different
/// members arrive in any order.
fn ids_of(recording: &Recording, at: usize, method: &str) -> Vec<u64> {
    let is_meant = |request: &query::Summary| {
        recording.members[usize::from(request.member)].name == format!("m{at}")
            && request.method == method
    };
    let requests = query::requests(recording).into_iter();
    requests.filter(is_meant).map(|request| request.id).collect()
}

/// Goal: the story of a waiting call says for which call it waits, how many are ahead, and which
/// request woke it; that of a client that gives up says which request deleted its key. Method:
/// three callers of one lock, at the leader and at followers.
pub(super) async fn a_waiting_lock_names_the_key_before_its_own(scene: &Scene) {
    let [leader, follower, _] = scene.parts().await;
    let mut first = Locks::of(&scene.cluster, leader);
    let second = Locks::of(&scene.cluster, follower);
    let held = first.lock("traces/lock", 0).await.unwrap();
    second.clone().grant(9001, 600).await;
    second.clone().grant(9002, 600).await;
    let waiting = second.lock_later("traces/lock", 9001);
    first.wait_queue("traces/lock", 2).await;
    is_seen_waiting(scene).await;
    let list = glass(scene, &["trace", "list"]).await;
    let waits = |line: &&str| line.ends_with("Lock/Lock traces/lock") && line.contains("  open  ");
    assert_eq!(1, list.lines().filter(waits).count(), "{list}");
    let gives_up = second.lock_later("traces/lock", 9002);
    first.wait_queue("traces/lock", 3).await;
    gives_up.abort();
    first.wait_queue("traces/lock", 2).await;
    first.unlock(held.key).await.unwrap();
    finish(waiting).await.unwrap();
    let (waiter, unlock) = scene
        .listener
        .until("three stories of locks", |recording| {
            let [leaders, followers] =
                [leader, follower].map(|at| ids_of(recording, at, "Lock/Lock"));
            let ([alone], [waits, gone]) = (&leaders[..], &followers[..]) else {
                return Err("not three of them".to_owned());
            };
            let (alone, waits, gone) = (*alone, *waits, *gone);
            let unlock = *ids_of(recording, leader, "Lock/Unlock").first().ok_or("no unlock")?;
            let told = |id| Told::of(recording, id).ok_or_else(|| "no story".to_owned());
            let (alone, waits, gone) = (told(alone)?, told(waits)?, told(gone)?);
            let has = |told: &Told, at, stage| {
                let count = told.on(at, stage).len();
                if count == 1 { Ok(()) } else { Err(format!("{count} {stage:?}\n{}", told.text())) }
            };
            has(&alone, leader, Stage::SessionGrant)?;
            has(&alone, leader, Stage::LockAcquired)?;
            // The grant of its lease, a request of the member's own, is part of its story.
            (0..3).try_for_each(|at| has(&alone, at, Stage::LeaseGrant))?;
            has(&waits, follower, Stage::LockAcquired)?;
            has(&waits, follower, Stage::Rpc)?;
            has(&gone, follower, Stage::LockRelease)?;
            has(&gone, follower, Stage::LockWait)?;
            tells_why(&alone, &waits, (follower, unlock));
            let wait = gone.one(follower, Stage::LockWait);
            assert_eq!((wait.field("ahead"), wait.field("deleted")), (2, 0), "{}", gone.text());
            let release = gone.one(follower, Stage::LockRelease).field("request");
            let is_release = |event: &glass_etcd::story::Event| {
                event.id == release && event.stage == Stage::MvccWrite
            };
            match recording.events.iter().filter(|event| is_release(event)).count() {
                3 => Ok((waits.story.id, unlock)),
                others => Err(format!("{others} members have applied the release")),
            }
        })
        .await;
    // What the release has woken is a call, and no watcher.
    let text = glass(scene, &["trace", "show", &format!("{unlock:016x}")]).await;
    assert!(text.contains(&format!("  woke Lock/Lock {waiter:016x} on m{follower}")), "{text}");
    assert!(!text.contains("  watcher "), "{text}");
}

/// Goal: a call whose time is over has ended for that reason, and not because its client
/// disconnected; so has the wait in it, and the story says so. Method: a held lock, and a client
/// that sends `grpc-timeout` and then waits for the member's answer.
pub(super) async fn a_lock_whose_time_is_over_says_so(scene: &Scene) {
    let [_, follower, _] = scene.parts().await;
    let mut locks = Locks::of(&scene.cluster, follower);
    locks.grant(9004, 600).await;
    locks.grant(9005, 600).await;
    let held = locks.lock("traces/late", 9004).await.unwrap();
    let mut raw = Raw::connect(&scene.cluster, follower);
    let ask = tokio::task::spawn_blocking(move || {
        let request = LockRequest { name: "traces/late".into(), lease: 9005 };
        let call = Call::new("/v3lockpb.Lock/Lock", &request).with("grpc-timeout", "300m");
        raw.ask(&call).status()
    });
    assert_eq!(finish(ask).await, Some((4, "context deadline exceeded".to_owned())));
    locks.unlock(held.key).await.unwrap();
    let id = scene
        .listener
        .until("a lock that was not had in time", |recording| {
            let ids = ids_of(recording, follower, "Lock/Lock");
            let waited = |id: &&u64| {
                let is_wait = |event: &glass_etcd::story::Event| {
                    (event.id, event.stage, event.result) == (**id, Stage::LockWait, 4)
                };
                recording.events.iter().any(is_wait)
            };
            let id = *ids.iter().rev().find(waited).ok_or("no wait has failed")?;
            let told = Told::of(recording, id).ok_or("no story")?;
            if told.on(follower, Stage::LockRelease).is_empty() {
                return Err("its key was not taken back".to_owned());
            }
            for stage in [Stage::Rpc, Stage::LockWait] {
                let event = told.one(follower, stage).event;
                let is_cancelled = event.flags & FLAG_CANCELLED != 0;
                assert_eq!((event.result, is_cancelled), (4, false), "{}", told.text());
            }
            assert_eq!(told.one(follower, Stage::Rpc).field("code"), 4);
            Ok(id)
        })
        .await;
    let text = glass(scene, &["trace", "show", &format!("{id:016x}"), "--plain"]).await;
    assert!(text.contains("DeadlineExceeded"), "{text}");
    assert!(!text.to_lowercase().contains("cancel"), "{text}");
}

/// While it waits, the list shows it as running, and the story says for which call.
async fn is_seen_waiting(scene: &Scene) {
    scene
        .listener
        .until("a lock that waits", |recording| {
            let begun = |event: &&glass_etcd::story::Event| {
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
/// request that proclaims a new value.
pub(super) async fn an_election_names_its_leader(scene: &Scene) {
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
    let list = glass(scene, &["trace", "list"]).await;
    let flow = "Election/Observe traces/race  0 messages received, 3 sent, 3 events";
    assert!(list.lines().any(|line| line.ends_with(flow)), "{list}");
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
            let wrote = |event: &&glass_etcd::story::Event| {
                event.id == request && event.stage == Stage::MvccWrite
            };
            match told.recording.events.iter().filter(wrote).count() {
                3 => Ok(()),
                others => Err(format!("{others} members have applied the proclamation")),
            }
        })
        .await;
}

/// Goal: the key that a call wants to watch may be compacted before it watches: then the call looks
/// again, and neither fails nor sleeps for ever. Method: members that are slow between the two;
/// meanwhile the key is deleted, a new leader comes, and the revisions of both are compacted. The
/// trace proves that this case was met: a wait that ended without a deletion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_looks_again_if_its_watch_begins_at_a_compacted_revision() {
    if programs::Kind::subject() != programs::Kind::Glass {
        return programs::left_out("slow watches: etcd has none of our failpoints");
    }
    let cluster = Cluster::start_with(&programs::Kind::Glass, 3, &SLOW_WATCH).await;
    let listener = Listener::start(&cluster).await;
    let mut locks = Locks::of(&cluster, 0);
    locks.grant(1, 600).await;
    locks.grant(2, 600).await;
    let held = locks.lock("slow/lock", 1).await.unwrap();
    let mut observer = Locks::of(&cluster, 2);
    let observed = tokio::spawn(async move {
        let request = LeaderRequest { name: "slow/race".into() };
        let mut news = observer.election.observe(request).await.unwrap().into_inner();
        news.message().await.unwrap().unwrap().kv.unwrap().value
    });
    let waits = Locks::of(&cluster, 1).lock_later("slow/lock", 2);
    locks.wait_queue("slow/lock", 2).await;
    // Both are soon about to watch; the assertion on the trace fails if they were not.
    tokio::time::sleep(Duration::from_millis(500)).await;
    locks.unlock(held.key).await.unwrap();
    locks.campaign("slow/race", 1, "one").await.unwrap();
    let revision = locks.client.put("slow/later", "").await.unwrap();
    let compaction = CompactionRequest { revision, physical: true };
    locks.client.kv.compact(compaction).await.unwrap();
    assert_eq!(finish(waits).await.unwrap().key, "slow/lock/2");
    let observed = tokio::time::timeout(WITHIN, observed).await;
    assert_eq!(observed.expect("an answer").unwrap(), "one");
    listener
        .told(("Lock/Lock", "slow/lock"), |told| {
            let wait = told.on(1, Stage::LockWait);
            let [wait] = wait[..] else { return Err(format!("{} waits", wait.len())) };
            told.on(1, Stage::LockAcquired).first().ok_or("it has not got the lock")?;
            assert_eq!((wait.field("deleted"), wait.event.flags & FLAG_CANCELLED), (0, 0));
            Ok(())
        })
        .await;
}
