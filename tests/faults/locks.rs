//! Locks and elections under the loss of clients, leases and leaders.

use std::{sync::Arc, time::Duration};

use glass_etcd::pb::{
    etcdserverpb::{CompactionRequest, LeaseRevokeRequest},
    v3electionpb::{LeaderRequest, ResignRequest},
};
use tokio::sync::Mutex;
use tonic::Code;

use crate::{
    client::eventually,
    cluster::Cluster,
    locks::{Locks, WITHIN, finish, revision},
    programs::{Kind, left_out},
};

/// Callers in the queue of the fairness test.
const CALLERS: i64 = 24;

/// Goal: the lock passes on in the order of the queue, each caller has it alone, and a compaction
/// during the wait does no harm. Method: callers at all three members, one after the other; each
/// records that it has the lock, and that it releases it.
#[tokio::test]
async fn the_lock_passes_on_in_the_order_of_the_queue() {
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    let mut locks = Locks::of(&cluster, 0);
    locks.grant(1, 600).await;
    let held = locks.lock("fair", 1).await.unwrap();
    let diary = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let mut own = Locks::of(&cluster, usize::try_from(caller % 3).unwrap());
        own.grant(100 + caller, 600).await;
        let call = own.lock_later("fair", 100 + caller);
        let diary = diary.clone();
        callers.push(tokio::spawn(async move {
            let key = call.await.unwrap().unwrap().key;
            diary.lock().await.push((caller, "has it"));
            tokio::task::yield_now().await;
            diary.lock().await.push((caller, "gives it back"));
            own.unlock(key).await.unwrap();
        }));
        locks.wait_queue("fair", callers.len() + 1).await;
    }
    let revision = locks.client.put("later", "").await.unwrap();
    if Kind::subject() == Kind::Glass {
        // etcd's calls fail if this comes within 100 ms of the start of their wait.
        let compaction = CompactionRequest { revision, physical: true };
        locks.client.kv.compact(compaction).await.unwrap();
    }
    assert!(diary.lock().await.is_empty(), "the first has it still");
    locks.unlock(held.key).await.unwrap();
    for caller in callers {
        finish(caller).await;
    }
    let expected: Vec<_> =
        (0..CALLERS).flat_map(|caller| [(caller, "has it"), (caller, "gives it back")]).collect();
    assert_eq!(*diary.lock().await, expected);
}

/// Goal: neither the leader's death nor the end of a lease without its client loses a wake-up.
/// Method: callers wait at both followers while the leader is killed; then the lock is released,
/// and the next one's lease runs out.
#[tokio::test]
async fn waiting_calls_are_woken_though_the_leader_was_killed() {
    let mut cluster = Cluster::start(&Kind::subject(), 3).await;
    let leader = cluster.leader().await;
    let [mut one, mut two] = [1, 2].map(|step| Locks::of(&cluster, (leader + step) % 3));
    one.grant(1, 600).await;
    one.grant(2, 4).await;
    one.grant(3, 600).await;
    let held = one.lock("l", 1).await.unwrap();
    let second = one.lock_later("l", 2);
    one.wait_queue("l", 2).await;
    let third = two.lock_later("l", 3);
    one.wait_queue("l", 3).await;
    let leads = one.campaign("e", 1, "one").await.unwrap().leader;
    let candidate = two.campaign_later("e", 3, "three");
    one.wait_queue("e", 2).await;
    let observed = two.election.observe(LeaderRequest { name: "e".into() }).await;
    let mut observed = observed.unwrap().into_inner();
    let value = |answer: Option<glass_etcd::pb::v3electionpb::LeaderResponse>| {
        answer.and_then(|answer| answer.kv).map(|kv| kv.value)
    };
    assert_eq!(value(observed.message().await.unwrap()).unwrap(), "one");
    cluster.kill(leader);
    eventually("the lock is given back", WITHIN, || {
        let (mut locks, key) = (one.clone(), held.key.clone());
        async move { locks.unlock(key).await.map_err(|status| status.to_string()) }
    })
    .await;
    // Its lease may be over by now; then the lock is the third's at once.
    let second = finish(second).await;
    assert!(second.is_ok() || second.unwrap_err().message() == "mutex: session is expired");
    assert_eq!(finish(third).await.unwrap().key, "l/3");
    one.wait_queue("l", 1).await;
    let resign = ResignRequest { leader: leads };
    one.election.resign(resign).await.unwrap();
    assert_eq!(finish(candidate).await.unwrap().leader.unwrap().key, "e/3");
    assert_eq!(value(observed.message().await.unwrap()).unwrap(), "three");
}

/// Goal: a client that gives up while there is no leader leaves no key behind. Method: a caller
/// waits at the last remaining member, and gives up; the others come back.
#[tokio::test]
async fn a_caller_that_gives_up_without_a_leader_leaves_no_key_behind() {
    if Kind::subject() != Kind::Glass {
        // etcd tries once, and leaves the key until its lease ends.
        return;
    }
    let mut cluster = Cluster::start(&Kind::Glass, 3).await;
    let leader = cluster.leader().await;
    let (other, at) = ((leader + 1) % 3, (leader + 2) % 3);
    let mut locks = Locks::of(&cluster, at);
    for lease in 1..4 {
        locks.grant(lease, 600).await;
    }
    locks.lock("l", 1).await.unwrap();
    let gone = [locks.lock_later("l", 2)];
    locks.wait_queue("l", 2).await;
    let stands = locks.campaign("e", 1, "").await.unwrap().leader;
    let candidate = locks.campaign_later("e", 2, "");
    locks.wait_queue("e", 2).await;
    // One more, at a member that will not be there when its client gives up.
    let with_member = Locks::of(&cluster, leader).lock_later("l", 3);
    locks.wait_queue("l", 3).await;
    cluster.kill(leader);
    cluster.kill(other);
    gone.iter().for_each(tokio::task::JoinHandle::abort);
    candidate.abort();
    finish(with_member).await.unwrap_err();
    cluster.spawn(other);
    cluster.wait_ready(other).await;
    locks.wait_queue("e", 1).await;
    // The key of the killed member's caller remains until its lease ends.
    locks.wait_queue("l", 2).await;
    let left = locks.queue("l").await.unwrap();
    let left: Vec<i64> = left.iter().map(|kv| kv.lease).collect();
    assert_eq!(left, [1, 3]);
    locks.election.resign(ResignRequest { leader: stands }).await.unwrap();
    locks.wait_queue("e", 0).await;
}

/// Goal: a candidate that has lost its lease while waiting does not become leader (with etcd it
/// does). Method: the lease of the second candidate is revoked; the first resigns.
#[tokio::test]
async fn a_candidate_that_lost_its_lease_does_not_lead() {
    if Kind::subject() != Kind::Glass {
        return;
    }
    let cluster = Cluster::start(&Kind::Glass, 1).await;
    let mut locks = Locks::of(&cluster, 0);
    for lease in 1..4 {
        locks.grant(lease, 600).await;
    }
    let first = locks.campaign("e", 1, "one").await.unwrap().leader;
    let lost = locks.campaign_later("e", 2, "two");
    locks.wait_queue("e", 2).await;
    let third = locks.campaign_later("e", 3, "three");
    locks.wait_queue("e", 3).await;
    locks.client.lease.lease_revoke(LeaseRevokeRequest { id: 2 }).await.unwrap();
    locks.election.resign(ResignRequest { leader: first }).await.unwrap();
    let refused = finish(lost).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, "election: not leader"));
    assert_eq!(finish(third).await.unwrap().leader.unwrap().key, "e/3");
}

/// Goal: crowds of clients that give up leave nothing behind, at any step of their calls. Method:
/// calls at all members that are aborted after a time between zero and a few milliseconds; then the
/// queue must be empty, and the lock free.
#[tokio::test]
async fn crowds_that_give_up_leave_an_empty_queue() {
    let cluster = Cluster::start(&Kind::subject(), 3).await;
    let mut first = Locks::of(&cluster, 0);
    first.grant(1, 600).await;
    let held = first.lock("crowd", 1).await.unwrap();
    let members: Vec<Locks> = (0..3).map(|at| Locks::of(&cluster, at)).collect();
    let mut calls = Vec::new();
    for number in 0..150_u64 {
        let lease = 1000 + i64::try_from(number).unwrap();
        let mut locks = members[usize::try_from(number % 3).unwrap()].clone();
        locks.grant(lease, 600).await;
        calls.push(tokio::spawn(async move {
            let call = locks.lock_later("crowd", lease);
            tokio::time::sleep(Duration::from_micros(number * 97 % 12_000)).await;
            call.abort();
        }));
    }
    for call in calls {
        finish(call).await;
    }
    if Kind::subject() == Kind::Glass {
        // etcd leaves the key of a call that is cancelled while its put is in flight.
        first.wait_queue("crowd", 1).await;
        first.unlock(held.key).await.unwrap();
        first.grant(2, 600).await;
        let next = tokio::time::timeout(WITHIN, first.lock("crowd", 2)).await;
        assert_eq!(next.expect("the lock is free").unwrap().key, "crowd/2");
    }
}

/// Goal: a call whose client disconnects while the key is being put deletes that key, but not the
/// key that the same lease had put before. Method: disks so slow that the call is cancelled in
/// between.
#[tokio::test]
async fn a_caller_that_disconnects_during_the_put_of_its_key_deletes_it() {
    if Kind::subject() != Kind::Glass {
        // etcd leaves it until its lease ends.
        return;
    }
    let slow = [("FAILPOINTS", "wal-before-fsync=sleep(300)")];
    let cluster = Cluster::start_with(&Kind::Glass, 3, &slow).await;
    for at in 0..3 {
        let mut locks = Locks::of(&cluster, at);
        let (name, lease) = (format!("slow{at}"), 1 + i64::try_from(at).unwrap());
        locks.grant(lease, 600).await;
        let before = locks.client.put("before", "").await.unwrap();
        let (lock, campaign) =
            (locks.lock_later(&name, lease), locks.campaign_later("e", lease, ""));
        tokio::time::sleep(Duration::from_millis(100)).await;
        lock.abort();
        campaign.abort();
        eventually("both keys have come and gone", WITHIN, || {
            let mut locks = locks.clone();
            async move {
                let all = locks.client.everything(false).await;
                let all = all.map_err(|status| status.to_string())?;
                let revision = revision(&all.header);
                if revision == before + 4 { Ok(()) } else { Err(format!("{before} {all:?}")) }
            }
        })
        .await;
        locks.wait_queue(&name, 0).await;
        locks.wait_queue("e", 0).await;
        let held = locks.lock(&name, lease).await.unwrap();
        let again = locks.lock_later(&name, lease);
        tokio::time::sleep(Duration::from_millis(100)).await;
        again.abort();
        for value in ["1", "2", "3"] {
            locks.client.put("later", value).await.unwrap();
        }
        assert_eq!(locks.queue(&name).await.unwrap()[0].key, held.key);
    }
}

/// Goal: waiting calls do not delay the stop of a member, and the stop loses nothing of a lock.
/// Method: SIGTERM while a lock, a candidate and an observer wait; after the next start the queue
/// is as it was, because their leases live.
#[tokio::test]
async fn a_member_stops_without_waiting_for_locks() {
    let mut cluster = Cluster::start(&Kind::subject(), 1).await;
    let mut locks = Locks::of(&cluster, 0);
    locks.grant(1, 600).await;
    locks.grant(2, 600).await;
    locks.lock("l", 1).await.unwrap();
    locks.campaign("e", 1, "").await.unwrap();
    let waits = (locks.lock_later("l", 2), locks.campaign_later("e", 2, ""));
    locks.wait_queue("l", 2).await;
    locks.wait_queue("e", 2).await;
    let mut news = locks.election.observe(LeaderRequest { name: "e".into() }).await;
    let news = news.as_mut().unwrap().get_mut();
    news.message().await.unwrap().unwrap();
    cluster.terminate(0);
    let exit = cluster.wait_exit(0, WITHIN).await.expect("the member ends");
    finish(waits.0).await.unwrap_err();
    finish(waits.1).await.unwrap_err();
    let end = tokio::time::timeout(WITHIN, news.message()).await.expect("the stream ends");
    assert!(end.is_err() || end.unwrap().is_none());
    cluster.spawn(0);
    cluster.wait_ready(0).await;
    for name in ["l", "e"] {
        let leases: Vec<i64> = locks.queue(name).await.unwrap().iter().map(|kv| kv.lease).collect();
        assert!(leases.starts_with(&[1]), "{name}: {leases:?} after {exit}");
    }
}

/// Goal: a stopping member answers every call that waits for a lock, deletes their keys before, and
/// is not delayed by them. Method: a Lock, a Campaign and an Observe that wait for nothing to come,
/// at the only member, at the leader of three, and at a member that has lost the others; the log
/// would have a line about clients that were not answered.
#[tokio::test]
async fn calls_that_wait_for_a_lock_end_when_their_member_stops() {
    if Kind::subject() != Kind::Glass {
        return left_out("locks at the stop: an etcd member breaks their connections");
    }
    for (size, is_alone) in [(1, false), (3, false), (3, true)] {
        let mut cluster = Cluster::start(&Kind::Glass, size).await;
        let at = cluster.leader().await;
        let mut locks = Locks::of(&cluster, at);
        for lease in 1..=2 {
            locks.grant(lease, 600).await;
        }
        locks.lock("l", 1).await.unwrap();
        locks.campaign("e", 1, "").await.unwrap();
        let waits = (locks.lock_later("l", 2), locks.campaign_later("e", 2, ""));
        locks.wait_queue("l", 2).await;
        locks.wait_queue("e", 2).await;
        let news = locks.election.observe(LeaderRequest { name: "e".into() }).await;
        let mut news = news.unwrap().into_inner();
        news.message().await.unwrap().unwrap();
        let others: Vec<usize> = (0..size).filter(|other| *other != at).collect();
        if is_alone {
            others.iter().for_each(|other| cluster.kill(*other));
        }
        cluster.terminate(at);
        let ends = [
            finish(waits.0).await.map(|_| ()).unwrap_err(),
            finish(waits.1).await.map(|_| ()).unwrap_err(),
            tokio::time::timeout(WITHIN, news.message()).await.unwrap().unwrap_err(),
        ];
        for end in ends {
            let end = (end.code(), end.message());
            assert_eq!(end, (Code::Unavailable, "etcdserver: server stopped"), "{size}");
        }
        cluster.wait_exit(at, WITHIN).await.expect("the member ends");
        let log = cluster.log(at);
        assert!(!log.contains("have not read their answers"), "{size} {is_alone}: {log}");
        if is_alone {
            continue;
        }
        if size == 1 {
            cluster.spawn(at);
            cluster.wait_ready(at).await;
        }
        let mut locks = Locks::of(&cluster, others.first().copied().unwrap_or(at));
        for name in ["l", "e"] {
            let queue = locks.queue(name).await.unwrap();
            let leases: Vec<i64> = queue.iter().map(|kv| kv.lease).collect();
            assert_eq!(leases, [1], "{name} of {size}");
        }
    }
}
